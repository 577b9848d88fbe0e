"""What a rank does with its own frames, in their order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.kernels.frames import sum_runs
from nxmpi.stages.held import HeldFrame, HeldFrames
from nxmpi.stages.mask import Room, changed_patches, find_gaps, find_thresholds, pack
from nxmpi.stages.profiles import box_of, fit
from nxmpi.stages.search import (
    CANDIDATE,
    LEVELS,
    NOTHING,
    REACH_BACK,
    REACH_IN,
    REACH_ON,
    Candidate,
    Searcher,
)
from nxmpi.stages.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from nxmpi._typing import I4, I8, U1, Frames
    from nxmpi.kernels.boxes import Counts
    from nxmpi.kernels.strong import Strong
    from nxmpi.params import FramesParams


BEYOND_OWN = 2**62
"""The frame that candidates wait for whose surroundings belong to other ranks too."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTables:
    """What the pass needs to know of a position."""

    first_frame: int
    """Number of the first frame used; frames are counted from it here."""
    n_frames: int
    """Frames used."""
    bad: U1
    """(n_slow, n_fast) uint8: 1 where a pixel is masked."""
    blocks: I4
    """(n_slow, n_fast) int32: block of the background that a pixel belongs to, -1 of none."""
    n_blocks: int


@dataclass(kw_only=True, eq=False)
class PassResult:
    """What a rank found in its own frames [start, stop), counted from the first one used."""

    start: int
    stop: int
    frame_sums: I8
    """(stop - start,) int64: counts of all good pixels."""
    block_sums: I8
    """(stop - start, n_blocks) int64: counts of the good pixels of each block."""
    strong_sums: I8
    """The same of strong pixels, to be taken out."""
    strong_pixels: I8
    """Their number."""
    total: I8
    """(n_slow, n_fast) int64: counts of each pixel."""
    largest: I8
    """(n_slow, n_fast) int64: the largest count of each pixel."""
    peaks: list[NDArray[np.void]] = field(default_factory=list)
    """Fitted in this rank, FITTED."""
    masks: dict[int, tuple[bytes | None, bytes | None]] = field(default_factory=dict)
    """By frame, counted from the first one used: for `nxmpi.stages.mask.write_mask`. Frames
    without masked pixels have none."""
    bad_frames: list[int] = field(default_factory=list)


