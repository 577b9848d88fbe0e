"""A position that a program transforms: what is known of it, its folder, and what is put there."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.filesize import decimal

from nxmpi.cctw.scratch import SCRIPT, Given, write_input
from nxmpi.cctw.script import script_of
from nxmpi.cctw.settings import settings_of
from nxmpi.crystal.factors import pixel_factors, whole_factor
from nxmpi.errors import InputError, NxmpiError
from nxmpi.parallel.collective import at_abort, on_root
from nxmpi.parallel.memory import require_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.cctw.dialect import Program
    from nxmpi.nexus import schema
    from nxmpi.parallel.cores import Processors
    from nxmpi.params import NormParams, OutputParams, ScanParams, TransformParams
    from nxmpi.pipeline.scan import Measured
    from nxmpi.pipeline.transform import Plan
    from nxmpi.stages.blocks import Expected

log = logging.getLogger(__name__)
BYTES = 8
"""Of a voxel that a program writes: counts and norm in single precision."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the ranks of a group do with its positions."""

    wrapper: Path
    scan: ScanParams
    norm: NormParams
    params: TransformParams
    output: OutputParams
    program: Program
    processors: Processors
    is_stopped: Callable[[], bool]
    memory: int
    """What the ranks of the group on this node may take [bytes]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One position of a group."""

    job: Job
    plan: Plan
    measured: Measured | None
    """The root's alone."""
    folder: Path
    expected: Expected
    unit: float
    """Of the norm that is expected."""
    given: Given | None
    """The root's alone."""


@contextmanager
def program_folder(
    comm: MPI.Intracomm, files: schema.ScanFiles, output: OutputParams, name: str, needed: int
) -> Iterator[Path]:
    """Give an empty folder with room for a volume, which is removed at the end.

    Collective on ``comm``, which holds the lock of the step. It is the same one each time: what a
    killed run left there is removed first.

    Parameters
    ----------
    name : str
        Of the scan's.
    needed : int
        Room that there must be [bytes].
    """

    def make() -> Path:
        parent = output.scratch or files.folder
        parent.mkdir(parents=True, exist_ok=True)
        wrapper = os.fsencode(files.wrapper.resolve())
        scan = hashlib.sha256(wrapper).hexdigest()[:8]  # scans may share a folder for scratch
        folder = parent.absolute() / f".{name}.{scan}"
        if folder.exists():
            log.info("%s: left behind by a run that was killed; removed", folder)
            shutil.rmtree(folder)
        require_disk(parent, needed, f"{files.wrapper}: files of the program", "--scratch")
        folder.mkdir(mode=0o700)
        return folder

    folder = on_root(comm, make)

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    with at_abort(remove):
        try:
            yield folder
        finally:
            if comm.rank == 0:
                remove()


def given_of(plan: Plan, measured: Measured | None, expected: Expected) -> Given:
    """Return what the program is given. Not collective: for the root."""
    assert measured is not None  # on the root
    position = measured.position
    bad, weight = position.bad.copy(), position.weight.copy()
    bad.ravel()[expected.dead] = True
    weight[expected.bad_frames] = 0.0
    detector = position.geometry.detector
    factors = pixel_factors(detector, measured.norm.pixels)
    return Given(
        frames=plan.raw, bad=bad, weight=weight,
        factor=whole_factor(detector, factors) if factors else None, lost=expected.lost,
    )  # fmt: skip


def require_memory(task: Task) -> None:
    """Compare the memory that the program takes at least with what there is. Not collective.

    It keeps every block that is touched, 8 bytes a voxel, and each worker has a frame, 9 bytes a
    pixel with the mask, besides blocks of its own.

    Raises
    ------
    InputError
        If there is less.
    """
    job, expected = task.job, task.expected
    blocks = int(np.count_nonzero(expected.sums.norm[0])) * expected.edge**3
    voxels = min(blocks, int(math.prod(task.plan.grid.shape)))
    needed = BYTES * voxels + 9 * math.prod(task.plan.raw.shape[1:]) * job.processors.share
    if needed > job.memory:
        raise InputError(
            f"{task.plan.files.wrapper}:/{task.plan.name}: expected {decimal(needed)} of "
            f"memory at least for {job.program.version}, found {decimal(job.memory)} for "
            "this position (use more nodes, fewer positions at a time, or larger steps)"
        )


def prepare(task: Task) -> None:
    """Write what the program reads, but for the mask of frames. Not collective: for the root."""
    measured, given, job = task.measured, task.given, task.job
    assert measured is not None
    assert given is not None
    expected = task.expected
    if expected.n_lost or expected.dead.size:
        log.info("%s: %d pixels without a count in any frame, and %d in some are masked",
                 task.plan.name, expected.dead.size, expected.n_lost)  # fmt: skip
    sample = task.plan.sample
    settings = settings_of(
        measured.position.geometry, task.plan.grid, job.params.voxels,
        sample.lattice if sample else None,
    )  # fmt: skip
    if not job.program.takes_chunks:
        del settings["outputData.hdfChunkSize"]
    (task.folder / SCRIPT).write_text(script_of(settings))
    write_input(task.folder, given)


@contextmanager
def named(wrapper: Path, entry: str, twin: schema.Twin) -> Iterator[None]:
    """Say which volume could not be made."""
    try:
        yield
    except NxmpiError as error:
        where = f"{wrapper}:/{entry}/{twin.group}"
        raise NxmpiError(f"{where}: {error}") from error
