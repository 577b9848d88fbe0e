"""Parameters that users keep in files: the parent's, the wrapper's own, tasks/settings.ini."""

import configparser
from pathlib import Path

import h5py

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, read_text

INI_SECTION = "nxreduce"
INI_NAMES = {"first": schema.FIRST, "last": schema.LAST}
"""Names in settings.ini that differ from those in NeXus files."""


def read_settings_file(path: Path) -> dict[str, str]:
    """Return the parameters of a tasks/settings.ini, none where it is missing. Not collective.

    Raises
    ------
    InputError
        If it is not in the format of an INI file.
    """
    parser = configparser.ConfigParser(allow_no_value=True, interpolation=None)
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected settings as INI: {error}") from error
    if not parser.has_section(INI_SECTION):
        return {}
    return {
        INI_NAMES.get(name, name): value
        for name, value in parser.items(INI_SECTION)
        if value not in {None, "", "None", "none"}
    }


def read_settings_group(file: h5py.File, path: str) -> dict[str, str]:
    """Return the parameters that a NeXus file keeps in a group. Not collective."""
    group = find(file, path)
    if not isinstance(group, h5py.Group):
        return {}
    texts = {name: read_text(group, name) for name in group}
    return {name: text for name, text in texts.items() if text}


def parent_file(wrapper: h5py.File, default: Path) -> Path | None:
    """Return the parent that a wrapper names, or its usual place if there is one there.

    Not collective.

    Raises
    ------
    InputError
        If the wrapper names a parent that does not exist.
    """
    named = read_text(wrapper, schema.PARENT)
    if named:
        path = Path(wrapper.filename).absolute().parent / named
        if not path.exists():
            raise InputError(
                f"{wrapper.filename}:/{schema.PARENT}: expected the parent scan, "
                f"found {named}, which does not exist"
            )
        return path
    return default if default.exists() else None
