"""The transform by CCTW: ranks in groups, one a position, whose root runs and checks a program."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from nxmpi.cctw.dialect import ask
from nxmpi.cctw.scratch import require_filters
from nxmpi.crystal.factors import PixelFactors
from nxmpi.errors import InputError, StoppedError
from nxmpi.nexus.values import chosen_entries, open_file
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, kept_on_root, on_root, or_abort, split
from nxmpi.parallel.cores import processors_of
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.memory import available_memory, ranks_of_node
from nxmpi.parallel.signals import wishes
from nxmpi.pipeline.program import transform_by_program
from nxmpi.pipeline.program_task import Job
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.transform import STEP, plan_position, run_transform

if TYPE_CHECKING:
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
    If one fails, the others go on to their end; what they wrote stays. See
    `nxmpi.pipeline.transform.run_transform`.
    """
    if params.engine == "native":
        return run_transform(comm, wrapper, scan_params, norm, params, output)
    names = on_root(comm, lambda: _names(wrapper, scan_params))
    program = on_root(comm, lambda: ask(params.program))
    log.info("engine: %s, %s", program.version, program.path)
    n_groups = min(comm.size, len(names))
    color = comm.rank * n_groups // comm.size
    written: list[Path] = []
    stopped = False
    with wishes(comm) as wish, split(comm, color) as group:
        job = Job(
            wrapper=wrapper, scan=scan_params, norm=norm,
            params=replace(params, engine=program.version), output=output, program=program,
            processors=processors_of(comm, group), is_stopped=wish.heard,
            memory=(params.memory or available_memory(comm)) * ranks_of_node(group),
        )  # fmt: skip
        with all_or_none(comm, wish.heard), or_abort(group, wrapper):
            for name in names[color::n_groups]:
                made = _transform_if_due(group, job, name)
                stopped = made is None
                if made is None:
                    break
                written += made if group.rank == 0 else []
        signal = wish.agreed()
    if largest(comm, int(stopped)):
        raise StoppedError(signal or "a signal")
    return sorted(path for some in comm.allgather(written) for path in some)


def _names(wrapper: Path, params: ScanParams) -> list[str]:
    with open_file(wrapper) as file:
        names = chosen_entries(file, params.entries)
    if params.settings and len(names) != 1:
        raise InputError("a settings file holds for one position: name it with --entry")
    return names


def _transform_if_due(group: MPI.Intracomm, job: Job, name: str) -> list[Path] | None:
    """Return what was written, None if there is a wish to stop. Collective on ``group``."""

    def read() -> tuple[Scan, Measured]:
        scan = read_scan(job.wrapper, replace(job.scan, entries=(name,)), job.norm)
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
    require_filters(measured.raw)
    if measured.mask is not None:
        require_filters(measured.mask)
    if program.knows_pixels:
        return measured
    left_out = [factor for factor in OF_PIXELS if factor in norm.origins]
    if left_out:
        log.warning("%s: %s knows no factors of pixels: without %s", name, program.version,
                    ", ".join(left_out))  # fmt: skip
    origins = {factor: text for factor, text in norm.origins.items() if factor not in left_out}
    return replace(measured, norm=replace(norm, pixels=PixelFactors(), origins=origins))
