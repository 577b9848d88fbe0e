"""The 3-D mask: large patches that change between two frames, as strong reflections leave them.

A pixel is masked in a frame if a patch covers it between this frame and the one before, or the
one after (NXRefine's `mask_volume`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import ceil, floor, isfinite
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError
from nxmpi.kernels.mask import changed, changed_in_sigmas, crowded, fill_gaps

if TYPE_CHECKING:
    from nxmpi._typing import I8, U1, Frames, Mask

LARGEST_SIZE = 999
"""Edge of a box up to which all sums are proven to fit [pixels]."""
HUGE = 2**62
"""A sum that no threshold reaches, and that int64 and float64 tell apart from what wraps."""


@dataclass(frozen=True, slots=True, eq=False)
class Gaps:
    """Runs of columns and of rows that are bad all along: (n, 2) int64, start and stop."""

    columns: I8
    rows: I8


def find_gaps(bad: Mask) -> Gaps:
    """Return the gaps of a detector with these bad pixels, (n_slow, n_fast)."""
    return Gaps(_runs(np.logical_and.reduce(bad, 0)), _runs(np.logical_and.reduce(bad, 1)))


def _runs(true: Mask) -> I8:
    edges = np.diff(true.astype(np.int8), prepend=0, append=0)
    return np.stack((np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)), axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """What makes a patch, in integers."""

    h1: int
    """Edge of the box over which differences are summed [pixels]."""
    difference: int
    """Least absolute sum of differences [counts]; not used with a variance."""
    variance: float
    """Least squared sum of differences, in units of the counts summed; 0 = not used [1]."""
    h2: int
    """Edge of the box in which changed pixels are counted [pixels]."""
    count: int
    """Most of them that are no patch [pixels]."""


def find_thresholds(
    t1: float, h1: int, t2: float, h2: int, *, in_sigmas: bool = False
) -> Thresholds:  # fmt: skip
    """Return the thresholds for means over boxes.

    Parameters
    ----------
    t1 : float
        Least absolute mean of differences [counts per pixel], or of their sum
        [standard deviations].
    h1, h2 : int
        Edges of the boxes; one of an even size reaches one pixel further to smaller indices
        [pixels].
    t2 : float
        Fraction of changed pixels that a patch exceeds [1].

    Raises
    ------
    InputError
        If a box is larger than 999 pixels or empty, t1 is not above 0, or t2 not from 0 to 1.

    Notes
    -----
    Means are compared as NXRefine does, as the float64 next to the ratio of integers: with
    t2 = 0.6, 15 pixels of 25 do not exceed it, whatever the binary form of 0.6.
    """
    for size in (h1, h2):
        if not 1 <= size <= LARGEST_SIZE:
            raise InputError(f"box of the mask: expected 1 to {LARGEST_SIZE} pixels, found {size}")
    if not (isfinite(t1) and 0 < t1 * h1**2 < HUGE / 2):
        raise InputError(f"first threshold of the mask: expected a number above 0, found {t1}")
    if not 0 <= t2 < 1:
        raise InputError(f"second threshold of the mask: expected 0 up to below 1, found {t2}")
    area = h1**2
    difference = max(ceil(t1 * area) - 1, 1)
    while difference / area < t1:
        difference += 1
    area = h2**2
    count = floor(t2 * area) + 1
    while count / area > t2:
        count -= 1
    variance = t1**2 if in_sigmas else 0.0
    return Thresholds(h1=h1, difference=difference, variance=variance, h2=h2, count=count)


class Room:
    """Where patches are worked out: one byte a pixel, and some rows."""

    def __init__(self, shape: tuple[int, int], thresholds: Thresholds) -> None:
        """Take room for frames of this shape, (n_slow, n_fast).

        Raises
        ------
        InputError
            If a frame has no pixels.
        """
        if 0 in shape:
            raise InputError(f"frames: expected pixels, found {shape[0]} x {shape[1]}")
        length = shape[1] + thresholds.h1 - 1
        self.narrow = np.empty((2, 3, length), np.int32)
        self.wide = np.empty((2, 3, length), np.int64)
        self.float = np.empty((3, length))
        self.rings = {
            dtype: np.empty((thresholds.h1 + 1, shape[1]), dtype)
            for dtype in (self.narrow.dtype, self.wide.dtype, self.float.dtype)
        }
        integer = np.uint16 if thresholds.h2**2 < 2**16 else np.int32
        self.box_counts = np.empty((3, shape[1] + thresholds.h2 - 1), integer)
        self.some = np.empty(shape[0], np.uint8)
        self.pixels = np.empty(shape, np.uint8)


def changed_patches(
    first: Frames, second: Frames, gaps: Gaps, thresholds: Thresholds, room: Room, patches: U1
) -> bool:  # fmt: skip
    """Write the patches that change between two frames, and return whether there are any.

    Parameters
    ----------
    first, second : (n_slow, n_fast) any integer type
        Raw values, also of bad pixels [counts].
    room : Room
        For frames and thresholds like these.
    patches : (n_slow, n_fast) uint8
        Receives 0 or 1.

    Notes
    -----
    With S the sum over a box of ``second - first``: a pixel has changed where ``|S|`` reaches the
    threshold or, with a variance v, where ``S**2`` reaches v times the counts of both frames in
    the box (at least 1), among which masked values (negative, or all ones in an unsigned type)
    are none. It is in a patch where the fraction of changed pixels exceeds the second threshold.
    Integers are exact for any values.
    """
    _find_changed(first, second, thresholds, room)
    fill_gaps(gaps.columns, gaps.rows, room.some, room.pixels)
    size, threshold = thresholds.h2, thresholds.count
    return bool(crowded(room.some, room.pixels, size, threshold, room.box_counts, patches))


def _find_changed(first: Frames, second: Frames, thresholds: Thresholds, room: Room) -> None:
    """Sum in the narrowest integers that are sure to hold all sums."""
    raw = np.iinfo(first.dtype)
    area = thresholds.h1**2
    if raw.bits < 64:
        limit = (2**31 - 1) // area
        limit = 0 if 2 * (raw.max - raw.min) <= limit else max(limit, 1)
        if _sum_in(room.narrow, limit, first, second, thresholds, room):
            return
    limit = (2**63 - 1) // area if raw.bits == 64 else 0
    if _sum_in(room.wide, limit, first, second, thresholds, room):
        return
    # Sums modulo 2**64 are right wherever floating point says that they are not huge.
    _sum_in(room.wide, 0, first, second, thresholds, room)
    some, pixels = np.empty_like(room.some), np.zeros_like(room.pixels)
    ring = room.rings[room.float.dtype]
    changed(first, second, thresholds.h1, HUGE, 0, room.float, ring, some, pixels)
    room.pixels[room.some == 0] = 0
    room.pixels |= pixels
    room.some |= some


def _sum_in(
    rows: Frames, limit: int, first: Frames, second: Frames, thresholds: Thresholds, room: Room
) -> bool:  # fmt: skip
    """Find changed pixels by sums in the type of ``rows``; return whether they surely fit."""
    size, out, ring = thresholds.h1, (room.some, room.pixels), room.rings[rows.dtype]
    if not thresholds.variance:
        least = thresholds.difference
        return bool(changed(first, second, size, least, limit, rows[0], ring, *out))
    raw = np.iinfo(first.dtype)
    largest = min(raw.max - (raw.min == 0), (2**63 - 1) // size**2 // 2)
    variance = thresholds.variance
    return bool(
        changed_in_sigmas(
            first, second, size, variance, largest, limit, rows[0], ring, rows[1], *out
        )
    )


def pack(patches: U1) -> bytes:
    """Return patches as compressed bits, some kB a frame."""
    return zlib.compress(np.packbits(patches).tobytes(), 1)


def write_mask(before: bytes | None, after: bytes | None, mask: Frames) -> None:
    """Write the mask of a frame, 1 where excluded.

    Parameters
    ----------
    before, after : bytes or None
        Packed patches between this frame and the one before or after; None where there are none.
    mask : (n_slow, n_fast) int8
    """
    mask[...] = 0
    for packed in (before, after):
        if packed is not None:
            bits = np.frombuffer(zlib.decompress(packed), np.uint8)
            mask |= np.unpackbits(bits, count=mask.size).reshape(mask.shape).view(mask.dtype)
