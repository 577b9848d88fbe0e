"""A plane or a box straight from the frames of a scan, without a volume."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.lattice import lattice_along, reciprocal_parameters
from nxmpi.crystal.plane import parse_plane, span
from nxmpi.errors import InputError
from nxmpi.model import HKL, HKLGrid
from nxmpi.nexus import schema
from nxmpi.nexus.frames import StackReader
from nxmpi.nexus.section import Axis, Section
from nxmpi.nexus.volume import RECIPROCAL, axis_label, axis_values, grid_from_axes, title_of
from nxmpi.parallel.collective import all_or_none, kept_on_root
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.follow import positions_in_turn
from nxmpi.pipeline.reach import nothing_reached
from nxmpi.pipeline.scan import Measured, Scan, read_scan_to_bin
from nxmpi.pipeline.transform import tables_of
from nxmpi.stages.combine import combine
from nxmpi.stages.slice import Binned, bin_frames
from nxmpi.stages.tables import bcast_tables

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.kernels.tiles import Tables
    from nxmpi.model import Lattice
    from nxmpi.params import NormParams, ScanParams, SliceParams, TransformParams

log = logging.getLogger(__name__)
MOST_VOXELS = 2**25
"""Of a slice: every rank has all of it, 16 bytes each, and more while it bins."""


def run_slice(
    comm: MPI.Intracomm, wrapper: Path, params: SliceParams, scan_params: ScanParams,
    norm: NormParams, binning: TransformParams,
) -> tuple[Section, Lattice | None] | None:  # fmt: skip
    """Bin the frames of a scan onto a plane or a box.

    Collective on ``comm``. Positions one after another, each over all ranks; nothing is written.

    Returns
    -------
    section : Section
    lattice : Lattice or None
        Whose reciprocal axes are those of the grid; None with settings of another program.
        None instead of both on other ranks than the root.

    Raises
    ------
    CollectiveError
        On every rank, if the input is unusable, the slice is too large, or no frame reaches it.
    """
    timer = Timer()
    scans, parts = [], []
    for some in positions_in_turn(comm, wrapper, scan_params):
        read = partial(_read, wrapper, params, replace(scan_params, entries=some), norm)
        with timer.part("tables"):
            scan = kept_on_root(comm, read)
        scans.append(scan)
        for i in range(comm.bcast(len(scan.measured) if scan else None)):
            measured, grid = (scan.measured[i], scan.grid) if scan else (None, None)
            parts.append(_bin(comm, measured, grid, params, binning, timer))
    log.info("slice of %d positions, %s", len(parts), timer.summary(comm))

    def conclude() -> tuple[Section, Lattice | None]:
        read = [each for each in scans if each is not None]
        scan = replace(read[0], measured=[m for each in read for m in each.measured])
        if not any(part.norm.any() or part.bad_frames for part in parts):
            raise nothing_reached(wrapper, scan.measured, scan.grid)
        lattice = lattice_along(scan.sample.lattice, scan.grid.axes) if scan.sample else None
        return _section(scan, lattice, parts, params), lattice

    return kept_on_root(comm, conclude)


def section_grid(params: SliceParams, grid: HKLGrid) -> HKLGrid:
    """Return the grid of a slice, one voxel thick along the normal of a plane. Not collective.

    Parameters
    ----------
    grid : HKLGrid
        Of the scan: ranges and steps that are not given are taken from it.

    Raises
    ------
    InputError
        If there is no such plane, or the scan's grid does not tell what is left open.
    """
    if params.box is not None:
        _require_plain(grid)
        ends = zip(params.box[::2], grid.step, params.box[1::2], strict=True)
        return grid_from_axes(tuple(ends))
    assert params.plane is not None
    plane = parse_plane(params.plane)
    ranges = []
    for i, axis in enumerate(plane.axes):
        given, place = params.ranges[i], plane.place[i]
        if i == plane.normal:
            if given is not None:
                raise InputError(
                    f"--q{'hkl'[i]}: '{plane.text}' has no {'hkl'[i]} that varies; --thickness is "
                    "across the plane"
                )
            step = params.thickness or span(_require_plain(grid), axis)[1]
            ranges.append((place, step, place))
        else:
            start, step, stop = given or span(_require_plain(grid), axis)
            ranges.append((start + place, step, stop + place))
    return grid_from_axes(tuple(ranges), plane.axes)


def _require_plain(grid: HKLGrid) -> HKLGrid:
    if grid.axes != HKL:
        raise InputError(
            "slice: expected a scan whose grid is along h, k and l, found other axes; --qh, --qk, "
            "--ql and --thickness take its place"
        )
    return grid


def _read(wrapper: Path, params: SliceParams, scan_params: ScanParams, norm: NormParams) -> Scan:
    scan = read_scan_to_bin(wrapper, replace(scan_params, mask=params.masked), norm)
    grid = section_grid(params, scan.grid)
    if math.prod(grid.shape) > MOST_VOXELS:
        raise InputError(
            f"slice: expected at most {MOST_VOXELS} voxels, found "
            f"{' x '.join(str(n) for n in grid.shape)} (nxmpi transform makes volumes)"
        )
    for measured in scan.measured:
        if params.masked and measured.mask is None:
            raise InputError(
                f"{wrapper}:/{measured.position.name}/{schema.DATA_MASK}: expected a 3-D mask, "
                "found none (nxmpi frames makes it)"
            )
    return replace(scan, grid=grid)


def _bin(
    comm: MPI.Intracomm, measured: Measured | None, grid: HKLGrid | None, params: SliceParams,
    binning: TransformParams, timer: Timer,
) -> Binned:  # fmt: skip
    raw, mask = comm.bcast((measured.raw, measured.mask) if measured else None)

    def build() -> Tables:
        assert measured is not None  # on the root
        assert grid is not None
        return tables_of(grid, measured, binning)

    with timer.part("tables"):
        tables = bcast_tables(comm, kept_on_root(comm, build))
    with all_or_none(comm):
        reader = StackReader(raw, mask, skip_bad_frames=binning.skip_bad_frames)
    binned = bin_frames(comm, tables, reader, binning, timer, masked=params.masked)
    reader.close()
    return binned


def _section(
    scan: Scan, lattice: Lattice | None, parts: list[Binned], params: SliceParams
) -> Section:  # fmt: skip
    """Not collective: the root calls it."""
    grid, measured = scan.grid, scan.measured
    intensity, norm, errors = combine([p.counts for p in parts], [p.norm for p in parts])
    thin = [2 - parse_plane(params.plane).normal] if params.plane else []
    kept = [i for i in range(3) if i not in thin]
    scales = RECIPROCAL.parameters(lattice)[:3] if lattice else (None,) * 3
    axes = [
        Axis(
            name=schema.AXES[i], values=axis_values(grid, 2 - i), label=axis_label(grid, 2 - i),
            width=grid.step[2 - i], scale=scales[2 - i],
        )
        for i in kept
    ]  # fmt: skip
    angles = tuple(reversed(reciprocal_parameters(lattice)[3:])) if lattice else ()
    notes: dict[str, str | float] = {
        "scan": scan.files.wrapper.name,
        "positions": ", ".join(m.position.name for m in measured),
        "masked": str(params.masked),
    }
    title = title_of(scan.sample, scan.files.scan, "slice")
    if params.plane:
        i = 2 - thin[0]
        notes |= {"plane": params.plane, "thickness": grid.step[i]}
        notes["normal"] = " ".join(f"{x:g}" for x in grid.axes[i])
        title = f"{title} {params.plane}"
        angles = angles[thin[0] : thin[0] + 1]
    bad = [f"{m.position.name}: {p.bad_frames}" for m, p in zip(measured, parts, strict=True)
           if p.bad_frames]  # fmt: skip
    if bad:
        notes["bad_frames"] = "; ".join(bad)
        log.warning("left out frames that cannot be read: %s", notes["bad_frames"])
    counts = sum((p.counts for p in parts), start=np.zeros(grid.array_shape))
    squeezed = {name: values.squeeze(axis=tuple(thin)) for name, values in
                ((schema.SUM, counts), (schema.SUM_NORM, norm))}  # fmt: skip
    return Section(
        title=title,
        axes=tuple(axes),
        intensity=intensity.squeeze(axis=tuple(thin)),
        errors=errors.squeeze(axis=tuple(thin)),
        sums=squeezed,
        notes=notes,
        angles=angles,
    )
