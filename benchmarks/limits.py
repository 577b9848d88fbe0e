"""What bounds the transform, and the plain loop, on the same frames: prints a line of JSON.

One process, without MPI; see `stage.py` for the folder.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from case import N_PIXELS, FromFile, FromMemory, make_tables  # before numba
from measure import MIB, Measured, memory, speeds
from numba import njit
from sums import key_of_slab

from nxmpi.kernels.tiles import OUTSIDE, cells_of_tile
from nxmpi.kernels.transform import Batch, Room, bounds, row_of, vectors_of_tile
from nxmpi.parallel.memory import lazy_zeros


@njit(cache=True, nogil=True)
def scatter_plainly(frame, tables, number, counts, norm):
    """Add the pixels of a frame to a dense volume, in the order of the tables."""
    n_l, n_k, n_h = counts.shape
    matrix, offset, scale = tables.matrices[number], tables.offset, tables.scales[number]
    for p in range(tables.pixels.shape[0]):
        x, y, z = tables.vectors[:, p]
        h = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + offset[0]
        k = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + offset[1]
        l = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + offset[2]
        if 0.0 <= h < n_h and 0.0 <= k < n_k and 0.0 <= l < n_l:
            counts[int(l), int(k), int(h)] += frame[tables.pixels[p]]
            norm[int(l), int(k), int(h)] += np.int64(scale * tables.weight[p] + 0.5)


@njit(cache=True, nogil=True)
def index(batch, tables, room, where):
    """Find the cells of all tiles in some frames, as `nxmpi.kernels.transform` does, no more."""
    lower, extent = np.empty(3, np.int64), np.empty(3, np.int64)
    n_frames = batch.numbers.shape[0]
    for tile in range(tables.tiles.shape[0] - 1):
        start, stop = tables.tiles[tile], tables.tiles[tile + 1]
        weight, n = tables.weight[start:stop], stop - start
        cell, norm = room.cell[:n], room.norm[:n]
        bounds(batch, tables, tile, (0, n_frames), where, lower, extent)
        for f in range(n_frames):
            if where[f, 0] == OUTSIDE:
                continue
            row = row_of(batch, tables, f)
            matrix, scale = tables.matrices[row], tables.scales[batch.numbers[f]]
            vectors = vectors_of_tile(tables, tile, row, room)
            cells_of_tile(vectors, weight, matrix, tables.offset, scale, lower, extent, cell, norm)


class Plain:
    """The loop that one writes first: frame by frame into one large array."""

    def __init__(self, options):
        self.reader = FromMemory(options.folder, masked=False, batch=options.batch)
        tables = make_tables(options.frames, options.grid)
        order = np.argsort(tables.pixels)
        self.tables = tables._replace(
            pixels=tables.pixels[order], weight=tables.weight[order],
            vectors=np.ascontiguousarray(tables.vectors[:, order]),
        )  # fmt: skip
        self.volume = self.make_volume()

    def make_volume(self):
        return lazy_zeros((2, *self.tables.shape[::-1]))

    def warm_up(self, batch):
        self.run(batch[:1])
        self.volume = self.make_volume()

    def run(self, batch):
        for frame, number in zip(self.reader.read(batch)[0], batch, strict=True):
            scatter_plainly(frame, self.tables, number, *self.volume)

    def figures(self, batches):
        """Return the key of the sums, and speeds where all memory was touched before."""
        counts, norm = self.volume
        key, total = key_of_slab(counts, norm, np.zeros(3, np.int64), np.array(counts.shape))
        again = Measured()
        for batch in batches:
            self.run(batch)
        frames = sum(batch.size for batch in batches)
        return {
            "key": f"{int(key):016x}", "counts": int(total),
            "again": speeds(frames * N_PIXELS, *again.times()),
        }  # fmt: skip


class Index:
    """All but the frames and the volume."""

    reader = None

    def __init__(self, options):
        self.tables = make_tables(options.frames, options.grid)
        m = int(np.diff(self.tables.tiles).max())
        self.room = Room(
            cell=np.empty(m, np.int32), norm=np.empty(m, np.int32), vectors=np.empty((3, m)),
            boxes=np.empty((2, 0), np.int64), rows=np.empty((0, 2), np.int64),
        )  # fmt: skip
        self.where = np.zeros((options.batch, 2), np.int64)

    def warm_up(self, batch):
        self.run(batch[:1])

    def run(self, batch):
        nothing = np.empty((0, 0), np.int32)
        numbered = Batch(frames=nothing, excluded=nothing.astype(np.int8), numbers=batch)
        index(numbered, self.tables, self.room, self.where)

    def figures(self, batches):
        return {}


class Copy:
    """Frames from one place of memory to another, a batch at a time."""

    def __init__(self, options):
        self.reader = self.make_reader(options)
        self.room = np.zeros((options.batch, N_PIXELS), np.int32)

    def make_reader(self, options):
        return FromMemory(options.folder, masked=False, batch=options.batch)

    def warm_up(self, batch):
        self.run(batch)

    def run(self, batch):
        np.copyto(self.room[: batch.size], self.reader.read(batch)[0])

    def figures(self, batches):
        return {}


class Read(Copy):
    """Frames from the file, decompressed, into one place of memory."""

    def make_reader(self, options):
        return FromFile(options.folder, masked=False)

    def run(self, batch):
        for numbers in self.reader.runs(batch):
            self.reader.reader.read(numbers, self.room)


KINDS = {"plain": Plain, "index": Index, "copy": Copy, "read": Read}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path, help="that case.py wrote")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--grid", type=int, default=1001, help="voxels along each axis")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    work = KINDS[options.kind](options)
    numbers = np.arange(options.frames)
    batches = np.split(numbers, range(options.batch, options.frames, options.batch))
    work.warm_up(batches[0])
    measured = Measured()
    for batch in batches:
        work.run(batch)
    cpu, wall = measured.times()
    peak, held, frame_bytes = memory("VmHWM"), 0, 0
    if work.reader is not None:
        held, frame_bytes = work.reader.nbytes, work.reader.frame_bytes
    figures = work.figures(batches)
    print(json.dumps({
        **speeds(options.frames * N_PIXELS, cpu, wall), "peak_MiB": (peak - held) / MIB,
        "beyond_MiB": (peak - measured.resident) / MIB,
        "read_MiB": options.frames * frame_bytes / MIB, **figures,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
