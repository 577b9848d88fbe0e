"""The transform of every position of a scan: from raw frames to published volumes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nxmpi.crystal.factors import pixel_factors, whole_factor
from nxmpi.crystal.lattice import lattice_along
from nxmpi.kernels.packing import PACKED
from nxmpi.log import now
from nxmpi.nexus import schema
from nxmpi.nexus.process import write_process
from nxmpi.nexus.values import entry_names, open_file
from nxmpi.nexus.volume import SHOWN, VolumeFile, title_of, write_volume_group
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.checkpoint import Checkpoint
from nxmpi.parallel.collective import kept_on_root, on_root
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.publish import temporary, unpublished_removed
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.binning import Binning, bin_frames
from nxmpi.pipeline.inputs import Inputs, fingerprint, reason_to_make, transform_inputs
from nxmpi.pipeline.reach import nothing_reached
from nxmpi.pipeline.scan import Measured, Scan, read_scan_to_bin
from nxmpi.pipeline.volume import write_volume
from nxmpi.pipeline.wrapper import publish_results, require_writable
from nxmpi.stages.bricks import Pillar, fill_pillar, pillars_held
from nxmpi.stages.tables import build_tables

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.kernels.tiles import Tables
    from nxmpi.model import HKLGrid, Sample
    from nxmpi.nexus.stack import Stack
    from nxmpi.params import NormParams, OutputParams, ScanParams, TransformParams
    from nxmpi.stages.transform import Transformed

log = logging.getLogger(__name__)
STEP = "transform"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all ranks need to know of one position's transform."""

    name: str
    raw: Stack
    mask: Stack | None
    grid: HKLGrid
    sample: Sample | None
    files: schema.ScanFiles
    twins: dict[schema.Twin, Inputs]
    """What is to be made, and what it depends on; empty if all is complete."""
    reason: str = ""
    """Why it is to be made."""


def run_transform(
    comm: MPI.Intracomm, wrapper: Path, scan_params: ScanParams, norm: NormParams,
    params: TransformParams, output: OutputParams,
) -> list[Path]:  # fmt: skip
    """Transform the positions of a scan that are not complete.

    Collective on ``comm``. Positions one after another, each over all ranks.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    CollectiveError
        On every rank, if the input is unusable, a file cannot be read or written, or no frame of
        the whole scan reaches the grid.
    StoppedError
        On every rank, if any heard a wish to stop and something is left to do.
    """
    scan = kept_on_root(comm, lambda: read_scan_to_bin(wrapper, scan_params, norm))
    names = comm.bcast([m.position.name for m in scan.measured] if scan else None)
    written: list[Path] = []
    for index, name in enumerate(names):
        with step_lock(comm, wrapper, name, STEP):
            written += _transform_if_due(comm, scan, index, params, output)
    return written


def _transform_if_due(
    comm: MPI.Intracomm, scan: Scan | None, index: int, params: TransformParams,
    output: OutputParams,
) -> list[Path]:  # fmt: skip
    measured = scan.measured[index] if scan else None

    def plan_on_root() -> Plan:
        assert scan is not None
        return plan_position(scan, scan.measured[index], params, output)

    plan = on_root(comm, plan_on_root)
    if not plan.twins:
        return []
    stop_if_wished(comm)
    return _transform_position(comm, plan, scan, measured, params, output)


def plan_position(
    scan: Scan, measured: Measured, params: TransformParams, output: OutputParams
) -> Plan:
    """Return what is to be made of a position, and make sure that it can be. Not collective.

    Raises
    ------
    InputError
        If another program made what is there, or results cannot be written.
    """
    plan = position_due(scan, measured, params, output)
    if plan.twins:
        log.info("%s: %s", plan.name, plan.reason)
        require_writable(scan.files)
    else:
        log.info("%s: transform is complete", plan.name)
        Checkpoint(scan.files.checkpoint(plan.name, STEP), "").remove()
    return plan


def position_due(
    scan: Scan, measured: Measured, params: TransformParams, output: OutputParams
) -> Plan:
    """Return what is to be made of a position, and why. Not collective. Nothing is changed.

    Raises
    ------
    InputError
        If another program made what is there.
    """
    name = measured.position.name
    wanted = [schema.REGULAR, *([schema.MASKED] if measured.mask else [])]
    twins = {twin: transform_inputs(measured, scan.grid, params, twin) for twin in wanted}
    reasons = []
    with open_file(scan.files.wrapper) as wrapper:
        for twin, inputs in twins.items():
            task, file = twin.transform_task, scan.files.transform(name, twin)
            reason = reason_to_make(wrapper[name], task, file, inputs, overwrite=output.overwrite)
            reasons += [f"{task} ({reason})"] if reason else []
    return Plan(
        name=name, raw=measured.raw, mask=measured.mask, grid=scan.grid, sample=scan.sample,
        files=scan.files, twins=twins if reasons else {}, reason=", ".join(reasons),
    )  # fmt: skip


