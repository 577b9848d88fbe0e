"""Parts of a volume in files of their own: lines, planes and boxes."""

from __future__ import annotations

import csv
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np

from nxmpi.nexus import schema
from nxmpi.nexus.values import put, replace_group

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nxmpi._typing import F8


class Axis(NamedTuple):
    """Places along one dimension."""

    name: str
    values: F8
    """(n,) float64: centres."""
    label: str
    """With the unit."""
    width: float
    """Of a voxel, in the same unit."""
    scale: float | None = None
    """How long 1 is [1/Å, or Å in real space]."""


class Section(NamedTuple):
    """Values at regular places in one, two or three dimensions."""

    title: str
    axes: tuple[Axis, ...]
    """The slowest first."""
    intensity: F8
    """NaN where nothing was measured."""
    errors: F8
    sums: Mapping[str, F8]
    """What the intensity was made of, by name."""
    notes: Mapping[str, str | float]
    """What it is of, and how it was made."""
    angles: tuple[float, ...] = ()
    """Between axes, the opposite of the slowest first; one angle in two dimensions [degrees]."""


WHAT_OF = ("volume", "scan")
"""The notes of which every section has one: the file that it is of."""


def is_section(path: Path) -> bool:
    """Return whether a file is one that `write_section` or `write_table` made. Not collective."""
    if path.suffix.lower() == ".csv":
        with path.open("rb") as table:
            return table.readline().startswith(tuple(f"# {what}: ".encode() for what in WHAT_OF))
    try:
        with h5py.File(path, "r") as file:
            notes = file[schema.VOLUME].attrs
            is_own = [*file] == [schema.SHARED] and notes["signal"] == schema.INTENSITY
            return is_own and any(what in notes for what in WHAT_OF)
    except (OSError, KeyError):
        return False


def write_section(file: h5py.File, section: Section) -> None:
    """Write an NXdata that is plottable by default into a new file. Not collective."""
    file.attrs["default"] = schema.SHARED
    entry = replace_group(file, schema.SHARED, "NXentry")
    entry.attrs["default"] = schema.DATA
    data = replace_group(file, schema.VOLUME, "NXdata")
    arrays = {
        schema.INTENSITY: section.intensity, schema.INTENSITY_ERRORS: section.errors,
        **section.sums,
    }  # fmt: skip
    for name, values in arrays.items():
        data.create_dataset(name, data=values, compression="gzip", compression_opts=1)
    for axis in section.axes:
        dataset = put(data, axis.name, axis.values, long_name=axis.label, step=axis.width)
        if axis.scale is not None:
            dataset.attrs["scaling_factor"] = axis.scale
    data.attrs["signal"] = schema.INTENSITY
    data.attrs["axes"] = [axis.name for axis in section.axes]
    if len(section.angles) > 1:
        data.attrs["angles"] = section.angles
    elif section.angles:
        data.attrs["angles"] = section.angles[0]
    data.attrs.update(section.notes)
    put(data, "title", section.title)


def write_table(path: Path, section: Section) -> None:
    """Write one line a place as CSV, what was not measured too. Not collective."""
    names = [axis.name for axis in section.axes]
    columns = [section.intensity, section.errors, *section.sums.values()]
    with path.open("w", newline="") as file:
        file.writelines(f"# {name}: {value}\n" for name, value in section.notes.items())
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, schema.INTENSITY, schema.INTENSITY_ERRORS, *section.sums])
        places = product(*(axis.values for axis in section.axes))
        rows = zip(*(np.ravel(column) for column in columns), strict=True)
        for place, row in zip(places, rows, strict=True):
            writer.writerow([*(f"{x:.10g}" for x in place), *(f"{x:.9g}" for x in row)])
