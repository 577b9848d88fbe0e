"""Lines and boxes out of volumes, with errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.crystal.cut import Line, bins_of, bounds, make_line, metric_of
from nxmpi.crystal.lattice import lattice_of
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.measured import MeasuredVolume, open_measured
from nxmpi.nexus.section import Axis, Section
from nxmpi.nexus.values import chosen_entries, open_file, positions_in
from nxmpi.nexus.volume import CHUNK, RECIPROCAL, read_part
from nxmpi.stages.cut import Totals, Voxels, means

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

    from nxmpi._typing import F8, I8
    from nxmpi.model import Lattice
    from nxmpi.params import CutParams

log = logging.getLogger(__name__)


class _Places(NamedTuple):
    """Bins, and the part of the volume in which they are."""

    shape: tuple[int, ...]
    axes: tuple[Axis, ...]
    kept: tuple[int, ...]
    """Dimensions of the volume that are left; of a line none."""
    ranges: tuple[slice, slice, slice]
    """Voxels along l, k, h."""
    bins: Callable[[slice], I8]
    """Of the voxels in a range of l."""
    others: dict[str, F8]
    """Further coordinates of the bins."""


def run_cut(path: Path, params: CutParams) -> tuple[Section, Lattice | None]:
    """Add up voxels of a volume along a line, or over a box. Not collective.

    Parameters
    ----------
    path : Path
        Of the volume's file.

    Returns
    -------
    section : Section
    lattice : Lattice or None
        Whose reciprocal axes are the volume's; None where the file does not tell.

    Raises
    ------
    InputError
        If there is no volume, or the line or box is outside of it.
    """
    volume = open_measured(path)
    try:
        metric = _metric(volume)
        places = _line(volume, params, metric) if params.line else _box(volume, params)
        totals, part = _add(volume, places)
    finally:
        volume.signal.file.close()
    intensity, errors = (values.reshape(places.shape) for values in means(totals, part))
    sums = {"voxels": totals.voxels, **places.others}
    if part.counts is not None:
        sums = {schema.SUM: totals.counts, schema.SUM_NORM: totals.weight, **sums}
        if part.background is not None:
            sums[schema.BACKGROUND_SUM], sums[schema.BACKGROUND_NORM] = totals.background
    angles: tuple[float, ...] = ()
    if volume.angles and len(places.axes) == 3:
        angles = volume.angles[::-1]
    elif volume.angles and len(places.axes) == 2:
        (gone,) = set(range(3)) - set(places.kept)
        angles = (volume.angles[::-1][gone],)
    section = Section(
        title=volume.title,
        axes=places.axes,
        intensity=intensity,
        errors=errors,
        sums={name: values.reshape(places.shape) for name, values in sums.items()},
        notes={"volume": path.name, **_notes(params, volume)},
        angles=angles,
    )
    return section, None if metric is None else lattice_of(np.asarray(np.linalg.cholesky(metric).T))


def volume_file(path: Path, entry: str | None, *, masked: bool, symmetrized: bool) -> Path:
    """Return the file of a volume: the one given, or that of a scan. Not collective.

    Parameters
    ----------
    entry : str or None
        Of a position; None for all of them together.

    Raises
    ------
    InputError
        If there is none.
    """
    with open_file(path) as file:
        is_scan = bool(positions_in(file))
        if is_scan and entry:
            chosen_entries(file, (entry,))
    if not is_scan:
        if entry or masked or symmetrized:
            raise InputError(f"{path}: expected a scan file to choose from, found a volume's")
        return path
    files, twin = schema.ScanFiles(path), schema.MASKED if masked else schema.REGULAR
    if symmetrized and entry:
        raise InputError("cut: expected a position or the symmetrized volume, found both")
    target = files.symmetrized(twin) if symmetrized else files.combined(twin)
    target = files.transform(entry, twin) if entry else target
    if not target.exists():
        raise InputError(f"{path}: expected {target.name} to be made, found none")
    return target


def _metric(volume: MeasuredVolume) -> F8 | None:
    if volume.lengths and len(volume.angles) == 3:
        return metric_of(volume.lengths, volume.angles)
    return None


def _notes(params: CutParams, volume: MeasuredVolume) -> dict[str, str | float]:
    notes: dict[str, str | float] = {}
    if params.line is None:
        notes["box"] = " ".join(f"{x:g}" for x in params.box or ())
    else:
        ends = [" ".join(f"{x:g}" for x in end) for end in params.line]
        notes["line"] = " to ".join(ends)
    if params.width is not None:
        notes["width"] = params.width
    if volume.background is not None:
        notes["background_scale"] = volume.background[2]
    return notes


def _line(volume: MeasuredVolume, params: CutParams, metric: F8 | None) -> _Places:
    assert params.line is not None
    if metric is None:
        log.warning("the file does not tell the cell: width is in r.l.u., angles taken as right")
        metric = np.eye(3)
    first, last = (np.asarray(np.linalg.solve(volume.vectors.T, end)) for end in params.line)
    line = make_line((first, last), volume.steps, metric, params.step, params.width)
    low, high = bounds(line)
    ranges = tuple(
        _inside(volume.axes[i], low[i], high[i], volume, i, "; a larger --width") for i in (2, 1, 0)
    )
    coordinates = line.start + np.arange(line.n)[:, None] * line.step
    main = int(np.argmax(np.abs(line.step)))
    names = tuple(reversed(volume.space.axes))
    axis = Axis(
        name=names[main], values=coordinates[:, main],
        label=f"{volume.space.labels[main]} along {_direction(line)}",
        width=abs(float(line.step[main])),
    )  # fmt: skip

    def bins(rows: slice) -> I8:
        grids = np.meshgrid(
            volume.axes[2][rows], volume.axes[1][ranges[1]], volume.axes[0][ranges[2]],
            indexing="ij",
        )  # fmt: skip
        return bins_of(line, np.stack(grids[::-1], axis=-1))

    others = {names[i]: coordinates[:, i] for i in range(3) if i != main}
    return _Places(
        (line.n,), (axis,), (), (ranges[0], ranges[1], ranges[2]), bins, others
    )  # fmt: skip


def _direction(line: Line) -> str:
    way = line.step / np.abs(line.step).max()
    return f"[{' '.join(f'{x + 0.0:.3g}' for x in way)}]"


def _box(volume: MeasuredVolume, params: CutParams) -> _Places:
    assert params.box is not None
    letters = "hkl" if volume.space is RECIPROCAL else "xyz"
    wrong = set(params.along) - set(letters)
    if wrong:
        raise InputError(f"along: expected of {', '.join(letters)}, found {', '.join(wrong)}")
    ranges = tuple(
        _inside(volume.axes[i], params.box[2 * i], params.box[2 * i + 1], volume, i)
        for i in (2, 1, 0)
    )
    sizes = [part.stop - part.start for part in ranges]
    kept = [i for i in range(3) if letters[2 - i] in params.along] or [int(np.argmax(sizes))]
    shape = tuple(sizes[i] for i in kept)
    numbers = np.arange(int(np.prod(shape))).reshape(
        [sizes[i] if i in kept else 1 for i in range(3)]
    )
    axes = tuple(
        Axis(
            name=volume.space.axes[i], values=volume.axes[2 - i][ranges[i]],
            label=volume.space.labels[2 - i], width=float(volume.steps[2 - i]),
            scale=volume.lengths[2 - i] if volume.lengths else None,
        )
        for i in kept
    )  # fmt: skip

    def bins(rows: slice) -> I8:
        start = rows.start - ranges[0].start
        part = numbers[start : start + rows.stop - rows.start] if 0 in kept else numbers
        return np.broadcast_to(part, (rows.stop - rows.start, *sizes[1:]))

    return _Places(shape, axes, tuple(kept), (ranges[0], ranges[1], ranges[2]), bins, {})


def _inside(
    values: F8, low: float, high: float, volume: MeasuredVolume, axis: int, hint: str = ""
) -> slice:
    """Return the voxels whose centres are in a range; a hint helps where it is between two."""
    slack = 1e-6 * volume.steps[axis]
    inside = np.flatnonzero((values >= low - slack) & (values <= high + slack))
    if not inside.size:
        found = f"them from {values[0]:g} to {values[-1]:g}"
        if values[0] < low and high < values[-1]:
            found = f"none (steps of {volume.steps[axis]:g}{hint})"
        raise InputError(
            f"{volume.signal.file.filename}: expected voxel centres from {low:.4g} to {high:.4g} "
            f"along {volume.space.axes[2 - axis]}, found {found}"
        )
    return slice(int(inside[0]), int(inside[-1]) + 1)


def _add(volume: MeasuredVolume, places: _Places) -> tuple[Totals, Voxels]:
    """Return the sums, and one of the parts that were read."""
    totals = Totals(int(np.prod(places.shape)))
    rows, columns = places.ranges[0], places.ranges[1:]
    for start in range(rows.start, rows.stop, CHUNK):
        now = slice(start, min(start + CHUNK, rows.stop))
        part = _read(volume, (now, *columns))
        totals.add(places.bins(now), part)
    return totals, part


def _read(volume: MeasuredVolume, where: tuple[slice, ...]) -> Voxels:
    def read(dataset: h5py.Dataset | None) -> F8 | None:
        return None if dataset is None else read_part(dataset, where)

    signal = read_part(volume.signal, where)
    norm, errors, counts = read(volume.norm), read(volume.errors), read(volume.counts)
    background = None
    if volume.background is not None:
        first, second, scale = volume.background
        background = (read_part(first, where), read_part(second, where), scale)
    intensity = signal
    if norm is not None:
        with np.errstate(invalid="ignore", divide="ignore"):
            if volume.is_counts:
                counts, intensity = signal, signal / norm
            elif volume.spread is not None:
                counts = np.nan_to_num(signal) * norm
            elif counts is None:
                counts = np.rint(np.nan_to_num(signal) * norm * volume.parts) / volume.parts
    return Voxels(intensity, norm, counts, errors, background, read(volume.spread))
