"""Sparse volumes: bricks of 16^3 voxels, kept in an arena and found through a table."""

from typing import NamedTuple

import numpy as np
from numba import njit

from nxmpi._typing import I4, I8, U8
from nxmpi.kernels.prefetch import prefetch

EDGE = 16
VOXELS = EDGE**3
HEADER = 2 + VOXELS // 64
"""Words before the values of a packed brick: its number, its touched voxels, their bitmap."""
PACKED = 2
"""Number of the form that `pack` writes, which checkpoints are kept in."""
LINE = 8
"""int64 of a cache line."""
WHOLE_ROW = np.uint64(2**EDGE - 1)
"""Bits of a row of voxels that are all touched."""


class Volume(NamedTuple):
    """Counts and norm of the voxels that were touched."""

    table: I4
    """(bricks along l, k, h) int32: the slot of a brick in the arena, or -1."""
    arena: I8
    """(n_slots, 2, 4096) int64: counts and norm of each voxel of a brick."""
    free: I4
    """(n_slots,) int32: stack of the slots given back."""
    used: I8
    """(2,) int64: slots ever taken, and slots in ``free``."""


@njit(cache=True, nogil=True)
def take_slot(volume: Volume, bl: int, bk: int, bh: int) -> int:
    """Return the slot of a brick, taking one (filled with zeros) if it has none."""
    used = volume.used
    slot = np.int64(volume.table[bl, bk, bh])
    if slot < 0:
        if used[1] > 0:
            used[1] -= 1
            slot = np.int64(volume.free[used[1]])
        else:
            slot = used[0]
            used[0] += 1
        volume.table[bl, bk, bh] = slot
    return int(slot)


