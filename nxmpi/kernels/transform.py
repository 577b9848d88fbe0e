"""Pixels of many frames into voxels, a tile of the detector at a time."""

from typing import NamedTuple

import numpy as np
from numba import njit

from nxmpi._typing import F8, I4, I8, Frames
from nxmpi.kernels.bricks import EDGE, Sums, add_rows, add_rows_apart, add_voxel, find_rows
from nxmpi.kernels.tiles import (
    OUTSIDE,
    PARTLY,
    Tables,
    cells_of_tile,
    excludes_any,
    keep_live,
    keep_part,
    leave_out,
    place_of_tile,
    unit_vectors,
)

NORM_BITS = 30
"""Norm is summed in integers, in units of the largest factor times 2^-30."""
LARGE = 2**40
"""Counts beyond are summed as this: in any case too many for a packed box."""


class Batch(NamedTuple):
    """Some frames."""

    frames: Frames
    """(n_batch, n_pixels) int32 or int64: counts, negative where there is none."""
    excluded: Frames
    """(n_batch, n_pixels) int8, or (0, 0): where not zero, a pixel goes to the second sums."""
    numbers: I8
    """(n_batch,) int64: which frame of the tables each is."""


class Room(NamedTuple):
    """Room to work, for tiles of up to m pixels and boxes of up to n voxels."""

    cell: I4
    """(m,) int32"""
    norm: I4
    """(m,) int32"""
    vectors: F8
    """(3, m) float64"""
    boxes: I8
    """(2, n) int64, holding zeros."""
    rows: I8
    """(n // 16, 3) int64"""


@njit(cache=True, nogil=True)
def scatter(
    frame: Frames, pixels: I4, cell: I4, norm: I4, shift: int, box: I8
) -> int:  # fmt: skip
    """Add the pixels of a tile in a frame to a box, counts behind norm; return the counts' sum.

    Parameters
    ----------
    frame : (n_pixels,) integer
        See `Batch`.
    pixels : (m,) int32
        Of the tile, in the flattened frame.
    cell, norm : (m,) int32
        See `nxmpi.kernels.tiles.cells_of_tile`; what has no norm is left out.
    shift : int
        The bit at which counts begin.
    box : (n,) int64
    """
    total = np.int64(0)
    for p in range(pixels.shape[0]):
        count, own = np.int64(frame[pixels[p]]), np.int64(norm[p])
        if count >= 0 and own > 0:
            total += count if count < LARGE else LARGE
            box[cell[p]] += (count << shift) | own
    return int(total)


@njit(cache=True, nogil=True)
def scatter_apart(
    frame: Frames, pixels: I4, cell: I4, norm: I4, boxes: I8
) -> None:  # fmt: skip
    """Do what `scatter` does with counts and norm in a box each."""
    for p in range(pixels.shape[0]):
        count = np.int64(frame[pixels[p]])
        if count >= 0 and norm[p] > 0:
            boxes[0, cell[p]] += count
            boxes[1, cell[p]] += norm[p]


