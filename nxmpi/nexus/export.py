"""Volumes as other programs read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

import h5py
import mrcfile
import numpy as np

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, open_file, read_array, signal_name
from nxmpi.params import ExportFormat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nxmpi._typing import F4, F8

SUFFIXES = {"yell": ".h5", "numpy": ".npz", "ccp4map": ".map"}
"""Of the files of each format."""
assert set(SUFFIXES) == set(get_args(ExportFormat))


class Exported(NamedTuple):
    """A volume out of its file."""

    values: F4
    """(n_l, n_k, n_h) or (n_z, n_y, n_x) float32; NaN where nothing was measured."""
    axes: tuple[F8, F8, F8]
    """Along h, k, l [r.l.u.], or x, y, z in units of a, b, c."""
    names: tuple[str, str, str]
    lengths: tuple[float, float, float]
    """What 1 is along the axes: 2π a*, 2π b*, 2π c* [1/Å], or a, b, c [Å]."""
    angles: tuple[float, float, float]
    """Between the axes: those of the reciprocal cell, or α, β, γ [degrees]."""
    dataset: str


def read_volume(path: Path, dataset: str | None) -> Exported:
    """Return a volume, all of it. Not collective.

    Parameters
    ----------
    dataset : str or None
        Beside the signal of the file; None for that itself.

    Raises
    ------
    InputError
        If there is no such volume, or its axes do not say what they are.
    """
    with open_file(path) as file:
        group = next(
            (
                found
                for place in (schema.VOLUME, schema.PDF_VOLUME)
                if isinstance(found := find(file, place), h5py.Group)
            ),
            None,
        )
        if group is None:
            raise InputError(
                f"{path}: expected a volume in /{schema.VOLUME} or /{schema.PDF_VOLUME}, found none"
            )
        there = [n for n, one in group.items() if isinstance(one, h5py.Dataset) and one.ndim == 3]
        name = dataset or signal_name(group)
        if name not in there:
            raise InputError(
                f"{path}:{group.name}: expected one of {', '.join(there)}, found {name}"
            )
        names = [str(one) for one in reversed(group.attrs.get("axes", []))]
        axes = [read_array(group, one) for one in names]
        lengths = [group[one].attrs.get("scaling_factor") for one in names if one in group]
        angles = group.attrs.get("angles")
        if len(lengths) != 3 or angles is None or any(one is None for one in (*axes, *lengths)):
            raise InputError(
                f"{path}:{group.name}: expected axes with scaling_factor, and angles, found "
                f"{', '.join(names) or 'none'}"
            )
        values = np.asarray(group[name][()], dtype=np.float32)
    h, k, l = (np.asarray(axis) for axis in axes)
    return Exported(
        values, (h, k, l), (names[0], names[1], names[2]),
        (float(lengths[0]), float(lengths[1]), float(lengths[2])),
        (float(angles[2]), float(angles[1]), float(angles[0])), name,
    )  # fmt: skip


def write_yell(path: Path, volume: Exported) -> str:
    """Write /data as Yell reads it, [h, k, l], and return what to put into its model.

    Notes
    -----
    Yell transforms even numbers of voxels with 0 at voxel n / 2: the last plane of odd ones is
    left out, as its reference has it. What was not measured is 0, and is to have no weight.
    """
    kept = [n - n % 2 if n > 1 else n for n in volume.values.shape]
    values = volume.values[: kept[0], : kept[1], : kept[2]]
    with h5py.File(path, "w") as file:
        file.attrs["filetype"] = "Yell 1.0"
        file["data"] = np.nan_to_num(values.transpose(2, 1, 0).astype(np.float64))
    first = " ".join(f"{axis[0]:.10g}" for axis in volume.axes)
    steps = " ".join(f"{_step(axis):.10g}" for axis in volume.axes)
    n_l, n_k, n_h = kept
    return f"DiffuseScatteringGrid {first} {steps} {n_h} {n_k} {n_l}; {_missing(values)}"


def write_numpy(path: Path, volume: Exported) -> str:
    """Write values and axes, NaN as it is, for ``numpy.load``. Return what they are called."""
    axes = dict(zip(volume.names, volume.axes, strict=True))
    with path.open("wb") as file:
        np.savez(
            file, allow_pickle=False, data=volume.values, lengths=np.array(volume.lengths),
            angles=np.array(volume.angles), **axes,
        )  # fmt: skip
    return f"data[{', '.join(reversed(volume.names))}], lengths, angles"


def write_ccp4(path: Path, volume: Exported) -> str:
    """Write a CCP4 map whose cell is all of the volume, 0 where it is. Return what is left out.

    Notes
    -----
    The cell of a map is sampled a whole number of times, so that of the crystal cannot be its own.
    What was not measured is 0: programs take NaN for an error.
    """
    n_l, n_k, n_h = volume.values.shape
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.nan_to_num(volume.values))
        file.set_volume()
        header = file.header
        extents = [
            n * _step(axis) * length
            for n, axis, length in zip((n_h, n_k, n_l), volume.axes, volume.lengths, strict=True)
        ]
        header.cella = tuple(extents)
        header.cellb = volume.angles
        header.mx, header.my, header.mz = n_h, n_k, n_l
        header.nxstart, header.nystart, header.nzstart = (
            round(axis[0] / _step(axis)) for axis in volume.axes
        )
    return _missing(volume.values)


def _step(axis: F8) -> float:
    return float(axis[-1] - axis[0]) / (axis.size - 1) if axis.size > 1 else 1.0


def _missing(values: F4) -> str:
    return f"{int(np.isnan(values).sum())} voxels that were not measured are 0"


WRITERS: dict[str, Callable[[Path, Exported], str]] = {
    "yell": write_yell, "numpy": write_numpy, "ccp4map": write_ccp4,
}  # fmt: skip
