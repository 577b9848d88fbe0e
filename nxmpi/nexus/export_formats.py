"""Volumes as other programs read them; some planes are in memory at a time."""

from __future__ import annotations

import zipfile
from dataclasses import astuple
from typing import TYPE_CHECKING, get_args

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.lib import format as npy

from nxmpi.errors import InputError
from nxmpi.nexus.export import slabs
from nxmpi.nexus.volume import CHUNK, REAL
from nxmpi.params import ExportFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import BinaryIO

    import h5py

    from nxmpi._typing import F4, F8
    from nxmpi.nexus.export import Exported

SUFFIXES = {"yell": ".h5", "numpy": ".npz", "ccp4map": ".map"}
"""Of the files of each format."""
assert set(SUFFIXES) == set(get_args(ExportFormat))
YELL = b"Yell 1.0"
OFF = 0.01
"""What a voxel may be off the places that a map can have [voxels]."""


def write_yell(file: h5py.File, volume: Exported) -> str:
    """Write what Yell reads and writes, [h, k, l], and return what its model is to say.

    Into a new file.

    Notes
    -----
    Yell's manual asks for ``/data`` and the attribute ``filetype``; Yell itself, DISCUS and
    DensityViewer write or want the other datasets (Yell's ``WriteHDF5``, github.com/YellProgram).
    Its Fourier transform wants even numbers of voxels with 0 at voxel n / 2: of odd ones about 0
    the last plane is left out, as the manual has it. What has no value is 0.
    """
    n_h, n_k, n_l = (
        _even(axis, step) for axis, step in zip(volume.axes, volume.steps, strict=True)
    )
    lost = 0
    file.attrs["filetype"] = YELL
    file["format"] = YELL
    file["is_direct"] = np.uint8(volume.space is REAL)
    file["lower_limits"] = [axis[0] for axis in volume.axes]
    file["step_sizes"] = volume.steps
    file["unit_cell"] = astuple(volume.lattice)
    chunks = tuple(min(CHUNK, n) for n in (n_h, n_k, n_l))
    data = file.create_dataset("data", (n_h, n_k, n_l), dtype="f4", chunks=chunks)
    for start, slab in slabs(volume):
        values, n = _without_gaps(slab[: max(n_l - start, 0), :n_k, :n_h])
        data[:, :, start : start + len(values)] = values.transpose(2, 1, 0)
        lost += n
    told = f"Cell {_words(astuple(volume.lattice))}; {_lost(lost)}"
    if volume.space is REAL:
        return told
    first = _words(axis[0] for axis in volume.axes)
    return f"DiffuseScatteringGrid {first} {_words(volume.steps)} {n_h} {n_k} {n_l}; {told}"


def write_numpy(path: Path, volume: Exported) -> str:
    """Write values, NaN as it is, axes and cell for ``numpy.load``. Return what they are called."""
    parameters = np.array(volume.space.parameters(volume.lattice))
    arrays = {
        **dict(zip(reversed(volume.space.axes), volume.axes, strict=True)),
        "lengths": parameters[:3], "angles": parameters[3:],
        "cell": np.array(astuple(volume.lattice)),
    }  # fmt: skip
    header = {"descr": "<f4", "fortran_order": False, "shape": volume.data.shape}
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("data.npy", "w", force_zip64=True) as file:
            npy.write_array_header_1_0(file, header)
            for _, slab in slabs(volume):
                file.write(slab.astype("<f4", copy=False).tobytes())
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                npy.write_array(file, values, allow_pickle=False)
    return f"data[{', '.join(volume.space.axes)}], lengths, angles, cell"


def write_ccp4(path: Path, volume: Exported) -> str:
    """Write a CCP4 map whose cell is all of the volume, 0 where it is. Return what is left out.

    Raises
    ------
    InputError
        If 0 is not a whole number of voxels from the first one.

    Notes
    -----
    The cell of a map is sampled a whole number of times, so that of the crystal cannot be its own.
    What has no value is 0: programs take NaN for an error. Cheng et al., J. Struct. Biol. 192,
    146 (2015): MRC2014.
    """
    starts = [_start(volume, axis) for axis in range(3)]
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(np.zeros((1, 1, 1), dtype=np.float32))
        file.set_volume()
    with path.open("r+b") as file:
        header = np.fromfile(file, dtype=HEADER_DTYPE, count=1)
        lost, low, high, mean, deviation = _write_map(file, volume)
        lengths, angles = np.split(np.array(volume.space.parameters(volume.lattice)), [3])
        n = np.array(volume.data.shape[::-1])
        for name, value in zip(("nx", "ny", "nz", "mx", "my", "mz"), (*n, *n), strict=True):
            header[name] = value
        for name, value in zip(("nxstart", "nystart", "nzstart"), starts, strict=True):
            header[name] = value
        header["cella"] = tuple(n * volume.steps * lengths)
        header["cellb"] = tuple(angles)
        header["dmin"], header["dmax"], header["dmean"], header["rms"] = low, high, mean, deviation
        file.seek(0)
        file.write(header.tobytes())
    return _lost(lost)


def _write_map(file: BinaryIO, volume: Exported) -> tuple[int, float, float, float, float]:
    """Write the values; return how many had none, least, largest, mean and deviation."""
    lost, n, low, high, mean, squares = 0, 0, np.inf, -np.inf, 0.0, 0.0
    for _, slab in slabs(volume):
        values, n_lost = _without_gaps(slab)
        file.write(values.tobytes())
        lost += n_lost
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        other = float(values.mean(dtype=np.float64))
        squares += float(values.var(dtype=np.float64)) * values.size
        squares += (other - mean) ** 2 * n * values.size / (n + values.size)
        mean += (other - mean) * values.size / (n + values.size)
        n += values.size
    return lost, low, high, mean, float(np.sqrt(squares / n))


def _start(volume: Exported, axis: int) -> int:
    place = float(volume.axes[axis][0]) / volume.steps[axis]
    if abs(place - round(place)) > OFF:
        name = f"{volume.data.parent.name}/{volume.space.axes[2 - axis]}"
        raise InputError(
            f"{volume.data.file.filename}:{name}: expected voxels at whole numbers of steps of "
            f"{volume.steps[axis]:g} from 0, as a map has them, found {volume.axes[axis][0]:g}"
        )
    return round(place)


def _even(axis: F8, step: float) -> int:
    """Return how many voxels to keep: of an odd number about 0, all but the last."""
    n = axis.size
    is_about_zero = abs(axis[0] + axis[-1]) < OFF * step
    return n - 1 if n > 1 and n % 2 and is_about_zero else n


def _without_gaps(values: F4) -> tuple[F4, int]:
    is_there = np.isfinite(values)
    return np.where(is_there, values, np.float32(0)), int(np.count_nonzero(~is_there))


def _words(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.10g}" for number in numbers)


def _lost(n: int) -> str:
    return f"{n} voxels without a value are 0"


WRITERS: dict[str, Callable[[Path, Exported], str]] = {
    "numpy": write_numpy, "ccp4map": write_ccp4,
}  # fmt: skip
"""Of files that are not HDF5."""
