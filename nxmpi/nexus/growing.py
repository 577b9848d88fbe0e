"""Raw frames that are still being written: which are there, and waiting for the others."""

from __future__ import annotations

import fcntl
import logging
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.chunks import ChunkReader, find_decoder
from nxmpi.nexus.values import location, read_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nxmpi._typing import Frames
    from nxmpi.nexus.frames import Stack

log = logging.getLogger(__name__)
PAUSE = 0.1
"""Between two looks at a file [s]."""
CLOSING_TIME = 10.0
"""How long a writer may take to close a file whose frames are all there [s]."""


def announced_frames(entry: h5py.Group) -> int:
    """Return how many frames a position is going to have. Not collective.

    Raises
    ------
    SchemaError
        If neither frame numbers nor an array of phi tell.
    """
    path = f"{schema.DATA}/{schema.FRAME_NUMBER}"
    for each in (path, f"{schema.GONIOMETER}/{schema.PHI}"):
        values = read_array(entry, each)
        if values is not None and values.size > 1:
            return int(values.size)
    expected = "the numbers of all frames, so that --follow knows when to end"
    raise SchemaError(entry.file.filename, location(entry, path), expected, "none")


def wait_for_dataset(entry: h5py.Group, path: str, limit: float) -> tuple[Path, str]:
    """Wait until a linked dataset of frames can be opened; return its file and path.

    Not collective.

    Raises
    ------
    InputError
        If it cannot after a time, or what is there is no stack of frames.
    """
    link = entry.get(path, getlink=True)
    if not isinstance(link, h5py.ExternalLink):
        raise SchemaError(
            entry.file.filename, location(entry, path),
            "a link to a file of its own, to be followed", "none",
        )  # fmt: skip
    file = Path(entry.file.filename).absolute().parent / link.filename
    deadline = time.monotonic() + limit
    log.info("%s: following %s", entry.name, file)
    while True:
        with opened(file, link.path) as dataset:
            if dataset is not None:
                if dataset.ndim != 3 or dataset.is_virtual or dataset.dtype.kind not in "iu":
                    raise SchemaError(
                        str(file), link.path, "frames (frame, y, x) of integers in the file itself",
                        f"shape {dataset.shape}, {dataset.dtype}"
                        f"{', a virtual dataset' if dataset.is_virtual else ''}",
                    )  # fmt: skip
                return file, link.path
        if time.monotonic() > deadline:
            raise InputError(
                f"{file}:{link.path}: expected frames to be written, found none after {limit:g} s "
                "(--follow-timeout)"
            )
        time.sleep(PAUSE)


@contextmanager
def opened(file: Path, path: str) -> Iterator[h5py.Dataset | None]:
    """Open a dataset in a file that may be written meanwhile, None where that is not possible.

    Not collective. Opened for reading beside a single writer (SWMR), and without a lock, which
    would keep a writer out. While one without SWMR has the file open, it is not.
    """
    handle = None
    if not _is_locked(file):
        with suppress(OSError):
            handle = h5py.File(file, "r", swmr=True, locking=False)
    try:
        found = handle.get(path) if handle is not None else None
        yield found if isinstance(found, h5py.Dataset) else None
    finally:
        if handle is not None:
            handle.close()