def _transform_position(
    comm: MPI.Intracomm, plan: Plan, scan: Scan | None, measured: Measured | None,
    params: TransformParams, output: OutputParams,
) -> list[Path]:  # fmt: skip
    timer, start_time = Timer(), now()
    folder = plan.files.checkpoint(plan.name, STEP)
    store = Checkpoint(folder, f"{fingerprint(_together(plan))} {PACKED}")
    binning = Binning(
        name=f"{plan.files.wrapper}:/{plan.name}",
        raw=plan.raw,
        mask=plan.mask,
        shape=plan.grid.shape,
        scratch=output.scratch or plan.files.folder,
        advice="give more --memory, use more nodes, or take larger steps (--qh, --qk, --ql)",
    )

    def build() -> Tables:
        assert measured is not None  # on the root
        return tables_of(plan.grid, measured, params)

    volume, frames = bin_frames(comm, binning, build, params, store, timer)
    n_pillars = len(pillars_held((volume.kept, volume.excluded)))
    if not largest(comm, n_pillars) and not volume.bad_frames:
        on_root(comm, lambda: _require_others(scan, measured, params))
    with unpublished_removed(comm, targets_of(plan).values()):
        with timer.part("write"):
            _write_volumes(comm, plan, volume, output, measured)
        line = f"{plan.name}: {frames} frames, {timer.summary(comm)}"

        def publish_all() -> None:
            publish_results(
                plan.files.wrapper,
                targets_of(plan).values(),
                lambda file: write_records(
                    file[plan.name], plan, start_time, line, volume.bad_frames
                ),
            )
            store.remove()

        on_root(comm, publish_all)
    log.info("transform of %s", line)
    return list(targets_of(plan).values())


def _require_others(scan: Scan | None, empty: Measured | None, params: TransformParams) -> None:
    """Make sure that not all volumes are as empty as that of a position. Not collective.

    Raises
    ------
    InputError
        If all positions of the scan are looked at, and none reaches the grid.
    """
    assert scan is not None  # on the root
    assert empty is not None
    others = [each for each in scan.measured if each is not empty]
    with open_file(scan.files.wrapper) as wrapper:
        is_whole = len(scan.measured) == len(entry_names(wrapper))
    if is_whole and not any(tables_of(scan.grid, each, params).scales.any() for each in others):
        raise nothing_reached(scan.files.wrapper, scan.measured, scan.grid)
    log.warning(
        "%s: none of its frames reaches the grid: all is 0: %s",
        empty.position.name, nothing_reached(scan.files.wrapper, [empty], scan.grid),
    )  # fmt: skip


def targets_of(plan: Plan) -> dict[schema.Twin, Path]:
    """Return the final names of the volumes that are made."""
    return {twin: plan.files.transform(plan.name, twin) for twin in plan.twins}


def _write_volumes(
    comm: MPI.Intracomm, plan: Plan, volume: Transformed, output: OutputParams,
    measured: Measured | None,
) -> None:  # fmt: skip
    """Write all volumes under their temporary names. Collective on ``comm``."""
    factors = factors_of(measured)
    fills = {schema.COUNTS: 0.0, schema.NORM: 0.0, **({schema.HITS: 0.0} if volume.hits else {})}
    for twin, target in targets_of(plan).items():
        some = 1 if twin == schema.MASKED else 2
        bricks, hits = (volume.kept, volume.excluded)[:some], volume.hits[:some]

        def fill(pillar: Pillar) -> dict[str, F8]:
            counts, norm = fill_pillar(bricks, pillar, volume.unit, volume.views)  # noqa: B023 - at once
            filled = {schema.COUNTS: counts, schema.NORM: norm}
            if hits:  # noqa: B023
                filled[schema.HITS] = fill_pillar(hits, pillar, 1 / volume.views)[1]  # noqa: B023
            return filled

        file = volume_file(plan, twin, temporary(target), volume.unit)
        file = file._replace(fills=fills, factors=factors)
        write_volume(comm, output, file, pillars_held(bricks), fill)


def _together(plan: Plan) -> Inputs:
    return {twin.group: inputs for twin, inputs in plan.twins.items()}


def tables_of(grid: HKLGrid, measured: Measured, params: TransformParams) -> Tables:
    """Return the tables of a position. Not collective."""
    position, norm = measured.position, measured.norm
    detector = position.geometry.detector
    factor = whole_factor(detector, pixel_factors(detector, norm.pixels))
    return build_tables(position, factor, grid, params, norm.blocked)


def factors_of(measured: Measured | None) -> dict[str, F8]:
    """Return all factors of the norm of a position, as they are written by the root.

    Not collective.

    Parameters
    ----------
    measured : Measured or None
        The root's alone: others have no factors.

    Returns
    -------
    dict of (n_frames,) or (n_slow, n_fast) float64
        [1]
    """
    if measured is None:
        return {}
    detector, norm = measured.position.geometry.detector, measured.norm
    return {**norm.frames, **pixel_factors(detector, norm.pixels)}


def volume_file(plan: Plan, twin: schema.Twin, path: Path, unit: float) -> VolumeFile:
    """Return how a volume looks in a file; ``unit`` is that of its norm."""
    return VolumeFile(
        path=path,
        grid=plan.grid,
        lattice=lattice_along(plan.sample.lattice, plan.grid.axes) if plan.sample else None,
        title=title_of(plan.sample, plan.files.scan, twin.group, plan.name),
        fills={schema.COUNTS: 0.0, schema.NORM: 0.0},
        dtype="f8",
        attributes={
            schema.FINGERPRINT: fingerprint(plan.twins[twin]),
            schema.NORM_UNIT: unit,
        },
    )


def write_records(
    entry: h5py.Group, plan: Plan, start_time: str, line: str, bad_frames: list[int]
) -> None:
    """Show the volumes in the wrapper, and record how they were made. Not collective."""
    bad = f"\nFrames that could not be read: {bad_frames}" if bad_frames else ""
    for twin, inputs in plan.twins.items():
        volume = volume_file(plan, twin, plan.files.transform(plan.name, twin), 0.0)
        write_volume_group(entry, twin.group, volume, f"nxmpi {STEP}", SHOWN)
        write_process(
            entry, twin.transform_task, inputs, start_time=start_time, note=f"{line}{bad}"
        )
