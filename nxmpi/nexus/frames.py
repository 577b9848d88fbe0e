"""Raw frames and their 3-D mask: read-only, by each rank for itself."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError
from nxmpi.nexus.chunks import ChunkReader, find_decoder, is_whole, unwritten_frames
from nxmpi.nexus.growing_stack import GrowingStack
from nxmpi.nexus.stack import Stack, never, open_stack

if TYPE_CHECKING:
    from collections.abc import Callable

    import h5py

    from nxmpi._typing import I8, Frames


class StackReader:
    """Open raw frames, and their 3-D mask where there is one."""

    def __init__(
        self, raw: Stack, mask: Stack | None, *, skip_bad_frames: bool, n_rooms: int = 0
    ) -> None:
        """Open the files. Not collective.

        Parameters
        ----------
        raw, mask : Stack
        skip_bad_frames : bool
        n_rooms : int
            Data is read into as many arrays in turn; 0 for a new one each time, whose pages the
            system clears first.

        Raises
        ------
        InputError
            If a file cannot be opened on this node.
        """
        self.skip_bad_frames = skip_bad_frames
        self.dtype = np.dtype(raw.dtype).newbyteorder("=")
        self.chunk_frames = raw.chunk_frames
        self.masked = mask is not None
        self.is_over: Callable[[], bool] = never
        self._raw = (
            _OpenStack(raw, sparse=False)
            if raw.wait is None
            else GrowingStack(raw, lambda: self.is_over())
        )
        self._mask = _OpenStack(mask, sparse=True) if mask else None
        self._rooms = deque(np.empty((0, 0), self.dtype) for _ in range(n_rooms))

    def read(self, frames: I8, out: Frames | None = None) -> tuple[Frames, Frames, I8]:
        """Return frames of consecutive numbers. Not collective.

        Parameters
        ----------
        frames : (n,) int64
        out : (n or more, n_pixels) ``dtype``, contiguous, optional
            Room for the data.

        Returns
        -------
        data : (m, n_pixels) integer
            Those that could be read, and their mask too; the first rows of ``out``.
        excluded : (m, n_pixels) int8 or (0, 0)
            Their 3-D mask.
        bad : (n - m,) int64
            Numbers of those that could not.

        Raises
        ------
        EndedError
            If it waits for frames that are still to be written, and `is_over` says so.
        InputError
            If a frame cannot be read and bad frames are not to be skipped.
        """
        first, n = int(frames[0]), frames.size
        data = self._room(n) if out is None else out[:n]
        excluded: Frames = np.empty((0, 0), np.int8)
        bad = self._raw.read(first, data)
        self._require_none(self._raw, bad)
        if self._mask is not None:
            excluded = np.empty(data.shape, np.int8)
            bad_masks = _read_mask(self._mask, first, excluded)
            self._require_none(self._mask, bad_masks)
            bad |= bad_masks
        if bad:
            good = np.setdiff1d(np.arange(n), np.array([*bad]) - first)
            for part in (data, excluded)[: 1 + self.masked]:
                part[: good.size] = part[good]
            data, excluded = data[: good.size], excluded[: good.size]
        return data, excluded, np.array(sorted(bad), np.int64)

    def _room(self, n: int) -> Frames:
        if self._rooms and len(self._rooms[0]) >= n:
            room = self._rooms[0]
        else:
            room = np.empty((n, self._raw.n_pixels), self.dtype)
        if self._rooms:
            self._rooms[0] = room
            self._rooms.rotate(-1)
        return room[:n]

    def _require_none(self, stack: _OpenStack | GrowingStack, bad: dict[int, str]) -> None:
        if bad and not self.skip_bad_frames:
            frame, file, path = min(bad), stack.stack.file, stack.stack.path
            raise InputError(
                f"{file}:{path}: expected frame {frame} to be readable, found: {bad[frame]} "
                "(--skip-bad-frames goes on without it)"
            )

    def close(self) -> None:
        """Close the files."""
        self._raw.close()
        if self._mask is not None:
            self._mask.close()


class _OpenStack:
    """A stack and the fastest way to its frames."""

    def __init__(self, stack: Stack, *, sparse: bool) -> None:
        """Open the file. Not collective.

        Parameters
        ----------
        sparse : bool
            What was never written is 0, rather than missing.
        """
        self.stack = stack
        self.dataset = open_stack(stack)
        self.dtype = self.dataset.dtype.newbyteorder("=")
        self.n_pixels = stack.shape[1] * stack.shape[2]
        decode = find_decoder(self.dataset)
        self._chunks = ChunkReader(self.dataset, decode) if decode else None
        self._has_gaps = not sparse and not is_whole(self.dataset)

    def read(self, first: int, out: Frames) -> dict[int, str]:
        """Fill ``out``, (n, n_pixels) of ``dtype``; return bad frames, and why. Not collective."""
        gaps = unwritten_frames(self.dataset, first, first + len(out)) if self._has_gaps else []
        return self._read(first, out) | dict.fromkeys(gaps, "it was never written, or not whole")

    def _read(self, first: int, out: Frames) -> dict[int, str]:
        if self._chunks is not None:
            return self._chunks.read(first, out)
        images = out.reshape(-1, *self.dataset.shape[1:])
        try:
            self.dataset.read_direct(images, np.s_[first : first + len(out)])
        except (OSError, RuntimeError):
            found = (_read_frame(self.dataset, first + i, images[i]) for i in range(len(out)))
            return {frame: error for frame, error in found if error}
        return {}

    def close(self) -> None:
        """Close the file."""
        self.dataset.file.close()


def _read_frame(dataset: h5py.Dataset, frame: int, out: Frames) -> tuple[int, str]:
    try:
        dataset.read_direct(out, np.s_[frame])
    except (OSError, RuntimeError) as error:
        return frame, str(error)
    return frame, ""


def _read_mask(stack: _OpenStack, first: int, out: Frames) -> dict[int, str]:
    """Fill ``out``, (n, n_pixels) int8; return bad frames, and why."""
    if stack.dtype.itemsize == 1:  # what is not 0 remains so
        return stack.read(first, out.view(stack.dtype))
    values = np.empty(out.shape, stack.dtype)
    bad = stack.read(first, values)
    np.not_equal(values, 0, out=out.view(bool))
    return bad
