"""A scan file to the peaks and geometry that orientations are found from, read by the root."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

import nxmpi
from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.lattice import is_near
from nxmpi.crystal.symmetry import highest_symmetry, is_compatible, symmetrized
from nxmpi.errors import AnotherProgramError, InputError
from nxmpi.model import Geometry, Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import (
    has_cell,
    has_orientation,
    read_detector,
    read_goniometer,
    read_sample,
    read_space_group,
    read_UB,
    read_wavelength,
)
from nxmpi.nexus.peaks import read_indices, read_peaks
from nxmpi.nexus.process import read_inputs
from nxmpi.pipeline.inputs import NOT_DONE, hash_input, json_input, what_changed
from nxmpi.pipeline.scan import read_stacks

if TYPE_CHECKING:
    import h5py

    from nxmpi._typing import F8, Mask
    from nxmpi.model import Peaks, Sample
    from nxmpi.params import OrientParams
    from nxmpi.pipeline.inputs import Inputs

log = logging.getLogger(__name__)
NOWHERE = as_matrix(np.eye(3))
PEAKS, RESULT = "peaks", "result"
"""Among what is recorded: keys of the peaks, and of the geometry that was written."""
FEWEST = 2
"""Peaks of a position without which there is no orientation."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Peaked:
    """A position with its Bragg peaks."""

    name: str
    geometry: Geometry
    """Without an orientation where the file has none."""
    UB: F8 | None
    """As the file has it."""
    sample: Sample | None
    """None where it has no cell, or it is not looked at."""
    space_group: str
    """As the file has it, with or without a cell."""
    peaks: Peaks
    """Those whose place is known."""
    usable: Mask
    """(n,) bool, of all in the file."""


def read_peaked(wrapper: h5py.File, names: list[str], *, needs_cell: bool) -> list[Peaked]:
    """Return the positions of a scan. Not collective: the root calls it.

    Parameters
    ----------
    needs_cell : bool
        False where the cell in the file is not looked at, so that it may be useless.

    Raises
    ------
    InputError
        If anything that is needed is missing or makes no sense; names file and path.
    """
    positions = []
    for name in names:
        raw, n_frames = read_stacks(wrapper[name])
        positions.append(_read(wrapper[name], raw.shape[1:], n_frames, needs_cell=needs_cell))
    known = {(p.sample.lattice, p.space_group) for p in positions if p.sample is not None}
    if len(known) > 1:
        raise InputError(
            f"{wrapper.filename}: expected one cell and space group at all positions, found "
            f"{'; '.join(f'{lattice} {symbol}' for lattice, symbol in known)} (--cell names one)"
        )
    return positions


def read_again(entry: h5py.Group, position: Peaked) -> Peaked:
    """Return a position as a file that is being changed has it. Not collective.

    The raw frames are not looked at: through such a file they would be opened for writing.
    """
    geometry = position.geometry
    return _read(
        entry, geometry.detector.shape, len(geometry.goniometer.phi), needs_cell=True
    )  # fmt: skip


def _read(
    entry: h5py.Group, shape: tuple[int, int], n_frames: int, *, needs_cell: bool
) -> Peaked:  # fmt: skip
    goniometer = read_goniometer(entry, n_frames)
    sample = None
    if has_cell(entry):
        try:
            sample = read_sample(entry)
        except InputError as error:
            if needs_cell:
                raise
            log.warning("%s (not looked at)", error)
    UB = None
    if sample is not None and has_orientation(entry):
        try:
            UB = read_UB(entry, goniometer.step, sample.lattice)
        except InputError as error:
            log.warning("%s (a new one is looked for)", error)
    peaks = read_peaks(entry)
    places = np.array([peaks.x, peaks.y, peaks.z, peaks.intensity])
    usable: Mask = np.asarray(np.isfinite(places).all(axis=0))
    where = f"{entry.file.filename}:{entry.name}/{schema.PEAKS}"
    if usable.sum() < FEWEST:
        raise InputError(
            f"{where}: expected at least {FEWEST} peaks, found {usable.sum()}: no orientation can "
            "be found (nxmpi frames --overwrite with a lower --sigma-strong finds more)"
        )
    if not usable.all():
        log.warning("%s: %d peaks without a place are left out", where, (~usable).sum())
    peaks = peaks.chosen(usable)
    if not (peaks.x_error > 0).any():
        log.warning("%s: no errors of the places: taken to be 0.3 pixels and frames", where)
    return Peaked(
        name=entry.name.strip("/"),
        geometry=Geometry(
            wavelength=read_wavelength(entry),
            detector=read_detector(entry, shape),
            goniometer=goniometer,
            UB=NOWHERE if UB is None else as_matrix(UB),
        ),
        UB=UB, sample=sample, space_group=read_space_group(entry), peaks=peaks, usable=usable,
    )  # fmt: skip


