"""What the ranks of a node have in common: a communicator, and memory."""

from __future__ import annotations

import resource
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nxmpi._typing import U1

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps it, a file system of limited size: 64 MiB in many containers."""


def node_of(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Return a communicator of the ranks that share this node's memory, in their order.

    Collective on ``comm``. To be freed by the caller.
    """
    return MPI.Intracomm(comm.Split_type(MPI.COMM_TYPE_SHARED, comm.rank))


def alone(comm: MPI.Intracomm) -> MPI.Intracomm:
    """Return a communicator of this rank alone, to be freed by the caller. Collective."""
    return MPI.Intracomm(comm.Split(comm.rank))


def has_room(n_bytes: int) -> bool:
    """Return whether this rank may take so much shared memory of its node, as far as is known.

    Not collective. Asked beforehand: where there is too little, `window` fails on one rank, and
    the others wait in vain. Shared memory is a file, and limits on the size of files hold for it.
    """
    largest, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if largest != resource.RLIM_INFINITY and largest < n_bytes:
        return False
    return SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free >= n_bytes


class Window:
    """Bytes that all ranks of a node read and write."""

    def __init__(self, node: MPI.Intracomm, n_bytes: int) -> None:
        """Take the memory. Collective on ``node``."""
        self._window = MPI.Win.Allocate_shared(n_bytes if node.rank == 0 else 0, comm=node)
        self._window.Lock_all(MPI.MODE_NOCHECK)
        memory, _ = self._window.Shared_query(0)
        self.bytes: U1 = np.frombuffer(memory, np.uint8)  # type: ignore[call-overload]  # a buffer

    def sync(self) -> None:
        """Let others see what was written here, and this rank what they wrote. Not collective.

        Both sides call it, the one before and the other after they have met.
        """
        self._window.Sync()

    def free(self) -> None:
        """Give the memory back. Collective on the node; arrays of it must not be used any more."""
        self._window.Unlock_all()
        self._window.Free()


@contextmanager
def window(node: MPI.Intracomm, n_bytes: int) -> Iterator[Window]:
    """Give the ranks of a node memory in common, at least 1 byte.

    Collective on ``node``, and again when the body ends well; after an exception nothing is
    waited for, and the memory is the system's to take back. Its pages are taken when written.
    """
    shared = Window(node, n_bytes)
    yield shared
    shared.free()
