"""The transform of one position by CCTW: prepared, run, checked, and written as natively."""

from __future__ import annotations

import logging
import math
import shlex
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from nxmpi.cctw.dialect import transform_command
from nxmpi.cctw.result import Sums, columns_of, read_column, require_agreement, require_volume
from nxmpi.cctw.scratch import OUTPUT, SCRIPT, VOLUME, Given, places_of, write_input, write_mask3d
from nxmpi.cctw.watch import Limits, run_watched
from nxmpi.cctw.write import script_of, settings_of
from nxmpi.crystal.factors import pixel_factors
from nxmpi.errors import InputError, NxmpiError
from nxmpi.nexus import schema
from nxmpi.nexus.frames import StackReader
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, at_abort, kept_on_root, on_root
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.progress import progress
from nxmpi.parallel.publish import temporary, unpublished_removed
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.transform import STEP, targets_of, volume_file, write_records
from nxmpi.pipeline.volume import write_volume
from nxmpi.pipeline.wrapper import now, publish_results
from nxmpi.stages.blocks import expect_blocks
from nxmpi.stages.bricks import WIDTH, Pillar
from nxmpi.stages.tables import bcast_tables, build_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.cctw.dialect import Program
    from nxmpi.kernels.tiles import Tables
    from nxmpi.nexus.volume import VolumeFile
    from nxmpi.parallel.cores import Processors
    from nxmpi.params import NormParams, OutputParams, ScanParams, TransformParams
    from nxmpi.pipeline.scan import Measured
    from nxmpi.pipeline.transform import Plan
    from nxmpi.stages.blocks import Expected

log = logging.getLogger(__name__)


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
class _Task:
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


def transform_by_program(
    group: MPI.Intracomm, job: Job, plan: Plan, measured: Measured | None
) -> list[Path] | None:
    """Transform a position.

    Collective on ``group``: all ranks go through the frames to know what the sums must come to,
    the root runs the program, all check and write what it made.

    Parameters
    ----------
    measured : Measured or None
        The root's alone.

    Returns
    -------
    list of Path or None
        What was written; None if there is a wish to stop, and nothing was.

    Raises
    ------
    CollectiveError
        On every rank, if a frame cannot be read, the program fails, or its volume is not what
        it must be.
    """
    timer, start_time = Timer(), now()
    targets = targets_of(plan)
    with timer.part("look"):
        expected, unit = _look(group, job, plan, measured)
    if expected is None:
        return None
    told: list[str] = []
    with _folder(group, job, plan) as folder, unpublished_removed(group, targets.values()):
        task = _Task(
            job=job,
            plan=plan,
            measured=measured,
            folder=folder,
            expected=expected,
            unit=unit,
            given=kept_on_root(group, lambda: _given(plan, measured, expected)),
        )
        on_root(group, lambda: _require_memory(task))
        on_root(group, lambda: _prepare(task))
        for twin, target in targets.items():
            with timer.part("program"):
                lines = _run(group, task, twin)
            if lines is None:
                return None
            told += lines
            with timer.part("check"):
                pillars = _check(group, task, twin)
            with timer.part("write"):
                _write(group, task, volume_file(plan, twin, temporary(target), unit), pillars)
        line = f"{plan.name}: {job.program.version}, {timer.summary(group)}"

        def publish_all() -> None:
            text = "\n".join([line, *told, (folder / SCRIPT).read_text()])
            publish_results(
                plan.files.wrapper,
                targets.values(),
                lambda file: write_records(
                    file[plan.name], plan, start_time, text, expected.bad_frames
                ),
            )

        on_root(group, publish_all)
    log.info("transform of %s", line)
    return list(targets.values())


