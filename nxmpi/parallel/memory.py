"""Room for volumes, in memory or on disk: whether it is there, and taken when touched."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.filesize import decimal

from nxmpi.errors import InputError
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.window import node_of

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import I8

_NORESERVE = 0x4000
"""MAP_NORESERVE of Linux, which Python's mmap does not name before 3.13."""


def lazy_zeros(shape: tuple[int, ...], scratch: Path | None = None) -> I8:
    """Return an int64 array of zeros whose pages are taken when first written. Not collective.

    Parameters
    ----------
    scratch : Path or None
        Folder for a nameless file that holds the array; None keeps it in memory.
    """
    n_bytes = max(int(np.prod(shape)) * 8, 8)
    if scratch is None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE
        room = mmap.mmap(-1, n_bytes, flags=flags)
    else:
        with tempfile.TemporaryFile(dir=scratch) as file:
            file.truncate(n_bytes)
            room = mmap.mmap(file.fileno(), n_bytes)
    return np.frombuffer(room, np.int64, count=int(np.prod(shape))).reshape(shape)


def ranks_of_node(comm: MPI.Intracomm) -> int:
    """Return how many ranks this node has. Collective on ``comm``."""
    if comm.size == 1:
        return 1
    node = node_of(comm)
    size = int(node.size)
    node.Free()
    return size


def available_memory(comm: MPI.Intracomm) -> int:
    """Return four fifths of this node's free memory, shared among its ranks [bytes].

    Collective on ``comm``. The limit of a control group (a batch job's) counts where lower.
    """
    size = ranks_of_node(comm)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) * 1024
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        for line in _lines(Path("/sys/fs/cgroup") / name):
            if line.strip().isdigit():
                free = min(free, int(line))
    return int(min(comm.allgather(free * 4 // 5 // size)))


def require_memory(comm: MPI.Intracomm, needed: int, what: str, advice: str) -> None:
    """Make sure that every rank has room for what it is about to do. Collective on ``comm``.

    Parameters
    ----------
    needed : int
        By a rank [bytes]; the same on all.
    what : str
        Is to be done, for the message.
    advice : str
        What the user can do.

    Raises
    ------
    CollectiveError
        On every rank, if `available_memory` is less: without this the system would kill a rank.
    """
    found = available_memory(comm)
    with all_or_none(comm):
        if needed > found:
            raise InputError(
                f"{what}: expected {decimal(needed)} of memory for each of {comm.size} "
                f"ranks, found {decimal(found)} ({advice})"
            )


def require_disk(folder: Path, needed: int, what: str, advice: str) -> None:
    """Make sure that a disk has room for what is about to be written. Not collective.

    Parameters
    ----------
    folder : Path
        On that disk.
    needed : int
        By all ranks [bytes].
    what : str
        Is to be done, for the message.
    advice : str
        What the user can do.

    Raises
    ------
    InputError
        If less is free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{what}: expected room for {decimal(needed)} in {folder}, found "
            f"{decimal(free)} free ({advice})"
        )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
