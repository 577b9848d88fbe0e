"""Changes of the scan file: a copy is changed and takes its place, under a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from nxmpi.parallel.h5 import edited
from nxmpi.parallel.locks import publish_lock
from nxmpi.parallel.publish import changed_copy, publish, require_folder, temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import h5py

    from nxmpi.nexus.schema import ScanFiles

Plan = TypeVar("Plan")


def require_writable(files: ScanFiles) -> None:
    """Make sure, before long work, that its results can be written. Not collective.

    Raises
    ------
    InputError
        If the scan's folder cannot be written.
    LockedError
        If somebody else keeps the scan file locked.
    """
    require_folder(files.folder)
    with publish_lock(files.wrapper):
        pass


def require_writable_for(files: ScanFiles, plans: list[Plan]) -> list[Plan]:
    """Return plans; if there are any, make sure that their results can be written.

    Not collective. Errors are those of `require_writable`.
    """
    if plans:
        require_writable(files)
    return plans


def publish_results(
    path: Path, written: Iterable[Path], change: Callable[[h5py.File], None]
) -> None:
    """Give new data files their names, and change the scan file to show them.

    Not collective: the root calls it. All that may fail for want of room or of a lock comes
    before the first file is replaced.

    Parameters
    ----------
    path : Path
        The scan file.
    written : iterable of Path
        Final names of data files that are complete under their temporary ones.
    change : callable
        Changes the open copy of the scan file, which takes its place last.

    Raises
    ------
    LockedError
        If somebody else keeps the scan file locked.
    """
    with publish_lock(path), changed_copy(path) as copy:
        with edited(copy) as file:
            change(file)
        for target in written:
            publish(temporary(target), target)
