"""Raw frames and their 3-D mask: read-only, by each rank for itself."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np

from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.chunks import ChunkReader, find_decoder
from nxmpi.nexus.growing import (
    GrowingStack,
    announced_frames,
    followed_link,
    require_growing,
    until_seen,
)
from nxmpi.nexus.values import find, location, open_file, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from nxmpi._typing import I8, Frames, Mask

CHUNK_CACHE = 256 * 2**20
"""For files whose chunks hold many frames: a chunk is decompressed once [bytes]."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A dataset (frame, slow, fast) that ranks open for themselves."""

    file: Path
    path: str
    shape: tuple[int, int, int]
    dtype: str
    chunk_frames: int
    """Frames stored together; 1 if they are not chunked."""
    identity: tuple[int, int]
    """Size and time of change of the file [bytes, ns]."""
    wait: float | None = None
    """How long to wait for a frame that is still to be written [s]; None for a finished file."""


def never() -> bool:
    """Return False: something goes on to its end."""
    return False


def follow_stack(entry: h5py.Group, limit: float, is_over: Callable[[], bool] = never) -> Stack:
    """Return where the raw frames of an entry are going to be, once the first can be read.

    Not collective. Has the number of frames that the entry announces.

    Parameters
    ----------
    limit : float
        How long to wait for a frame [s].
    is_over : function
        Asked meanwhile whether there is nothing to wait for any more.

    Raises
    ------
    EndedError
        If there is not.
    InputError
        If there is nothing to be read after that time, the number is not announced, or the file
        does not tell which frames have been written.
    """
    n_frames = announced_frames(entry)
    file, path = followed_link(entry, schema.RAW)

    def look(dataset: h5py.Dataset, settled: bool) -> Stack:
        require_growing(dataset)
        _require_filters(dataset)
        status = file.stat()
        return Stack(
            file=file,
            path=path,
            shape=(n_frames, *dataset.shape[1:]),
            dtype=dataset.dtype.str,
            chunk_frames=dataset.chunks[0],
            identity=(status.st_size, status.st_mtime_ns),
            wait=limit,
        )

    stack = until_seen(file, path, limit, look, is_over)
    if stack is None:
        raise InputError(
            f"{file}:{path}: expected frames to be written, found none after {limit:g} s without "
            "a change of the file (--follow-timeout)"
        )
    return stack


def find_stack(entry: h5py.Group, path: str = schema.RAW) -> Stack:
    """Return where the raw frames, or another stack, of an entry are. Not collective.

    Raises
    ------
    SchemaError
        If the link is broken, the data are not three-dimensional or not of an integer type,
        a filter is not installed, or a source of a virtual dataset is missing.
    """
    dataset = require(entry, path, "raw frames")
    file, where = entry.file.filename, location(entry, path)
    if not isinstance(dataset, h5py.Dataset):
        raise SchemaError(file, where, "raw frames", "a group")
    if dataset.ndim != 3:
        raise SchemaError(
            file, where, "3 dimensions (frame, y, x)", f"{dataset.ndim}: shape {dataset.shape}"
        )
    if dataset.dtype.kind not in "iu" and dataset.dtype != bool:
        raise SchemaError(file, where, "integer counts", f"{dataset.dtype}")
    _require_filters(dataset)
    if dataset.is_virtual:
        _require_sources(dataset)
    target = Path(dataset.file.filename)
    status = target.stat()
    return Stack(
        file=target,
        path=dataset.name,
        shape=dataset.shape,
        dtype=dataset.dtype.str,
        chunk_frames=dataset.chunks[0] if dataset.chunks else 1,
        identity=(status.st_size, status.st_mtime_ns),
    )


def _require_filters(dataset: h5py.Dataset) -> None:
    plist = dataset.id.get_create_plist()
    for i in range(plist.get_nfilters()):
        code, _, _, name = plist.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            label = name.decode(errors="replace") or "without a name"
            raise SchemaError(
                dataset.file.filename, dataset.name,
                "a compression filter that is installed", f"filter {code} ({label}), which is not",
            )  # fmt: skip


def _require_sources(dataset: h5py.Dataset) -> None:
    """Look into the sources of a virtual dataset: one that is missing would be read as zeros."""
    folder = Path(dataset.file.filename).parent
    expected = f"a source of {dataset.file.filename}:{dataset.name}"
    for file_name, path in {(s.file_name, s.dset_name) for s in dataset.virtual_sources()}:
        if file_name in {".", ""}:
            _require_source(dataset.file, path, expected)
        elif "%b" not in file_name:  # which stands for as many numbered files as there are
            with open_file(folder / file_name) as file:
                _require_source(file, path, expected)


def _require_source(file: h5py.File, path: str, expected: str) -> None:
    source = require(file, path, expected)
    _require_filters(source)
    if source.is_virtual:
        _require_sources(source)


def read_pixel_mask(entry: h5py.Group, shape: tuple[int, int]) -> Mask:
    """Return True for the pixels to exclude; none where there is no mask. Not collective.

    Raises
    ------
    SchemaError
        If the mask has another shape than the frames.
    """
    path = f"{schema.DETECTOR}/{schema.PIXEL_MASK}"
    dataset = find(entry, path)
    if dataset is None:
        return np.zeros(shape, bool)
    if dataset.shape != shape:
        raise SchemaError(
            entry.file.filename, location(entry, path),
            f"the shape of the frames, {shape}", f"{dataset.shape}",
        )  # fmt: skip
    return np.asarray(dataset[()] != 0)


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
            _OpenStack(raw) if raw.wait is None else GrowingStack(raw, lambda: self.is_over())
        )
        self._mask = _OpenStack(mask) if mask else None
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

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.dataset = _open(stack)
        self.dtype = self.dataset.dtype.newbyteorder("=")
        self.n_pixels = stack.shape[1] * stack.shape[2]
        decode = find_decoder(self.dataset)
        self._chunks = ChunkReader(self.dataset, decode) if decode else None

    def read(self, first: int, out: Frames) -> dict[int, str]:
        """Fill ``out``, (n, n_pixels) of ``dtype``; return bad frames, and why. Not collective."""
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


def _open(stack: Stack) -> h5py.Dataset:
    cache = CHUNK_CACHE if stack.chunk_frames > 1 else 2**20
    try:
        return h5py.File(stack.file, "r", rdcc_nbytes=cache)[stack.path]
    except (OSError, KeyError) as error:
        raise InputError(f"{stack.file}:{stack.path}: cannot be opened: {error}") from error
