"""Raw frames that are still being written: which are there, and waiting for the others."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import h5py

from nxmpi.errors import EndedError, InputError, SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.chunks import is_stored
from nxmpi.nexus.values import identity_of, location, read_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAUSE = 0.1
"""Between two looks at a file [s]."""
CLOSING_TIME = 10.0
"""How long a writer may take to close a file whose frames are all there [s]."""
FLOCK = "hhqqi"
"""How Linux tells of a lock: kind, whence, start, length, process."""
LOCKS = Path("/proc/locks")

Seen = TypeVar("Seen")


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


def followed_link(entry: h5py.Group, path: str) -> tuple[Path, str]:
    """Return the file and the path where frames are going to be. Not collective.

    Raises
    ------
    SchemaError
        If they are not to lie in a file of their own.
    """
    link = entry.get(path, getlink=True)
    if not isinstance(link, h5py.ExternalLink):
        raise SchemaError(
            entry.file.filename, location(entry, path),
            "a link to a file of its own, to be followed", "none",
        )  # fmt: skip
    return Path(entry.file.filename).absolute().parent / link.filename, link.path


def require_growing(dataset: h5py.Dataset) -> None:
    """Refuse a dataset that does not tell which of its frames have been written. Not collective.

    Raises
    ------
    SchemaError
        If it is no stack of frames, or has room on disk for frames before they are written.
    """
    if dataset.is_virtual:
        how = "a virtual dataset"
    elif dataset.chunks is None:
        how = "not in chunks"
    elif dataset.id.get_create_plist().get_alloc_time() != h5py.h5d.ALLOC_TIME_INCR:
        how = "all chunks stored beforehand"
    elif dataset.ndim == 3 and dataset.dtype.kind in "iu":
        return
    else:
        how = "in chunks"
    raise SchemaError(
        dataset.file.filename, dataset.name,
        "frames (frame, y, x) of integers, in chunks of this file that are stored as they are "
        "written, to be followed",
        f"shape {dataset.shape}, {dataset.dtype}, {how}",
    )  # fmt: skip


@contextmanager
def opened(file: Path, path: str) -> Iterator[h5py.Dataset | None]:
    """Open a dataset in a file that may be written meanwhile, None where that is not possible.

    Not collective. Opened without a lock, which would keep a writer out; beside a writer with
    SWMR, as the file's ``swmr_mode`` tells. While one without SWMR has the file open, it is not.
    """
    handle = found = None
    for swmr in (False, True):
        with suppress(OSError):
            handle = h5py.File(file, "r", swmr=swmr, locking=False)
            break
    try:
        if handle is not None and (handle.swmr_mode or not _is_locked(file)):
            with suppress(OSError, RuntimeError):
                found = handle.get(path)
        yield found if isinstance(found, h5py.Dataset) else None
    finally:
        if handle is not None:
            handle.close()


def until_seen(
    file: Path, path: str, limit: float, look: Callable[[h5py.Dataset, bool], Seen | None],
    is_over: Callable[[], bool],
) -> Seen | None:  # fmt: skip
    """Look at a dataset again and again until something is seen there.

    Not collective. Gives up, and returns None, when the file has not changed for a time.

    Parameters
    ----------
    limit : float
        That time [s].
    look : function
        Called with the dataset, and whether its file is closed and has not changed for a while
        (`CLOSING_TIME`, or the limit). Returns None if what it looks for is not there yet.
    is_over : function
        Asked between two looks whether there is nothing to wait for any more.

    Raises
    ------
    EndedError
        If there is not.
    InputError
        If the dataset can be opened, but not read, all the time.

    Notes
    -----
    What is seen, or fails, while a writer without SWMR changes the file means nothing.
    """
    status, since = None, time.monotonic()
    while True:
        before, now = _status(file), time.monotonic()
        if before != status:
            status, since = before, now
        error = None
        with opened(file, path) as dataset:
            if dataset is not None:
                swmr = dataset.file.swmr_mode
                try:
                    seen = look(dataset, not swmr and now - since >= min(CLOSING_TIME, limit))
                except (OSError, RuntimeError) as caught:
                    error = caught
                else:
                    if seen is not None and (swmr or _status(file) == before):
                        return seen
        if now - since > limit:
            if error is not None:
                raise InputError(f"{file}:{path}: cannot be read: {error}") from error
            return None
        if is_over():
            raise EndedError(f"{file}: no longer waited for")
        time.sleep(PAUSE)


def missing_frames(
    dataset: h5py.Dataset, start: int, stop: int, n_frames: int, *, settled: bool
) -> list[int]:
    """Return which frames of a range are not there yet. Not collective.

    Parameters
    ----------
    dataset : h5py.Dataset
        See `require_growing`.
    n_frames : int
        That are going to be there.
    settled : bool
        Nobody writes the file any more.

    Notes
    -----
    HDF5 puts a chunk into the index after its data, so that a chunk that is found is complete, if
    it holds one frame. One of several frames is when the next is found, or it is the last.
    """
    n = dataset.shape[0]
    missing = list(range(max(start, n), stop))
    length = dataset.chunks[0]

    def is_found(first: int) -> bool:
        return first < n and is_stored(dataset, first)

    def is_there(first: int) -> bool:
        behind = first + length
        is_last = settled and behind >= n_frames
        return is_found(first) and (length == 1 or is_last or is_found(behind))

    for first in range(start // length * length, min(stop, n), length):
        if not is_there(first):
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
    """Return whether a writer has locked a file as HDF5 does.

    Takes no lock to find out, since a writer that opens the file at that moment would fail. The
    system lists the locks of this computer; file systems that others share are asked.
    """
    question = struct.pack(FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with file.open("rb") as handle:
            status = os.fstat(handle.fileno())
            kind, *_ = struct.unpack(FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, question))
    except OSError:  # no locks on this file system, where HDF5 takes none either
        return not file.exists()
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    name = f" {device}:{status.st_ino} "
    lines = LOCKS.read_text().splitlines() if LOCKS.exists() else []
    return kind != fcntl.F_UNLCK or any(" WRITE " in line and name in line for line in lines)


def _status(file: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file [bytes, ns], None where there is none."""
    try:
        return identity_of(file)
    except OSError:
        return None