def crystal_of(position: Peaked, params: OrientParams) -> tuple[Lattice, str] | None:
    """Return the cell and space group that are known, None where the cell is to be found.

    Not collective.
    """
    sample = position.sample
    if params.cell is not None:
        lattice = Lattice(**dict(zip(Lattice.__slots__, params.cell, strict=True)))
        log.info("cell from the command line")
        return lattice, highest_symmetry(lattice, centring=sample.centring if sample else "")
    if params.find_cell or params.bravais is not None:
        return None
    if sample is None:
        log.info("the sample has no cell: it is looked for")
        return None
    if sample.space_group:
        return _of_symmetry(sample.lattice, sample.space_group), sample.space_group
    symbol = highest_symmetry(sample.lattice, sample.crystal_system, sample.centring)
    log.info("no space group: the cell is refined with the symmetry of %s", symbol)
    return sample.lattice, symbol


def _of_symmetry(lattice: Lattice, symbol: str) -> Lattice:
    """Return a cell with the symmetry that it ought to have."""
    if not is_compatible(lattice, symbol):
        return lattice  # refused when its free parameters are looked for
    exact = symmetrized(lattice, symbol)
    if not is_near(exact, lattice, 1e-6):
        log.warning("cell: %s is taken, as space group %s has it, for %s", exact, symbol, lattice)
    return exact


def orient_inputs(position: Peaked, params: OrientParams) -> Inputs:
    """Return what an orientation depends on, by name; JSON values. Not collective.

    The geometry stands as a key: that of a result is the one it was written with.
    """
    peaks = position.peaks
    columns = (
        peaks.x, peaks.y, peaks.z, peaks.intensity, peaks.x_error, peaks.y_error, peaks.z_error,
        peaks.flags.astype(float),
    )  # fmt: skip
    choices = {k: v for k, v in json_input(asdict(params)).items() if k != "min_indexed"}
    return {
        "program": f"nxmpi {nxmpi.__version__}",
        PEAKS: hash_input(np.array(columns)),
        RESULT: geometry_key(position),
        **{name: "none" if value is None else value for name, value in choices.items()},
    }


def geometry_key(position: Peaked) -> str:
    """Return a key of the geometry, orientation and cell that a file has."""
    lattice = position.sample.lattice if position.sample else None
    text = json.dumps([asdict(position.geometry), asdict(lattice) if lattice else None])
    return hash_input(np.frombuffer(text.encode(), np.uint8))


def is_another_programs(entry: h5py.Group) -> bool:
    """Return whether there is an orientation that this program did not make. Not collective."""
    return has_orientation(entry) and not read_inputs(entry, schema.REFINE_TASK)


def reason_to_orient(
    entry: h5py.Group, position: Peaked, params: OrientParams, *, unasked: bool
) -> str:  # fmt: skip
    """Return why a position is to be oriented, empty if it is done. Not collective.

    Parameters
    ----------
    unasked : bool
        Other choices are no reason.

    Raises
    ------
    AnotherProgramError
        If another program refined it.
    """
    recorded = read_inputs(entry, schema.REFINE_TASK)
    if recorded:
        inputs = orient_inputs(position, params)
        if unasked:
            inputs = {name: inputs[name] for name in (PEAKS, RESULT)}
        is_there = read_indices(entry) is not None
        return what_changed(recorded, inputs) or ("" if is_there else "indices are gone")
    if position.UB is None:
        return NOT_DONE
    if recorded == {}:
        raise AnotherProgramError(
            f"{entry.file.filename}:{entry.name}: {schema.REFINE_TASK} was done by another "
            "program and is kept; --overwrite replaces it"
        )
    return "an orientation without a record"
