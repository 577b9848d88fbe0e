"""Lines, planes and boxes to files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nxmpi.errors import InputError, NxmpiError
from nxmpi.nexus.section import is_section, write_section, write_table
from nxmpi.parallel.publish import publish, publish_hdf5, remove_quietly, temporary

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi.nexus.section import Section


def require_replaceable(path: Path) -> None:
    """Make sure that nothing but an earlier line, plane or box is replaced. Not collective.

    Raises
    ------
    InputError
        If another file has the name; of pictures any may be replaced.
    """
    if path.suffix.lower() != ".png" and path.exists() and not is_section(path):
        raise InputError(
            f"{path}: expected no file of this name, or a slice or cut to replace, found another "
            "(--output names the new one)"
        )


def save_section(path: Path, section: Section) -> None:
    """Write NeXus, or CSV where the name ends so; it appears complete or not at all.

    Not collective: the root calls it.

    Raises
    ------
    NxmpiError
        If it cannot be written.
    """
    if path.suffix.lower() != ".csv":
        publish_hdf5(path, lambda file: write_section(file, section))
        return
    try:
        write_table(temporary(path), section)
        publish(temporary(path), path)
    except OSError as error:
        remove_quietly(temporary(path))
        raise NxmpiError(f"{path}: cannot be written: {error.strerror}") from error
