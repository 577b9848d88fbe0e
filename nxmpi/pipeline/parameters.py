"""Where each parameter comes from: command line, parent, wrapper, settings.ini, default."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from nxmpi.errors import InputError
from nxmpi.log import ONCE
from nxmpi.nexus import schema
from nxmpi.nexus.parameters import parent_file, read_settings_file, read_settings_group
from nxmpi.nexus.values import find, open_file
from nxmpi.nexus.volume import read_grid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py

    from nxmpi.model import HKLGrid

log = logging.getLogger(__name__)
T = TypeVar("T")


class Layers(NamedTuple):
    """Parameters in files, the most binding first, and the grid of the parent."""

    sources: list[tuple[Path | str, dict[str, str]]]
    parent: Path
    """The scan itself, if it has no other."""
    parent_grid: HKLGrid | None


def read_layers(wrapper: h5py.File, files: schema.ScanFiles) -> Layers:
    """Return the parameters of all files that a scan takes them from. Not collective.

    Raises
    ------
    InputError
        If one of the files cannot be read.
    """
    parent = parent_file(wrapper, files.default_parent)
    sources: list[tuple[Path | str, dict[str, str]]] = []
    grid = None
    if parent is not None and parent.resolve() != files.wrapper.resolve():
        with open_file(parent) as file:
            sources.append((parent, read_settings_group(file, schema.SETTINGS[0])))
            grid = read_grid(find(file, schema.PARENT_GRID))
    else:
        found = [(path, read_settings_group(wrapper, path)) for path in schema.SETTINGS]
        sources.extend((f"{files.wrapper}:/{path}", values) for path, values in found)
        grid = read_grid(find(wrapper, schema.PARENT_GRID))
    sources.append((files.settings, read_settings_file(files.settings)))
    return Layers(sources, parent or files.wrapper, grid)


def resolve(
    name: str, given: T | None, layers: Layers, default: T, convert: Callable[[str], T]
) -> T:
    """Return a parameter, and log which source it came from, once in a log. Not collective.

    Parameters
    ----------
    given : T or None
        From the command line.
    convert : callable
        From the text in a file.

    Raises
    ------
    InputError
        If the text cannot be converted.
    """
    if given is not None:
        log.info("%s = %s, from the command line", name, given, extra=ONCE)
        return given
    for source, values in layers.sources:
        if name in values:
            try:
                value = convert(values[name])
            except ValueError:
                raise InputError(
                    f"{source}: {name}: expected a number, found '{values[name]}'"
                ) from None
            log.info("%s = %s, from %s", name, value, source, extra=ONCE)
            return value
    log.info("%s = %s, by default", name, default, extra=ONCE)
    return default
