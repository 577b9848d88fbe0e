"""Where counts stand out of their surroundings: boxes of 3 and 7 pixels against a ring.

Rows are worked on one after another. Every loop over pixels runs over contiguous slices, so
that it becomes vector instructions.
"""

from math import sqrt
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nxmpi._typing import F4, I4, U1, Frames

OUTER = 10
"""Half the side of the box that the background is taken from, less one half [pixels]."""
WIDE = 3
"""Half the side of the larger box, less one half [pixels]."""
NARROW = 1
"""Half the side of the smaller box, less one half [pixels]."""
RING_ROWS = 2 * OUTER + 2
"""Rows kept while boxes are summed."""
MOST_OF_21 = (2**16 - 1) // (2 * OUTER + 1)
"""Largest sum over the 21 pixels of a column with which 21 of them fit 16 bits."""
Sums = NDArray[Any]
"""Sums of counts, uint16 or int32."""


@njit(cache=True, nogil=True)
def add_rows(first: Frames, second: Frames, invalid: int, out: Sums) -> None:
    """Write the sum of two rows; what is no count adds nothing."""
    none = first.dtype.type(invalid)  # of the narrow type: comparisons of int64 are slow
    kind = out.dtype.type
    for x in range(first.shape[0]):
        one = kind(first[x]) if first[x] != none else kind(0)
        other = kind(second[x]) if second[x] != none else kind(0)
        out[x] = kind(one + other)


@njit(cache=True, nogil=True)
def slide(column: Sums, entering: Sums, leaving: Sums) -> None:
    """Move sums over some rows by one row."""
    kind = column.dtype.type
    for x in range(column.shape[0]):
        column[x] = kind(column[x] + kind(entering[x] - leaving[x]))


@njit(cache=True, nogil=True)
def sum_3(row: Sums, pitch: int, out: Sums) -> None:
    """Write sums over 3 elements that are so far apart."""
    kind = out.dtype.type
    for x in range(out.shape[0]):
        out[x] = kind(row[x] + row[x + pitch] + row[x + 2 * pitch])


@njit(cache=True, nogil=True)
def sum_7(row: Sums, out: Sums) -> None:
    """Write sums over 7 neighbours."""
    kind = out.dtype.type
    for x in range(out.shape[0]):
        three = kind(row[x] + row[x + 1] + row[x + 2])
        out[x] = kind(three + kind(row[x + 3] + row[x + 4] + row[x + 5]) + row[x + 6])


@njit(cache=True, nogil=True)
def boxes_of_row(columns: Sums, room: Sums, boxes: Sums) -> None:
    """Write sums over 3, 7 and 21 columns.

    Parameters
    ----------
    columns : (3, n + 2 OUTER) uint16 or int32
        Sums over 3, 7 and 21 rows of each column, column 0 at place OUTER, zero outside.
    room : (n + 2 OUTER,) of the same type
        Room to work.
    boxes : (3, n) of the same type
        Receive the sums.
    """
    sum_3(columns[0, OUTER - NARROW :], 1, boxes[0])
    sum_7(columns[1, OUTER - WIDE :], boxes[1])
    sum_7(columns[2], room[: columns.shape[1] - 6])
    sum_3(room, 7, boxes[2])


@njit(cache=True, nogil=True)
def flag_row(
    b3: Sums, b7: Sums, b21: Sums, tables: F4, squares: F4, least: float, hits: I4
) -> int:  # fmt: skip
    """Flag the pixels of a row whose smaller or larger box exceeds the background.

    `significance` is at least a level where counts exceed the mean by more than a quarter of the
    level's square, ``least``, and the square of what is beyond exceeds ``squares`` times the
    counts of the ring; see `write_strong`. ``hits`` receives 0 or 1, for each pixel. Returns how
    many there are.
    """
    below, one, nothing = np.float32(least), np.float32(1.0), np.float32(0.0)
    t3, t7, q3, q7 = tables[0], tables[1], squares[0], squares[1]
    found = np.int32(0)
    for x in range(b3.shape[0]):
        n3, n7, n21 = np.int32(b3[x]), np.int32(b7[x]), np.int32(b21[x])
        r3 = np.float32(np.int32(n7 - n3)) + one
        r7 = np.float32(np.int32(n21 - n7)) + one
        d3 = max(np.float32(n3) - r3 * t3[x] - below, nothing)
        d7 = max(np.float32(n7) - r7 * t7[x] - below, nothing)
        hits[x] = np.int32((d3 * d3 > q3[x] * r3) | (d7 * d7 > q7[x] * r7))
        found = np.int32(found + hits[x])
    return int(found)


