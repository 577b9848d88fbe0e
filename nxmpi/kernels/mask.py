"""Patches of pixels that change from one frame to the next: exact box sums, row by row.

Sums of differences may wrap: they come out right whenever the final sum fits its type, whatever
happened on the way.
"""

from numba import njit

from nxmpi._typing import I8, U1, Frames
from nxmpi.kernels.rows import Sums, slide


@njit(cache=True, nogil=True)
def _write_differences(first: Frames, second: Frames, limit: int, out: Sums) -> bool:
    """Write the differences along a row; return whether they are within ±limit, unless it is 0."""
    kind = out.dtype.type
    lowest = highest = kind(0)
    wrapped = False
    for i in range(out.shape[0]):
        difference = kind(kind(second[i]) - kind(first[i]))
        wrapped |= (second[i] < first[i]) != (difference < 0)
        lowest = min(lowest, difference)
        highest = max(highest, difference)
        out[i] = difference
    return limit == 0 or ((not wrapped) and lowest >= -limit and highest <= limit)


@njit(cache=True, nogil=True)
def _start(differences: Sums, size: int, sums: Sums) -> None:
    """Write the sums of columns that hold one row of differences, replicated."""
    kind = sums.dtype.type
    for i in range(sums.shape[0]):
        sums[i] = differences[i] * kind(size)


@njit(cache=True, nogil=True)
def _pair(left: Sums, right: Sums, out: Sums) -> None:
    for i in range(out.shape[0]):
        out[i] = left[i] + right[i]


@njit(cache=True, nogil=True)
def _pair_and_one(left: Sums, right: Sums, one: Sums, out: Sums) -> None:
    for i in range(out.shape[0]):
        out[i] = left[i] + right[i] + one[i]


@njit(cache=True, nogil=True)
def _box_along(rows: Sums, size: int) -> Sums:
    """Return the sums of each ``size`` neighbours in a row.

    A sum is that of two halves, and of one more where the size is odd: each step is a loop
    without memory of its last turn, which becomes vector instructions.

    Parameters
    ----------
    rows : (3, n + size - 1)
        The first is the row, its edges replicated; the others are room.

    Returns
    -------
    (n,) view of one of the rows
    """
    sums: Sums = rows[0]
    summed = 1  # neighbours in a sum so far
    place = 1
    bit = 1
    while 2 * bit <= size:
        bit *= 2
    while bit > 1:
        bit //= 2
        one_more = 1 if size & bit else 0
        n = rows.shape[1] - (2 * summed + one_more) + 1
        left, right, out = sums[:n], sums[summed : summed + n], rows[place, :n]
        if one_more:
            _pair_and_one(left, right, rows[0, 2 * summed : 2 * summed + n], out)
        else:
            _pair(left, right, out)
        sums = out
        summed = 2 * summed + one_more
        place = 3 - place
    return sums


@njit(cache=True, nogil=True)
def _replicate_edges(row: Sums, before: int, n: int) -> None:
    row[:before] = row[before]
    row[before + n :] = row[before + n - 1]


@njit(cache=True, nogil=True)
def _reach(sums: Sums, threshold: int) -> bool:
    """Return whether any sum is as far from zero as the threshold."""
    lowest = highest = sums[0]
    for i in range(sums.shape[0]):
        lowest = min(lowest, sums[i])
        highest = max(highest, sums[i])
    return bool(lowest <= -threshold or highest >= threshold)


@njit(cache=True, nogil=True)
def _far_from_zero(sums: Sums, threshold: int, out: U1) -> None:
    kind = sums.dtype.type
    low, high = kind(-threshold), kind(threshold)
    for i in range(out.shape[0]):
        out[i] = (sums[i] <= low) | (sums[i] >= high)


