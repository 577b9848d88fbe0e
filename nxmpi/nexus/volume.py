"""Volumes on an HKL grid: their files, and the groups that lead to them."""

from __future__ import annotations

from dataclasses import astuple
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np

from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.lattice import reciprocal_parameters
from nxmpi.errors import InputError
from nxmpi.model import HKL, HKLGrid
from nxmpi.nexus import schema
from nxmpi.nexus.values import link_to, open_file, put, read_array, replace_group, require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nxmpi._typing import F8
    from nxmpi.model import Lattice, Matrix, Sample

CHUNK = 32
"""Voxels of a chunk along every axis."""
SHOWN = {"data": schema.COUNTS, "weights": schema.NORM, "data_errors": schema.ERRORS}
"""Names in the wrapper of what a transform or combined volume holds."""


class Space(NamedTuple):
    """How volumes of reciprocal or of real space look in files."""

    group: str
    """Path of the NXdata group in a volume's file."""
    axes: tuple[str, str, str]
    """Names of the axes, the slowest first."""
    labels: tuple[str, str, str]
    """What stands beside the axes, the fastest first."""
    parameters: Callable[[Lattice], tuple[float, ...]]
    """Returns the lengths that axes are in units of, the fastest first, and angles [degrees]."""


def _reciprocal_lengths(lattice: Lattice) -> tuple[float, ...]:
    a, b, c, *angles = reciprocal_parameters(lattice)
    return 2 * np.pi * a, 2 * np.pi * b, 2 * np.pi * c, *angles


RECIPROCAL = Space(schema.VOLUME, schema.AXES, ("H (r.l.u.)", "K (r.l.u.)", "L (r.l.u.)"),
                   _reciprocal_lengths)  # fmt: skip
REAL = Space(schema.PDF_VOLUME, schema.PDF_AXES, ("x (a)", "y (b)", "z (c)"), astuple)


class VolumeFile(NamedTuple):
    """A volume and the file that holds it."""

    path: Path
    grid: HKLGrid
    lattice: Lattice | None
    """Whose reciprocal axes are the grid's; whose axes they are in real space."""
    title: str
    fills: Mapping[str, float]
    """Datasets, the signal first, and what stands in voxels never written."""
    dtype: str
    attributes: Mapping[str, str | float]
    """Of the group that holds the datasets."""
    factors: Mapping[str, F8] = MappingProxyType({})
    """Factors of the norm: (n_frames,) or (n_slow, n_fast) each. The root's alone are written."""
    space: Space = RECIPROCAL


def create_volume(file: h5py.File, volume: VolumeFile, storage: Mapping[str, Any]) -> None:
    """Create the datasets of a volume, and what makes them plottable. Not collective.

    Parameters
    ----------
    storage : mapping
        Arguments of ``create_dataset``, for compression.
    """
    entry = replace_group(file, schema.SHARED, "NXentry")
    entry.attrs["default"] = volume.space.group.rpartition("/")[2]
    file.attrs["default"] = schema.SHARED
    data = replace_group(file, volume.space.group, "NXdata")
    create_datasets(data, volume, storage)
    describe_map(
        data, volume.grid, volume.lattice, next(iter(volume.fills)), volume.title, volume.space
    )
    data.attrs.update(volume.attributes)
    if volume.factors:
        factors = replace_group(file, schema.FACTORS, "NXcollection")
        for name, values in volume.factors.items():
            single = values.astype(np.float32) if values.ndim > 1 else values
            factors.create_dataset(name, data=single, **storage)


def create_datasets(data: h5py.Group, volume: VolumeFile, storage: Mapping[str, Any]) -> None:
    """Create the datasets of a volume alone. Not collective."""
    shape = volume.grid.array_shape
    chunks = tuple(min(CHUNK, n) for n in shape)
    for name, fill in volume.fills.items():
        data.create_dataset(
            name, shape=shape, dtype=volume.dtype, fillvalue=fill, chunks=chunks, **storage
        )


def axis_values(grid: HKLGrid, axis: int) -> F8:
    """Return the centres of the voxels along h (0), k (1) or l (2) [r.l.u.]."""
    return np.asarray(grid.origin[axis] + grid.step[axis] * np.arange(grid.shape[axis]))


def axis_label(grid: HKLGrid, axis: int) -> str:
    """Return what stands beside the axis of h (0), k (1) or l (2), such as ``[1 1 0] (r.l.u.)``."""
    if grid.axes == HKL:
        return RECIPROCAL.labels[axis]
    return f"[{' '.join(f'{x:g}' for x in grid.axes[axis])}] (r.l.u.)"


def regular_axis(start: float, step: float, stop: float) -> tuple[float, float, int]:
    """Return origin, step and number of voxels of an axis, free of rounding noise.

    Ten digits are kept, so that a grid read back from its axes is the same grid.

    Raises
    ------
    InputError
        If there is no such axis.
    """
    if not np.isfinite([start, step, stop]).all() or not step > 0 or stop < start:
        raise InputError(
            f"grid: expected start, a step above 0 and a stop not below start along each axis, "
            f"found {start:g} {step:g} {stop:g}"
        )
    n = int(np.floor((stop - start) / step + 0.5)) + 1
    return float(f"{start:.10g}"), float(f"{step:.10g}"), n