@njit(cache=True, nogil=True)
def significance(counts: float, expected: float, ratio: float) -> float:
    """Return by how many standard deviations counts exceed what is expected.

    Square roots of Poisson numbers have a standard deviation of one half, whatever their mean
    (Anscombe, Biometrika 35, 246 (1948)). What is expected is counted too, in more pixels: the
    variance of its root is ``ratio`` times that.
    """
    return 2.0 * (sqrt(counts) - sqrt(expected)) / sqrt(1.0 + ratio)


@njit(cache=True, nogil=True)
def write_strong_of_pixel(
    boxes: Sums, ratios: F4, level: float, unit: float, place: int, found: int,
    places: I4, strong: F4, scales: U1, expected: F4,
) -> int:  # fmt: skip
    """Write a pixel's boxes that are strong; see `write_strong_of_row`."""
    for scale in range(2):
        inner, outer = int(boxes[scale]), int(boxes[scale + 1])
        mean = (float(outer - inner) + 1.0) * ratios[scale]
        here = significance(float(inner), mean, ratios[scale]) * unit
        if here < level:
            continue
        if found < places.shape[0]:
            places[found] = place
            strong[found] = here
            scales[found] = scale
            expected[found] = mean
        found += 1
    return found


@njit(cache=True, nogil=True)
def write_strong_of_row(
    boxes: Sums, table: F4, squares: F4, level: float, gain: float, hits: I4, start: int,
    found: int, places: I4, strong: F4, scales: U1, expected: F4,
) -> int:  # fmt: skip
    """Write the strong pixels of a row, whose first place is ``start``; see `write_strong`.

    Returns
    -------
    int
        How many there are now; ``found`` were there before.
    """
    least = 0.25 * level * level * gain
    if not flag_row(boxes[0], boxes[1], boxes[2], table, squares, least, hits):
        return found
    unit = 1.0 / sqrt(gain)
    pairs = hits.view(np.uint64)
    for pair in range(pairs.shape[0]):
        if not pairs[pair]:
            continue
        for x in range(2 * pair, 2 * pair + 2):
            if hits[x]:
                found = write_strong_of_pixel(
                    boxes[:, x], table[:, x], level, unit, start + x, found,
                    places, strong, scales, expected,
                )  # fmt: skip
    return found


@njit(cache=True, nogil=True)
def reach(row: Sums, limit: int) -> bool:
    """Return whether any sum is beyond a limit."""
    largest = row.dtype.type(0)
    for x in range(row.shape[0]):
        largest = max(largest, row[x])
    return bool(largest > limit)