def missing_frames(dataset: h5py.Dataset, start: int, stop: int, *, closed: bool) -> list[int]:
    """Return which frames of a range are not there yet. Not collective.

    Parameters
    ----------
    closed : bool
        Nobody writes the file any more.

    Notes
    -----
    HDF5 puts a chunk into the index after its data, so that a chunk that is found is complete, if
    it holds one frame. Of chunks of several frames, more may be written into the last one.
    """
    n = dataset.shape[0]
    missing = list(range(max(start, n), stop))
    if dataset.chunks is None:
        return missing if closed else list(range(start, stop))
    length, *edges = dataset.chunks
    corners = [
        (y, x)
        for y in range(0, dataset.shape[1], edges[0])
        for x in range(0, dataset.shape[2], edges[1])
    ]

    def is_there(first: int) -> bool:
        return first < n and all(
            dataset.id.get_chunk_info_by_coord((first, y, x)).byte_offset is not None
            for y, x in corners
        )

    for first in range(start // length * length, min(stop, n), length):
        there = is_there(first)
        if there and length > 1 and not closed:
            there = is_there(first + length)
        if not there:
            missing += range(max(first, start), min(first + length, stop, n))
    return sorted(missing)


def is_closed(file: Path) -> bool:
    """Return whether nobody has a file open to write. Not collective.

    A lock tells of writers without SWMR, a flag in the file of those with it.
    """
    try:
        h5py.File(file, "r", locking=False).close()
    except OSError:
        return False
    return not _is_locked(file)


def _is_locked(file: Path) -> bool:
    """Return whether a writer has locked a file as HDF5 does, or there is none."""
    try:
        with file.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(handle, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:  # no locks on this file system, where HDF5 takes none either
        return not file.exists()
    return False


def settled_identity(stack: Stack) -> tuple[int, int]:
    """Return size and time of change of a file whose frames are all there. Not collective.

    Waits for a while until its writer has closed it.
    """
    deadline = time.monotonic() + min(CLOSING_TIME, stack.wait or 0.0)
    while not is_closed(stack.file):
        if time.monotonic() > deadline:
            log.warning(
                "%s: still open by its writer: it will count as changed when it is closed",
                stack.file,
            )
            break
        time.sleep(PAUSE)
    status = stack.file.stat()
    return status.st_size, status.st_mtime_ns


class GrowingStack:
    """Frames that are read when they are there. The file is opened anew each time."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.dtype = np.dtype(stack.dtype).newbyteorder("=")
        self.n_pixels = stack.shape[1] * stack.shape[2]

    def read(self, first: int, out: Frames) -> dict[int, str]:
        """Fill ``out``, (n, n_pixels) of ``dtype``, waiting for frames; return bad ones, and why.

        Not collective.

        Raises
        ------
        InputError
            If no new frame appears for a time; says which are missing.
        """
        self._wait(first, first + len(out))
        with opened(self.stack.file, self.stack.path) as dataset:
            if dataset is None:
                raise InputError(f"{self.stack.file}: cannot be opened any more")
            decode = find_decoder(dataset)
            if decode is not None:
                return ChunkReader(dataset, decode).read(first, out)
            bad = {}
            for i, row in enumerate(out):
                try:
                    dataset.read_direct(row.reshape(dataset.shape[1:]), np.s_[first + i])
                except (OSError, RuntimeError) as error:
                    bad[first + i] = str(error)
            return bad

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _wait(self, start: int, stop: int) -> None:
        limit = self.stack.wait or 0.0
        seen, deadline = -1, time.monotonic() + limit
        while True:
            closed = is_closed(self.stack.file)
            with opened(self.stack.file, self.stack.path) as dataset:
                if dataset is not None:
                    if not missing_frames(dataset, start, stop, closed=closed):
                        return
                    n = dataset.id.get_num_chunks() if dataset.chunks else dataset.shape[0]
                    if n != seen:
                        seen, deadline = n, time.monotonic() + limit
            if time.monotonic() > deadline:
                self._give_up(limit)
            time.sleep(PAUSE)

    def _give_up(self, limit: float) -> None:
        n, absent = self.stack.shape[0], list(range(self.stack.shape[0]))
        closed = is_closed(self.stack.file)
        with opened(self.stack.file, self.stack.path) as dataset:
            if dataset is not None:
                absent = missing_frames(dataset, 0, n, closed=closed)
        raise InputError(
            f"{self.stack.file}:{self.stack.path}: expected {n} frames, found {n - len(absent)} "
            f"after {limit:g} s without a new one; missing are {_ranges(absent)} (--follow-timeout)"
        )


def _ranges(numbers: list[int]) -> str:
    """Return numbers such as ``3, 7 to 9``, the first few runs of them."""
    array = np.array(numbers)
    runs = [run for run in np.split(array, np.flatnonzero(np.diff(array) > 1) + 1) if run.size]
    told = [f"{r[0]}" if r.size == 1 else f"{r[0]} to {r[-1]}" for r in runs[:5]]
    return ", ".join([*told, *(["…"] if len(runs) > 5 else [])]) or "none"
