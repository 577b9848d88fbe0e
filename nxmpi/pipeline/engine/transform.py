"""The transform by CCTW: ranks in groups, one a position, whose root runs and checks a program."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nxmpi.cctw.dialect import ask
from nxmpi.cctw.scratch import require_readable
from nxmpi.crystal.factors import PixelFactors
from nxmpi.errors import CollectiveError, InputError, StoppedError
from nxmpi.nexus.values import open_file
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import (
    all_or_none,
    kept_on_root,
    on_root,
    or_abort,
    split,
    wait_for_all,
)  # fmt: skip
from nxmpi.parallel.cores import processors_of
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.memory import available_memory, ranks_of_node
from nxmpi.parallel.signals import wishes
from nxmpi.pipeline.engine.position import transform_by_program
from nxmpi.pipeline.engine.task import Job
from nxmpi.pipeline.scan import chosen_positions, read_scan_to_bin
from nxmpi.pipeline.transform import STEP, plan_position, run_transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.cctw.dialect import Program
    from nxmpi.params import NormParams, OutputParams, ScanParams, TransformParams
    from nxmpi.pipeline.scan import Measured, Scan
    from nxmpi.pipeline.transform import Plan

log = logging.getLogger(__name__)
OF_PIXELS = ("polarization", "solid_angle", "efficiency", "air", "flat_field")


def run_by_engine(
    comm: MPI.Intracomm, wrapper: Path, scan_params: ScanParams, norm: NormParams,
    params: TransformParams, output: OutputParams,
) -> list[Path]:  # fmt: skip
    """Transform the positions of a scan that are not complete, natively or by CCTW.

    Collective on ``comm``. CCTW: positions at the same time, each on a group of contiguous ranks.
    If one fails, the others are done all the same, and stay. See
    `nxmpi.pipeline.transform.run_transform`.

    Raises
    ------
    CollectiveError
        On every rank, if the program cannot be used, or when all are through and some failed.
    StoppedError
        On every rank, if there was a wish to stop.
    """
    if params.engine == "native":
        return run_transform(comm, wrapper, scan_params, norm, params, output)
    names = on_root(comm, lambda: _names(wrapper, scan_params))
    with wishes(comm) as wish:
        program = asked(comm, params.program, wish.heard)
        done = _Done()
        if program is not None:
            log.info("engine: %s, %s", program.version, program.path)
            n_groups = min(comm.size, len(names))
            color = comm.rank * n_groups // comm.size
            with split(comm, color) as group:
                job = Job(
                    wrapper=wrapper, scan=scan_params, norm=norm,
                    params=replace(params, engine=program.version), output=output,
                    program=program, processors=processors_of(comm, group),
                    is_stopped=wish.heard,
                    memory=(params.memory or available_memory(comm)) * ranks_of_node(group),
                )  # fmt: skip
                done = _transform_all(group, job, names[color::n_groups])
        wait_for_all(comm, wish.heard)
        signal = wish.agreed()
    everyone = comm.allgather(done)
    failed = dict(sorted(pair for each in everyone for pair in each.failed.items()))
    if failed:
        raise CollectiveError("; ".join(failed.values()))
    if program is None or any(each.stopped for each in everyone):
        raise StoppedError(signal or "a signal")
    return sorted(path for each in everyone for path in each.written)


def asked(comm: MPI.Intracomm, program: str, is_stopped: Callable[[], bool]) -> Program | None:
    """Let the root ask a program what it is; None if there is a wish to stop.

    Collective on ``comm``.
    """
    found = None
    with all_or_none(comm, is_stopped):
        if comm.rank == 0:
            found = ask(program, is_stopped)
    answer: Program | None = comm.bcast(found)
    return answer


@dataclass(kw_only=True)
class _Done:
    """What became of the positions of a group; written and failed are the root's alone."""

    written: list[Path] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by position."""
    stopped: bool = False


def _transform_all(group: MPI.Intracomm, job: Job, names: list[str]) -> _Done:
    """Transform positions one after another, whether some fail or not. Collective."""
    done = _Done()
    for name in names:
        try:
            with or_abort(group, job.wrapper):
                made = _transform_if_due(group, job, name)
        except CollectiveError as error:
            if group.rank == 0:
                log.warning("%s: failed; others go on", name)
                done.failed[name] = str(error)
            continue
        if made is None:
            done.stopped = True
            break
        done.written += made if group.rank == 0 else []
    return done


def _names(wrapper: Path, params: ScanParams) -> list[str]:
    with open_file(wrapper) as file:
        return chosen_positions(file, params)


def _transform_if_due(group: MPI.Intracomm, job: Job, name: str) -> list[Path] | None:
    """Return what was written, None if there is a wish to stop. Collective on ``group``."""

    def read() -> tuple[Scan, Measured]:
        scan = read_scan_to_bin(job.wrapper, replace(job.scan, entries=(name,)), job.norm)
        return scan, _as_known(scan.measured[0], job.program)

    with step_lock(group, job.wrapper, name, STEP):
        found = kept_on_root(group, read)

        def plan_on_root() -> Plan:
            assert found is not None
            return plan_position(*found, job.params, job.output)

        plan = on_root(group, plan_on_root)
        if not plan.twins:
            return []
        if largest(group, int(job.is_stopped())):
            return None
        return transform_by_program(group, job, plan, found[1] if found else None)


def _as_known(measured: Measured, program: Program) -> Measured:
    """Return a position with the factors alone that the program knows of. Not collective."""
    name, norm = measured.position.name, measured.norm
    if norm.blocked:
        raise InputError(f"{name}: dead time: expected none with the engine {program.version}")
    require_readable(measured.raw, program)
    if measured.mask is not None:
        require_readable(measured.mask, program)
    if program.knows_pixels:
        return measured
    left_out = [factor for factor in OF_PIXELS if factor in norm.origins]
    if left_out:
        log.warning("%s: %s knows no factors of pixels: without %s", name, program.version,
                    ", ".join(left_out))  # fmt: skip
    origins = {factor: text for factor, text in norm.origins.items() if factor not in left_out}
    return replace(measured, norm=replace(norm, pixels=PixelFactors(), origins=origins))
