"""Boxes of counts around a place, and their sums over neighbouring voxels."""

from typing import NamedTuple

import numpy as np
from numba import njit

from nxmpi._typing import I4, I8, U1, Frames

MASKED = -(2**26)
"""Stands in a sum for a voxel without a count: sixteen of them fit 31 bits, and sixteen of the
largest counts of a narrow frame do not make up for one."""
BLOCK = 32
"""Pixels of a row that are read at a time, some of them in vain: short rows of any length would
be read one by one."""
Range = tuple[int, int]
"""Start and stop."""


class Counts(NamedTuple):
    """Frames in narrow types, or parts of them: what boxes are cut from.

    Each frame is in a slot of its own, in one of three types. The first frames stay; slots of
    the later ones are used again.
    """

    u1: U1
    """(n_slots * n_slow * n_fast + BLOCK,) uint8: flattened frames, as
    `nxmpi.kernels.frames.narrow_frame` writes them; what is behind the last is not used."""
    u2: Frames
    """The same, uint16."""
    i4: I4
    """The same, int32."""
    kinds: U1
    """(n_slots,) uint8: in which of the three the frame of each slot is."""
    codes: I4
    """(3, 2) int32: for each, what stands where there is no count, and where the count is this
    or larger."""
    n_large: I4
    """(n_slots,) int32: counts beyond that in each frame."""
    places: I4
    """(n_slots, m) int32: where they are, in a flattened frame, rising."""
    values: I8
    """(n_slots, m) int64: what they are."""
    corner: tuple[int, int, int]
    """First frame, row and column that are there."""
    shape: tuple[int, int]
    """Of a frame."""
    slots: tuple[int, int]
    """How many frames stay, and after how many others a slot is used again."""


