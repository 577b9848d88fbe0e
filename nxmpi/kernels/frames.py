"""Frames in a narrow form, and their sums."""

import numpy as np
from numba import njit

from nxmpi._typing import I4, I8, U1, Frames


@njit(cache=True, nogil=True)
def cap_row(unsigned: Frames, top: int, out: Frames) -> None:
    """Write a row in a narrower type; what is larger becomes the top."""
    most = unsigned.dtype.type(top)
    for p in range(out.shape[0]):
        out[p] = min(unsigned[p], most)


@njit(cache=True, nogil=True)
def mask_row(bad: U1, code: int, row: Frames) -> int:
    """Write a code where pixels are masked, and return the largest value of the others."""
    none, zero = row.dtype.type(code), row.dtype.type(0)
    largest = zero
    for p in range(row.shape[0]):
        value, masked = row[p], bad[p] != np.uint8(0)
        largest = max(largest, zero if masked else value)
        row[p] = none if masked else value
    return int(largest)


@njit(cache=True, nogil=True)
def narrow_row(raw: Frames, bad: U1, limits: Frames, codes: Frames, out: Frames) -> int:
    """Write a row as `narrow_frame` does, and return how many values were cut."""
    cut = np.int32(0)
    sentinel, limit = limits[0], limits[1]
    invalid = codes[0]
    for p in range(raw.shape[0]):
        value = raw[p]
        good = (bad[p] == 0) & (value >= 0) & (value != sentinel)
        larger = value > limit
        cut = np.int32(cut + np.int32(good & larger))
        value = limit if larger else value
        out[p] = value if good else invalid
    return int(cut)


@njit(cache=True, nogil=True)
def narrow_frame(
    raw: Frames, unsigned: Frames, bad: U1, limits: Frames, codes: Frames, top: int, most: int,
    out: Frames, cut: I4,
) -> int:  # fmt: skip
    """Write a frame in a narrow type, with one value for all that is no count.

    Most rows have small counts in all that is not masked; the others are looked at closely.

    Parameters
    ----------
    raw : (n_slow, n_fast) integer
        Counts; no counts are negative values and the sentinel.
    unsigned : (n_slow, n_fast) unsigned integer
        The same bytes: what is negative is large.
    bad : (n_slow, n_fast) uint8
        1 where a pixel is masked.
    limits : (2,) integer
        Of the type of ``raw``: the sentinel (-1 if there is none), and the largest value that
        ``out`` holds; larger ones are cut.
    codes : (1,) integer
        Of the type of ``out``: what it receives where there is no count.
    top : int
        The value of ``unsigned`` from which on a closer look is needed.
    most : int
        Stop when more values are cut.
    out : (n_slow, n_fast) uint8, uint16 or int32
    cut : (n_slow,) int32
        Receives how many values were cut in each row.

    Returns
    -------
    int
        How many values were cut; the outputs are worthless if more than ``most``.
    """
    total = 0
    for y in range(raw.shape[0]):
        cap_row(unsigned[y], top, out[y])
        cut[y] = 0
        if mask_row(bad[y], codes[0], out[y]) == top:
            cut[y] = narrow_row(raw[y], bad[y], limits, codes, out[y])
            total += cut[y]
            if total > most:
                break
    return total


@njit(cache=True, nogil=True)
def write_cut(raw: Frames, bad: U1, limits: Frames, cut: I4, places: I4, values: I8) -> None:
    """Write where values were cut by `narrow_frame`, in a flattened frame, and what they were."""
    found = 0
    for y in range(raw.shape[0]):
        if not cut[y]:
            continue
        for x in range(raw.shape[1]):
            if bad[y, x] == 0 and raw[y, x] > limits[1] and raw[y, x] != limits[0]:
                places[found] = y * raw.shape[1] + x
                values[found] = raw[y, x]
                found += 1


@njit(cache=True, nogil=True)
def sum_run(frame: Frames, invalid: int) -> int:
    """Return the sum of a slice of a narrow frame, of one row at most."""
    # 16 000 of the largest counts that are held fit 32 bits
    kind, none = np.uint32, frame.dtype.type(invalid)
    total = kind(0)
    for p in range(frame.shape[0]):
        value = frame[p]
        total = kind(total + (kind(value) if value != none else kind(0)))
    return int(total)


@njit(cache=True, nogil=True)
def sum_runs(frame: Frames, invalid: int, runs: I4, sums: I8) -> None:
    """Add a frame to sums over blocks of pixels.

    Parameters
    ----------
    frame : (n,) uint8, uint16 or int32
        As `narrow_frame` writes it.
    invalid : int
        What stands where there is no count.
    runs : (m, 3) int32
        Start, stop and block of runs of pixels.
    sums : (n_blocks,) int64
        Added to in place [counts].
    """
    for r in range(runs.shape[0]):
        sums[runs[r, 2]] += sum_run(frame[runs[r, 0] : runs[r, 1]], invalid)


@njit(cache=True, nogil=True)
def add_group(
    first: Frames, second: Frames, third: Frames, invalid: int, total: Frames, largest: Frames
) -> None:  # fmt: skip
    """Write the sum of three narrow frames, and keep the largest value of each pixel.

    Parameters
    ----------
    first, second, third : (n,) uint8, uint16 or int32
        As `narrow_frame` writes them.
    invalid : int
        What stands where there is no count.
    total : (n,) uint16 or int32
        Receives the sums; of a type that holds them.
    largest : (n,) uint16 or int32
        Made larger in place.
    """
    kind, most = total.dtype.type, largest.dtype.type
    none = first.dtype.type(invalid)  # of the narrow type: comparisons of int64 are slow
    for p in range(total.shape[0]):
        a = kind(first[p]) if first[p] != none else kind(0)
        b = kind(second[p]) if second[p] != none else kind(0)
        c = kind(third[p]) if third[p] != none else kind(0)
        total[p] = kind(kind(a + b) + c)
        largest[p] = max(largest[p], most(max(a, max(b, c))))


@njit(cache=True, nogil=True)
def add_groups(first: Frames, second: Frames, third: Frames, group: Frames, total: I8) -> None:
    """Write the sum of three groups, and add it to the sum over all frames.

    Parameters
    ----------
    first, second, third, group : (n,) uint16 or int32
    total : (n,) int64
        Added to in place.
    """
    kind = group.dtype.type
    for p in range(total.shape[0]):
        group[p] = kind(kind(first[p] + second[p]) + third[p])
        total[p] += group[p]
