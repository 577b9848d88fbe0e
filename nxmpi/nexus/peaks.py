"""The list of Bragg peaks: NXreflections with NXRefine's columns, and a few more."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import h5py
import numpy as np

from nxmpi.errors import SchemaError
from nxmpi.model import PeakFlag, Peaks
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, location, put, read_array, replace_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nxmpi._typing import F8, I8

REQUIRED = ("x", "y", "z", "intensity")
COUNTED = ("n_pixels", "maximum", "flags")
"""Integers; zero where a file lacks them."""


def write_peaks(
    entry: h5py.Group, peaks: Peaks, polar: F8, azimuth: F8, attributes: Mapping[str, float]
) -> None:  # fmt: skip
    """Write the peaks of a position in the place of older ones. Not collective.

    Parameters
    ----------
    polar, azimuth : (n,) float64
        [degrees]
    attributes : mapping
        Of the group: first, last, threshold, …
    """
    group = replace_group(entry, schema.PEAKS, "NXreflections")
    for field in fields(peaks):
        name, units = schema.PEAK_COLUMNS[field.name]
        put(group, name, getattr(peaks, field.name), **({"units": units} if units else {}))
    flags = group[schema.PEAK_COLUMNS["flags"][0]]
    flags.attrs[schema.FLAG_BITS] = ", ".join(f"{bit.value} {_word(bit)}" for bit in PeakFlag)
    if len(peaks):  # NXRefine cannot open an entry with angles of no peaks
        put(group, schema.POLAR_ANGLE, polar, units="degree")
        put(group, schema.AZIMUTHAL_ANGLE, azimuth, units="degree")
    group.attrs.update(attributes)


def _word(bit: PeakFlag) -> str:
    return str(bit.name).lower()


def read_peaks(entry: h5py.Group) -> Peaks:
    """Return the peaks of a position, NXRefine's or ours. Not collective.

    Errors, widths and background that the file lacks are NaN, counts and flags 0.

    Raises
    ------
    SchemaError
        If there are none, a place or intensity is missing, or columns differ in length.
    """
    group = find(entry, schema.PEAKS)
    file, where = entry.file.filename, location(entry, schema.PEAKS)
    if not isinstance(group, h5py.Group):
        raise SchemaError(file, where, "a list of peaks", "nothing")
    columns: dict[str, F8 | None] = {}
    for name, (column, _) in schema.PEAK_COLUMNS.items():
        values = read_array(group, column)
        if values is None and name in REQUIRED:
            raise SchemaError(file, f"{where}/{column}", "a column of the peaks", "nothing")
        columns[name] = None if values is None else values.ravel()
    sizes = {schema.PEAK_COLUMNS[name][0]: v.size for name, v in columns.items() if v is not None}
    if len(set(sizes.values())) > 1:
        raise SchemaError(file, where, "columns of one length", f"{sizes}")
    n = sizes["x"]
    floats = {
        name: np.full(n, np.nan) if values is None else values
        for name, values in columns.items()
        if name not in COUNTED
    }
    n_pixels, maximum, flags = (_counted(columns[name], n) for name in COUNTED)
    return Peaks(**floats, n_pixels=n_pixels, maximum=maximum, flags=flags)


def _counted(values: F8 | None, n: int) -> I8:
    return np.zeros(n, np.int64) if values is None else np.nan_to_num(values).astype(np.int64)
