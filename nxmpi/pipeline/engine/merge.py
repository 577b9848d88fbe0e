"""The sums of all positions by CCTW: run, and checked against the native ones as they are read."""

from __future__ import annotations

import logging
import math
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import numpy as np

from nxmpi.cctw.merge import first_wrong, link_volumes, merge_command, require_mergeable
from nxmpi.cctw.result import require_volume
from nxmpi.cctw.scratch import OUTPUT, VOLUME
from nxmpi.cctw.watch import Limits, run_watched
from nxmpi.errors import NxmpiError, StoppedError
from nxmpi.nexus import schema
from nxmpi.parallel.collective import all_or_none, wait_for_all
from nxmpi.parallel.signals import wishes
from nxmpi.pipeline.combined import STEP
from nxmpi.pipeline.engine.task import BYTES, named, program_folder
from nxmpi.pipeline.engine.transform import asked
from nxmpi.pipeline.sources import slices_of
from nxmpi.stages.combine import Sums

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.cctw.dialect import Program
    from nxmpi.params import CombineParams, OutputParams
    from nxmpi.pipeline.combined import Plan
    from nxmpi.stages.bricks import Pillar

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Merged:
    """The open volume that a program made of all positions."""

    plan: Plan
    counts: h5py.Dataset
    norm: h5py.Dataset
    lines: list[str]
    """The command, and what the program printed; the root's alone."""

    def read(self, pillar: Pillar, expected: Sums) -> Sums:
        """Return the sums of a pillar. Not collective.

        Raises
        ------
        NxmpiError
            If they cannot be read, or are not what is expected.
        """
        where = slices_of(pillar)
        corner = [part.start for part in where]
        with named(self.plan.files.wrapper, schema.SHARED, self.plan.twin):
            try:
                found = Sums(*(np.asarray(d[where], float) for d in (self.counts, self.norm)))
            except (OSError, RuntimeError) as error:
                l, k, h = corner
                raise NxmpiError(
                    f"output: expected to be readable at l {l}, k {k}, h {h}, found: {error}"
                ) from error
            wrong = first_wrong(found, expected, whole=self.plan.parts == 1)
            if wrong is not None:
                l, k, h = np.add(corner, wrong[0])
                raise NxmpiError(f"output: {wrong[1]} at l {l}, k {k}, h {h}")
        return found


def find_program(comm: MPI.Intracomm, params: CombineParams) -> Program:
    """Return the program that is to add positions. Collective on ``comm``.

    Raises
    ------
    CollectiveError
        On every rank, if it cannot be used.
    StoppedError
        On every rank, if there was a wish to stop.
    """
    with wishes(comm) as wish:
        program = asked(comm, params.program, wish.heard)
        signal = wish.agreed()
    if program is None or signal is not None:
        raise StoppedError(signal or "a signal")
    log.info("engine: %s, %s", program.version, program.path)
    return program


@contextmanager
def merged(
    comm: MPI.Intracomm, plan: Plan, params: CombineParams, output: OutputParams, program: Program
) -> Iterator[Merged]:
    """Have a program add the positions, and give what it made, which is removed at the end.

    Collective on ``comm``, which holds the lock of the step: the root runs it, the others wait.

    Raises
    ------
    CollectiveError
        On every rank, if the program cannot add these volumes, fails, or makes no volume.
    StoppedError
        On every rank, if there was a wish to stop.
    """
    needed = BYTES * math.prod(plan.grid.shape)
    name = f"{plan.twin.prefix}{STEP}"
    with program_folder(comm, plan.files, output, name, needed) as folder:
        lines = _run(comm, plan, params, program, folder)
        with all_or_none(comm), named(plan.files.wrapper, schema.SHARED, plan.twin):
            require_volume(folder / OUTPUT, VOLUME, plan.grid.array_shape)
            file = h5py.File(folder / OUTPUT, "r")
        with file:
            counts, norm = (file[f"{VOLUME}/{each}"] for each in (schema.COUNTS, schema.NORM))
            yield Merged(plan=plan, counts=counts, norm=norm, lines=lines)
        wait_for_all(comm)  # a folder on NFS is not removed while files in it are open


def _run(
    comm: MPI.Intracomm, plan: Plan, params: CombineParams, program: Program, folder: Path
) -> list[str]:
    lines: list[str] = []
    limits = Limits(time=params.program_time, silence=params.program_silence)
    with wishes(comm) as wish:
        with all_or_none(comm, wish.heard):
            if comm.rank == 0:
                files = [plan.files.transform(name, plan.twin) for name in plan.names]
                require_mergeable(files, plan.grid.array_shape)
                command = merge_command(program, link_volumes(folder, files))
                log.info("%s: %s", plan.twin.combine_task, shlex.join(command))
                with named(plan.files.wrapper, schema.SHARED, plan.twin):
                    ran = run_watched(command, folder, limits, is_stopped=wish.heard)
                lines = [shlex.join(command), *ran.printed.lines]
        signal = wish.agreed()
    if signal is not None:
        raise StoppedError(signal)
    return lines