@njit(cache=True, nogil=True)
def add_row(row: Frames, invalid: int, limit: int, line: I4) -> bool:
    """Add a row to a line of `BLOCK`s; return whether any count is the limit."""
    none, most = row.dtype.type(invalid), row.dtype.type(limit)
    masked, some = np.int32(MASKED), np.uint8(0)
    for x in range(line.shape[0] // BLOCK * BLOCK):  # known to be a multiple: no scalar rest
        some |= np.uint8(row[x] == most)
        line[x] = np.int32(line[x] + (np.int32(row[x]) if row[x] != none else masked))
    return bool(some)


@njit(cache=True, nogil=True)
def fetch(frames: Frames, limit: int, start: int, pitch: int, rows: int, width: int) -> bool:
    """Look at both ends of rows, so that they wait for memory together and not in turn."""
    most = frames.dtype.type(limit)
    some = False
    for place in range(start, start + rows * pitch, pitch):
        some |= (frames[place] == most) | (frames[place + width - 1] == most)
    return some


@njit(cache=True, nogil=True)
def add_frame(
    frames: Frames, code: I4, start: int, n_fast: int, step: int, lines: I4
) -> bool:  # fmt: skip
    """Add rows of a frame to lines, so many to each; return whether any count is the limit.

    ``start`` is the first place in the flattened frames.
    """
    some = False
    for i in range(lines.shape[0]):
        for _ in range(step):
            row = frames[start : start + lines.shape[1]]
            some |= add_row(row, code[0], code[1], lines[i])
            start += n_fast
    return some


@njit(cache=True, nogil=True)
def write_line(line: I4, step: int, sums: I4) -> None:
    """Write sums over so many neighbours in a line, -1 where one of them has no count."""
    least = np.int32(-1)
    if step == 1:
        for x in range(sums.shape[0]):
            sums[x] = max(line[x], least)
        return
    for x in range(sums.shape[0]):
        total = np.int32(0)
        for i in range(step):
            total += line[step * x + i]
        sums[x] = max(total, least)


@njit(cache=True, nogil=True)
def slot_of(n: int, slots: tuple[int, int]) -> int:
    """Return the slot of a frame, counted from the first that was there."""
    return n if n < slots[0] else slots[0] + (n - slots[0]) % slots[1]


@njit(cache=True, nogil=True)
def fetch_box(
    counts: Counts, corner: tuple[int, int, int], rows: int, width: int, large: U1
) -> None:  # fmt: skip
    """Wait for memory with all rows of a box; flag frames with the limit at the ends of rows."""
    n_slow, n_fast = counts.shape
    for k in range(large.shape[0]):
        slot = slot_of(corner[0] + k, counts.slots)
        start = (slot * n_slow + corner[1]) * n_fast + corner[2]
        kind = counts.kinds[slot]
        limit = counts.codes[kind, 1]
        if kind == 0:
            large[k] = fetch(counts.u1, limit, start, n_fast, rows, width)
        elif kind == 1:
            large[k] = fetch(counts.u2, limit, start, n_fast, rows, width)
        else:
            large[k] = fetch(counts.i4, limit, start, n_fast, rows, width)


@njit(cache=True, nogil=True)
def sum_box(
    counts: Counts, corner: tuple[int, int, int], steps: tuple[int, int, int], sums: I4
) -> None:  # fmt: skip
    """Write sums over neighbouring voxels.

    Parameters
    ----------
    counts : Counts
    corner : tuple of int
        First frame, row and column.
    steps : tuple of int
        Voxels to sum along z, y, x.
    sums : (n_z, n_y, n_x) int32
        Receives the sums, -1 where any count is missing; what is beyond the type becomes the
        largest that it holds.
    """
    begin, top, left = (
        corner[0] - counts.corner[0], corner[1] - counts.corner[1], corner[2] - counts.corner[2]
    )  # fmt: skip
    n_slow, n_fast = counts.shape
    width = -(-sums.shape[2] * steps[2] // BLOCK) * BLOCK
    lines = np.empty((sums.shape[1], width), np.int32)
    large = np.empty(sums.shape[0] * steps[0], np.uint8)
    fetch_box(counts, (begin, top, left), sums.shape[1] * steps[1], width, large)
    for z in range(sums.shape[0]):
        lines[:] = 0
        any_large = False
        for k in range(z * steps[0], (z + 1) * steps[0]):
            slot = slot_of(begin + k, counts.slots)
            start = (slot * n_slow + top) * n_fast + left
            kind = counts.kinds[slot]
            code = counts.codes[kind]
            if kind == 0:
                large[k] |= add_frame(counts.u1, code, start, n_fast, steps[1], lines)
            elif kind == 1:
                large[k] |= add_frame(counts.u2, code, start, n_fast, steps[1], lines)
            else:
                large[k] |= add_frame(counts.i4, code, start, n_fast, steps[1], lines)
            any_large |= large[k] != 0
        for y in range(sums.shape[1]):
            write_line(lines[y], steps[2], sums[z, y])
        if not any_large:
            continue
        for k in range(z * steps[0], (z + 1) * steps[0]):
            slot = slot_of(begin + k, counts.slots)
            n, limit = counts.n_large[slot], counts.codes[counts.kinds[slot], 1]
            if large[k] and n:
                add_large(
                    counts.places[slot, :n], counts.values[slot, :n], limit, n_fast,
                    (top, left), (steps[1], steps[2]), sums[z],
                )  # fmt: skip


@njit(cache=True, nogil=True)
def cut(
    counts: Counts, z: Range, y: Range, x: Range, steps: tuple[int, int, int]
) -> I4:  # fmt: skip
    """Return sums over voxels of a box, (n_z, n_y, n_x) int32; see `sum_box`.

    Voxels that are over make up none.
    """
    sums = np.empty(
        ((z[1] - z[0]) // steps[0], (y[1] - y[0]) // steps[1], (x[1] - x[0]) // steps[2]), np.int32
    )  # fmt: skip
    sum_box(counts, (z[0], y[0], x[0]), steps, sums)
    return sums


@njit(cache=True, nogil=True)
def add_large(
    places: I4, values: I8, limit: int, n_fast: int, corner: tuple[int, int],
    steps: tuple[int, int], sums: I4,
) -> None:  # fmt: skip
    """Add what large counts have beyond the limit to sums over a part of their frame.

    Parameters
    ----------
    places, values : (m,) int32, int64
        Positions in a flattened frame, rising, and counts.
    limit : int
        As much of each count is in the sums.
    n_fast : int
        Length of the frame's rows.
    corner, steps : tuple of int
        Row and column to begin with, rows and columns to sum.
    sums : (n_y, n_x) int32
        Negative where masked; what is beyond the type becomes the largest that it holds.
    """
    for i in range(np.searchsorted(places, corner[0] * n_fast), places.shape[0]):
        v = (places[i] // n_fast - corner[0]) // steps[0]
        u = places[i] % n_fast - corner[1]
        if v >= sums.shape[0]:
            return
        if 0 <= u < sums.shape[1] * steps[1] and sums[v, u // steps[1]] >= 0:
            total = sums[v, u // steps[1]] + values[i] - limit
            sums[v, u // steps[1]] = min(total, 2**31 - 1)