def grid_from_axes(ranges: tuple[tuple[float, float, float], ...], axes: Matrix = HKL) -> HKLGrid:
    """Return the grid of (start, step, stop) along three axes.

    Raises
    ------
    InputError
        If a step is not positive, or a stop is below its start.
    """
    (h0, dh, nh), (k0, dk, nk), (l0, dl, nl) = (regular_axis(*axis) for axis in ranges)
    return HKLGrid(origin=(h0, k0, l0), step=(dh, dk, dl), shape=(nh, nk, nl), axes=axes)


def read_grid(group: h5py.Group | None) -> HKLGrid | None:
    """Return the grid of a volume's axes, None where there are none. Not collective."""
    if not isinstance(group, h5py.Group):
        return None
    ranges = []
    for name in reversed(schema.AXES):
        values = read_array(group, name)
        if values is None or not values.size:
            return None
        if values.size == 1 and "step" not in group[name].attrs:
            return None
        if values.size > 1:
            width = float(values[-1] - values[0]) / (values.size - 1)
        else:
            width = float(group[name].attrs["step"])
        digits = 6 if group[name].dtype.itemsize < 8 else 10
        step = float(f"{width:.{digits}g}")
        ranges.append(
            (float(f"{values[0]:.{digits}g}"), step, values[0] + step * (values.size - 1))
        )
    axes = group.attrs.get(schema.GRID_AXES)
    return grid_from_axes(tuple(ranges), HKL if axes is None else as_matrix(axes))


def write_volume_group(
    entry: h5py.Group, name: str, volume: VolumeFile, command: str, links: Mapping[str, str]
) -> None:
    """Write the NXdata group that shows a volume in the wrapper. Not collective.

    Parameters
    ----------
    links : mapping
        What the group's ``data`` and so on are called in the volume's file, the signal first.
    """
    data = replace_group(entry, name, "NXdata")
    for shown, dataset in links.items():
        if dataset in volume.fills:
            link_to(data, shown, volume.path, f"{volume.space.group}/{dataset}")
    signal = next(iter(links))
    describe_map(data, volume.grid, volume.lattice, signal, volume.title, volume.space)
    put(data, "command", command)
    entry.attrs["default"] = name
    entry.file.attrs["default"] = entry.name.strip("/")


def title_of(sample: Sample | None, scan: str, group: str, position: str = "") -> str:
    """Return a title such as ``C3 H7 N O2 S 100K f1 Masked Transform``."""
    words = [scan, position, group.replace("_", " ").title()]
    if sample is not None:
        words[:1] = [sample.chemical_formula or sample.name or scan, sample.temperature]
    return " ".join(word for word in words if word)


def open_volume(path: Path) -> tuple[h5py.Dataset, h5py.Dataset]:
    """Open a transform and return counts and norm, (n_l, n_k, n_h). Not collective.

    Raises
    ------
    SchemaError
        If the file is missing or lacks either.
    """
    file = open_file(path)
    counts, norm = (
        require(file, f"{schema.VOLUME}/{name}", "a volume")
        for name in (schema.COUNTS, schema.NORM)
    )
    return counts, norm


def read_part(dataset: h5py.Dataset, where: tuple[slice, ...]) -> F8:
    """Return a part of a volume. Not collective.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return np.asarray(dataset[where], dtype=np.float64)
    except (OSError, RuntimeError) as error:
        corner = ", ".join(str(part.start) for part in where)
        raise InputError(
            f"{dataset.file.filename}:{dataset.name}: expected the part at {corner} to be "
            f"readable, found: {error} (nxmpi transform --overwrite makes it again)"
        ) from error


def has_chunk(dataset: h5py.Dataset, start: tuple[int, int, int]) -> bool:
    """Return whether anything was written where a chunk of our files begins. Not collective.

    True for datasets of other programs, whose chunks lie otherwise.
    """
    if dataset.chunks != tuple(min(CHUNK, n) for n in dataset.shape):
        return True
    return dataset.id.get_chunk_info_by_coord(start).byte_offset is not None


def describe_map(
    data: h5py.Group, grid: HKLGrid, lattice: Lattice | None, signal: str, title: str,
    space: Space = RECIPROCAL,
) -> None:  # fmt: skip
    """Write the axes of a map into its group, and what makes it plottable. Not collective."""
    along = grid.axes != HKL
    if along:
        data.attrs[schema.GRID_AXES] = np.array(grid.axes)
    for axis, (name, label) in enumerate(zip(reversed(space.axes), space.labels, strict=True)):
        if along and space is REAL:
            label = f"{name} (dual to [{' '.join(f'{x:g}' for x in grid.axes[axis])}])"
        elif along:
            label = axis_label(grid, axis)
        values = axis_values(grid, axis)
        dataset = put(data, name, values, long_name=label)
        if values.size == 1:
            dataset.attrs["step"] = grid.step[axis]  # a plane's thickness, which no values tell
        if lattice is not None:
            dataset.attrs["scaling_factor"] = space.parameters(lattice)[axis]
    data.attrs["signal"] = signal
    data.attrs["axes"] = list(space.axes)
    put(data, "title", title)
    if lattice is not None:
        alpha, beta, gamma = space.parameters(lattice)[3:]
        data.attrs["angles"] = [gamma, beta, alpha]
