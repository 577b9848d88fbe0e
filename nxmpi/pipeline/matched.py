"""Scans that can be added up, position by position, or why they cannot."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.displacement import differences, displacement
from nxmpi.errors import InputError
from nxmpi.model import Geometry
from nxmpi.nexus import schema, summed
from nxmpi.nexus.geometry import (
    has_orientation,
    read_detector,
    read_goniometer,
    read_sample,
    read_UB,
    read_wavelength,
)
from nxmpi.nexus.stack import Stack, find_stack
from nxmpi.nexus.values import entry_names, open_file
from nxmpi.pipeline.scan import read_stacks
from nxmpi.pipeline.transmissions import mean_transmissions
from nxmpi.stages.sum import summed_type

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

    from nxmpi._typing import F8

log = logging.getLogger(__name__)
WAVELENGTH = 1e-3
"""Relative difference that is tolerated, however small the detector."""
UNKNOWN = as_matrix(np.eye(3) / 10)
"""In the place of UB where a scan has none."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A position of all scans."""

    name: str
    raw: list[Stack]
    masks: list[Stack]
    """One of each scan, or none."""
    dtype: np.dtype[np.generic]
    """Of the sum."""
    values: dict[str, F8]
    """What stands in the new scan at paths where the first has its own."""


def match(scans: list[Path], tolerance: float) -> list[Part]:
    """Return the positions of scans that can be added. Not collective.

    Parameters
    ----------
    tolerance : float
        Largest distance between places of a pixel in two scans [pixels].

    Raises
    ------
    InputError
        If scans do not match; says in what.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(open_file(path)) for path in scans]
        names = entry_names(opened[0])
        for file in opened[1:]:
            if entry_names(file) != names:
                raise InputError(
                    f"{file.filename}: expected positions {', '.join(names)} as in "
                    f"{scans[0].name}, found {', '.join(entry_names(file))}"
                )
        return [_match_position([file[name] for file in opened], tolerance) for name in names]


def _match_position(entries: list[h5py.Group], tolerance: float) -> Part:
    name = entries[0].name.strip("/")
    found = [read_stacks(entry) for entry in entries]
    raw = [stack for stack, _ in found]
    oriented = all(has_orientation(entry) for entry in entries)
    geometries = [
        _geometry(entry, stack, n, oriented=oriented)
        for entry, (stack, n) in zip(entries, found, strict=True)
    ]
    for entry, (stack, n), geometry in zip(entries[1:], found[1:], geometries[1:], strict=True):
        where = f"{entry.file.filename}:/{name}"
        if (stack.shape, n) != (raw[0].shape, found[0][1]):
            raise InputError(
                f"{where}: expected frames of shape {raw[0].shape}, {found[0][1]} used, as in "
                f"{entries[0].file.filename}, found {stack.shape}, {n} used"
            )
        first, other = geometries[0].wavelength, geometry.wavelength
        if abs(other / first - 1) > WAVELENGTH:
            raise InputError(
                f"{where}/{schema.WAVELENGTH}: expected {first:g} Å as in "
                f"{entries[0].file.filename}, found {other:g} Å"
            )
        apart = displacement(geometries[0], geometry)
        told = "; ".join(differences(geometries[0], geometry))
        if not apart <= tolerance:
            raise InputError(
                f"{where}: expected pixels within {tolerance:g} pixels of where they are in "
                f"{entries[0].file.filename}, found {apart:.3g}: {told}"
            )
        if told:
            log.info("%s: up to %.3g pixels from the first scan: %s", where, apart, told)
    with_mask = [entry.get(schema.DATA_MASK, getlink=True) is not None for entry in entries]
    masks = []
    if all(with_mask):
        masks = [find_stack(entry, schema.DATA_MASK) for entry in entries]
    elif any(with_mask):
        log.warning("%s: only some of the scans have a 3-D mask; the sum is made without", name)
    saturations = [summed.saturation(entry) for entry in entries]
    limit = None if None in saturations else int(max(s for s in saturations if s is not None))
    dtype = summed_type([np.dtype(stack.dtype) for stack in raw], limit)
    values = summed.summed_values(entries) | mean_transmissions(entries, found[0][1])
    return Part(name=name, raw=raw, masks=masks, dtype=dtype, values=values)


def _geometry(entry: h5py.Group, raw: Stack, n_frames: int, *, oriented: bool) -> Geometry:
    goniometer, UB = read_goniometer(entry, n_frames), UNKNOWN
    if oriented:
        UB = as_matrix(read_UB(entry, goniometer.step, read_sample(entry).lattice))
    return Geometry(
        wavelength=read_wavelength(entry), detector=read_detector(entry, raw.shape[1:]),
        goniometer=goniometer, UB=UB,
    )  # fmt: skip