@njit(cache=True, nogil=True)
def add_voxel(volume: Volume, l: int, k: int, h: int, count: int, norm: int) -> None:
    """Add to a voxel."""
    slot = take_slot(volume, l // EDGE, k // EDGE, h // EDGE)
    cell = ((l % EDGE) * EDGE + k % EDGE) * EDGE + h % EDGE
    volume.arena[slot, 0, cell] += count
    volume.arena[slot, 1, cell] += norm


@njit(cache=True, nogil=True)
def find_rows(
    box: I8, shift: int, lower: I8, extent: I8, volume: Volume, rows: I8
) -> tuple[int, int]:  # fmt: skip
    """Find what was touched of a box of voxels, and ask for the memory it is to be added to.

    Parameters
    ----------
    box : (n,) int64
        The first ``extent.prod()`` values are the box in C order.
    shift : int
        The bit at which counts begin behind the norm.
    lower, extent : (3,) int64
        First voxel and number of voxels along l, k, h; multiples of 16 along h.
    volume : Volume
        Bricks that were touched get their slots.
    rows : (n // 16, 2) int64
        Receives where each row of 16 voxels is, in the box and in the flattened arena.

    Returns
    -------
    n_rows, counts : int
        The number of rows, and the sum of what is there of counts.
    """
    l0, k0, h0 = lower
    nl, nk, nh = extent
    arena, bits = volume.arena.reshape(-1), box.view(np.uint64)
    n, total = 0, np.uint64(0)
    for block in range(nh // EDGE):
        for l in range(l0, l0 + nl):
            for k in range(k0, k0 + nk):
                start = ((l - l0) * nk + (k - k0)) * nh + block * EDGE
                counts, some = sum_of_row(bits[start : start + EDGE], np.uint64(shift))
                if not some:
                    continue
                total += counts
                slot = take_slot(volume, l // EDGE, k // EDGE, h0 // EDGE + block)
                place = slot * 2 * VOXELS + ((l % EDGE) * EDGE + k % EDGE) * EDGE
                for line in range(0, EDGE, LINE):
                    prefetch(arena, place + line)
                    prefetch(arena, place + VOXELS + line)
                rows[n, 0], rows[n, 1] = start, place
                n += 1
    return n, int(total)


@njit(cache=True, nogil=True)
def sum_of_row(row: U8, shift: np.uint64) -> tuple[np.uint64, bool]:
    """Return the sum of the bits from ``shift`` on of 16 uint64, and whether any are set."""
    some, total = np.uint64(0), np.uint64(0)
    for i in range(EDGE):  # of constant length, to become vector instructions
        some |= row[i]
        total += row[i] >> shift
    return total, bool(some != np.uint64(0))


@njit(cache=True, nogil=True)
def add_rows(box: I8, shift: int, rows: I8, volume: Volume) -> None:
    """Add rows of a box of counts behind norm to the volume, and leave zeros in the box.

    Parameters
    ----------
    box, shift, volume
        See `find_rows`.
    rows : (n, 2) int64
    """
    arena, bits = volume.arena.reshape(-1), box.view(np.uint64)
    low = (np.int64(1) << shift) - np.int64(1)
    for start, place in rows:
        row, high = box[start : start + EDGE], bits[start : start + EDGE]
        counts = arena[place : place + EDGE]
        norm = arena[place + VOXELS : place + VOXELS + EDGE]
        for i in range(EDGE):
            counts[i] += np.int64(high[i] >> np.uint64(shift))
        for i in range(EDGE):
            norm[i] += row[i] & low
        for i in range(EDGE):
            row[i] = 0


@njit(cache=True, nogil=True)
def add_rows_apart(counts: I8, norm: I8, rows: I8, volume: Volume) -> None:
    """Do what `add_rows` does where counts and norm have a box each."""
    arena = volume.arena.reshape(-1)
    for start, place in rows:
        for box, at in ((counts, place), (norm, place + VOXELS)):
            row, there = box[start : start + EDGE], arena[at : at + EDGE]
            for i in range(EDGE):
                there[i] += row[i]
            for i in range(EDGE):
                row[i] = 0


@njit(cache=True, nogil=True)
def packed_sizes(numbers: I8, volume: Volume) -> I8:
    """Return how many words `pack` needs for each brick of these C-order numbers."""
    sizes = np.empty(numbers.shape[0], np.int64)
    for i in range(numbers.shape[0]):
        slot = volume.table.reshape(-1)[numbers[i]]
        sizes[i] = HEADER + 2 * touched_voxels(volume.arena[slot, 1])
    return sizes


@njit(cache=True, nogil=True)
def touched_voxels(norm: I8) -> int:
    """Return how many of 4096 int64 are not zero."""
    n = 0
    for voxel in range(VOXELS):
        n += norm[voxel] != 0
    return n


@njit(cache=True, nogil=True)
def bits_of(norm: I8) -> np.uint64:
    """Return a bit for each of 64 int64, set where it is not zero."""
    bits = np.uint64(0)
    for bit in range(64):
        bits |= np.uint64(norm[bit] != 0) << np.uint64(bit)
    return bits


@njit(cache=True, nogil=True)
def pack_brick(number: int, counts: I8, norm: I8, words: I8) -> int:
    """Write the touched voxels of a brick, see `pack`; return the words that it takes.

    By rows of 16 voxels, most of which are touched as a whole or not at all: loops of constant
    length become vector instructions.
    """
    n = touched_voxels(norm)
    words[0], words[1] = number, n
    at, n_rows = HEADER, 64 // EDGE
    for word in range(VOXELS // 64):
        bits = bits_of(norm[word * 64 : (word + 1) * 64])
        words[2 + word] = np.int64(bits)
        for row in range(n_rows):
            start = (word * n_rows + row) * EDGE
            here = bits >> np.uint64(row * EDGE) & WHOLE_ROW
            if here == WHOLE_ROW:
                for i in range(EDGE):
                    words[at + i] = counts[start + i]
                for i in range(EDGE):
                    words[at + n + i] = norm[start + i]
                at += EDGE
            elif here:
                for i in range(start, start + EDGE):
                    if norm[i] != 0:
                        words[at], words[at + n] = counts[i], norm[i]
                        at += 1
    return at + n


@njit(cache=True, nogil=True)
def pack(numbers: I8, volume: Volume, words: I8) -> None:
    """Write the touched voxels of bricks, one brick after another.

    Parameters
    ----------
    numbers : (n,) int64
        C-order numbers of bricks in the table.
    words : (sum of `packed_sizes`,) int64
        Receives of each brick: its number, its touched voxels, their bitmap of 64 words, then
        the counts of each and the norm of each.
    """
    start = 0
    for number in numbers:
        slot = volume.table.reshape(-1)[number]
        start += pack_brick(number, volume.arena[slot, 0], volume.arena[slot, 1], words[start:])


@njit(cache=True, nogil=True)
def pack_out(numbers: I8, volume: Volume, words: I8) -> None:
    """Do what `pack` does, and leave the bricks empty and their slots free."""
    table, start = volume.table.reshape(-1), 0
    for number in numbers:
        slot = table[number]
        counts, norm = volume.arena[slot, 0], volume.arena[slot, 1]
        start += pack_brick(number, counts, norm, words[start:])
        counts[:] = 0  # while they are in the cache
        norm[:] = 0
        volume.free[volume.used[1]] = slot
        volume.used[1] += 1
        table[number] = -1


@njit(cache=True, nogil=True)
def add_packed(words: I8, volume: Volume) -> None:
    """Add packed bricks, as `pack` writes them, to the volume."""
    _, nk, nh = volume.table.shape
    start, n_rows = 0, 64 // EDGE
    while start < words.shape[0]:
        number, n = words[start], words[start + 1]
        slot = take_slot(volume, number // (nk * nh), number // nh % nk, number % nh)
        counts, norm = volume.arena[slot, 0], volume.arena[slot, 1]
        at = start + HEADER
        for word in range(VOXELS // 64):
            bits = np.uint64(words[start + 2 + word])
            for row in range(n_rows):
                first = (word * n_rows + row) * EDGE
                here = bits >> np.uint64(row * EDGE) & WHOLE_ROW
                if here == WHOLE_ROW:
                    for i in range(EDGE):
                        counts[first + i] += words[at + i]
                    for i in range(EDGE):
                        norm[first + i] += words[at + n + i]
                    at += EDGE
                elif here:
                    for i in range(EDGE):
                        if here >> np.uint64(i) & np.uint64(1):
                            counts[first + i] += words[at]
                            norm[first + i] += words[at + n]
                            at += 1
        start = at + n


@njit(cache=True, nogil=True)
def add_to_slab(volume: Volume, lower: I8, counts: I8, norm: I8) -> None:
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
                slot = volume.table[l // EDGE, k // EDGE, h // EDGE]
                if slot >= 0:
                    counts[l - l0, k - k0, h - h0] += volume.arena[slot, 0, cell + h % EDGE]
                    norm[l - l0, k - k0, h - h0] += volume.arena[slot, 1, cell + h % EDGE]