@njit(cache=True, nogil=True)
def row_of(batch: Batch, tables: Tables, view: int) -> int:
    """Return the row of the tables' matrices and samples that a view of the batch has."""
    return int(batch.numbers[view // tables.views]) * tables.views + view % tables.views


@njit(cache=True, nogil=True)
def vectors_of_tile(tables: Tables, tile: int, row: int, room: Room) -> tuple[F8, F8, F8]:
    """Return the unit vectors of a tile's pixels in a view: x, y, z, (m,) float64 each.

    Three arrays, since the compiler knows of each that it is contiguous, as it does not of a part
    of one.
    """
    start, stop = tables.tiles[tile], tables.tiles[tile + 1]
    here, n, out = tables.vectors, stop - start, room.vectors
    x, y, z = here[0, start:stop], here[1, start:stop], here[2, start:stop]
    if not tables.moving:
        return x, y, z
    unit_vectors(x, y, z, tables.samples[row], out)
    return out[0, :n], out[1, :n], out[2, :n]


@njit(cache=True, nogil=True)
def add_tile(
    batch: Batch, tables: Tables, tile: int, views: tuple[int, int], where: I8,
    lower: I8, extent: I8, part: int, shift: int, room: Room,
) -> int:  # fmt: skip
    """Add the pixels of a tile in a range of views to a box, or two; return the counts' sum.

    Parameters
    ----------
    where : (n_views, 2) int64
        Where the tile is in each view, and whether any of its pixels is excluded.
    lower, extent : (3,) int64
        First voxel and number of voxels of the box along l, k, h.
    part : int
        0 for the pixels that the mask keeps, 1 for the others.
    shift : int
        See `scatter`; 0 for counts and norm in a box each.
    """
    start, stop = tables.tiles[tile], tables.tiles[tile + 1]
    pixels, weight, n = tables.pixels[start:stop], tables.weight[start:stop], stop - start
    cell, norm = room.cell[:n], room.norm[:n]
    total = 0
    for v in range(views[0], views[1]):
        if where[v, 0] == OUTSIDE or where[v, 1] < part:
            continue
        f, row = v // tables.views, row_of(batch, tables, v)
        matrix, scale = tables.matrices[row], tables.scales[batch.numbers[f]]
        vectors = vectors_of_tile(tables, tile, row, room)
        cells_of_tile(vectors, weight, matrix, tables.offset, scale, lower, extent, cell, norm)
        if where[v, 0] == PARTLY:
            leave_out(vectors, matrix, tables.offset, tables.shape, cell, norm)
        if where[v, 1]:
            keep_part(batch.excluded[f], pixels, part == 1, norm)
        frame = batch.frames[f]
        if tables.blocked > 0.0:
            keep_live(frame, pixels, tables.blocked, norm)
        if shift:
            total += scatter(frame, pixels, cell, norm, shift, room.boxes[0])
        else:
            scatter_apart(frame, pixels, cell, norm, room.boxes)
    return total


@njit(cache=True, nogil=True)
def add_box(
    batch: Batch, tables: Tables, tile: int, views: tuple[int, int], where: I8,
    lower: I8, extent: I8, part: int, room: Room, sums: Sums,
) -> None:  # fmt: skip
    """Add the pixels of a tile in a range of views to sums, by way of a box.

    A voxel of the box is one integer, counts behind norm. Where its counts need more bits than
    there are, the sum over the box is less than that over the pixels; all is done again then with
    two integers.
    """
    n, bits = tables.tiles[tile + 1] - tables.tiles[tile], NORM_BITS
    while 1 << (bits - NORM_BITS) <= n * (views[1] - views[0]):
        bits += 1
    for box, shift in ((0, bits), (1, 0)):
        total = add_tile(batch, tables, tile, views, where, lower, extent, part, shift, room)
        n_rows, counts = find_rows(room.boxes[box], shift, lower, extent, sums, room.rows)
        if not shift:
            add_rows_apart(room.boxes[0], room.boxes[1], room.rows[:n_rows], sums)
        elif counts == total:
            add_rows(room.boxes[0], shift, room.rows[:n_rows], sums)
            return
        else:
            room.boxes[0, : extent[0] * extent[1] * extent[2]] = 0


@njit(cache=True, nogil=True)
def add_pixels(
    batch: Batch, tables: Tables, tile: int, v: int, room: Room, kept: Sums, out: Sums
) -> None:  # fmt: skip
    """Add the pixels of a tile in one view to the sums one by one, where no box fits."""
    start, stop = tables.tiles[tile], tables.tiles[tile + 1]
    f, row = v // tables.views, row_of(batch, tables, v)
    matrix, offset, shape = tables.matrices[row], tables.offset, tables.shape
    vectors = vectors_of_tile(tables, tile, row, room)
    norms, scale = room.norm[: stop - start], tables.scales[batch.numbers[f]]
    for p in range(stop - start):
        norms[p] = np.int32(scale * tables.weight[start + p] + 0.5)
    if tables.blocked > 0.0:
        keep_live(batch.frames[f], tables.pixels[start:stop], tables.blocked, norms)
    for p in range(stop - start):
        x, y, z = vectors[0][p], vectors[1][p], vectors[2][p]
        h = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z + offset[0]
        k = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z + offset[1]
        l = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z + offset[2]
        if not (0.0 <= h < shape[0] and 0.0 <= k < shape[1] and 0.0 <= l < shape[2]):
            continue
        pixel = tables.pixels[start + p]
        count = np.int64(batch.frames[f, pixel])
        norm = np.int64(norms[p])
        if count >= 0 and norm > 0:
            excluded = batch.excluded.shape[0] > 0 and batch.excluded[f, pixel] != 0
            add_voxel(out if excluded else kept, int(l), int(k), int(h), int(count), int(norm))


@njit(cache=True, nogil=True)
def bounds(
    batch: Batch, tables: Tables, tile: int, views: tuple[int, int], where: I8,
    lower: I8, extent: I8,
) -> int:  # fmt: skip
    """Find the box of voxels of a tile in a range of views; return its size."""
    upper = np.full(3, -1, np.int64)
    lower[:] = 2**30
    for v in range(views[0], views[1]):
        where[v, 0] = place_of_tile(
            tables.middles[tile], tables.halves[tile], tables.matrices[row_of(batch, tables, v)],
            tables.offset, tables.shape, lower, upper,
        )  # fmt: skip
    if upper[0] < 0:
        return 0
    lower[2] -= lower[2] % EDGE
    upper[2] = (upper[2] // EDGE + 1) * EDGE - 1
    extent[:] = upper - lower + 1
    return int(extent[0] * extent[1] * extent[2])


@njit(cache=True, nogil=True)
def bin_batch(batch: Batch, tables: Tables, room: Room, kept: Sums, out: Sums) -> None:
    """Add a batch of frames to sums, tile by tile.

    Pixels that the mask excludes go to ``out``, all others to ``kept``. Where the
    voxels of a tile are too many for a box, half as many views are taken.
    """
    n_views = batch.frames.shape[0] * tables.views
    lower, extent = np.empty(3, np.int64), np.empty(3, np.int64)
    where = np.zeros((n_views, 2), np.int64)
    for tile in range(tables.tiles.shape[0] - 1):
        any_excluded = False
        for f in range(batch.excluded.shape[0]):
            some = excludes_any(batch.excluded[f], tables.corners[tile], tables.n_fast)
            where[f * tables.views : (f + 1) * tables.views, 1] = some
            any_excluded |= some
        start, stop = 0, n_views
        while start < n_views:
            size = bounds(batch, tables, tile, (start, stop), where, lower, extent)
            if size > room.boxes.shape[1] and stop - start > 1:
                stop = start + (stop - start) // 2
                continue
            if size > room.boxes.shape[1]:
                add_pixels(batch, tables, tile, start, room, kept, out)
            elif size:
                for part in range(2 if any_excluded else 1):
                    add_box(
                        batch, tables, tile, (start, stop), where, lower, extent, part, room,
                        kept if part == 0 else out,
                    )  # fmt: skip
            start, stop = stop, n_views
