"""The list of Bragg peaks: NXreflections with NXRefine's columns, and a few more."""

from __future__ import annotations

from dataclasses import dataclass, fields
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Indices:
    """What the peaks of a position are reflections of."""

    hkl: F8
    """(n, 3) of every peak, not rounded; NaN where unknown [r.l.u.]."""
    residuals: F8
    """(n, 3) predicted less observed x, y, z; NaN where no reflection is near [pixels, frames]."""
    grain: I8
    """(n,) number of the crystal that explains the peak, 0 for none."""
    fraction: float | None
    """Part of the strong peaks that is explained; None where it is not said [1]."""


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
    write_angles(entry, polar, azimuth)
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
        raise SchemaError(file, where, "a list of peaks (nxmpi frames finds them)", "nothing")
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


def write_indices(
    entry: h5py.Group, hkl: F8, residuals: F8, grain: I8, attributes: Mapping[str, object]
) -> None:  # fmt: skip
    """Write what the peaks of a position are reflections of. Not collective.

    Parameters
    ----------
    hkl : (n, 3) float64
        Of every peak in the file, not rounded; NaN where unknown [r.l.u.].
    residuals : (n, 3) float64
        Predicted less observed x, y and z; NaN where no reflection is near [pixels, frames].
    grain : (n,) int64
        Number of the crystal that explains the peak, 0 for none.
    attributes : mapping
        Of the group.
    """
    group = entry[schema.PEAKS]
    for name, values in zip(schema.INDICES, hkl.T, strict=True):
        put(group, name, values)
    for (name, units), values in zip(schema.RESIDUALS.items(), residuals.T, strict=True):
        put(group, name, values, units=units)
    put(group, schema.GRAIN, grain)
    group.attrs.pop(schema.GRAIN_UB, None)
    group.attrs.update(attributes)


def read_indices(entry: h5py.Group) -> Indices | None:
    """Return what the peaks of a position are reflections of, None where it is not known.

    Not collective.

    Raises
    ------
    SchemaError
        If the columns differ in length from those of the peaks.
    """
    group = find(entry, schema.PEAKS)
    if not isinstance(group, h5py.Group):
        return None
    columns = {}
    for name in (schema.PEAK_COLUMNS["x"][0], *schema.INDICES, *schema.RESIDUALS, schema.GRAIN):
        values = read_array(group, name)
        if values is None:
            return None
        columns[name] = values.ravel()
    sizes = {name: values.size for name, values in columns.items()}
    if len(set(sizes.values())) > 1:
        where = location(entry, schema.PEAKS)
        raise SchemaError(entry.file.filename, where, "columns of one length", f"{sizes}")
    fraction = group.attrs.get(schema.INDEXED)
    return Indices(
        hkl=np.column_stack([columns[name] for name in schema.INDICES]),
        residuals=np.column_stack([columns[name] for name in schema.RESIDUALS]),
        grain=_counted(columns[schema.GRAIN], sizes[schema.GRAIN]),
        fraction=None if fraction is None else float(fraction),
    )


def write_angles(entry: h5py.Group, polar: F8, azimuth: F8) -> None:
    """Write the scattering angles of the peaks, (n,) float64 [degrees]. Not collective."""
    if len(polar):  # NXRefine cannot open an entry with angles of no peaks
        put(entry[schema.PEAKS], schema.POLAR_ANGLE, polar, units="degree")
        put(entry[schema.PEAKS], schema.AZIMUTHAL_ANGLE, azimuth, units="degree")
