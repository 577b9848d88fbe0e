"""The search for peaks, frame after frame: groups of frames, windows of two groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels.frames import add_group, add_groups
from nxmpi.stages.held import INVALID, WIDE, HeldFrame
from nxmpi.stages.search import LEVELS, NOTHING, Searcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nxmpi._typing import I4, I8, Frames
    from nxmpi.kernels.strong import Strong

NONE = -1
"""What stands for no count in sums of frames: nothing, these are too small for all ones."""


class Windows:
    """What has been seen of a rank's own windows, those that begin in its frames."""

    def __init__(self, searcher: Searcher, n_frames: int, start: int, stop: int) -> None:
        """Begin at the first of the frames [start, stop) of ``n_frames``.

        ``start`` is a multiple of all groups, and ``stop`` too or ``n_frames``.
        """
        self.searcher = searcher
        self.n_frames, self.start, self.stop = n_frames, start, stop
        self.strong: dict[tuple[int, int], Strong] = {}
        """By level and window."""
        self.first: dict[int, Frames] = {}
        """First group of the levels that sum frames."""
        self.largest: Frames = np.zeros(searcher.images.shape[1:], np.uint16)
        """Largest count of each pixel, as narrow frames hold it."""
        self.last: dict[int, Frames] = {}
        """Last group of these levels."""
        self.before: HeldFrame | None = None
        """The last frame."""
        self.waiting: tuple[list[HeldFrame], list[Frames]] = ([], [])
        """Frames of a group that is not complete, and groups of a longer one."""
        self._room: dict[tuple[int, int, type], Frames] = {}
        """By level, slot and type: sums of groups. There are slots for the groups of a longer one
        and the last before it."""
        self.total: I8 = np.zeros(searcher.images.shape[1:], np.int64)

    def windows(self, level: int) -> range:
        """Return the numbers of this rank's windows."""
        group = LEVELS[level].group
        n = LEVELS[level].windows(self.n_frames)
        return range(min(self.start // group, n), min(-(-self.stop // group), n))

    def add(self, number: int, frame: HeldFrame) -> None:
        """Take the next of its own frames."""
        ends = number == self.n_frames - 1
        pair, place = divmod(number, LEVELS[0].group)
        if place == LEVELS[0].group - 1:
            self._search(0, pair, *_alike(self.before, frame))
        elif ends:
            self._search(0, pair, frame.counts, np.zeros_like(frame.counts), frame.invalid)
        for level, group, image in self._groups(number, frame, self.total):
            if level in self.last:
                first, second = _of_one_type(self.last[level], image)
                self._search(level, group - 1, first, second, NONE)
            self.last[level] = image

    def resume(self, frames: dict[int, HeldFrame]) -> None:
        """Be as behind these frames, which it was given once before, and hold their groups."""
        nowhere = np.empty_like(self.total)
        whole = False
        for number in sorted(frames):
            whole = (whole and number - 1 in frames) or number % LEVELS[2].group == 0
            if number - 1 not in frames:
                self.waiting = ([], [])
            if whole:
                for level, _, image in self._groups(number, frames[number], nowhere):
                    self.last[level] = image

    def finish(self, following: dict[int, I4]) -> None:
        """Search the windows that reach into the frames of the next rank.

        Parameters
        ----------
        following : mapping of level to (n_slow, n_fast) int32
            First groups of the next rank; empty on the last.
        """
        for level, last in self.last.items():
            own = self.windows(level)
            if own and (level, own[-1]) not in self.strong:
                second = following.get(level)
                second = np.zeros_like(last) if second is None else second
                first, second = _of_one_type(last, second)
                self._search(level, own[-1], first, second, NONE)
        self.last.clear()

    def forget(self, level: int, window: int) -> None:
        """Let go of a window that nobody asks for any more: none of the first two."""
        if window > self.windows(level).start + 1:
            self.strong.pop((level, window), None)

    def _sum_frames(self, frames: list[HeldFrame], group: int) -> Frames:
        padded = (
            [_wide(frame) for frame in frames] if _mixed(frames) else [f.counts for f in frames]
        )
        dtype = padded[0].dtype
        while len(padded) < LEVELS[1].group:
            padded.append(np.full_like(padded[0], INVALID[dtype]))
        if dtype == WIDE:
            self.largest = self.largest.astype(np.int32, copy=False)
        total = self._slot(1, group % 4, np.uint16 if dtype == np.uint8 else np.int32)
        first, second, third = (each.reshape(-1) for each in padded)
        add_group(first, second, third, INVALID[dtype], total.reshape(-1), self.largest.reshape(-1))
        return total

    def _sum_groups(self, threes: list[Frames], group: int, total: I8) -> Frames:
        padded = _of_one_type(*threes)
        while len(padded) < LEVELS[2].group // LEVELS[1].group:
            padded.append(np.zeros_like(padded[0]))
        first, second, third = (each.reshape(-1) for each in padded)
        nine = self._slot(2, group % 2, padded[0].dtype.type)
        add_groups(first, second, third, nine.reshape(-1), total.reshape(-1))
        return nine

    def _slot(self, level: int, number: int, dtype: type) -> Frames:
        key = (level, number, dtype)
        if key not in self._room:
            self._room[key] = np.empty(self.total.shape, dtype)
        return self._room[key]

    def _groups(
        self, number: int, frame: HeldFrame, total: I8
    ) -> Iterator[tuple[int, int, Frames]]:  # fmt: skip
        """Yield level, number and sum of each group that a frame makes complete."""
        frames, threes = self.waiting
        frames.append(frame)
        self.before = frame
        ends = number == self.n_frames - 1
        if len(frames) < LEVELS[1].group and not ends:
            return
        group = number // LEVELS[1].group
        threes.append(self._sum_frames(frames, group))
        frames.clear()
        yield self._group(1, group, threes[-1])
        if len(threes) * LEVELS[1].group < LEVELS[2].group and not ends:
            return
        group = number // LEVELS[2].group
        nine = self._sum_groups(threes, group, total)
        threes.clear()
        yield self._group(2, group, nine)

    def _group(self, level: int, group: int, image: Frames) -> tuple[int, int, Frames]:
        if level not in self.first:
            self.first[level] = image.astype(np.int32)
        return level, group, image

    def _search(
        self, level: int, window: int, first: Frames, second: Frames, invalid: int
    ) -> None:  # fmt: skip
        found = self.searcher.window(level, first, second, invalid)
        self.strong[level, window] = found if found.places.size else NOTHING


def _mixed(frames: list[HeldFrame]) -> bool:
    return len({frame.counts.dtype for frame in frames}) > 1


def _alike(one: HeldFrame | None, other: HeldFrame) -> tuple[Frames, Frames, int]:
    assert one is not None  # the first of a pair
    if _mixed([one, other]):
        return _wide(one), _wide(other), INVALID[WIDE]
    return one.counts, other.counts, one.invalid


def _of_one_type(*images: Frames) -> list[Frames]:
    dtype = np.result_type(*images)
    return [image.astype(dtype, copy=False) for image in images]


def _wide(frame: HeldFrame) -> I4:
    counts = frame.counts.astype(np.int32)
    counts[frame.counts == frame.invalid] = INVALID[WIDE]
    return counts
