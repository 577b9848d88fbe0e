"""A scan file made of another, without its results, for the sum of several scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from nxmpi.errors import SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.values import (
    find,
    location,
    own,
    put,
    read_array,
    read_attribute,
    read_number,
    signal_name,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nxmpi._typing import F8, Mask

RESULTS = (
    schema.WORKFLOW, schema.PEAKS, schema.SUMS, *schema.OLDER_SUMS, schema.PARTIAL_FRAMES,
    schema.DATA_MASK, schema.MONITOR_WEIGHT,
    f"{schema.DETECTOR}/{schema.HOT_PIXELS}", f"{schema.DETECTOR}/{schema.DEAD_PIXELS}",
    *(
        name
        for twin in (schema.REGULAR, schema.MASKED)
        for name in (twin.symmetrized, twin.total_pdf, twin.pdf,
                     f"{twin.prefix}{schema.AGREEMENT}", f"{twin.prefix}{schema.SHELLS}")
    ),
    schema.MASKED.group,
)  # fmt: skip
"""In an entry: what is made from frames."""
ADDED = (
    f"{schema.DETECTOR}/{schema.FRAME_TIME}", f"{schema.DATA}/{schema.FRAME_TIME}",
    f"{schema.DETECTOR}/{schema.SATURATION}",
)  # fmt: skip
"""Numbers of which the sum is that of the scans."""


def clear_results(entry: h5py.Group) -> None:
    """Take away what was made from the frames of an entry. Not collective.

    The axes of a position's transform stay as the grid of the next; so does the orientation.
    """
    if entry.name.strip("/") == schema.SHARED and schema.REGULAR.group in entry:
        del entry[schema.REGULAR.group]
    for path in RESULTS:
        if entry.get(path, getlink=True) is not None:
            del entry[path]
    for name in list(entry):
        link = entry.get(name, getlink=True)
        to_record = isinstance(link, h5py.SoftLink) and schema.WORKFLOW in link.path
        there = find(entry, name)
        if to_record or (there is not None and read_attribute(there, "NX_class") == "NXprocess"):
            del entry[name]
    grid = entry.get(schema.REGULAR.group)
    if isinstance(grid, h5py.Group):
        for name in list(grid):
            if name not in schema.AXES:
                del grid[name]
        grid.attrs["NX_class"] = "NXcollection"
        for name in ("signal", "axes"):
            grid.attrs.pop(name, None)
    data = entry.get(schema.DATA)
    if isinstance(data, h5py.Group):
        for name in (schema.MAXIMUM, schema.FIRST_USED, schema.LAST_USED):
            data.attrs.pop(name, None)
    entry.attrs.pop("default", None)


def saturation(entry: h5py.Group) -> float | None:
    """Return the count at which pixels of an entry saturate, None where it does not tell."""
    return read_number(entry, f"{schema.DETECTOR}/{schema.SATURATION}")


def summed_values(entries: list[h5py.Group]) -> dict[str, F8]:
    """Return the sums of monitors, times and limits of several scans, by path. Not collective.

    Parameters
    ----------
    entries : list of h5py.Group
        Of the same position.

    Raises
    ------
    SchemaError
        If a scan lacks a monitor that the first has, or has another number of values, or if some
        scans alone tell a time or a limit.
    """
    result = {}
    for path in _monitors(entries[0]):
        values = [read_array(entry, path) for entry in entries]
        for entry, each in zip(entries, values, strict=True):
            first = values[0]
            if first is None or each is None or each.shape != first.shape:
                found = "none" if each is None else f"shape {each.shape}"
                expected = "a monitor like that of the first scan"
                raise SchemaError(entry.file.filename, location(entry, path), expected, found)
        result[path] = np.sum([each for each in values if each is not None], axis=0)
    for path in ADDED:
        numbers = [read_number(entry, path) for entry in entries]
        told = [number for number in numbers if number is not None]
        if 0 < len(told) < len(numbers):
            entry = entries[numbers.index(None)]
            expected = "a number, as in the other scans"
            raise SchemaError(entry.file.filename, location(entry, path), expected, "none")
        if told:
            result[path] = np.array(sum(told))
    return result


def put_values(target: h5py.Group, values: Mapping[str, F8]) -> None:
    """Put values in the place of those at their paths, or of the signals there."""
    for path, value in values.items():
        own(target, path)
        group = target[path]
        where = f"{path}/{signal_name(group)}" if isinstance(group, h5py.Group) else path
        own(target, where)
        put(target, where, value, **dict(target[where].attrs))


def put_pixel_mask(target: h5py.Group, bad: list[Mask]) -> None:
    """Put the pixels that are bad in any scan. Not collective."""
    path = f"{schema.DETECTOR}/{schema.PIXEL_MASK}"
    own(target, path)
    dataset = find(target, path)
    attributes = dict(dataset.attrs) if dataset is not None else {}
    put(target, path, np.any(bad, axis=0).astype(np.int8), **attributes)


def _monitors(entry: h5py.Group) -> list[str]:
    """Return the paths of all monitors of an entry."""
    paths = [
        name
        for name in entry
        if isinstance(find(entry, name), h5py.Group)
        and (read_attribute(entry[name], "NX_class") == "NXmonitor" or name in schema.MONITORS)
    ]
    logs = [f"{schema.LOGS}/{name}" for name in find(entry, schema.LOGS) or ()]
    return paths + [path for path in logs if path.rpartition("/")[2] in schema.MONITORS]
