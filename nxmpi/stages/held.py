"""Frames that are kept for a while, in a narrow type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.kernels import boxes as kernels
from nxmpi.kernels.boxes import BLOCK, Counts, slot_of
from nxmpi.kernels.frames import narrow_frame, write_cut

if TYPE_CHECKING:
    from nxmpi._typing import I4, I8, U1, Frames

TYPES: tuple[np.dtype[Any], ...] = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int32))
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
FEW = 1000
"""There is room for so many counts beyond the type of a frame, until one has more."""


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
        n = min(stop - start, first + last)
        self.counts = Counts(
            u1=np.empty(0, np.uint8), u2=np.empty(0, np.uint16), i4=np.empty(0, np.int32),
            kinds=np.zeros(n, np.uint8), codes=CODES, n_large=np.zeros(n, np.int32),
            places=np.zeros((n, FEW), np.int32), values=np.zeros((n, FEW), np.int64),
            corner=(start, 0, 0), shape=bad.shape, slots=(first, last),
        )  # fmt: skip
        """Frames of a type that none needs are not there."""

    def _room(self, kind: int, slot: int) -> Frames:
        counts = self.counts
        size = counts.kinds.size * self.bad.size + BLOCK
        if kind == 0 and not counts.u1.size:
            self.counts = counts._replace(u1=np.empty(size, np.uint8))
        elif kind == 1 and not counts.u2.size:
            self.counts = counts._replace(u2=np.empty(size, np.uint16))
        elif kind == 2 and not counts.i4.size:
            self.counts = counts._replace(i4=np.empty(size, np.int32))
        room: Frames = (self.counts.u1, self.counts.u2, self.counts.i4)[kind]
        start = slot * self.bad.size
        return room[start : start + self.bad.size].reshape(self.bad.shape)

    def _large(self, slot: int, n: int) -> tuple[I4, I8]:
        places, values = self.counts.places, self.counts.values
        if n > places.shape[1]:
            more = 2 * n - places.shape[1]
            places = np.pad(places, [(0, 0), (0, more)]).astype(np.int32, copy=False)
            values = np.pad(values, [(0, 0), (0, more)]).astype(np.int64, copy=False)
            self.counts = self.counts._replace(places=places, values=values)
        self.counts.n_large[slot] = n
        return places[slot, :n], values[slot, :n]

    def add(self, i: int, raw: Frames) -> HeldFrame:
        """Hold the next frame, for as long as ``last`` frames, or for good; return it.

        Parameters
        ----------
        i : int
        raw : (n_slow, n_fast) integer
            Negative values, and all ones of an unsigned type, are no counts. It is held in the
            type that it needs; this depends on the frame alone.
        """
        slot = int(slot_of(i - self.start, self.counts.slots))
        rows = np.empty(len(raw), np.int32)
        largest = int(np.iinfo(raw.dtype).max)
        sentinel = largest if raw.dtype.kind == "u" else -1
        unsigned = raw.view(f"u{raw.itemsize}")
        for kind, dtype in enumerate(TYPES):
            counts = self._room(kind, slot)
            limit = min(LIMITS[dtype], largest)
            limits = np.array([sentinel, limit], raw.dtype)
            codes = np.array([INVALID[dtype]], dtype)
            top = min(limit + 1, np.iinfo(unsigned.dtype).max)
            most = raw.size if dtype == WIDE else raw.size // MANY
            cut = int(narrow_frame(raw, unsigned, self.bad, limits, codes, top, most, counts, rows))
            if cut <= most:
                break
        places, values = self._large(slot, cut)
        if cut:
            write_cut(raw, self.bad, limits, rows, places, values)
        frame = HeldFrame(counts=counts, places=places, values=values)
        old = i - self.last
        if old >= self.start + self.first:
            self.frames.pop(old, None)
        self.frames[i] = frame
        self.counts.kinds[slot] = kind
        return frame

    def numbers(self, seen: int) -> list[int]:
        """Return the frames that are held when those before ``seen`` have been added."""
        numbers = range(self.start, min(seen, self.stop))
        middle = self.start + self.first
        return [i for i in numbers if i < middle or i >= numbers.stop - self.last]


def cut(counts: Counts, box: Box, steps: Steps = WHOLE) -> I4:
    """Return the counts in a part of the frames, (n_z, n_y, n_x) int32, -1 where there is none.

    They are sums over as many voxels as the steps say; where any lacks its count there is none.
    """
    z, y, x = ((part.start, part.stop) for part in box)
    sums: I4 = kernels.cut(counts, z, y, x, steps)
    return sums


def counts_of_box(box: Box, room: Frames) -> Counts:
    """Return what smaller boxes are cut from, given the counts in a box.

    Parameters
    ----------
    room : (n_z * n_y * n_x + BLOCK,) uint8 or int32
        Counts, `INVALID` where there is none, with something behind them. Bytes are not above
        their limit; of larger integers what is above is cut in place.
    """
    n_z, n_y, n_x = (part.stop - part.start for part in box)
    dtype = room.dtype
    flat = room[:-BLOCK].reshape(n_z, n_y * n_x)
    n_large, at = np.zeros(n_z, np.int32), np.zeros((n_z, 0), np.int32)
    values = np.zeros((n_z, 0), np.int64)
    if dtype == WIDE:
        frames, places = np.nonzero(flat > LIMITS[dtype])
        n_large = np.bincount(frames, minlength=n_z).astype(np.int32)
        values = np.zeros((n_z, int(n_large.max())), np.int64)
        at = np.zeros(values.shape, np.int32)
        order = np.arange(frames.size) - np.repeat(np.cumsum(n_large) - n_large, n_large)
        at[frames, order], values[frames, order] = places, flat[frames, places]
        np.minimum(flat, LIMITS[dtype], out=flat)
    return Counts(
        u1=room if dtype == TYPES[0] else np.empty(0, np.uint8), u2=np.empty(0, np.uint16),
        i4=room if dtype == WIDE else np.empty(0, np.int32),
        kinds=np.full(n_z, TYPES.index(dtype), np.uint8), codes=CODES, n_large=n_large,
        places=at, values=values,
        corner=(box[0].start, box[1].start, box[2].start), shape=(n_y, n_x), slots=(n_z, 1),
    )  # fmt: skip


def summed_shape(box: Box, steps: Steps) -> Steps:
    """Return how many sums there are along each axis; voxels that are over make up none."""
    z, y, x = box
    return (
        (z.stop - z.start) // steps[0], (y.stop - y.start) // steps[1],
        (x.stop - x.start) // steps[2],
    )  # fmt: skip
