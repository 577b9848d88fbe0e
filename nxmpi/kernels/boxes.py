"""Boxes of counts around a place, and their sums over neighbouring voxels."""

import numpy as np
from numba import njit

from nxmpi._typing import I4, I8, U1, Frames

MASKED = -(2**26)
"""Stands in a sum for a voxel without a count: sixteen of them fit 31 bits, and sixteen of the
largest counts of a narrow frame do not make up for one."""
BLOCK = 32
"""Pixels of a row that are read at a time, some of them in vain: short rows of any length would
be read one by one."""


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
def place_of(
    k: int, slots: tuple[int, int, int], shape: tuple[int, int], corner: tuple[int, int]
) -> tuple[int, int]:  # fmt: skip
    """Return the slot of a frame of a box, and where in all flattened slots the box begins."""
    begin, first, last = slots
    n = begin + k
    slot = n if n < first else first + (n - first) % last
    return slot, (slot * shape[0] + corner[0]) * shape[1] + corner[1]


@njit(cache=True, nogil=True)
def sum_box(
    frames: tuple[U1, Frames, I4], kinds: U1, codes: I4, shape: tuple[int, int],
    slots: tuple[int, int, int], corner: tuple[int, int], steps: tuple[int, int, int],
    sums: I4, large: U1,
) -> bool:  # fmt: skip
    """Write sums over neighbouring voxels of a part of the frames.

    Parameters
    ----------
    frames : three of (n_slots * n_slow * n_fast + BLOCK,) uint8, uint16, int32
        As `nxmpi.kernels.frames.narrow_frame` writes them; what is behind the last is not used.
    kinds : (n_slots,) uint8
        In which of the three the frame of each slot is.
    codes : (3, 2) int32
        For each, what stands where there is no count, and where the count is this or larger.
    shape : tuple of int
        Of a frame.
    slots : tuple of int
        The frame to begin with, how many frames stay, and after how many others a slot is used
        again.
    corner : tuple of int
        Row and column to begin with.
    steps : tuple of int
        Voxels to sum along z, y, x.
    sums : (n_z, n_y, n_x) int32
        Receives the sums, -1 where any count is missing.
    large : (n_z * steps[0],) uint8
        Receives 1 for frames that may have the limit there, 0 for the others.

    Returns
    -------
    bool
        Whether any has.
    """
    rows = sums.shape[1] * steps[1]
    width = -(-sums.shape[2] * steps[2] // BLOCK) * BLOCK
    lines = np.empty((sums.shape[1], width), np.int32)
    any_large = False
    for k in range(large.shape[0]):
        slot, start = place_of(k, slots, shape, corner)
        kind = kinds[slot]
        if kind == 0:
            some = fetch(frames[0], codes[0, 1], start, shape[1], rows, width)
        elif kind == 1:
            some = fetch(frames[1], codes[1, 1], start, shape[1], rows, width)
        else:
            some = fetch(frames[2], codes[2, 1], start, shape[1], rows, width)
        large[k] = some
    for z in range(sums.shape[0]):
        lines[:] = 0
        for k in range(z * steps[0], (z + 1) * steps[0]):
            slot, start = place_of(k, slots, shape, corner)
            kind = kinds[slot]
            if kind == 0:
                some = add_frame(frames[0], codes[0], start, shape[1], steps[1], lines)
            elif kind == 1:
                some = add_frame(frames[1], codes[1], start, shape[1], steps[1], lines)
            else:
                some = add_frame(frames[2], codes[2], start, shape[1], steps[1], lines)
            large[k] |= some
            any_large |= some
        for y in range(sums.shape[1]):
            write_line(lines[y], steps[2], sums[z, y])
    return any_large


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


@njit(cache=True, nogil=True)
def bin_box(box: I4, steps: tuple[int, int, int], out: I4) -> None:
    """Write sums of neighbouring voxels, masked where one of them is.

    Parameters
    ----------
    box : (n_z, n_y, n_x) int32
        Counts; negative where masked.
    steps : tuple of int
        Voxels to sum along z, y, x.
    out : (n_z / steps[0], n_y / steps[1], n_x / steps[2]), rounded down, int32
    """
    for z in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                total, masked = 0, False
                for k in range(steps[0]):
                    for j in range(steps[1]):
                        for i in range(steps[2]):
                            n = box[z * steps[0] + k, y * steps[1] + j, x * steps[2] + i]
                            total += n
                            masked |= n < 0
                out[z, y, x] = -1 if masked else min(total, 2**31 - 1)