def _look(
    group: MPI.Intracomm, job: Job, plan: Plan, measured: Measured | None
) -> tuple[Expected | None, float]:
    """Return what the volume must come to, None after a wish to stop, and the unit of its norm."""

    def build() -> Tables:
        assert measured is not None  # on the root
        factor = _factor(measured)
        return build_tables(measured.position, factor, plan.grid, job.params)

    tables = bcast_tables(group, kept_on_root(group, build))
    used = group.bcast(np.flatnonzero(measured.position.weight > 0) if measured else None)
    with all_or_none(group):
        reader = StackReader(plan.raw, plan.mask, skip_bad_frames=job.params.skip_bad_frames)
    batch = job.params.batch_frames
    expected = expect_blocks(group, tables, reader, used, batch, job.is_stopped)
    reader.close()
    return expected, tables.unit


def _factor(measured: Measured) -> F8:
    detector = measured.position.geometry.detector
    factors = pixel_factors(detector, measured.norm.pixels)
    return math.prod(factors.values(), start=np.ones(detector.shape))


@contextmanager
def _folder(group: MPI.Intracomm, job: Job, plan: Plan) -> Iterator[Path]:
    """Give a new folder with room for a volume, which is removed. Collective on ``group``."""

    def make() -> Path:
        parent = job.output.scratch or plan.files.folder
        parent.mkdir(parents=True, exist_ok=True)
        needed, free = 8 * math.prod(plan.grid.shape), shutil.disk_usage(parent).free
        if needed > free:
            raise InputError(
                f"{parent}: expected room for {needed / 2**30:.1f} GiB, which the program writes, "
                f"found {free / 2**30:.1f} GiB free (--scratch)"
            )
        return Path(tempfile.mkdtemp(prefix=f".{plan.name}_{STEP}.", dir=parent)).absolute()

    folder = on_root(group, make)

    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    with at_abort(remove):
        try:
            yield folder
        finally:
            if group.rank == 0:
                remove()


def _given(plan: Plan, measured: Measured | None, expected: Expected) -> Given:
    assert measured is not None  # on the root
    position = measured.position
    bad, weight = position.bad.copy(), position.weight.copy()
    bad.ravel()[expected.dead] = True
    weight[expected.bad_frames] = 0.0
    pixels = pixel_factors(position.geometry.detector, measured.norm.pixels)
    return Given(
        frames=plan.raw, bad=bad, weight=weight, factor=_factor(measured) if pixels else None,
        lost=expected.lost,
    )  # fmt: skip


def _require_memory(task: _Task) -> None:
    """Compare the memory that the program takes at least with what there is. Not collective.

    It keeps every block that is touched, 8 bytes a voxel, and each worker has a frame, 9 bytes a
    pixel with the mask, besides blocks of its own.
    """
    job, expected = task.job, task.expected
    blocks = int(np.count_nonzero(expected.sums.norm[0])) * expected.edge**3
    voxels = min(blocks, int(math.prod(task.plan.grid.shape)))
    needed = 8 * voxels + 9 * math.prod(task.plan.raw.shape[1:]) * job.processors.share
    if needed > job.memory:
        raise InputError(
            f"{task.plan.files.wrapper}:/{task.plan.name}: expected {needed / 2**30:.2f} GiB of "
            f"memory at least for {job.program.version}, found {job.memory / 2**30:.2f} GiB for "
            "this position (use more nodes, fewer positions at a time, or larger steps)"
        )


def _prepare(task: _Task) -> None:
    """Write all that the program reads. Not collective: for the root."""
    measured, given, job = task.measured, task.given, task.job
    assert measured is not None
    assert given is not None
    lost = sum(pixels.size for pixels in given.lost.values())
    if lost or task.expected.dead.size:
        log.info("%s: %d pixels without a count in any frame, and %d in some are masked",
                 task.plan.name, task.expected.dead.size, lost)  # fmt: skip
    sample = task.plan.sample
    settings = settings_of(
        measured.position.geometry, task.plan.grid, job.params.voxels,
        sample.lattice if sample else None,
    )  # fmt: skip
    if not job.program.takes_chunks:
        del settings["outputData.hdfChunkSize"]
    (task.folder / SCRIPT).write_text(script_of(settings))
    write_input(task.folder, given)


