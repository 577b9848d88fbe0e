"""Sparse volumes: bricks of 16^3 voxels, kept in an arena and found through a table."""

from typing import NamedTuple

import numpy as np
from numba import njit

from nxmpi._typing import I4, I8, U8
from nxmpi.kernels.prefetch import prefetch

EDGE = 16
VOXELS = EDGE**3
LINE = 8
"""int64 of a cache line."""
PAGE = 512
"""int64 of a page of memory."""
COUNTS_AT = np.uint64(40)
"""The bit at which counts begin behind the norm in a voxel's one integer."""
NORM = np.uint64(2**40 - 1)
"""The bits of the norm."""
FULL = np.uint64(2**63 + 2**39)
"""The highest bit of counts and of norm: what has neither can be added to what has neither."""


class Volume(NamedTuple):
    """Bricks of some integers a voxel."""

    n_bricks: tuple[int, int, int]
    """Of the grid along l, k, h."""
    table: I4
    """(n,) int32: the slot of a brick of the grid in the arena, or -1."""
    arena: I8
    """(n_slots, n, 4096) int64: n integers of each voxel of a brick."""
    free: I4
    """(n_slots,) int32: stack of the slots given back."""
    used: I8
    """(2,) int64: slots ever taken, and slots in ``free``."""


class Sums(NamedTuple):
    """Counts and norm of the voxels that were touched, as the sum of two volumes."""

    narrow: Volume
    """With one integer a voxel: counts, less than 2^23, behind the norm, less than 2^39."""
    wide: Volume
    """With two, counts and norm: what did not fit there. Most voxels have nothing here."""


@njit(cache=True, nogil=True)
def take_slot(volume: Volume, number: int) -> int:
    """Return the slot of a brick, by its C-order number, taking one (of zeros) if it has none.

    Pages of a new one are written to: reading first would have the system map each twice.
    """
    used = volume.used
    slot = np.int64(volume.table[number])
    if slot < 0:
        if used[1] > 0:
            used[1] -= 1
            slot = np.int64(volume.free[used[1]])
        else:
            slot = used[0]
            used[0] += 1
            for value in range(volume.arena.shape[1]):
                for page in range(0, VOXELS, PAGE):
                    volume.arena[slot, value, page] = 0
        volume.table[number] = slot
    return int(slot)


@njit(cache=True, nogil=True)
def number_of(volume: Volume, bl: int, bk: int, bh: int) -> int:
    """Return the C-order number of a brick."""
    _, nk, nh = volume.n_bricks
    return int((bl * nk + bk) * nh + bh)


@njit(cache=True, nogil=True)
def add_wide(wide: Volume, number: int, cell: int, count: np.uint64, norm: np.uint64) -> None:
    """Add to a voxel of a brick where two integers have room for any sum."""
    slot = take_slot(wide, number)
    wide.arena[slot, 0, cell] += np.int64(count)
    wide.arena[slot, 1, cell] += np.int64(norm)


@njit(cache=True, nogil=True)
def spill(sums: Sums, number: int, place: int) -> None:
    """Bring a row of 16 voxels, by its place in the narrow arena, from there to the wide volume."""
    row = sums.narrow.arena.reshape(-1)[place : place + EDGE]
    for i in range(EDGE):
        word = np.uint64(row[i])
        add_wide(sums.wide, number, place % VOXELS + i, word >> COUNTS_AT, word & NORM)
        row[i] = 0


@njit(cache=True, nogil=True)
def fits(counts: np.uint64, norm: np.uint64) -> bool:
    """Return whether a voxel's integer has room for both; of several ORed, for all of them."""
    return bool(counts >> np.uint64(23) | norm >> np.uint64(39) == np.uint64(0))


