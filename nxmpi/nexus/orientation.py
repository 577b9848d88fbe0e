"""Orientation matrix, cell and geometry into a scan file, in the place of what was there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from nxmpi.crystal.lattice import direct_matrix
from nxmpi.crystal.reciprocal import UB_to_file
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, put, replace_group, signal_name

if TYPE_CHECKING:
    from nxmpi.crystal.symmetry import Symmetry
    from nxmpi.model import Geometry, Lattice


def write_orientation(entry: h5py.Group, geometry: Geometry, lattice: Lattice) -> None:
    """Write the orientation matrix of a position, and UB for other programs. Not collective."""
    UB = np.array(geometry.UB)
    matrix = UB_to_file(UB, geometry.goniometer.step, direct_matrix(lattice))
    put(entry, f"{schema.DETECTOR}/{schema.ORIENTATION_MATRIX}", matrix)
    put(entry, f"{schema.DETECTOR}/{schema.UB_MATRIX}", UB, units="1/Angstrom")


def write_geometry(
    entry: h5py.Group, geometry: Geometry, before: Geometry, phi0: float
) -> None:  # fmt: skip
    """Write what of the geometry of a position differs from before. Not collective.

    Attributes stay as they are.

    Parameters
    ----------
    phi0 : float
        To be added to the angles of the file [degrees].
    """
    old, new = before.detector, geometry.detector
    values = {
        schema.WAVELENGTH: (before.wavelength, geometry.wavelength),
        f"{schema.DETECTOR}/{schema.DISTANCE}": (old.distance, new.distance),
        f"{schema.DETECTOR}/{schema.BEAM_CENTER_X}": (old.beam_center[0], new.beam_center[0]),
        f"{schema.DETECTOR}/{schema.BEAM_CENTER_Y}": (old.beam_center[1], new.beam_center[1]),
    }
    for name in (schema.YAW, schema.PITCH, schema.ROLL):
        values[f"{schema.DETECTOR}/{name}"] = (getattr(old, name), getattr(new, name))
    for name in (schema.OMEGA, schema.CHI):
        path = f"{schema.GONIOMETER}/{name}"
        values[path] = (getattr(before.goniometer, name), getattr(geometry.goniometer, name))
    theta = [f"{schema.GONIOMETER}/{name}" for name in schema.THETA]
    path = next((each for each in theta if find(entry, each) is not None), theta[0])
    values[path] = (before.goniometer.theta, geometry.goniometer.theta)
    for path, (was, now) in values.items():
        if now != was:
            _replace(entry, path, np.float64(now))
    if phi0:
        path = f"{schema.GONIOMETER}/{schema.PHI}"
        if isinstance(entry[path], h5py.Group):
            path = f"{path}/{signal_name(entry[path])}"
        _replace(entry, path, np.asarray(entry[path][()], np.float64) + phi0)
        if "end" in entry[path].attrs:
            entry[path].attrs["end"] += phi0


def write_cell(entry: h5py.Group, lattice: Lattice) -> None:
    """Write the unit cell of an entry's sample, in all forms that are there. Not collective."""
    group = _sample(entry)
    values = [getattr(lattice, name) for name in lattice.__slots__]
    forms = {
        schema.UNIT_CELL_VECTOR: values, schema.UNIT_CELL_LENGTHS: values[:3],
        schema.UNIT_CELL_ANGLES: values[3:],
    }  # fmt: skip
    for name, parts in forms.items():
        if find(group, name) is not None:
            _replace(group, name, np.array(parts))
    for i, name in enumerate(schema.UNIT_CELL):
        if find(group, name) is not None:
            _replace(group, name, np.float64(values[i]))
        else:
            put(group, name, values[i], units="Angstrom" if i < 3 else "degree")


def _sample(entry: h5py.Group) -> h5py.Group:
    """Return the sample of an entry, made where there is none."""
    for group, path in ((entry, schema.SAMPLE), (entry.file, f"{schema.SHARED}/{schema.SAMPLE}")):
        found = find(group, path)
        if isinstance(found, h5py.Group):
            return found
    return replace_group(entry.file, f"{schema.SHARED}/{schema.SAMPLE}", "NXsample")


def _replace(group: h5py.Group, path: str, value: object) -> None:
    """Write a value as float64 in the place of another, whose attributes stay."""
    old = find(group, path)
    attributes = dict(old.attrs) if old is not None else {}
    put(group, path, value, **attributes)


def write_symmetry(entry: h5py.Group, symbol: str, symmetry: Symmetry) -> None:
    """Write the space group of an entry's sample and what follows from it. Not collective."""
    group = _sample(entry)
    put(group, schema.SPACE_GROUP, symbol)
    put(group, schema.LAUE_GROUP, symmetry.laue_group)
    put(group, schema.CELL_GROUP, symmetry.crystal_system)
    put(group, schema.CENTRING, symmetry.centring)
