"""How many processes there are, known without MPI; and a communicator for one of them alone.

Login nodes of some clusters have no MPI to start: there it ends the process that tries.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

T = TypeVar("T")

LAUNCHED_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
"""Where launchers tell how many processes they started."""


def launched_size(environment: Mapping[str, str]) -> int:
    """Return the number of processes a launcher says it started, 1 without a launcher."""
    texts = (environment.get(name, "") for name in LAUNCHED_SIZES)
    return max((int(text) for text in texts if text.isdigit()), default=1)


class Alone:
    """What a communicator of one rank does in collectives of Python objects, without MPI."""

    rank = 0
    size = 1

    def bcast(self, value: T) -> T:
        """Return what was given."""
        return value

    def allgather(self, value: T) -> list[T]:
        """Return what was given, the only one."""
        return [value]

    def Ibarrier(self) -> Alone:
        """Return a request that has ended."""
        return self

    def Test(self) -> bool:
        """Say that it has."""
        return True

    def Dup(self) -> Alone:
        """Return itself: there is nobody to be mistaken for another."""
        return self

    def Free(self) -> None:
        """Do nothing."""

    def Abort(self, status: int) -> NoReturn:
        """End the process at once, as MPI does."""
        os._exit(status)
