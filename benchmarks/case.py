"""What is measured: a simulated position, its frames and their 3-D mask, the same for all programs.

A detector of 1679 x 1475 pixels with module gaps, 0.1 degrees a frame, all factors of the norm.
Frames repeat a smaller set, which `python case.py FOLDER` writes.
"""

import argparse
import json
import math
from pathlib import Path

import nxmpi  # noqa: F401 - before numba: see nxmpi/__init__.py

import h5py  # isort: skip
import numpy as np

from nxmpi.crystal.detector import as_matrix, parse_orientation
from nxmpi.crystal.factors import PixelFactors, pixel_factors
from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.model import Detector, Geometry, Goniometer, HKLGrid, Lattice, Position
from nxmpi.nexus.frames import StackReader
from nxmpi.nexus.stack import Stack
from nxmpi.parallel.h5 import filters
from nxmpi.params import TransformParams
from nxmpi.stages.tables import build_tables

SHAPE = (1679, 1475)
N_PIXELS = SHAPE[0] * SHAPE[1]
STORED = 32
"""Different frames; the scan repeats them."""
LATTICE = Lattice(a=10, b=10, c=10, alpha=90, beta=90, gamma=90)
FACTORS = PixelFactors(
    polarization=0.99, solid_angle_unit=(0.172 / 650) ** 2, efficiency=0.5, air=1e-5
)
EXTENT = 10.0
"""Of the grid to either side [r.l.u.]."""
EXCLUDED = 0.02
"""Part of the pixels that the 3-D mask excludes."""


def make_position(n_frames, part=1.0):
    """Return a position of which that part of the detector, from the middle, is not masked."""
    detector = Detector(
        shape=SHAPE, pixel_size=0.172, distance=650.0, beam_center=(700.3, 800.7),
        orientation=parse_orientation("-y +z -x"), yaw=0.1, pitch=0.2, roll=0.3,
    )  # fmt: skip
    goniometer = Goniometer(
        theta=0.0, omega=0.0, chi=-90.0, phi=tuple(0.1 * k for k in range(n_frames)), step=0.1
    )
    UB = rotation(0, 20) @ rotation(1, 33) @ reciprocal_matrix(LATTICE)
    bad = np.zeros(SHAPE, bool)
    for row in range(195, SHAPE[0], 212):
        bad[row : row + 17] = True
    bad[:, 487:494] = bad[:, 981:988] = True
    first, stop = rows_used(part)
    bad[:first] = bad[stop:] = True
    return Position(
        name="f1", sample=None, n_frames=n_frames, first_frame=0, last_frame=n_frames - 1,
        geometry=Geometry(
            wavelength=0.2, detector=detector, goniometer=goniometer, UB=as_matrix(UB)
        ),
        bad=bad, weight=1 + 0.05 * np.cos(np.arange(n_frames) / 40),
    )  # fmt: skip


def rows_used(part):
    """Return the rows of a part of the detector, [first, stop)."""
    n = round(part * SHAPE[0])
    first = (SHAPE[0] - n) // 2
    return first, first + n


def n_pixels_used(part):
    """Return the pixels of a part of the detector, gaps included."""
    first, stop = rows_used(part)
    return (stop - first) * SHAPE[1]


def make_grid(n):
    """Return a grid of n^3 voxels."""
    return HKLGrid(origin=(-EXTENT,) * 3, step=(2 * EXTENT / (n - 1),) * 3, shape=(n,) * 3)


def make_tables(n_frames, n_voxels, part=1.0):
    position = make_position(n_frames, part)
    detector = position.geometry.detector
    factors = pixel_factors(detector, FACTORS).values()
    factor = math.prod(factors, start=np.ones(SHAPE))
    return build_tables(position, factor, make_grid(n_voxels), TransformParams())


