"""Frames that are kept for a while, in a narrow type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nxmpi.kernels import boxes as kernels
from nxmpi.kernels.frames import narrow_frame, write_cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from nxmpi._typing import I4, I8, U1, Frames

TYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int32))
WIDE = TYPES[-1]
LIMITS = {TYPES[0]: 2**8 - 2, TYPES[1]: 2**16 - 2, WIDE: 2**18 - 1}
"""Largest values held as they are; the last so that 21 x 21 pixels of 18 frames fit 31 bits."""
INVALID = {TYPES[0]: 2**8 - 1, TYPES[1]: 2**16 - 1, WIDE: -1}
"""What stands for no count."""
CODES = np.array([(INVALID[dtype], LIMITS[dtype]) for dtype in TYPES], np.int32)
"""Both, by type."""
Box = tuple[slice, slice, slice]
"""Frames, rows and columns, with both ends."""
Steps = tuple[int, int, int]
"""Voxels along z, y, x."""
WHOLE = (1, 1, 1)
MANY = 100
"""A frame is held in the next wider type if more than one pixel of so many needs it."""


class Cut(Protocol):
    """Returns the counts in a part of the frames, (n_z, n_y, n_x) int32, -1 where there is none.

    They are sums over as many voxels as the steps say; where any lacks its count there is none.
    """

    def __call__(self, box: Box, steps: Steps = WHOLE) -> I4:
        """Return the counts of a box."""


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
    unsigned = raw.view(f"u{raw.itemsize}")
    for dtype in TYPES:
        counts = room(dtype)
        limit = min(LIMITS[dtype], largest)
        limits = np.array([sentinel, limit], raw.dtype)
        top = min(limit + 1, np.iinfo(unsigned.dtype).max)
        codes = np.array([INVALID[dtype]], dtype)
        most = raw.size if dtype == WIDE else raw.size // MANY
        cut = int(narrow_frame(raw, unsigned, bad, limits, codes, top, most, counts, rows))
        if cut <= most:
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
        self.kinds: U1 = np.zeros(min(stop - start, first + last), np.uint8)
        """Type of the frame in each slot."""
        self.room: list[Frames] = [np.empty(0, dtype) for dtype in TYPES]
        """By type: flattened frames of all slots, or nothing as long as no frame needs it."""

    def _slot(self, i: int) -> int:
        n = i - self.start
        return n if n < self.first else self.first + (n - self.first) % self.last

    def _room(self, i: int, dtype: np.dtype[Any]) -> Frames:
        kind = TYPES.index(dtype)
        if not self.room[kind].size:  # takes memory where it is written to
            size = self.kinds.size * self.bad.size + kernels.BLOCK
            self.room[kind] = np.empty(size, dtype)
        start = self._slot(i) * self.bad.size
        return self.room[kind][start : start + self.bad.size].reshape(self.bad.shape)

    def add(self, i: int, raw: Frames) -> HeldFrame:
        """Hold the next frame, for as long as ``last`` frames, or for good; return it."""
        frame = hold(raw, self.bad, partial(self._room, i))
        old = i - self.last
        if old >= self.start + self.first:
            self.frames.pop(old, None)
        self.frames[i] = frame
        self.kinds[self._slot(i)] = TYPES.index(frame.counts.dtype)
        return frame

    def numbers(self, seen: int) -> list[int]:
        """Return the frames that are held when those before ``seen`` have been added."""
        numbers = range(self.start, min(seen, self.stop))
        middle = self.start + self.first
        return [i for i in numbers if i < middle or i >= numbers.stop - self.last]

    def cut(self, box: Box, steps: Steps = WHOLE) -> I4:
        """Return the counts in a part of the frames, -1 where there is none; see `Cut`."""
        out: I4 = np.empty(summed_shape(box, steps), np.int32)
        large: U1 = np.empty(out.shape[0] * steps[0], np.uint8)
        corner = box[1].start, box[2].start
        slots = box[0].start - self.start, self.first, self.last
        u1, u2, i4 = self.room
        shape = self.bad.shape
        if kernels.sum_box(
            (u1, u2, i4), self.kinds, CODES, shape, slots, corner, steps, out, large
        ):  # fmt: skip
            for k in np.flatnonzero(large):
                frame = self.frames[box[0].start + int(k)]
                limit = LIMITS[frame.counts.dtype]
                kernels.add_large(
                    frame.places, frame.values, limit, self.bad.shape[1], corner, steps[1:],
                    out[k // steps[0]],
                )  # fmt: skip
        return out


def cut_of_box(whole: I4, corner: tuple[int, int, int], box: Box, steps: Steps = WHOLE) -> I4:
    """Return what `HeldFrames.cut` does, from a larger part of the frames.

    Parameters
    ----------
    whole : (n_z, n_y, n_x) int32
    corner : tuple of int
        First frame, row and column of the larger part.
    """
    z, y, x = (slice(part.start - at, part.stop - at) for part, at in zip(box, corner, strict=True))
    if steps == WHOLE:
        return whole[z, y, x]
    out: I4 = np.empty(summed_shape(box, steps), np.int32)
    kernels.bin_box(whole[z, y, x], steps, out)
    return out


def summed_shape(box: Box, steps: Steps) -> Steps:
    """Return how many sums there are along each axis; voxels that are over make up none."""
    z, y, x = box
    return (
        (z.stop - z.start) // steps[0], (y.stop - y.start) // steps[1],
        (x.stop - x.start) // steps[2],
    )  # fmt: skip
