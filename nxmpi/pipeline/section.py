"""Lines, planes and boxes to files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nxmpi.errors import InputError
from nxmpi.nexus.section import write_section, write_table
from nxmpi.parallel.publish import publish, remove_quietly, temporary

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi.nexus.section import Section


def save_section(path: Path, section: Section) -> None:
    """Write NeXus, or CSV where the name ends so; it appears complete or not at all.

    Not collective: the root calls it.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    write = write_table if path.suffix.lower() == ".csv" else write_section
    try:
        write(temporary(path), section)
        publish(temporary(path), path)
    except OSError as error:
        remove_quietly(temporary(path))
        raise InputError(f"{path}: cannot be written: {error}") from error
