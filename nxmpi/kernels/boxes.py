"""Boxes of counts around a place, and their sums over neighbouring voxels."""

import numpy as np
from numba import njit

from nxmpi._typing import I4, I8, U1, Frames

MASKED = -(2**26)
"""Stands in a sum for a voxel without a count: sixteen of them fit 31 bits, and sixteen of the
largest counts of a narrow frame do not make up for one."""


@njit(cache=True, nogil=True)
def add_row(row: Frames, invalid: int, limit: int, line: I4) -> bool:
    """Add a row to a line; return whether any count is the limit."""
    none, most = row.dtype.type(invalid), row.dtype.type(limit)
    masked, some = np.int32(MASKED), np.uint8(0)
    for x in range(line.shape[0]):
        some |= np.uint8(row[x] == most)
        line[x] = np.int32(line[x] + (np.int32(row[x]) if row[x] != none else masked))
    return bool(some)


@njit(cache=True, nogil=True)
def add_line(line: I4, step: int, sums: I4) -> None:
    """Add sums over so many neighbours in a line."""
    if step == 1:
        for x in range(sums.shape[0]):
            sums[x] += line[x]
        return
    for x in range(sums.shape[0]):
        for i in range(step):
            sums[x] += line[step * x + i]


@njit(cache=True, nogil=True)
def add_frame(
    frame: Frames, code: I4, corner: tuple[int, int], steps: tuple[int, int, int], line: I4,
    sums: I4,
) -> bool:  # fmt: skip
    """Add a part of a frame to sums (n_y, n_x); return whether any count is the limit."""
    y, x = corner
    some = False
    for i in range(sums.shape[0]):
        line[:] = 0
        for j in range(y + i * steps[1], y + (i + 1) * steps[1]):
            some |= add_row(frame[j, x : x + line.shape[0]], code[0], code[1], line)
        add_line(line, steps[2], sums[i])
    return some


@njit(cache=True, nogil=True)
def sum_box(
    frames: tuple[U1, Frames, I4], kinds: U1, codes: I4, slots: tuple[int, int, int],
    corner: tuple[int, int], steps: tuple[int, int, int], sums: I4, large: U1,
) -> bool:  # fmt: skip
    """Write sums over neighbouring voxels of a part of the frames.

    Parameters
    ----------
    frames : three of (n_slots, n_slow, n_fast) uint8, uint16, int32
        As `nxmpi.kernels.frames.narrow_frame` writes them.
    kinds : (n_slots,) uint8
        In which of the three the frame of each slot is.
    codes : (3, 2) int32
        For each, what stands where there is no count, and where the count is this or larger.
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
        Receives 1 for frames that have the limit somewhere, 0 for the others.

    Returns
    -------
    bool
        Whether any has.
    """
    begin, first, last = slots
    line = np.empty(sums.shape[2] * steps[2], np.int32)
    sums[:] = 0
    any_large = False
    for k in range(large.shape[0]):
        n = begin + k
        slot = n if n < first else first + (n - first) % last
        kind, target = kinds[slot], sums[k // steps[0]]
        if kind == 0:
            some = add_frame(frames[0][slot], codes[0], corner, steps, line, target)
        elif kind == 1:
            some = add_frame(frames[1][slot], codes[1], corner, steps, line, target)
        else:
            some = add_frame(frames[2][slot], codes[2], corner, steps, line, target)
        large[k] = some
        any_large |= some
    flat = sums.reshape(-1)
    for i in range(flat.shape[0]):
        flat[i] = max(flat[i], np.int32(-1))
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
