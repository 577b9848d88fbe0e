"""Where peaks may be: the most significant pixels of windows of frames.

In windows of 2, 6 and 18 frames boxes of 3 and of 7 pixels are held against their surroundings.
The longer windows overlap by half. So a peak of any width from a fraction of a pixel and frame to
4 pixels and 12 frames fills a good part of some box and window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.ndimage import uniform_filter

from nxmpi.kernels.maxima import clear, flag_maxima, spread
from nxmpi.kernels.strong import (
    NARROW,
    OUTER,
    RING_ROWS,
    WIDE,
    Limits,
    Room,
    Strong,
    write_strong,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nxmpi._typing import F4, F8, I4, I8, U1, Frames

FEWEST_IN_RING = (12, 80)
"""Unmasked pixels that the background of the smaller and of the larger box needs."""
FEWEST_IN_BOX = 5
REACHES = (3, 5)
"""A place must be the most significant within so many pixels, by its box, and one window."""
NOWHERE = 1e30
"""Where there is no background: so much of it is expected that nothing stands out."""

CANDIDATE = np.dtype(
    [
        ("level", "i4"), ("window", "i4"), ("y", "i4"), ("x", "i4"), ("scale", "i4"),
        ("strong", "f4"), ("expected", "f4"),
    ]
)  # fmt: skip


class Candidate(NamedTuple):
    """A place where a peak may be; see `CANDIDATE` for arrays of them."""

    level: int
    window: int
    """Number of the window."""
    y: int
    x: int
    scale: int
    """The box: 0 of 3 pixels, 1 of 7."""
    strong: float
    """Significance [standard deviations]."""
    expected: float
    """Counts expected in the box and window."""


class Level(NamedTuple):
    """Windows of one length."""

    group: int
    """From one window to the next [frames]."""
    groups: int
    """Length of a window [groups]."""
    margin: int
    """How far beyond a window a peak in it may reach [frames]."""
    ease: float
    """Part of the significance that is asked for: there are fewer of the longer windows [1]."""

    def windows(self, n_frames: int) -> int:
        """Return how many windows there are; the last group may be incomplete."""
        return max(-(-n_frames // self.group) - self.groups + 1, 1)

    def window(self, number: int) -> tuple[int, int]:
        """Return the frames of a window, [start, stop)."""
        return number * self.group, (number + self.groups) * self.group

    def reach(self, number: int, n_frames: int) -> tuple[int, int]:
        """Return the frames that a peak in a window may reach, [start, stop)."""
        start, stop = self.window(number)
        return max(start - self.margin, 0), min(stop + self.margin, n_frames)


LEVELS = (Level(2, 1, 7, 1.0), Level(3, 2, 15, 0.92), Level(9, 2, 27, 0.85))
UNIT = 18
"""Ranks own whole groups of all levels [frames]."""
REACH_BACK = max(level.margin for level in LEVELS)
REACH_ON = max(level.margin + level.groups * level.group for level in LEVELS)
"""From the first frame of a window [frames]."""
REACH_IN = max(2 * level.margin + level.groups * level.group for level in LEVELS)
"""How far a peak that reaches over the first frame of a rank may be in its frames [frames]."""


NOTHING = Strong(
    np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.uint8), np.empty(0, np.float32)
)


def search_tables(bad: U1) -> tuple[F4, I4]:
    """Return ``tables`` and ``kinds`` of `Limits` for a pixel mask.

    Parameters
    ----------
    bad : (n_slow, n_fast) uint8

    Returns
    -------
    tables, kinds : (n_kinds, 2, n_fast) float32, (n_slow,) int32
        Of the rows of a detector most are alike, and few tables stay in the caches.
    """
    n3, n7, n21 = (_count(bad, half) for half in (NARROW, WIDE, OUTER))
    tables = np.empty((bad.shape[0], 2, bad.shape[1]), np.float32)
    for scale, (inner, outer) in enumerate(((n3, n7), (n7, n21))):
        ring = outer - inner
        seen = (bad == 0) & (ring >= FEWEST_IN_RING[scale]) & (n3 >= FEWEST_IN_BOX)
        tables[:, scale] = np.where(seen, inner / np.maximum(ring, 1), NOWHERE)
    rows = [table.tobytes() for table in tables]
    first = {row: y for y, row in reversed(list(enumerate(rows)))}
    places = sorted(first.values())
    kinds = np.searchsorted(places, [first[row] for row in rows]).astype(np.int32)
    return tables[places], kinds


def _count(bad: U1, half: int) -> I8:
    """Return how many unmasked pixels are in the box around each pixel."""
    side = 2 * half + 1
    part = uniform_filter((bad == 0).astype(np.float32), side, mode="constant")
    count: I8 = np.rint(part * side**2).astype(np.int64)
    return count


def _squares(ratios: F8, level: float, gain: float) -> F4:
    """Return ``squares`` of `Limits`."""
    exact = level**2 * gain * ratios * (1.0 + ratios)
    return np.minimum(exact, NOWHERE).astype(np.float32)


class Searcher:
    """The room that windows are searched in."""

    def __init__(self, bad: U1, level: float, gain: float) -> None:
        """Prepare the search.

        Parameters
        ----------
        bad : (n_slow, n_fast) uint8
        level : float
            Significance of a strong pixel [standard deviations].
        gain : float
            Counts of a photon [1].
        """
        n_slow, n_fast = bad.shape
        m = n_fast + 2 * OUTER
        tables, kinds = search_tables(bad)
        ratios = tables.astype(np.float64)
        levels = [level * each.ease for each in LEVELS]
        self.limits = [
            Limits(tables, _squares(ratios, each, gain), kinds, each, gain) for each in levels
        ]
        self.room = {
            dtype: Room(
                np.zeros((3, m), dtype), np.zeros((RING_ROWS, m), dtype), np.zeros(m, dtype),
                np.zeros((3, n_fast), dtype),
            )
            for dtype in (np.uint16, np.int32)
        }  # fmt: skip
        self.hits: I4 = np.zeros(n_fast + n_fast % 2, np.int32)
        self.images: F4 = np.zeros((3, n_slow, n_fast), np.float32)
        self.found = self._room_for(2**14)

    def _room_for(self, n: int) -> Strong:
        return Strong(
            np.empty(n, np.int32), np.empty(n, np.float32), np.empty(n, np.uint8),
            np.empty(n, np.float32),
        )  # fmt: skip

    def window(self, level: int, first: Frames, second: Frames, invalid: int) -> Strong:
        """Return the strong pixels of a window, the sum of two images (n_slow, n_fast).

        Images of frames of bytes, and of three such, are summed in 16 bits.
        """
        narrow = first.dtype == np.uint8 or (first.dtype == np.uint16 and level == 1)
        room, wide = self.room[np.uint16 if narrow else np.int32], self.room[np.int32]
        while True:
            found = self.found
            n = write_strong(
                first, second, invalid, self.limits[level], room, wide, self.hits, found
            )
            if n <= found.places.size:
                return Strong(
                    found.places[:n].copy(), found.strong[:n].copy(), found.scales[:n].copy(),
                    found.expected[:n].copy(),
                )  # fmt: skip
            self.found = self._room_for(2 * n)

    def maxima(
        self, level: int, number: int, before: Strong, here: Strong, after: Strong
    ) -> list[Candidate]:
        """Return the candidates of a window, given its neighbours' strong pixels."""
        found = [
            self._maxima_of_box(scale, [_of_box(each, scale) for each in (before, here, after)])
            for scale in range(len(REACHES))
        ]
        result = np.concatenate(found)
        result["level"], result["window"] = level, number
        return [Candidate(*each) for each in result.tolist()]

    def _maxima_of_box(self, scale: int, windows: list[Strong]) -> NDArray[np.void]:
        here = windows[1]
        flags = np.zeros(here.places.size, np.uint8)
        if here.places.size:
            flat = self.images.reshape(3, -1)
            for image, strong in zip(flat, windows, strict=True):
                spread(strong.places, strong.strong, image)
            first, middle, last = self.images
            flag_maxima(first, middle, last, here.places, REACHES[scale], flags)
            for image, strong in zip(flat, windows, strict=True):
                clear(strong.places, image)
        chosen = flags.astype(bool)
        result = np.empty(int(chosen.sum()), CANDIDATE)
        result["scale"] = scale
        result["y"], result["x"] = np.divmod(here.places[chosen], self.images.shape[2])
        result["strong"], result["expected"] = here.strong[chosen], here.expected[chosen]
        return result


def _of_box(strong: Strong, scale: int) -> Strong:
    chosen = strong.scales == scale
    return Strong(
        strong.places[chosen], strong.strong[chosen], strong.scales[chosen],
        strong.expected[chosen],
    )  # fmt: skip
