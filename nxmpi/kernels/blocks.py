"""Sums over large blocks of a grid, as a check of volumes that others make."""

from typing import NamedTuple

import numpy as np
from numba import njit

from nxmpi._typing import F8, I8
from nxmpi.kernels.tiles import Tables, unit_vectors
from nxmpi.kernels.transform import Batch

NEAR = 1e-3
"""How far from a boundary a pixel may come to lie on its other side, by rounding [voxels]."""


class BlockSums(NamedTuple):
    """Sums over the pixels in each block: of all, and of those a mask keeps where there is one."""

    counts: I8
    """(1 or 2, n_l, n_k, n_h) int64 [counts]"""
    norm: I8
    """(1 or 2, n_l, n_k, n_h) int64, in units of the tables."""


@njit(cache=True, nogil=True)
def add_to_blocks(
    batch: Batch, tables: Tables, edge: int, sums: BlockSums, near: BlockSums, lost: I8
) -> None:
    """Add the pixels of frames to the blocks they fall in.

    Parameters
    ----------
    batch : Batch
    tables : Tables
        Of unsplit pixels.
    edge : int
        Of a block [voxels].
    sums : BlockSums
    near : BlockSums
        Of the pixels within `NEAR` of a block's boundary, on either side.
    lost : (n_batch,) int64
        Receives how many good pixels of each frame have no count.
    """
    n = tables.pixels.shape[0]
    vectors = np.empty((3, n if tables.moving else 0))
    for i in range(batch.numbers.shape[0]):
        number = batch.numbers[i]
        seen = tables.vectors
        if tables.moving:
            x, y, z = tables.vectors[0], tables.vectors[1], tables.vectors[2]
            unit_vectors(x, y, z, tables.samples[number], vectors)
            seen = vectors
        lost[i] = _add_frame(i, batch, tables, seen, edge, sums, near)


@njit(cache=True, nogil=True)
def _add_frame(
    i: int, batch: Batch, tables: Tables, vectors: F8, edge: int, sums: BlockSums, near: BlockSums
) -> int:
    frame, number = batch.frames[i], batch.numbers[i]
    masked = batch.excluded.shape[0] > 0
    hx, hy, hz = tables.matrices[number, 0]
    kx, ky, kz = tables.matrices[number, 1]
    lx, ly, lz = tables.matrices[number, 2]
    h0, k0, l0 = tables.offset
    nh, nk, nl = float(tables.shape[0]), float(tables.shape[1]), float(tables.shape[2])
    scale, lost = tables.scales[number], 0
    for p in range(tables.pixels.shape[0]):
        pixel = tables.pixels[p]
        count = np.int64(frame[pixel])
        if count < 0:
            lost += 1
            continue
        x, y, z = vectors[0, p], vectors[1, p], vectors[2, p]
        h = hx * x + hy * y + hz * z + h0
        k = kx * x + ky * y + kz * z + k0
        l = lx * x + ly * y + lz * z + l0
        if not (-NEAR <= h <= nh + NEAR and -NEAR <= k <= nk + NEAR and -NEAR <= l <= nl + NEAR):
            continue
        own = np.int64(scale * tables.weight[p] + 0.5)
        kept = masked and batch.excluded[i, pixel] == 0
        if 0.0 <= h < nh and 0.0 <= k < nk and 0.0 <= l < nl:
            a, b, c = int(l) // edge, int(k) // edge, int(h) // edge
            _add(sums, (a, b, c), count, own, kept)
            if not (
                _is_near(h, c * edge, edge, nh)
                or _is_near(k, b * edge, edge, nk)
                or _is_near(l, a * edge, edge, nl)
            ):
                continue
        for a in range(*_blocks_at(l, nl, edge)):
            for b in range(*_blocks_at(k, nk, edge)):
                for c in range(*_blocks_at(h, nh, edge)):
                    _add(near, (a, b, c), count, own, kept)
    return lost


@njit(cache=True, nogil=True)
def _add(
    sums: BlockSums, block: tuple[int, int, int], count: np.int64, own: np.int64, kept: bool
) -> None:
    a, b, c = block
    sums.counts[0, a, b, c] += count
    sums.norm[0, a, b, c] += own
    if kept:
        sums.counts[1, a, b, c] += count
        sums.norm[1, a, b, c] += own


@njit(cache=True, nogil=True)
def _is_near(x: float, start: int, edge: int, n: float) -> bool:
    """Return whether a place on an axis is at a boundary of its block, or of the grid."""
    into = x - start
    return into < NEAR or into > edge - NEAR or x > n - NEAR


@njit(cache=True, nogil=True)
def _blocks_at(x: float, n: float, edge: int) -> tuple[int, int]:
    """Return the range of blocks of an axis that are within `NEAR` of a place."""
    first, last = max(x - NEAR, 0.0), min(x + NEAR, n - 1.0)
    return int(first) // edge, int(last) // edge + 1
