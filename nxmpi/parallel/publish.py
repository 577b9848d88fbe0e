"""Files that appear complete or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import h5py

from nxmpi.errors import InputError, NxmpiError
from nxmpi.parallel.collective import at_abort

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from mpi4py import MPI


def temporary(path: Path) -> Path:
    """Return the hidden name beside ``path`` under which it is written."""
    return path.with_name(f".{path.name}.tmp")


def publish(written: Path, target: Path) -> None:
    """Give a file that is written and closed everywhere its own name.

    Not collective: for the root. On return the file and its name are on disk.

    Parameters
    ----------
    written : Path
        In the folder of ``target``; gone afterwards.
    target : Path
        Replaced if it exists; what has it open keeps the old one.
    """
    with written.open("rb") as file:
        os.fsync(file.fileno())
    written.replace(target)
    _sync_folder(target.parent)


def publish_text(path: Path, text: str) -> None:
    """Write a small file, in place of one that is there. Not collective: for the root.

    Raises
    ------
    NxmpiError
        If it cannot be written; an old one stays.
    """
    _publish_bytes(path, text.encode())


def publish_hdf5(path: Path, create: Callable[[h5py.File], None]) -> None:
    """Write an HDF5 file that memory holds, in place of one that is there.

    Not collective: for the root. HDF5 crashes when it is to close a file for which the disk has no
    room: here it never sees the disk.

    Parameters
    ----------
    create : callable
        Creates everything in the open file, whose name is the temporary one.

    Raises
    ------
    NxmpiError
        If it cannot be written; an old one stays.
    """
    with h5py.File(temporary(path), "w", driver="core", backing_store=False) as file:
        create(file)
        file.flush()
        image = file.id.get_file_image()
    _publish_bytes(path, image)


def _publish_bytes(path: Path, content: bytes) -> None:
    written = temporary(path)
    try:
        written.write_bytes(content)
        publish(written, path)
    except OSError as error:
        remove_quietly(written)
        raise NxmpiError(f"{path}: cannot be written: {error.strerror}") from error


def remove_quietly(path: Path) -> None:
    """Remove a file if that is possible, as after a failure that matters more. Not collective."""
    with suppress(OSError):
        path.unlink()


@contextmanager
def unpublished_removed(comm: MPI.Intracomm, targets: Collection[Path]) -> Iterator[None]:
    """Leave nothing under the temporary names of files if the body fails. Collective on ``comm``.

    Parameters
    ----------
    targets : collection of Path
        Final names.
    """

    def remove() -> None:
        for target in targets:
            remove_quietly(temporary(target))

    with at_abort(remove):
        try:
            yield
        finally:
            if comm.rank == 0:
                remove()


def require_folder(folder: Path) -> None:
    """Make a folder for results if there is none. Not collective.

    Raises
    ------
    InputError
        If something else has its name, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{folder}: expected a folder for the results, found a file") from None
    except OSError as error:
        raise InputError(f"{folder}: expected a folder for the results, found {error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: expected a folder for the results, found it not writable")


def require_place(file: Path) -> None:
    """Make sure, before long work, that a file can be written where the user says. Not collective.

    Raises
    ------
    InputError
        If its folder is not there, or nothing can be written there.
    """
    folder = file.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{file}: expected a folder {folder}, found none")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{file}: expected a folder to write to, found it not writable")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems cannot, and need not: their server has the name already
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextmanager
def changed_copy(path: Path) -> Iterator[Path]:
    """Change a file by changing a copy, which takes its place when the body ends well.

    Not collective: for the root. After an exception the file is what it was. Mode, extended
    attributes and, where permitted, owner and group are kept; of a symbolic link, the file it
    leads to is changed.

    Yields
    ------
    Path
        The copy, to be changed and closed.

    Raises
    ------
    InputError
        If there is no such file, or it is not writable.
    """
    target = path.resolve()
    if not target.is_file():
        raise InputError(f"{path}: no such file")
    if not os.access(target, os.W_OK):
        raise InputError(f"{path}: not writable")
    copy = temporary(target)
    try:
        copy.unlink(missing_ok=True)  # an old one may belong to somebody else
        shutil.copyfile(target, copy)
        _keep_owner(target, copy)
        shutil.copystat(target, copy)  # after the owner, whose change clears bits of the mode
        yield copy
        publish(copy, target)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def _keep_owner(path: Path, copy: Path) -> None:
    wanted = path.stat()
    with suppress(PermissionError):
        os.chown(copy, -1, wanted.st_gid)
    with suppress(PermissionError):
        os.chown(copy, wanted.st_uid, -1)
