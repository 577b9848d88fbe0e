"""Frames in a narrow form, and their sums."""

import numpy as np
from numba import njit

from nxmpi._typing import I4, I8, U1, Frames


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
    raw: Frames, bad: U1, limits: Frames, codes: Frames, out: Frames, cut: I4
) -> int:  # fmt: skip
    """Write a frame in a narrow type, with one value for all that is no count.

    Parameters
    ----------
    raw : (n_slow, n_fast) integer
        Counts; no counts are negative values and the sentinel.
    bad : (n_slow, n_fast) uint8
        1 where a pixel is masked.
    limits : (2,) integer
        Of the type of ``raw``: the sentinel (-1 if there is none), and the largest value that
        ``out`` holds; larger ones are cut.
    codes : (1,) integer
        Of the type of ``out``: what it receives where there is no count.
    out : (n_slow, n_fast) uint8, uint16 or int32
    cut : (n_slow,) int32
        Receives how many values were cut in each row.

    Returns
    -------
    int
        How many values were cut.
    """
    total = 0
    for y in range(raw.shape[0]):
        cut[y] = narrow_row(raw[y], bad[y], limits, codes, out[y])
        total += cut[y]
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
    """Return the sum of a slice of a narrow frame."""
    total = 0
    for p in range(frame.shape[0]):
        total += frame[p] if frame[p] != invalid else 0
    return total


@njit(cache=True, nogil=True)
def sum_runs(frame: Frames, invalid: int, runs: I4, sums: I8) -> None:
    """Add a frame to sums over blocks of pixels.

    Parameters
    ----------
    frame : (n,) uint16 or int32
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
    first: Frames, second: Frames, third: Frames, invalid: int, total: I4, largest: I4
) -> None:  # fmt: skip
    """Write the sum of three narrow frames, and keep the largest value of each pixel.

    Parameters
    ----------
    first, second, third : (n,) uint16 or int32
        As `narrow_frame` writes them.
    invalid : int
        What stands where there is no count.
    total : (n,) int32
        Receives the sums.
    largest : (n,) int32
        Made larger in place.
    """
    for p in range(total.shape[0]):
        a = first[p] if first[p] != invalid else 0
        b = second[p] if second[p] != invalid else 0
        c = third[p] if third[p] != invalid else 0
        total[p] = a + b + c
        largest[p] = max(largest[p], max(a, max(b, c)))


@njit(cache=True, nogil=True)
def add_groups(first: I4, second: I4, third: I4, group: I4, total: I8) -> None:
    """Write the sum of three groups, and add it to the sum over all frames.

    Parameters
    ----------
    first, second, third, group : (n,) int32
    total : (n,) int64
        Added to in place.
    """
    for p in range(total.shape[0]):
        group[p] = first[p] + second[p] + third[p]
        total[p] += group[p]


@njit(cache=True, nogil=True)
def cut_box(
    frames: Frames, slots: I4, invalid: int, limit: int, y: int, x: int, out: I4, large: U1
) -> None:  # fmt: skip
    """Write a part of some frames from row y and column x on, -1 where there is no count.

    Parameters
    ----------
    frames : (n_slots, n_slow, n_fast) uint8, uint16 or int32
    slots : (n_z,) int32
        Where each frame is; negative ones are left out.
    invalid, limit : int
        What stands where there is no count, and where the count is this or larger.
    out : (n_z, n_rows, n_columns) int32
    large : (n_z,) uint8
        Receives 1 for frames that have the limit somewhere, else 0; of those left out nothing.
    """
    none, most = frames.dtype.type(invalid), frames.dtype.type(limit)
    for k in range(out.shape[0]):
        slot = slots[k]
        if slot < 0:
            continue
        some = np.uint8(0)
        for i in range(out.shape[1]):
            row, target = frames[slot, y + i, x : x + out.shape[2]], out[k, i]
            for j in range(target.shape[0]):
                some |= np.uint8(row[j] == most)
                target[j] = np.int32(row[j]) if row[j] != none else np.int32(-1)
        large[k] = some


@njit(cache=True, nogil=True)
def large_counts(
    places: I4, values: I8, n_fast: int, y: int, x: int, out: I4
) -> None:  # fmt: skip
    """Write large counts into a part of a frame from row y and column x on.

    Parameters
    ----------
    places, values : (m,) int32, int64
        Positions in a flattened frame, rising, and counts.
    n_fast : int
        Length of the frame's rows.
    out : (n_rows, n_columns) int32
        Counts beyond its type become the largest that it holds.
    """
    for i in range(np.searchsorted(places, y * n_fast), places.shape[0]):
        v, u = places[i] // n_fast - y, places[i] % n_fast - x
        if v >= out.shape[0]:
            return
        if 0 <= u < out.shape[1]:
            out[v, u] = min(values[i], 2**31 - 1)
