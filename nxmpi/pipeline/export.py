"""A volume's file to that of another program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nxmpi.errors import InputError
from nxmpi.nexus.export import opened_volume
from nxmpi.nexus.export_formats import SUFFIXES, WRITERS, write_yell
from nxmpi.parallel.collective import describe
from nxmpi.parallel.h5 import edited
from nxmpi.parallel.publish import publish, remove_quietly, require_place, temporary

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi.params import ExportFormat


def export(
    file: Path, kind: ExportFormat, *, dataset: str | None, output: Path | None, overwrite: bool
) -> tuple[Path, str]:
    """Write a volume for another program; return its file, and what that program is to know.

    Not collective: the root calls it. Memory for some 32 planes.

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
    with opened_volume(file, dataset) as volume:
        target = output or file.with_name(f"{file.stem}_{volume.name}{SUFFIXES[kind]}")
        if target.exists() and target.samefile(file):
            raise InputError(f"{target}: expected another file than that of the volume")
        if target.exists() and not overwrite:
            raise InputError(f"{target}: expected no file of this name, found one; --overwrite")
        require_place(target)
        written = temporary(target)
        try:
            if kind == "yell":
                with edited(written, anew=True) as made:
                    told = write_yell(made, volume)
            else:
                told = WRITERS[kind](written, volume)
            publish(written, target)
        except (OSError, RuntimeError) as error:
            raise InputError(f"{target}: cannot be written: {describe(error)}") from error
        finally:
            remove_quietly(written)
    return target, told
