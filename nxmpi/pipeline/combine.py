"""The transforms of all positions to one combined volume."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.crystal.lattice import lattice_along
from nxmpi.errors import InputError, NxmpiError
from nxmpi.log import now
from nxmpi.nexus import schema
from nxmpi.nexus.agreement import link_agreement, write_agreement, write_numbers
from nxmpi.nexus.process import write_process
from nxmpi.nexus.volume import (
    SHOWN,
    VolumeFile,
    title_of,
    write_volume_group,
)
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.h5 import edited, filters
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.progress import progress
from nxmpi.parallel.publish import temporary, unpublished_removed
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.agreement import describe_agreement, describe_scales
from nxmpi.pipeline.background import describe_background
from nxmpi.pipeline.combined import STEP, volumes_due
from nxmpi.pipeline.engine.merge import find_program, merged
from nxmpi.pipeline.inputs import fingerprint
from nxmpi.pipeline.sources import open_sources
from nxmpi.pipeline.volume import write_volume
from nxmpi.pipeline.wrapper import publish_results, require_writable_for
from nxmpi.stages.agreement import find_agreement, no_scales, refine_scales
from nxmpi.stages.combine import add, combine, subtract
from nxmpi.stages.overlaps import Overlaps, gather_overlaps, pillar_overlaps

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.cctw.dialect import Program
    from nxmpi.model import Agreement
    from nxmpi.params import CombineParams, OutputParams
    from nxmpi.pipeline.combined import Plan
    from nxmpi.pipeline.engine.merge import Merged
    from nxmpi.pipeline.sources import Sources
    from nxmpi.stages.bricks import Pillar
    from nxmpi.stages.scales import Scales

log = logging.getLogger(__name__)
SUBTRACTED = (
    schema.COUNTS, schema.NORM, schema.ERRORS,
    schema.SUM, schema.BACKGROUND_SUM, schema.BACKGROUND_NORM,
)  # fmt: skip
"""Datasets of a volume that a background was subtracted from, as `subtract` returns them."""


def run_combine(
    comm: MPI.Intracomm, wrapper: Path, params: CombineParams, output: OutputParams
) -> list[Path]:
    """Combine the transforms of all positions, and their masked twins where there are any.

    Collective on ``comm``.

    Returns
    -------
    list of Path
        The files that were written; none if all was complete.

    Raises
    ------
    CollectiveError
        On every rank, if a transform is missing or has another grid, or a scale is to be refined
        of a position that does not overlap with others; if nothing was measured; or if a program
        that is to add positions cannot be used, fails, or makes other sums than those of the
        transforms.
    StoppedError
        On every rank, before a volume that is left to do, if any heard a wish to stop.
    """
    with step_lock(comm, wrapper, schema.SHARED, STEP):
        program = None
        if params.engine != "native":
            program = find_program(comm, params)
            params = replace(params, engine=program.version)
        files = schema.ScanFiles(wrapper)
        plans = on_root(
            comm, lambda: require_writable_for(files, volumes_due(files, params, output))
        )
        return [_combine_twin(comm, plan, params, output, program) for plan in plans]


def _combine_twin(
    comm: MPI.Intracomm, plan: Plan, params: CombineParams, output: OutputParams,
    program: Program | None,
) -> Path:  # fmt: skip
    stop_if_wished(comm)
    timer, start_time = Timer(), now()
    with ExitStack() as stack:
        sums = None
        if program is not None:  # before this process opens what it adds
            with timer.part("program"):
                sums = stack.enter_context(merged(comm, plan, params, output, program))
        with all_or_none(comm):
            files = {name: plan.files.transform(name, plan.twin) for name in plan.names}
            sources = open_sources(comm, files, plan.grid.array_shape)
            empty = None
            if plan.background:
                empty = open_sources(comm, plan.background.files, plan.grid.array_shape)
        scales, empty_scales = no_scales(len(plan.names)), no_scales(1)
        if params.refine_scale:
            with timer.part("scales"):
                scales = _find_scales(comm, plan, sources, plan.names)
                if plan.background and empty:  # its monitor may be as wrong as the scan's
                    empty_scales = _find_scales(comm, plan, empty, [*plan.background.files])
        stack.enter_context(unpublished_removed(comm, [plan.target]))
        with timer.part("write and the rest"):
            opened = Opened(sources, empty, scales, empty_scales, sums)
            written = _write(comm, plan, opened, output, timer)
        overlaps = gather_overlaps(comm, written.overlaps, len(plan.names))
        line = f"{plan.twin.combine_task}: {len(plan.names)} positions, {timer.summary(comm)}"
        if plan.background:
            told = describe_background(comm, plan.background, written.measured, written.lacking)
            if params.refine_scale:
                values, errors = empty_scales.values, empty_scales.errors
                told += f"; its scales: {describe_scales([*plan.background.files], values, errors)}"
            line += f"\n{told}"
        printed = sums.lines if sums else []

        def publish_all() -> str:
            found = find_agreement(overlaps, plan.names, plan.grid, scales)
            return _publish(plan, found, output, start_time, line, printed)

        note = on_root(comm, publish_all)
    sources.close()
    if empty is not None:
        empty.close()
    log.info("%s", note)
    return plan.target


def _publish(
    plan: Plan, agreement: Agreement, output: OutputParams, start_time: str, line: str,
    printed: list[str],
) -> str:  # fmt: skip
    """Put the maps of agreement into the volume's file, and publish it; return what to tell.

    Not collective: the root calls it.

    Parameters
    ----------
    printed : list of str
        By a program, to be recorded too.
    """
    told = describe_agreement(agreement, refined=bool(plan.inputs["refine_scale"]))
    note = f"{line}\n{told}"
    with edited(temporary(plan.target)) as file:
        write_agreement(file, _file(plan, plan.target), agreement, filters(output.compression))
    publish_results(
        plan.files.wrapper,
        [plan.target],
        lambda file: _write_records(
            file[schema.SHARED], plan, agreement, start_time, "\n".join([note, *printed])
        ),
    )
    return note


def _find_scales(
    comm: MPI.Intracomm, plan: Plan, sources: Sources, names: list[str]
) -> Scales:  # fmt: skip
    """Return the scales of the positions of a scan or its background, from their overlaps.

    Collective on ``comm``.
    """
    with all_or_none(comm):
        parts = [
            pillar_overlaps(*sources.read(pillar), pillar, plan.grid.array_shape)
            for pillar in sources.mine
        ]
    overlaps = gather_overlaps(comm, parts, len(names))
    of = "" if names is plan.names else "background: "

    def refine() -> Scales:
        try:
            return refine_scales(overlaps, names, plan.grid.array_shape)
        except InputError as error:
            raise InputError(f"{plan.files.wrapper}:/{plan.twin.group}: {of}{error}") from error

    return on_root(comm, refine)


class Opened(NamedTuple):
    """What a combined volume is made of."""

    sources: Sources
    background: Sources | None
    scales: Scales
    background_scales: Scales
    merged: Merged | None
    """The sums of a program."""


@dataclass(kw_only=True)
class Written:
    """What is kept of this rank's pillars."""

    overlaps: list[Overlaps] = field(default_factory=list)
    measured: int = 0
    """Voxels, before a background is subtracted."""
    lacking: int = 0
    """Those of them in which the background was not measured."""
    wrong: NxmpiError | None = None
    """What is wrong with the first sums of a program that are not what they must be."""


