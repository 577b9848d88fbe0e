"""Changes of the scan file: a copy is changed and takes its place, under a lock."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import h5py

from nxmpi.parallel.locks import publish_lock
from nxmpi.parallel.publish import changed_copy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def change_wrapper(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change a scan file, all or nothing. Not collective: the root calls it.

    Raises
    ------
    LockedError
        If somebody else keeps the file locked.
    """
    with publish_lock(path), changed_copy(path) as copy, h5py.File(copy, "r+") as file:
        change(file)


def now() -> str:
    """Return the time, for records: ISO with its zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
