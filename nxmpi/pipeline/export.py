"""A volume's file to that of another program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nxmpi.errors import InputError
from nxmpi.nexus.export import SUFFIXES, WRITERS, read_volume
from nxmpi.parallel.publish import publish, remove_quietly, temporary

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi.params import ExportFormat


def export(
    file: Path, kind: ExportFormat, *, dataset: str | None, output: Path | None, overwrite: bool
) -> tuple[Path, str]:
    """Write a volume for another program; return its file, and what that program is to know.

    Not collective: the root calls it, with memory for the whole volume twice.

    Parameters
    ----------
    dataset : str or None
        None for the signal.
    output : Path or None
        None for the name of the volume's file with the dataset's and another suffix.

    Raises
    ------
    InputError
        If there is no such volume, the file is there already, or it cannot be written.
    """
    volume = read_volume(file, dataset)
    target = output or file.with_name(f"{file.stem}_{volume.dataset}{SUFFIXES[kind]}")
    if target.exists() and not overwrite:
        raise InputError(f"{target}: expected no file of this name, found one; --overwrite")
    written = temporary(target)
    try:
        told = WRITERS[kind](written, volume)
        publish(written, target)
    except OSError as error:
        remove_quietly(written)
        raise InputError(f"{target}: cannot be written: {error}") from error
    return target, told