def _write(
    comm: MPI.Intracomm, plan: Plan, opened: Opened, output: OutputParams, timer: Timer
) -> Written:  # fmt: skip
    """Write the volume under its temporary name. Collective on ``comm``.

    Raises
    ------
    CollectiveError
        On every rank, if a program's sums are wrong on any.
    """
    written = Written()
    sources, empty, scales, empty_scales, merged = opened

    def fill(pillar: Pillar) -> dict[str, F8]:
        with timer.part("read"):
            counts, norm = sources.read(pillar)
            background = empty.read(pillar) if empty else None
        if background is not None:
            background[1][...] *= empty_scales.values[:, None, None, None]
        norm *= scales.values[:, None, None, None]
        with timer.part("combine"):
            sums = add(counts, norm)
            if merged is not None and written.wrong is None:
                try:
                    sums = merged.read(pillar, sums)
                except NxmpiError as error:  # raised below: the others wait for this rank's part
                    written.wrong = error
            intensity, weight, errors = combine([sums.counts], [sums.norm])
            filled = {schema.COUNTS: intensity, schema.NORM: weight, schema.ERRORS: errors}
            measured = int((weight > 0).sum())
            written.measured += measured
            if background is not None and plan.background is not None:
                subtracted = subtract(sums, add(*background), plan.background.scale)
                filled = dict(zip(SUBTRACTED, subtracted, strict=True))
                written.lacking += measured - int((filled[schema.NORM] > 0).sum())
        with timer.part("compare"):
            written.overlaps.append(pillar_overlaps(counts, norm, pillar, plan.grid.array_shape))
        bar.advance(1)
        if sources.hits:
            filled[schema.HITS] = sources.read_hits(pillar)
        return filled

    target = _file(plan, temporary(plan.target))
    if sources.hits:
        target = target._replace(fills={**target.fills, schema.HITS: 0.0})
    with progress(comm, STEP, len(sources.mine), "pillars") as bar:
        write_volume(comm, output, target, sources.mine, fill)
    measured_anywhere = largest(comm, written.measured)
    with all_or_none(comm):
        if written.wrong is not None:
            raise written.wrong
        if plan.twin == schema.REGULAR and not measured_anywhere:  # masks may exclude all
            raise InputError(
                f"{plan.files.wrapper}: expected a position that reaches the grid, found none: "
                f"{plan.grid} (nxmpi transform says where frames are)"
            )
    return written


def _file(plan: Plan, path: Path) -> VolumeFile:
    fills = {schema.COUNTS: np.nan, schema.NORM: 0.0, schema.ERRORS: np.nan}
    attributes: dict[str, str | float] = {schema.FINGERPRINT: fingerprint(plan.inputs)}
    if plan.parts > 1:
        attributes[schema.COUNT_PARTS] = plan.parts
    if plan.background:
        fills |= dict.fromkeys(SUBTRACTED[3:], 0.0)
        attributes[schema.BACKGROUND_SCALE] = plan.background.scale
    return VolumeFile(
        path=path,
        grid=plan.grid,
        lattice=lattice_along(plan.sample.lattice, plan.grid.axes) if plan.sample else None,
        title=title_of(plan.sample, plan.files.scan, plan.twin.group),
        fills=fills,
        dtype="f4",
        attributes=attributes,
    )


def _write_records(
    entry: h5py.Group, plan: Plan, agreement: Agreement, start_time: str, note: str
) -> None:
    volume = _file(plan, plan.target)
    link_agreement(entry, plan.twin, volume, agreement)
    write_volume_group(entry, plan.twin.group, volume, f"nxmpi {STEP}", SHOWN)
    write_process(entry, plan.twin.combine_task, plan.inputs, start_time=start_time, note=note)
    write_numbers(entry[f"{schema.WORKFLOW}/{plan.twin.combine_task}"], agreement)
