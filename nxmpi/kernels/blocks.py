"""Sums over large blocks of a grid, as a check of volumes that others make."""

from typing import NamedTuple

import numpy as np
from numba import njit

from nxmpi._typing import F8, I8
from nxmpi.kernels.tiles import Tables, unit_vectors
from nxmpi.kernels.transform import Batch


class BlockSums(NamedTuple):
    """Sums over the pixels in each block: of all, and of those a mask keeps where there is one."""

    counts: I8
    """(1 or 2, n_l, n_k, n_h) int64 [counts]"""
    norm: I8
    """(1 or 2, n_l, n_k, n_h) int64, in units of the tables."""


@njit(cache=True, nogil=True)
def add_to_blocks(batch: Batch, tables: Tables, edge: int, sums: BlockSums, lost: I8) -> None:
    """Add the pixels of frames to the blocks they fall in.

    Parameters
    ----------
    batch : Batch
    tables : Tables
        Of unsplit pixels.
    edge : int
        Of a block [voxels].
    sums : BlockSums
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
        lost[i] = _add_frame(i, batch, tables, seen, edge, sums)


@njit(cache=True, nogil=True)
def _add_frame(
    i: int, batch: Batch, tables: Tables, vectors: F8, edge: int, sums: BlockSums
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
        if not (h >= 0.0 and h < nh and k >= 0.0 and k < nk and l >= 0.0 and l < nl):
            continue
        own = np.int64(scale * tables.weight[p] + 0.5)
        a, b, c = int(l) // edge, int(k) // edge, int(h) // edge
        sums.counts[0, a, b, c] += count
        sums.norm[0, a, b, c] += own
        if masked and batch.excluded[i, pixel] == 0:
            sums.counts[1, a, b, c] += count
            sums.norm[1, a, b, c] += own
    return lost