class OwnFrames:
    """What a rank knows while it goes through its frames, one after another."""

    def __init__(
        self, tables: FrameTables, params: FramesParams, start: int, stop: int,
        dtype: np.dtype[Any],
    ) -> None:  # fmt: skip
        """Begin with the first of the frames [start, stop), counted from the first one used.

        Parameters
        ----------
        dtype : dtype
            Of the raw frames.

        Raises
        ------
        InputError
            If the thresholds of the mask make no sense.
        """
        n_slow, n_fast = tables.bad.shape
        self.tables, self.params, self.dtype = tables, params, dtype
        self.shape = (tables.n_frames, n_slow, n_fast)
        self.runs = runs_of_blocks(tables)
        self.searcher = Searcher(tables.bad, params.sigma_background, params.gain)
        self.windows = Windows(self.searcher, tables.n_frames, start, stop)
        self.thresholds = find_thresholds(
            params.mask_t1, params.mask_h1, params.mask_t2, params.mask_h2,
            in_sigmas=params.mask_in_sigmas,
        )  # fmt: skip
        self.gaps = find_gaps(tables.bad.astype(bool))
        self.room = Room((n_slow, n_fast), self.thresholds)
        self.patches: U1 = np.zeros((n_slow, n_fast), np.uint8)
        self.changed: dict[int, bytes] = {}
        """Patches between a frame and the next, packed; where there are any."""
        self.held = HeldFrames(
            tables.bad, start, stop, REACH_IN if start else 0, REACH_BACK + REACH_ON + 1
        )
        self.candidates: dict[int, list[Candidate]] = {}
        """By the frame until which they wait: those whose surroundings are not all there yet."""
        # that of the first one needs what the rank before saw
        self.looked_at = [
            self.windows.windows(level).start + int(start > 0) for level in range(len(LEVELS))
        ]
        """By level: the window whose maxima are due next."""
        self.large: I4 = np.empty(0, np.int32)
        """Where narrow frames did not hold the largest count, in a flattened frame, rising."""
        self.before: Frames | None = None
        """The last raw frame, None after one that could not be read."""
        self.seen = start
        """The frame that is due next."""
        n = stop - start
        self.result = PassResult(
            start=start, stop=stop,
            frame_sums=np.zeros(n, np.int64),
            block_sums=np.zeros((n, tables.n_blocks), np.int64),
            strong_sums=np.zeros((n, tables.n_blocks), np.int64),
            strong_pixels=np.zeros((n, tables.n_blocks), np.int64),
            total=self.windows.total,
            largest=np.zeros((n_slow, n_fast), np.int64),
        )  # fmt: skip

    def add_batch(self, numbers: I8, data: Frames, unread: I8) -> None:
        """Take the next frames; those unread have no row in the data."""
        for i, raw in self._frames(numbers, data, unread):
            self._add(i, raw)
        if self.before is not None:
            self.before = self.before.copy()  # lets go of the batch

    def hold_again(self, numbers: I8, data: Frames, unread: I8) -> None:
        """Take frames that were seen before what was restored was saved; see `HeldFrames`."""
        for i, raw in self._frames(numbers, data, unread):
            self.held.add(i, self._counts(raw))
            self.before = None if raw is None else raw.copy()

    def resume(self) -> None:
        """Be ready for the frame that is due next, all frames being held again."""
        self.windows.resume(self.held.frames)

    def _frames(self, numbers: I8, data: Frames, unread: I8) -> Iterator[tuple[int, Frames | None]]:
        rows = iter(data)
        for number in numbers:
            raw = None if number in unread else next(rows).reshape(self.shape[1:])
            yield int(number) - self.tables.first_frame, raw

    def _counts(self, raw: Frames | None) -> Frames:
        if raw is not None:
            return raw
        nothing = np.iinfo(self.dtype).max if self.dtype.kind == "u" else -1
        return np.full(self.shape[1:], nothing, self.dtype)

    def _add(self, i: int, raw: Frames | None) -> None:
        own = i < self.result.stop
        if self.params.mask and i > self.result.start:
            self._compare(i - 1, raw)
        self.before = raw
        if own:
            if raw is None:
                self.result.bad_frames.append(i + self.tables.first_frame)
            frame = self.held.add(i, self._counts(raw))
            self._add_sums(i, frame)
            self.windows.add(i, frame)
            self._look(i)
        self.seen = i + 1

    def _compare(self, i: int, raw: Frames | None) -> None:
        if raw is None or self.before is None:
            return
        first, second = self.before, raw
        if changed_patches(first, second, self.gaps, self.thresholds, self.room, self.patches):
            self.changed[i] = pack(self.patches)

    def _add_sums(self, i: int, frame: HeldFrame) -> None:
        result, n = self.result, i - self.result.start
        sums = np.zeros(self.tables.n_blocks + 1, np.int64)
        sum_runs(frame.counts.reshape(-1), frame.invalid, self.runs, sums)
        if frame.places.size:
            # what the narrow type cut off
            beyond = frame.values - frame.counts.reshape(-1)[frame.places]
            np.add.at(sums, self.tables.blocks.reshape(-1)[frame.places], beyond)
            self.windows.total.reshape(-1)[frame.places] += beyond
            largest = result.largest.reshape(-1)
            largest[frame.places] = np.maximum(largest[frame.places], frame.values)
            self.large = np.union1d(self.large, frame.places)
        result.frame_sums[n] = sums.sum()
        result.block_sums[n] = sums[:-1]

    def _look(self, i: int) -> None:
        """Do what the frames up to ``i`` allow: maxima, strong pixels, fits."""
        window = i // LEVELS[0].group
        if (0, window) in self.windows.strong:
            for frame in range(window * LEVELS[0].group, i + 1):
                self._take_out(frame, self.windows.strong[0, window].places)
        for level in range(len(LEVELS)):
            while self._may_look(level):
                self.find_maxima(level, self.looked_at[level], NOTHING, NOTHING)
                self.windows.forget(level, self.looked_at[level] - 2)
                self.looked_at[level] += 1
        self.fit_ready(i + 1)

    def _may_look(self, level: int) -> bool:
        window, strong = self.looked_at[level], self.windows.strong
        n = LEVELS[level].windows(self.shape[0])
        return (
            (level, window) in strong
            and (window == 0 or (level, window - 1) in strong)
            and (window == n - 1 or (level, window + 1) in strong)
        )

    def find_maxima(self, level: int, window: int, before: Strong, after: Strong) -> None:
        """Find the candidates of a window, given what the ranks before and behind saw."""
        strong = self.windows.strong
        found = self.searcher.maxima(
            level, window,
            strong.get((level, window - 1), before), strong[level, window],
            strong.get((level, window + 1), after),
        )  # fmt: skip
        for candidate in found if self.params.peaks else ():
            self.wait(candidate)

    def wait(self, candidate: Candidate) -> None:
        """Let a candidate wait for its surroundings."""
        frames = box_of(candidate, self.shape)[0]
        inside = frames.start >= self.result.start and frames.stop <= self.result.stop
        self.candidates.setdefault(frames.stop if inside else BEYOND_OWN, []).append(candidate)

    def _take_out(self, i: int, strong: I4) -> None:
        """Sum the strong pixels of a frame, in rising order, some of them there twice."""
        places = strong[np.diff(strong, prepend=np.int32(-1)) > 0]
        blocks = self.tables.blocks.reshape(-1)[places]
        places, blocks = places[blocks >= 0], blocks[blocks >= 0]
        frame = self.held.frames[i]
        counts = frame.counts.reshape(-1)[places].astype(np.int64)
        good = counts != frame.invalid
        if frame.places.size:
            at = np.searchsorted(frame.places, places)
            at[at == frame.places.size] = 0
            cut = frame.places[at] == places
            counts[cut] = frame.values[at[cut]]
        n = i - self.result.start
        np.add.at(self.result.strong_sums[n], blocks[good], counts[good])
        np.add.at(self.result.strong_pixels[n], blocks[good], 1)

    def fit_ready(self, seen: int) -> None:
        """Fit the candidates whose surroundings are among the frames seen."""
        for stop in sorted(stop for stop in self.candidates if stop <= seen):
            for candidate in self.candidates.pop(stop):
                self.fit(candidate, self.held.counts)

    def left(self) -> NDArray[np.void]:
        """Return the candidates that need frames of other ranks."""
        return np.array(self.candidates.get(BEYOND_OWN, []), CANDIDATE)

    def fit(self, candidate: Candidate, counts: Counts) -> None:
        """Keep the peak at a candidate's place, if there is one."""
        box = box_of(candidate, self.shape)
        found = fit(candidate, box, counts, self.params.sigma_strong, self.params.gain)
        if found is not None:
            self.result.peaks.append(found)


def runs_of_blocks(tables: FrameTables) -> I4:
    """Return runs of good pixels of one block, as `nxmpi.kernels.frames.sum_runs` takes them.

    Good pixels outside of all blocks make up one more.
    """
    n_fast = tables.bad.shape[1]
    blocks = np.where(tables.blocks < 0, tables.n_blocks, tables.blocks)
    blocks = np.where(tables.bad != 0, -1, blocks).reshape(-1)
    ends = np.diff(blocks) != 0
    ends[n_fast - 1 :: n_fast] = True
    starts = np.concatenate([[0], np.flatnonzero(ends) + 1])
    stops = np.concatenate([starts[1:], [blocks.size]])
    good = blocks[starts] >= 0
    runs = np.stack([starts[good], stops[good], blocks[starts[good]]], axis=1)
    return np.ascontiguousarray(runs, np.int32)
