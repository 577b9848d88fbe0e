"""Frames that are kept for a while, in a narrow type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.kernels.frames import cut_box, large_counts, narrow_frame, write_cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from nxmpi._typing import I4, I8, U1, Frames

TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int32))
WIDE = TYPES[-1]
LIMITS = {TYPES[0]: 2**8 - 2, TYPES[1]: 2**16 - 2, WIDE: 2**18 - 1}
"""Largest values held as they are; the last so that 21 x 21 pixels of 18 frames fit 31 bits."""
INVALID = {TYPES[0]: 2**8 - 1, TYPES[1]: 2**16 - 1, WIDE: -1}
"""What stands for no count."""
MANY = 100
"""A frame is held in the next wider type if more than one pixel of so many needs it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldFrame:
    """A frame: what is no count has one value, large counts stand beside."""

    counts: Frames
    """(n_slow, n_fast) uint8, uint16 or int32; see `INVALID` and `LIMITS`."""
    places: I4
    """(m,) int32: pixels whose counts are larger, in a flattened frame, rising."""
    values: I8
    """(m,) int64: their counts."""

    @property
    def invalid(self) -> int:
        """What stands for no count."""
        return INVALID[self.counts.dtype]


def hold(raw: Frames, bad: U1, room: Callable[[np.dtype[Any]], Frames]) -> HeldFrame:
    """Return a frame in the type that it needs; this depends on the frame alone.

    Parameters
    ----------
    raw : (n_slow, n_fast) integer
        Negative values, and all ones of an unsigned type, are no counts.
    bad : (n_slow, n_fast) uint8
        1 where a pixel is masked.
    room : callable
        Returns an array (n_slow, n_fast) of a type, for the frame to lie in.
    """
    rows = np.empty(len(raw), np.int32)
    largest = int(np.iinfo(raw.dtype).max)
    sentinel = largest if raw.dtype.kind == "u" else -1
    for dtype in TYPES:
        counts = room(dtype)
        limits = np.array([sentinel, min(LIMITS[dtype], largest)], raw.dtype)
        codes = np.array([INVALID[dtype]], dtype)
        cut = int(narrow_frame(raw, bad, limits, codes, counts, rows))
        if cut * MANY <= raw.size:
            break
    places, values = np.empty(cut, np.int32), np.empty(cut, np.int64)
    if cut:
        write_cut(raw, bad, limits, rows, places, values)
    return HeldFrame(counts=counts, places=places, values=values)


class HeldFrames:
    """The first and the last of a rank's own frames."""

    def __init__(self, bad: U1, start: int, stop: int, first: int, last: int) -> None:
        """Hold up to ``first`` + ``last`` of the frames [start, stop).

        Parameters
        ----------
        bad : (n_slow, n_fast) uint8
        """
        self.bad, self.start, self.stop = bad, start, stop
        self.first, self.last = first, last
        self.frames: dict[int, HeldFrame] = {}
        self.room: dict[np.dtype[Any], Frames] = {}
        """By type: (n, n_slow, n_fast)."""

    def _slots(self, numbers: range) -> I4:
        n = np.arange(numbers.start, numbers.stop, dtype=np.int32) - np.int32(self.start)
        later = np.int32(self.first) + (n - np.int32(self.first)) % np.int32(self.last)
        slots: I4 = np.where(n < self.first, n, later)
        return slots

    def _room(self, i: int, dtype: np.dtype[Any]) -> Frames:
        if i >= self.stop:
            return np.empty(self.bad.shape, dtype)
        if dtype not in self.room:  # takes memory where it is written to
            n = min(self.stop - self.start, self.first + self.last)
            self.room[dtype] = np.empty((n, *self.bad.shape), dtype)
        frame: Frames = self.room[dtype][self._slots(range(i, i + 1))[0]]
        return frame

    def add(self, i: int, raw: Frames) -> HeldFrame:
        """Hold the next frame, for as long as ``last`` frames, or for good; return it.

        The one behind the last is not held.
        """
        frame = hold(raw, self.bad, partial(self._room, i))
        if i < self.stop:
            old = i - self.last
            if old >= self.start + self.first:
                del self.frames[old]
            self.frames[i] = frame
        return frame

    def cut(self, box: tuple[slice, slice, slice]) -> I4:
        """Return the counts in a part of the frames, rows and columns, -1 where there is none.

        Returns
        -------
        (n_frames, n_rows, n_columns) int32
        """
        numbers, rows, columns = range(box[0].start, box[0].stop), box[1], box[2]
        shape = (len(numbers), rows.stop - rows.start, columns.stop - columns.start)
        out: I4 = np.empty(shape, np.int32)
        frames = [self.frames[i] for i in numbers]
        slots = self._slots(numbers)
        large = np.zeros(len(frames), np.uint8)
        for dtype in {frame.counts.dtype: None for frame in frames}:
            here = np.array([frame.counts.dtype is dtype for frame in frames])
            cut_box(
                self.room[dtype], np.where(here, slots, np.int32(-1)), INVALID[dtype],
                LIMITS[dtype], rows.start, columns.start, out, large,
            )  # fmt: skip
        for k in np.flatnonzero(large):
            large_counts(
                frames[k].places, frames[k].values, self.bad.shape[1], rows.start, columns.start,
                out[k],
            )  # fmt: skip
        return out