@njit(cache=True, nogil=True)
def changed(
    first: Frames, second: Frames, size: int, threshold: int, limit: int,
    rows: Sums, ring: Sums, some: U1, out: U1,
) -> bool:  # fmt: skip
    """Find where the sum over a box of ``second - first`` is far from zero.

    Outside of the frame are its nearest pixels. A box of an even size reaches one pixel further
    to smaller indices.

    Parameters
    ----------
    first, second : (n_slow, n_fast) any integer type
        [counts]
    size : int
        Edge of the box [pixels].
    threshold : int
        Of the absolute sum, inclusive [counts].
    limit : int
        Absolute difference up to which sums are sure to fit their type; 0 = do not look [counts].
    rows : (3, n_fast + size - 1) int32, int64 or float64
        Room, of the type that sums have.
    ring : (size + 1, n_fast) of the same type
        Room.
    some : (n_slow,) uint8
        Receives whether any pixel of a row is far from zero.
    out : (n_slow, n_fast) uint8
        Receives 0 or 1 in the rows that have some, and nothing in the others.

    Returns
    -------
    bool
        Whether all differences are within the limit; the outputs are worthless if not.
    """
    n_slow, n_fast = first.shape
    before, after = size // 2, (size - 1) // 2
    columns = rows[0, before : before + n_fast]
    for y in range(-after, n_slow):
        new = min(y + after, n_slow - 1)
        old = max(y - 1 - before, 0)
        if not _write_differences(first[new], second[new], limit, ring[new % len(ring)]):
            return False
        if y == -after:
            _start(ring[0], size, columns)
        else:
            slide(ring[new % len(ring)], ring[old % len(ring)], columns)
        if y >= 0:
            _replicate_edges(rows[0], before, n_fast)
            sums = _box_along(rows, size)
            some[y] = _reach(sums, threshold)
            if some[y]:
                _far_from_zero(sums, threshold, out[y])
    return True


@njit(cache=True, nogil=True)
def _counts_fit(first: Frames, second: Frames, largest: int, limit: int) -> bool:
    """Return whether the counts along a row, among the values there, are within the limit."""
    fit = True
    for i in range(first.shape[0]):
        fit &= (first[i] <= limit) | (first[i] > largest)
        fit &= (second[i] <= limit) | (second[i] > largest)
    return fit


@njit(cache=True, nogil=True)
def _add_counts(first: Frames, second: Frames, largest: int, factor: int, sums: Sums) -> None:
    """Add a multiple of the counts along a row of both frames."""
    kind = sums.dtype.type
    times, none = kind(factor), kind(0)
    for i in range(sums.shape[0]):
        one = kind(first[i]) if (first[i] >= 0) & (first[i] <= largest) else none
        other = kind(second[i]) if (second[i] >= 0) & (second[i] <= largest) else none
        sums[i] += kind(kind(one + other) * times)


@njit(cache=True, nogil=True)
def _far_in_sigmas(sums: Sums, counts: Sums, variance: float, out: U1) -> bool:
    found = False
    for i in range(out.shape[0]):
        s = float(sums[i])
        far = s * s >= variance * max(float(counts[i]), 1.0)
        out[i] = far
        found |= far
    return found