def _run(group: MPI.Intracomm, task: _Task, twin: schema.Twin) -> list[str] | None:
    """Run the program, and return its command and what it printed; None after a wish to stop.

    Collective on ``group``: the root runs it, the others wait.
    """
    job, name = task.job, task.plan.name
    lines: list[str] = []
    stopped = False
    with all_or_none(group, job.is_stopped):
        if task.given is not None:  # on the root
            mask = task.plan.mask if twin == schema.MASKED else None
            masked = write_mask3d(task.folder, task.given, mask)
            places = places_of(task.given, masked=masked)
            command = transform_command(job.program, SCRIPT, places, job.processors.share)
            log.info("%s: %s", name, shlex.join(command))
            limits = Limits(time=job.params.program_time, silence=job.params.program_silence)
            with _named(task, twin), progress(group, f"cctw {name}", 100, "percent") as bar:
                ran = run_watched(
                    command, task.folder, limits, job.processors.numbers, bar, job.is_stopped
                )
            stopped = ran.stopped
            lines = [shlex.join(command), *ran.printed.lines]
    return None if largest(group, int(stopped)) else lines


@contextmanager
def _named(task: _Task, twin: schema.Twin) -> Iterator[None]:
    """Say which volume could not be made."""
    try:
        yield
    except NxmpiError as error:
        where = f"{task.plan.files.wrapper}:/{task.plan.name}/{twin.group}"
        raise NxmpiError(f"{where}: {error}") from error


def _check(group: MPI.Intracomm, task: _Task, twin: schema.Twin) -> list[Pillar]:
    """Return the parts of the volume that this rank is to write, if it is what it must be.

    Collective on ``group``: each rank reads a part.
    """
    path, expected, shape = task.folder / OUTPUT, task.expected, task.plan.grid.array_shape
    with all_or_none(group), _named(task, twin):
        require_volume(path, VOLUME, shape)
        everything = columns_of(shape, expected.edge)
        mine = everything[slice(*block_range(len(everything), group.size, group.rank))]
        with h5py.File(path, "r") as file:
            volumes = [file[f"{VOLUME}/{name}"] for name in (schema.COUNTS, schema.NORM)]
            columns = [read_column(volumes, start, expected.edge, WIDTH) for start in mine]
    everyone = group.gather(columns)
    with all_or_none(group), _named(task, twin):
        if everyone is not None:
            index = 1 if twin == schema.MASKED else 0
            inexact = require_agreement(
                [column for some in everyone for column in some],
                Sums(expected.sums.counts[index] * 1.0, expected.near.counts[index] * 1.0),
                Sums(expected.sums.norm[index] * task.unit, expected.near.norm[index] * task.unit),
                expected.edge,
            )
            if inexact:
                log.warning(
                    "%s: more than 2^24 counts in some voxels, of which single precision, in which "
                    "%s adds, loses some", task.plan.name, task.job.program.version,
                )  # fmt: skip
    return [Pillar(l, k, 0, shape[2]) for column in columns for l, k in column.used]


def _write(group: MPI.Intracomm, task: _Task, file: VolumeFile, pillars: list[Pillar]) -> None:
    """Write the volume as the native engine does, and remove the program's. Collective."""
    factors: dict[str, F8] = {}
    if task.measured is not None:
        detector, norm = task.measured.position.geometry.detector, task.measured.norm
        factors = {**norm.frames, **pixel_factors(detector, norm.pixels)}
    attributes = {n: v for n, v in file.attributes.items() if n != schema.NORM_UNIT}
    path = task.folder / OUTPUT
    with h5py.File(path, "r") as source:
        volumes = {name: source[f"{VOLUME}/{name}"] for name in file.fills}

        def fill(pillar: Pillar) -> dict[str, F8]:
            where = np.s_[pillar.l : pillar.l + WIDTH, pillar.k : pillar.k + WIDTH]
            return {name: volume[where].astype(float) for name, volume in volumes.items()}

        file = file._replace(attributes=attributes, factors=factors)
        write_volume(group, task.job.output, file, pillars, fill)
    on_root(group, path.unlink)
