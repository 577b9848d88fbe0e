"""Where counts stand out of their surroundings: boxes of 3 and 7 pixels against a ring.

Rows are worked on one after another. Every loop over pixels runs over contiguous slices, so
that it becomes vector instructions.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

from nxmpi._typing import F4, I4, U1, Frames
from nxmpi.kernels.rows import Sums, slide

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


class Limits(NamedTuple):
    """What stands out in the windows of one length."""

    tables: F4
    """(n_kinds, 2, n_fast) float32: for each kind of row, unmasked pixels of the box of 3 over
    those of its ring, and the same of the box of 7; a huge number where there are too few."""
    squares: F4
    """(n_kinds, 2, n_fast) float32: variance of what is beyond the mean, for each count of the
    ring, times the square of the level: that times the gain, the ratio r of ``tables``, and
    1 + r."""
    kinds: I4
    """(n_slow,) int32: which kind each row is."""
    level: float
    """Least significance [standard deviations]."""
    gain: float
    """Counts of one photon [1]."""


class Room(NamedTuple):
    """Arrays to work in, uint16 or int32, with m = n_fast + 2 OUTER."""

    columns: Sums
    """(3, m): sums over 3, 7 and 21 rows of each column."""
    rows: Sums
    """(RING_ROWS, m): the rows that are summed."""
    line: Sums
    """(m,)"""
    boxes: Sums
    """(3, n_fast): sums over boxes of 3, 7 and 21 pixels."""


class Strong(NamedTuple):
    """Strong pixels of a window, in rising order of their places, (n,) each."""

    places: I4
    """int32: positions in a flattened frame; twice where both boxes stand out."""
    strong: F4
    """float32: significance [standard deviations]."""
    scales: U1
    """uint8: the box, 0 the smaller, 1 the larger."""
    expected: F4
    """float32: counts expected in the box."""


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
    boxes: Sums, ratios: F4, level: float, unit: float, place: int, n: int, found: Strong
) -> int:
    """Write a pixel's boxes that are strong; see `write_strong_of_row`."""
    for scale in range(2):
        inner, outer = int(boxes[scale]), int(boxes[scale + 1])
        mean = (float(outer - inner) + 1.0) * ratios[scale]
        here = significance(float(inner), mean, ratios[scale]) * unit
        if here < level:
            continue
        if n < found.places.shape[0]:
            found.places[n] = place
            found.strong[n] = here
            found.scales[n] = scale
            found.expected[n] = mean
        n += 1
    return n


@njit(cache=True, nogil=True)
def write_strong_of_row(
    boxes: Sums, limits: Limits, kind: int, hits: I4, start: int, n: int, found: Strong
) -> int:
    """Write the strong pixels of a row, whose first place is ``start``; see `write_strong`.

    Returns
    -------
    int
        How many there are now; ``n`` were there before.
    """
    table, level = limits.tables[kind], limits.level
    least = 0.25 * level * level * limits.gain
    if not flag_row(boxes[0], boxes[1], boxes[2], table, limits.squares[kind], least, hits):
        return n
    unit = 1.0 / sqrt(limits.gain)
    pairs = hits.view(np.uint64)
    for pair in range(pairs.shape[0]):
        if not pairs[pair]:
            continue
        for x in range(2 * pair, 2 * pair + 2):
            if hits[x]:
                n = write_strong_of_pixel(
                    boxes[:, x], table[:, x], level, unit, start + x, n, found
                )
    return n


@njit(cache=True, nogil=True)
def reach(row: Sums, limit: int) -> bool:
    """Return whether any sum is beyond a limit."""
    largest = row.dtype.type(0)
    for x in range(row.shape[0]):
        largest = max(largest, row[x])
    return bool(largest > limit)


@njit(cache=True, nogil=True)
def write_strong(
    first: Frames, second: Frames, invalid: int, limits: Limits, room: Room, wide: Room, hits: I4,
    found: Strong,
) -> int:  # fmt: skip
    """Find the pixels of a window of frames that stand out, and write how much.

    A window is the sum of two images. A pixel is strong where the counts in the box of 3 pixels
    around it exceed those expected from the ring between 3 and 7 pixels, or in the box of 7
    those from the ring between 7 and 21: where `significance` exceeds the level.

    Parameters
    ----------
    first, second : (n_slow, n_fast) integer
        Counts, small enough for the sum over 21 x 21 pixels to fit 31 bits, and over 21 pixels
        to fit the type of ``room`` [counts].
    invalid : int
        What stands where there is no count.
    limits : Limits
    room : Room
    wide : Room
        Of int32, for the rows with sums over 21 x 21 pixels that do not fit 16 bits.
    hits : (n_fast or one more, so that it is even,) int32
        Room to work, zero at the end where it is one more.
    found : Strong
        Receives the strong pixels.

    Returns
    -------
    int
        How many there are. If more than ``found`` holds, the rest was not written.
    """
    n_slow, n_fast = first.shape
    columns, rows = room.columns, room.rows
    columns[:] = 0
    rows[:] = 0
    n = 0
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
        slide(rows[slot], rows[(entering - 2 * OUTER - 1) % RING_ROWS], columns[2])
        slide(rows[(y + WIDE) % RING_ROWS], rows[(y - WIDE - 1) % RING_ROWS], columns[1])
        slide(rows[(y + NARROW) % RING_ROWS], rows[(y - NARROW - 1) % RING_ROWS], columns[0])
        if y < 0:
            continue
        kind, start = limits.kinds[y], y * n_fast
        if narrow and reach(columns[2], MOST_OF_21):
            wide.columns[:] = columns
            boxes_of_row(wide.columns, wide.line, wide.boxes)
            n = write_strong_of_row(wide.boxes, limits, kind, hits, start, n, found)
        else:
            boxes_of_row(columns, room.line, room.boxes)
            n = write_strong_of_row(room.boxes, limits, kind, hits, start, n, found)
    return n
