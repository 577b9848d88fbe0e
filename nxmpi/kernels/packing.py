"""Bricks as they are sent and saved: their touched voxels only."""

import numpy as np
from numba import njit

from nxmpi._typing import I8
from nxmpi.kernels.bricks import EDGE, FULL, VOXELS, Sums, Volume, spill, take_slot

HEADER = 2 + VOXELS // 64
"""Words before the values of a packed brick: its number, its touched voxels, their bitmap."""
PACKED = 3
"""Number of the form that `pack` writes, which checkpoints are kept in."""
ROWS = 64 // EDGE
"""Rows of 16 voxels in a word of the bitmap."""
WHOLE_ROW = np.uint64(2**EDGE - 1)
"""Bits of a row of voxels that are all touched."""


@njit(cache=True, nogil=True)
def bits_of(values: I8) -> np.uint64:
    """Return a bit for each of 64 int64, set where it is not zero."""
    bits = np.uint64(0)
    for bit in range(64):
        bits |= np.uint64(values[bit] != 0) << np.uint64(bit)
    return bits


@njit(cache=True, nogil=True)
def gather(bitmap: I8, values: I8, words: I8) -> int:
    """Write the values of the touched voxels of a brick; return how many there are.

    By rows of 16 voxels, most of which are touched as a whole or not at all: loops of constant
    length become vector instructions.
    """
    at = 0
    for word in range(VOXELS // 64):
        bits = np.uint64(bitmap[word])
        for row in range(ROWS):
            start = (word * ROWS + row) * EDGE
            here = bits >> np.uint64(row * EDGE) & WHOLE_ROW
            if here == WHOLE_ROW:
                for i in range(EDGE):
                    words[at + i] = values[start + i]
                at += EDGE
            elif here:
                for i in range(start, start + EDGE):
                    if here >> np.uint64(i - start) & np.uint64(1):
                        words[at] = values[i]
                        at += 1
    return at


@njit(cache=True, nogil=True)
def add_gathered(bitmap: I8, words: I8, values: I8) -> int:
    """Add what `gather` wrote to the values of a brick; return how many there are."""
    at = 0
    for word in range(VOXELS // 64):
        bits = np.uint64(bitmap[word])
        for row in range(ROWS):
            start = (word * ROWS + row) * EDGE
            here = bits >> np.uint64(row * EDGE) & WHOLE_ROW
            if here == WHOLE_ROW:
                for i in range(EDGE):
                    values[start + i] += words[at + i]
                at += EDGE
            elif here:
                for i in range(start, start + EDGE):
                    if here >> np.uint64(i - start) & np.uint64(1):
                        values[i] += words[at]
                        at += 1
    return at


@njit(cache=True, nogil=True)
def pack_brick(number: int, volume: Volume, words: I8) -> int:
    """Write the touched voxels of a brick, see `pack`; return the words that it takes."""
    slot, n_values = volume.table[number], volume.arena.shape[1]
    last = volume.arena[slot, n_values - 1]  # not zero where anything is not
    for word in range(VOXELS // 64):
        words[2 + word] = np.int64(bits_of(last[word * 64 : (word + 1) * 64]))
    at = HEADER
    for value in range(n_values):
        at += gather(words[2:HEADER], volume.arena[slot, value], words[at:])
    words[0], words[1] = number, (at - HEADER) // n_values
    return at


@njit(cache=True, nogil=True)
def pack(numbers: I8, volume: Volume, empty: bool, words: I8) -> I8:
    """Write the touched voxels of bricks, one brick after another.

    Parameters
    ----------
    numbers : (n,) int64
        C-order numbers of bricks in the table.
    empty : bool
        Leave the bricks empty and their slots free.
    words : (n,) int64
        Receives of each brick: its number, its touched voxels, their bitmap of 64 words, then
        the first integer of each, and the second where there are two.

    Returns
    -------
    (n,) int64
        How many words each brick takes.
    """
    start, sizes = 0, np.empty(numbers.shape[0], np.int64)
    for i in range(numbers.shape[0]):
        sizes[i] = pack_brick(numbers[i], volume, words[start:])
        start += sizes[i]
        if empty:
            give_back(numbers[i], volume)
    return sizes


@njit(cache=True, nogil=True)
def give_back(number: int, volume: Volume) -> None:
    """Empty a brick, best while it is in the cache, and leave its slot free."""
    slot = volume.table[number]
    for value in range(volume.arena.shape[1]):
        volume.arena[slot, value][:] = 0
    volume.free[volume.used[1]] = slot
    volume.used[1] += 1
    volume.table[number] = -1


@njit(cache=True, nogil=True)
def spill_full(number: int, sums: Sums) -> None:
    """Bring the rows of a narrow brick that are full to the wide volume."""
    arena = sums.narrow.arena.reshape(-1).view(np.uint64)
    start = np.int64(sums.narrow.table[number]) * VOXELS
    for place in range(start, start + VOXELS, EDGE):
        full = np.uint64(0)
        for i in range(EDGE):
            full |= arena[place + i]
        if full & FULL:
            spill(sums, number, place)


@njit(cache=True, nogil=True)
def add_packed(words: I8, sums: Sums, to_wide: bool) -> None:
    """Add packed bricks, as `pack` writes them, to the volume that they are of."""
    volume, start = sums.wide if to_wide else sums.narrow, 0
    while start < words.shape[0]:
        number, slot = words[start], take_slot(volume, words[start])
        bitmap, at = words[start + 2 : start + HEADER], start + HEADER
        for value in range(volume.arena.shape[1]):
            at += add_gathered(bitmap, words[at:], volume.arena[slot, value])
        if not to_wide:
            spill_full(number, sums)
        start = at