@njit(cache=True, nogil=True)
def add_voxel(sums: Sums, l: int, k: int, h: int, count: int, norm: int) -> None:
    """Add to a voxel."""
    number = number_of(sums.narrow, l // EDGE, k // EDGE, h // EDGE)
    cell = ((l % EDGE) * EDGE + k % EDGE) * EDGE + h % EDGE
    if not fits(np.uint64(count), np.uint64(norm)):
        add_wide(sums.wide, number, cell, np.uint64(count), np.uint64(norm))
        return
    place = take_slot(sums.narrow, number) * VOXELS + cell
    arena = sums.narrow.arena.reshape(-1).view(np.uint64)
    arena[place] += np.uint64(count) << COUNTS_AT | np.uint64(norm)
    if arena[place] & FULL:
        spill(sums, number, place - cell % EDGE)


@njit(cache=True, nogil=True)
def find_rows(
    box: I8, shift: int, lower: I8, extent: I8, sums: Sums, rows: I8
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
    sums : Sums
        Bricks that were touched get their narrow slots.
    rows : (n // 16, 3) int64
        Receives where each row of 16 voxels is, in the box and in the flattened narrow arena, and
        the number of its brick.

    Returns
    -------
    n_rows, counts : int
        The number of rows, and the sum of what is there of counts.
    """
    l0, k0, h0 = lower
    nl, nk, nh = extent
    arena, bits = sums.narrow.arena.reshape(-1), box.view(np.uint64)
    n, total = 0, np.uint64(0)
    for block in range(nh // EDGE):
        for l in range(l0, l0 + nl):
            for k in range(k0, k0 + nk):
                start = ((l - l0) * nk + (k - k0)) * nh + block * EDGE
                counts, some = sum_of_row(bits[start : start + EDGE], np.uint64(shift))
                if not some:
                    continue
                total += counts
                number = number_of(sums.narrow, l // EDGE, k // EDGE, h0 // EDGE + block)
                slot = take_slot(sums.narrow, number)
                place = slot * VOXELS + ((l % EDGE) * EDGE + k % EDGE) * EDGE
                for line in range(0, EDGE, LINE):
                    prefetch(arena, place + line)
                rows[n, 0], rows[n, 1], rows[n, 2] = start, place, number
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
def add_rows(box: I8, shift: int, rows: I8, sums: Sums) -> None:
    """Add rows of a box of counts behind norm to the sums, and leave zeros in the box.

    Parameters
    ----------
    box, shift, sums
        See `find_rows`.
    rows : (n, 3) int64
    """
    arena, bits = sums.narrow.arena.reshape(-1).view(np.uint64), box.view(np.uint64)
    up, low = np.uint64(shift), (np.uint64(1) << np.uint64(shift)) - np.uint64(1)
    for start, place, number in rows:
        row, there = bits[start : start + EDGE], arena[place : place + EDGE]
        some, full = np.uint64(0), np.uint64(0)
        for i in range(EDGE):
            some |= row[i]
        if fits(some >> up, some & low):
            for i in range(EDGE):
                there[i] += row[i] >> up << COUNTS_AT | row[i] & low
                full |= there[i]
            if full & FULL:
                spill(sums, number, place)
        else:
            for i in range(EDGE):
                add_wide(sums.wide, number, place % VOXELS + i, row[i] >> up, row[i] & low)
        for i in range(EDGE):
            row[i] = 0


@njit(cache=True, nogil=True)
def add_rows_apart(counts: I8, norm: I8, rows: I8, sums: Sums) -> None:
    """Do what `add_rows` does where counts and norm have a box each."""
    arena = sums.narrow.arena.reshape(-1).view(np.uint64)
    for start, place, number in rows:
        full = np.uint64(0)
        for i in range(EDGE):
            count, own = np.uint64(counts[start + i]), np.uint64(norm[start + i])
            if fits(count, own):
                arena[place + i] += count << COUNTS_AT | own
                full |= arena[place + i]
            else:
                add_wide(sums.wide, number, place % VOXELS + i, count, own)
            counts[start + i] = norm[start + i] = 0
        if full & FULL:
            spill(sums, number, place)


@njit(cache=True, nogil=True)
def add_to_slab(sums: Sums, lower: I8, counts: I8, norm: I8) -> None:
    """Add the part of the sums that a dense slab covers.

    Parameters
    ----------
    lower : (3,) int64
        First voxel of the slab along l, k, h.
    counts, norm : (n_l, n_k, n_h) int64
        Added to.
    """
    nl, nk, nh = counts.shape
    l0, k0, h0 = lower
    narrow, wide = sums.narrow, sums.wide
    for l in range(l0, l0 + nl):
        for k in range(k0, k0 + nk):
            row = ((l % EDGE) * EDGE + k % EDGE) * EDGE
            for h in range(h0, h0 + nh):
                number = number_of(narrow, l // EDGE, k // EDGE, h // EDGE)
                slot, cell = narrow.table[number], row + h % EDGE
                if slot >= 0:
                    word = np.uint64(narrow.arena[slot, 0, cell])
                    counts[l - l0, k - k0, h - h0] += np.int64(word >> COUNTS_AT)
                    norm[l - l0, k - k0, h - h0] += np.int64(word & NORM)
                slot = wide.table[number]
                if slot >= 0:
                    counts[l - l0, k - k0, h - h0] += wide.arena[slot, 0, cell]
                    norm[l - l0, k - k0, h - h0] += wide.arena[slot, 1, cell]