@njit(cache=True, nogil=True)
def changed_in_sigmas(
    first: Frames, second: Frames, size: int, variance: float, largest: int, limit: int,
    rows: Sums, ring: Sums, count_rows: Sums, some: U1, out: U1,
) -> bool:  # fmt: skip
    """Find where the sum over a box of ``second - first`` is far beyond its standard deviation.

    As `changed`, but where the square of the sum is at least a multiple of the counts of both
    frames in the box, or of one count where there are none.

    Parameters
    ----------
    variance : float
        The multiple: square of the standard deviations [1].
    largest : int
        Values above it, and negative ones, count as none [counts].
    limit : int
        As in `changed`; counts must be within half of it [counts].
    rows, count_rows : (3, n_fast + size - 1) int32 or int64
        Room, of the type that sums have; ``ring`` as in `changed`.
    """
    n_slow, n_fast = first.shape
    before, after = size // 2, (size - 1) // 2
    columns = rows[0, before : before + n_fast]
    count_columns = count_rows[0, before : before + n_fast]
    for y in range(-after, n_slow):
        new = min(y + after, n_slow - 1)
        old = max(y - 1 - before, 0)
        if not _write_differences(first[new], second[new], limit, ring[new % len(ring)]):
            return False
        if limit and not _counts_fit(first[new], second[new], largest, limit // 2):
            return False
        if y == -after:
            _start(ring[0], size, columns)
            count_columns[:] = 0
            _add_counts(first[0], second[0], largest, size, count_columns)
        else:
            slide(ring[new % len(ring)], ring[old % len(ring)], columns)
            _add_counts(first[new], second[new], largest, 1, count_columns)
            _add_counts(first[old], second[old], largest, -1, count_columns)
        if y >= 0:
            _replicate_edges(rows[0], before, n_fast)
            _replicate_edges(count_rows[0], before, n_fast)
            sums, counts = _box_along(rows, size), _box_along(count_rows, size)
            some[y] = _far_in_sigmas(sums, counts, variance, out[y])
    return True


@njit(cache=True, nogil=True)
def fill_gaps(columns: I8, rows: I8, some: U1, pixels: U1) -> None:
    """Fill gaps, first the columns and then the rows, with what is on either side of them.

    Parameters
    ----------
    columns, rows : (n, 2) int64
        Start and stop of each gap; it takes the larger of its two neighbours, or the one it has.
    some, pixels : (n_slow,), (n_slow, n_fast) uint8
        As `changed` writes them; changed in place.
    """
    n_slow, n_fast = pixels.shape
    for y in range(n_slow):
        if some[y]:
            for start, stop in columns:
                left = pixels[y, start - 1] if start > 0 else 0
                right = pixels[y, stop] if stop < n_fast else 0
                pixels[y, start:stop] = max(left, right)
    for start, stop in rows:
        above = start > 0 and some[start - 1]
        below = stop < n_slow and some[stop]
        some[start:stop] = above or below
        if above or below:
            row = pixels[start]
            row[:] = 0
            if above:
                row |= pixels[start - 1]
            if below:
                row |= pixels[stop]
            for y in range(start + 1, stop):
                pixels[y] = row


@njit(cache=True, nogil=True)
def _add(row: U1, factor: int, sums: Sums) -> None:
    kind = sums.dtype.type
    times = kind(factor)
    for i in range(sums.shape[0]):
        sums[i] += kind(row[i]) * times


@njit(cache=True, nogil=True)
def _above(sums: Sums, threshold: int, out: U1) -> bool:
    found = False
    for i in range(out.shape[0]):
        above = sums[i] > threshold
        out[i] = above
        found |= above
    return found


@njit(cache=True, nogil=True)
def crowded(some: U1, pixels: U1, size: int, threshold: int, rows: Sums, out: U1) -> bool:
    """Find where more pixels are set in a box around a pixel than the threshold.

    Edges and even sizes are those of `changed`.

    Parameters
    ----------
    some, pixels : (n_slow,), (n_slow, n_fast) uint8
        As `changed` and `fill_gaps` write them.
    size : int
        Edge of the box [pixels].
    threshold : int
        Exclusive [pixels].
    rows : (3, n_fast + size - 1) integers up to ``size**2``
        Room.
    out : (n_slow, n_fast) uint8
        Receives 0 or 1.

    Returns
    -------
    bool
        Whether any pixel is 1.
    """
    n_slow, n_fast = pixels.shape
    before, after = size // 2, (size - 1) // 2
    columns = rows[0, before : before + n_fast]
    columns[:] = 0
    if some[0]:
        _add(pixels[0], size, columns)
    held = size * int(some[0])  # rows in the box that have some
    found = False
    for y in range(-after, n_slow):
        new = min(y + after, n_slow - 1)
        old = max(y - 1 - before, 0)
        if y > -after:
            if some[new]:
                _add(pixels[new], 1, columns)
            if some[old]:
                _add(pixels[old], -1, columns)
            held += int(some[new]) - int(some[old])
        if y >= 0:
            if held * size > threshold and int(columns.max()) * size > threshold:
                _replicate_edges(rows[0], before, n_fast)
                found |= _above(_box_along(rows, size), threshold, out[y])
            else:
                out[y] = 0
    return found