def make_mask(random):
    """Return a 3-D mask, (STORED, n_pixels) int8: discs that last for some frames."""
    mask, excluded = np.zeros((STORED, *SHAPE), np.int8), 0
    while excluded < EXCLUDED * mask.size:
        row, column, radius = random.integers((0, 0, 25), (*SHAPE, 60))
        frames = (random.integers(STORED) + np.arange(random.integers(2, 5))) % STORED
        rows = slice(max(row - radius, 0), row + radius)
        columns = slice(max(column - radius, 0), column + radius)
        y, x = np.ogrid[: SHAPE[0], : SHAPE[1]]
        disc = (y[rows] - row) ** 2 + (x[:, columns] - column) ** 2 < radius**2
        excluded += frames.size * disc.sum()  # a little less, where discs overlap
        for frame in frames:
            mask[frame, rows, columns] |= disc
    return mask.reshape(STORED, N_PIXELS)


def write_frames(folder):
    """Write frames and mask, as arrays and into a bitshuffle-LZ4 file with a chunk a frame."""
    random = np.random.default_rng(1)
    frames = random.poisson(2.0, (STORED, N_PIXELS)).astype(np.int32)
    arrays = {"frames": frames, "mask": make_mask(random)}
    storage = {"chunks": (1, *SHAPE), **filters("bitshuffle-lz4")}
    with h5py.File(folder / "frames.h5", "w") as file:
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
            file.create_dataset(name, data=array.reshape(-1, *SHAPE), **storage)


def open_stack(folder, name):
    file = folder / "frames.h5"
    with h5py.File(file) as opened:
        dtype = opened[name].dtype.str
    return Stack(
        file=file, path=name, shape=(STORED, *SHAPE), dtype=dtype, chunk_frames=1, identity=(0, 0)
    )


def stored_bytes(folder, name):
    """Return the bytes that a stored frame, or the mask of one, takes in the file."""
    with h5py.File(folder / "frames.h5") as file:
        return file[name].id.get_storage_size() / STORED


class FromMemory:
    """Frames that are in memory, and come again after the last of them: nothing is copied."""

    chunk_frames = 1
    dtype = np.dtype(np.int32)

    def __init__(self, folder, *, masked, batch):
        self.masked = masked
        self.frames = _load(folder / "frames.npy", batch)
        self.mask = _load(folder / "mask.npy", batch) if masked else None
        self.nbytes = self.frames.nbytes + (self.mask.nbytes if masked else 0)
        self.frame_bytes = N_PIXELS * (self.dtype.itemsize + masked)

    def read(self, numbers):
        first = int(numbers[0]) % STORED
        where = slice(first, first + numbers.size)
        excluded = self.mask[where] if self.masked else np.empty((0, 0), np.int8)
        return self.frames[where], excluded, np.empty(0, np.int64)


def _load(path, batch):
    """Return an array with its first rows at its end again, so that a batch is in one piece."""
    stored = np.load(path, mmap_mode="r")
    array = np.empty((STORED + batch, N_PIXELS), stored.dtype)
    for start in range(0, len(array), STORED):
        array[start : start + STORED] = stored[: len(array) - start]
    return array


class FromFile:
    """Frames that are read from the file again and again."""

    chunk_frames = 1
    dtype = np.dtype(np.int32)
    nbytes = 0

    def __init__(self, folder, *, masked):
        self.masked = masked
        mask = open_stack(folder, "mask") if masked else None
        self.reader = StackReader(open_stack(folder, "frames"), mask, skip_bad_frames=False)
        names = ("frames", "mask") if masked else ("frames",)
        self.frame_bytes = sum(stored_bytes(folder, name) for name in names)

    def read(self, numbers):
        pieces = [self.reader.read(run) for run in self.runs(numbers)]
        if len(pieces) == 1:
            return pieces[0]
        return tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True))

    def runs(self, numbers):
        """Return the numbers of stored frames, in runs of consecutive ones."""
        stored = numbers % STORED
        return np.split(stored, np.flatnonzero(np.diff(stored) != 1) + 1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="to write frames in")
    folder = parser.parse_args().folder
    write_frames(folder)
    print(json.dumps({"frame_bytes": stored_bytes(folder, "frames")}))


if __name__ == "__main__":
    main()
