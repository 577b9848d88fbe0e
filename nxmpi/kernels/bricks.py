"""Sparse volumes: bricks of 16^3 voxels, kept in an arena and found through a table.

``table`` is (bricks along l, k, h) int32: the slot of a brick in ``arena``, or -1.
``arena`` is (n_slots, 4096, 2) int64: counts and norm of each voxel. ``used`` is (2,) int64:
slots ever taken, and slots in ``free``, the (n_slots,) int32 stack of those given back.
"""

import numpy as np
from numba import njit

from nxmpi._typing import I4, I8

EDGE = 16
VOXELS = EDGE**3
HEADER = 2 + VOXELS // 64
"""Words before the values of a packed brick: its number, its touched voxels, their bitmap."""


@njit(cache=True, nogil=True)
def take_slot(table: I4, free: I4, used: I8, bl: int, bk: int, bh: int) -> np.int32:
    """Return the slot of a brick, taking one (filled with zeros) if it has none."""
    slot = np.int32(table[bl, bk, bh])
    if slot < 0:
        if used[1] > 0:
            used[1] -= 1
            slot = np.int32(free[used[1]])
        else:
            slot = np.int32(used[0])
            used[0] += 1
        table[bl, bk, bh] = slot
    return slot


@njit(cache=True, nogil=True)
def add_box(
    box: I8, lower: I8, extent: I8, table: I4, arena: I8, free: I4, used: I8
) -> None:  # fmt: skip
    """Add a box of voxels to the bricks, and leave zeros in the box.

    Parameters
    ----------
    box : (n, 2) int64
        Counts and norm; the first ``extent.prod()`` rows are the box in C order.
    lower, extent : (3,) int64
        First voxel and number of voxels along l, k, h.
    """
    l0, k0, h0 = lower
    nl, nk, nh = extent
    for bl in range(l0 // EDGE, (l0 + nl - 1) // EDGE + 1):
        la, lb = max(l0, bl * EDGE), min(l0 + nl, (bl + 1) * EDGE)
        for bk in range(k0 // EDGE, (k0 + nk - 1) // EDGE + 1):
            ka, kb = max(k0, bk * EDGE), min(k0 + nk, (bk + 1) * EDGE)
            for bh in range(h0 // EDGE, (h0 + nh - 1) // EDGE + 1):
                ha, hb = max(h0, bh * EDGE), min(h0 + nh, (bh + 1) * EDGE)
                slot = np.int32(-1)
                for l in range(la, lb):
                    for k in range(ka, kb):
                        row = ((l - l0) * nk + (k - k0)) * nh - h0
                        cell = ((l % EDGE) * EDGE + k % EDGE) * EDGE
                        for h in range(ha, hb):
                            if box[row + h, 1] != 0:
                                if slot < 0:
                                    slot = take_slot(table, free, used, bl, bk, bh)
                                arena[slot, cell + h % EDGE, 0] += box[row + h, 0]
                                arena[slot, cell + h % EDGE, 1] += box[row + h, 1]
                                box[row + h, 0] = 0
                                box[row + h, 1] = 0


@njit(cache=True, nogil=True)
def packed_sizes(numbers: I8, table: I4, arena: I8) -> I8:
    """Return how many words `pack` needs for each brick of these C-order numbers."""
    _, nk, nh = table.shape
    sizes = np.full(numbers.shape[0], HEADER, np.int64)
    for i in range(numbers.shape[0]):
        number = numbers[i]
        slot = table[number // (nk * nh), number // nh % nk, number % nh]
        for voxel in range(VOXELS):
            if arena[slot, voxel, 1] != 0:
                sizes[i] += 2
    return sizes


@njit(cache=True, nogil=True)
def pack(numbers: I8, table: I4, arena: I8, words: I8) -> None:
    """Write the touched voxels of bricks, one brick after another.

    Parameters
    ----------
    numbers : (n,) int64
        C-order numbers of bricks in the table.
    words : (sum of `packed_sizes`,) int64
        Receives of each brick: its number, its touched voxels, their bitmap of 64 words, then
        counts and norm of each.
    """
    _, nk, nh = table.shape
    start = 0
    for number in numbers:
        slot = table[number // (nk * nh), number // nh % nk, number % nh]
        end = start + HEADER
        for word in range(VOXELS // 64):
            bits = np.uint64(0)
            for bit in range(64):
                voxel = word * 64 + bit
                if arena[slot, voxel, 1] != 0:
                    bits |= np.uint64(1) << np.uint64(bit)
                    words[end] = arena[slot, voxel, 0]
                    words[end + 1] = arena[slot, voxel, 1]
                    end += 2
            words[start + 2 + word] = np.int64(bits)
        words[start] = number
        words[start + 1] = (end - start - HEADER) // 2
        start = end


@njit(cache=True, nogil=True)
def add_packed(words: I8, table: I4, arena: I8, free: I4, used: I8) -> None:
    """Add packed bricks, as `pack` writes them, to the volume."""
    _, nk, nh = table.shape
    start = 0
    while start < words.shape[0]:
        number = words[start]
        slot = take_slot(table, free, used, number // (nk * nh), number // nh % nk, number % nh)
        value = start + HEADER
        for word in range(VOXELS // 64):
            bits = np.uint64(words[start + 2 + word])
            for bit in range(64):
                if bits >> np.uint64(bit) & np.uint64(1):
                    arena[slot, word * 64 + bit, 0] += words[value]
                    arena[slot, word * 64 + bit, 1] += words[value + 1]
                    value += 2
        start = value


@njit(cache=True, nogil=True)
def give_back(numbers: I8, table: I4, arena: I8, free: I4, used: I8) -> None:
    """Empty the bricks of these numbers and free their slots."""
    _, nk, nh = table.shape
    for number in numbers:
        bl, bk, bh = number // (nk * nh), number // nh % nk, number % nh
        slot = table[bl, bk, bh]
        arena[slot] = 0
        free[used[1]] = slot
        used[1] += 1
        table[bl, bk, bh] = -1


@njit(cache=True, nogil=True)
def add_to_slab(table: I4, arena: I8, lower: I8, counts: I8, norm: I8) -> None:
    """Add the part of the volume that a dense slab covers.

    Parameters
    ----------
    lower : (3,) int64
        First voxel of the slab along l, k, h.
    counts, norm : (n_l, n_k, n_h) int64
        Added to.
    """
    nl, nk, nh = counts.shape
    l0, k0, h0 = lower
    for l in range(l0, l0 + nl):
        for k in range(k0, k0 + nk):
            cell = ((l % EDGE) * EDGE + k % EDGE) * EDGE
            for h in range(h0, h0 + nh):
                slot = table[l // EDGE, k // EDGE, h // EDGE]
                if slot >= 0:
                    counts[l - l0, k - k0, h - h0] += arena[slot, cell + h % EDGE, 0]
                    norm[l - l0, k - k0, h - h0] += arena[slot, cell + h % EDGE, 1]
