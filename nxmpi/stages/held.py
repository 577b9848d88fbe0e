"""Frames that are kept for a while, in a narrow type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels.frames import cut_box, narrow_frame, write_cut

if TYPE_CHECKING:
    from nxmpi._typing import I4, I8, U1, Frames

NARROW = np.dtype(np.uint16)
WIDE = np.dtype(np.int32)
LIMITS = {NARROW: 2**16 - 2, WIDE: 2**18 - 1}
"""Largest values held as they are; the latter so that 21 x 21 pixels of 18 frames fit 31 bits."""
INVALID = {NARROW: 2**16 - 1, WIDE: -1}
"""What stands for no count."""
MANY = 100
"""A frame is held in the wide type if more than one pixel of so many needs it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldFrame:
    """A frame: what is no count has one value, large counts stand beside."""

    counts: Frames
    """(n_slow, n_fast) uint16 or int32; see `INVALID` and `LIMITS`."""
    places: I4
    """(m,) int32: pixels whose counts are larger, in a flattened frame, rising."""
    values: I8
    """(m,) int64: their counts."""

    @property
    def invalid(self) -> int:
        """What stands for no count."""
        return INVALID[self.counts.dtype]


def hold(raw: Frames, bad: U1, room: list[Frames]) -> HeldFrame:
    """Return a frame in the type that it needs; this depends on the frame alone.

    Parameters
    ----------
    raw : (n_slow, n_fast) integer
        Negative values, and all ones of an unsigned type, are no counts.
    bad : (n_slow, n_fast) uint8
        1 where a pixel is masked.
    room : list of (n_slow, n_fast) uint16
        Arrays to use again.
    """
    flat, masked = raw.reshape(-1), bad.reshape(-1)
    counts = room.pop().reshape(-1) if room else np.empty(flat.size, NARROW)
    cut, limits = _narrow(flat, masked, counts)
    if cut * MANY > flat.size:
        room.append(counts.reshape(raw.shape))
        counts = np.empty(flat.size, WIDE)
        cut, limits = _narrow(flat, masked, counts)
    places, values = np.empty(cut, np.int32), np.empty(cut, np.int64)
    if cut:
        write_cut(flat, masked, limits, places, values)
    return HeldFrame(counts=counts.reshape(raw.shape), places=places, values=values)


def _narrow(flat: Frames, masked: U1, counts: Frames) -> tuple[int, Frames]:
    largest = int(np.iinfo(flat.dtype).max)
    sentinel = largest if flat.dtype.kind == "u" else -1
    limits = np.array([sentinel, min(LIMITS[counts.dtype], largest)], flat.dtype)
    codes = np.array([INVALID[counts.dtype]], counts.dtype)
    return int(narrow_frame(flat, masked, limits, codes, counts)), limits


def write_box(frame: HeldFrame, rows: slice, columns: slice, out: I4) -> None:
    """Write a part of a frame, -1 where there is no count.

    Parameters
    ----------
    out : (n_rows, n_columns) int32
    """
    cut_box(frame.counts, frame.invalid, rows.start, columns.start, out)
    if frame.places.size:
        n_fast = frame.counts.shape[1]
        first, last = np.searchsorted(frame.places, [rows.start * n_fast, rows.stop * n_fast])
        for place, value in zip(frame.places[first:last], frame.values[first:last], strict=True):
            y, x = divmod(int(place), n_fast)
            if columns.start <= x < columns.stop:
                out[y - rows.start, x - columns.start] = min(value, np.iinfo(np.int32).max)