@njit(cache=True, nogil=True)
def write_strong(
    first: Frames, second: Frames, invalid: int, tables: F4, squares: F4, kinds: I4,
    level: float, gain: float,
    columns: Sums, rows: Sums, room: Sums, boxes: Sums,
    wide_columns: I4, wide_room: I4, wide_boxes: I4, hits: I4,
    places: I4, strong: F4, scales: U1, expected: F4,
) -> int:  # fmt: skip
    """Find the pixels of a window of frames that stand out, and write how much.

    A window is the sum of two images. A pixel is strong where the counts in the box of 3 pixels
    around it exceed those expected from the ring between 3 and 7 pixels, or in the box of 7
    those from the ring between 7 and 21: where `significance` exceeds the level.

    Parameters
    ----------
    first, second : (n_slow, n_fast) integer
        Counts, small enough for the sum over 21 x 21 pixels to fit 31 bits, and over 21 pixels
        to fit the type of ``columns`` [counts].
    invalid : int
        What stands where there is no count.
    tables : (n_kinds, 2, n_fast) float32
        For each kind of row, unmasked pixels of the box of 3 over those of its ring, and the same
        of the box of 7; a huge number where there are too few to tell.
    squares : (n_kinds, 2, n_fast) float32
        Variance of what is beyond the mean, for each count of the ring, times the square of the
        level: that times the gain, the ratio r of ``tables``, and 1 + r.
    kinds : (n_slow,) int32
        Which kind each row is.
    level : float
        [standard deviations]
    gain : float
        Counts of one photon [1].
    columns, rows, room, boxes : (3, m), (RING_ROWS, m), (m,), (3, n_fast) uint16 or int32
        Room to work, m = n_fast + 2 OUTER.
    wide_columns, wide_room, wide_boxes : as columns, room, boxes, int32
        Room for the rows with sums over 21 x 21 pixels that do not fit 16 bits.
    hits : (n_fast or one more, so that it is even,) int32
        Room to work, zero at the end where it is one more.
    places : (n,) int32
        Receives the strong pixels, as positions in a flattened frame, in rising order, some twice.
    strong : (n,) float32
        Receives their significance [standard deviations].
    scales : (n,) uint8
        Receives the box: 0 the smaller, 1 the larger. Where both stand out, a pixel is there
        twice.
    expected : (n,) float32
        Receives the counts expected in the box.

    Returns
    -------
    int
        How many there are. If more than ``places`` holds, the rest was not written.
    """
    n_slow, n_fast = first.shape
    columns[:] = 0
    rows[:] = 0
    found = 0
    inner = slice(OUTER, OUTER + n_fast)
    narrow = columns.itemsize == 2
    for y in range(-OUTER, n_slow):
        entering = y + OUTER
        slot = entering % RING_ROWS
        if entering < n_slow:
            add_rows(first[entering], second[entering], invalid, rows[slot, inner])
        else:
            rows[slot, inner] = 0
        # what left a box long ago is still in the ring of rows; before the first there is zero
        slide(columns[2], rows[slot], rows[(entering - 2 * OUTER - 1) % RING_ROWS])
        slide(columns[1], rows[(y + WIDE) % RING_ROWS], rows[(y - WIDE - 1) % RING_ROWS])
        slide(columns[0], rows[(y + NARROW) % RING_ROWS], rows[(y - NARROW - 1) % RING_ROWS])
        if y < 0:
            continue
        kind, start = kinds[y], y * n_fast
        if narrow and reach(columns[2], MOST_OF_21):
            wide_columns[:] = columns
            boxes_of_row(wide_columns, wide_room, wide_boxes)
            found = write_strong_of_row(
                wide_boxes, tables[kind], squares[kind], level, gain, hits, start, found,
                places, strong, scales, expected,
            )  # fmt: skip
        else:
            boxes_of_row(columns, room, boxes)
            found = write_strong_of_row(
                boxes, tables[kind], squares[kind], level, gain, hits, start, found,
                places, strong, scales, expected,
            )  # fmt: skip
    return found


@njit(cache=True, nogil=True)
def spread(places: I4, strong: F4, image: F4) -> None:
    """Write the significance of strong pixels into a flat image."""
    for i in range(places.shape[0]):
        image[places[i]] = strong[i]


@njit(cache=True, nogil=True)
def clear(places: I4, image: F4) -> None:
    """Write zero into a flat image at some places."""
    for i in range(places.shape[0]):
        image[places[i]] = 0.0


@njit(cache=True, nogil=True)
def flag_maxima(
    before: F4, here: F4, after: F4, places: I4, reach: int, maxima: U1
) -> None:  # fmt: skip
    """Flag the strong pixels of a window that are more significant than all around them.

    Parameters
    ----------
    before, here, after : (n_slow, n_fast) float32
        Significance in three successive windows, zero where not strong.
    places : (n,) int32
        Strong pixels of the middle window.
    reach : int
        How far in x and y others are looked at [pixels].
    maxima : (n,) uint8
        Receives 1 or 0. Of equals the first in (window, y, x) counts.
    """
    n_slow, n_fast = here.shape
    for i in range(places.shape[0]):
        y, x = places[i] // n_fast, places[i] % n_fast
        mine = here[y, x]
        # most are told by their next neighbours
        low, high = max(x - 1, 0), min(x + 1, n_fast - 1)
        if (
            here[y, low] > mine
            or here[y, high] > mine
            or before[y, x] >= mine
            or after[y, x] > mine
        ):
            maxima[i] = 0
            continue
        best = np.uint8(1)
        for v in range(max(y - reach, 0), min(y + reach + 1, n_slow)):
            for u in range(max(x - reach, 0), min(x + reach + 1, n_fast)):
                sooner = here[v, u] == mine and v * n_fast + u < places[i]
                if before[v, u] >= mine or here[v, u] > mine or after[v, u] > mine or sooner:
                    best = np.uint8(0)
                    break
            if not best:
                break
        maxima[i] = best
