"""Orientations and what they explain, into the scan file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.angles import polar_azimuth
from nxmpi.crystal.symmetry import is_allowed, is_compatible, symmetry_of
from nxmpi.nexus import schema
from nxmpi.nexus.orientation import (
    write_cell,
    write_geometry,
    write_orientation,
    write_symmetry,
)
from nxmpi.nexus.peaks import read_peaks, write_angles, write_indices
from nxmpi.nexus.process import write_process
from nxmpi.pipeline.inputs import AFTER, BEFORE, frames_geometry, geometry_inputs
from nxmpi.pipeline.peaked import orient_inputs, read_again
from nxmpi.pipeline.wrapper import publish_results

if TYPE_CHECKING:
    import h5py

    from nxmpi.params import OrientParams
    from nxmpi.pipeline.crystal_search import Found
    from nxmpi.pipeline.peaked import Peaked
    from nxmpi.stages.grains import Grain


ALLOWED = 0.95
"""Part of the explained peaks that the space group of the file allows, if it is right [1]."""


def publish_orientations(
    files: schema.ScanFiles, positions: list[Peaked], found: Found, grains: list[Grain],
    params: OrientParams, record: tuple[str, str],
) -> None:  # fmt: skip
    """Change the scan file. Not collective: the root calls it."""
    start_time, note = record

    def change(file: h5py.File) -> None:
        for i, position in enumerate(positions):
            entry = file[position.name]
            detector, wavelength = position.geometry.detector, position.geometry.wavelength
            before = frames_geometry(entry, detector, wavelength)
            _write(entry, position, found, grains, i)
            after = found.fit.refined.geometries[i]
            inputs = orient_inputs(read_again(entry, position), params) | {
                BEFORE: before,
                AFTER: geometry_inputs(after.detector, after.wavelength),
                "min_indexed": params.min_indexed,
            }
            write_process(entry, schema.REFINE_TASK, inputs, start_time=start_time, note=note)

    publish_results(files.wrapper, [], change)


def _write(
    entry: h5py.Group, position: Peaked, found: Found, grains: list[Grain], i: int
) -> None:  # fmt: skip
    fit, geometry = found.fit, found.fit.refined.geometries[i]
    lattice, usable = fit.refined.lattice, position.usable
    if position.sample is None or lattice != position.sample.lattice:
        write_cell(entry, lattice)
    if found.is_new_cell and not _is_of_symmetry(position.space_group, found):
        write_symmetry(entry, found.space_group, symmetry_of(found.space_group))
    write_geometry(entry, geometry, position.geometry, float(fit.refined.phi0[i]))
    write_orientation(entry, geometry, lattice)
    hkl, residuals = (np.full((usable.size, 3), np.nan) for _ in range(2))
    grain = np.zeros(usable.size, np.int64)
    own_hkl, own_grain = fit.hkl[i].copy(), fit.explained[i].astype(np.int64)
    for number, each in enumerate(grains, 2):
        own_hkl[each.explained[i]] = each.hkl[i][each.explained[i]]
        own_grain[each.explained[i]] = number
    hkl[usable], grain[usable] = own_hkl, own_grain
    residuals[usable] = fit.residuals[i] / [1.0, 1.0, geometry.goniometer.step]
    attributes: dict[str, object] = {schema.INDEXED: found.parts[i]}
    if grains:
        attributes[schema.GRAIN_UB] = np.array([geometry.UB, *(g.UB[i] for g in grains)])
    write_indices(entry, hkl, residuals, grain, attributes)
    every = read_peaks(entry)
    write_angles(entry, *polar_azimuth(geometry.detector, every.x, every.y))


def _is_of_symmetry(symbol: str, found: Found) -> bool:
    """Return whether lattice and explained peaks are those of a space group."""
    lattice, fit = found.fit.refined.lattice, found.fit
    if not symbol or not is_compatible(lattice, symbol):
        return False
    if symmetry_of(symbol).centring != symmetry_of(found.space_group).centring:
        return False
    hkl = np.concatenate([np.round(h[e]) for h, e in zip(fit.hkl, fit.explained, strict=True)])
    return bool(is_allowed(symbol, hkl).mean() >= ALLOWED)
