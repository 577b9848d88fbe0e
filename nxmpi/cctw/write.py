"""Geometry and grid to a settings script: the inverse of `nxmpi.cctw.settings`."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.reciprocal import offset_to_file
from nxmpi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nxmpi.model import Geometry, Goniometer, HKLGrid, Lattice
    from nxmpi.params import Voxels

BLOCK = 50
"""Voxels along each axis of a block of the program's volume, as NXRefine sets it."""
UNEVEN = 1e-3
"""How far a frame may be from its place in equal steps [steps]."""
Setting = float | int | bool | list[float] | list[int] | list[list[float]]


def settings_of(
    geometry: Geometry, grid: HKLGrid, voxels: Voxels, lattice: Lattice | None = None
) -> dict[str, Setting]:
    """Return the settings of a position, by name. Not collective.

    Parameters
    ----------
    lattice : Lattice, optional
        Unit cell, which changes nothing.

    Returns
    -------
    dict
        Angles in radians, lengths in mm, wavelength in Å, reciprocal lengths without 2 pi; plain
        numbers of Python.

    Raises
    ------
    InputError
        If the frames are not at equal steps of phi.

    Notes
    -----
    The program takes phi0 + k step for the angle of frame k, which begins there: half a frame
    is in the orientation, as phi is the innermost rotation, and in the sample's displacement.
    A voxel is the floor of gridDim inv(gridBasis) (hkl - gridOrigin) + gridOffset: gridOffset is
    one half for centred voxels. gridDim is whole; what else a step is goes into gridBasis.
    """
    parameters = _instrument(geometry) | _grid(grid, voxels)
    if lattice is not None:
        a, b, c, *angles = astuple(lattice)
        parameters["unitCell"] = [float(v) for v in (a, b, c, *np.radians(angles))]
    n_slow, n_fast = geometry.detector.shape
    block = [min(BLOCK, n) for n in grid.shape]
    return {
        **{f"parameters.{name}": value for name, value in parameters.items()},
        "inputData.chunkSize": [n_fast, n_slow, 1],
        "outputData.dimensions": [int(n) for n in grid.shape],
        "outputData.chunkSize": block,
        "outputData.hdfChunkSize": block,
        "outputData.compression": 0,
        "transformer.transformOptions": 0,
        **{f"transformer.oversample{axis}": 1 for axis in "XYZ"},
    }


def _instrument(geometry: Geometry) -> dict[str, Setting]:
    detector, goniometer = geometry.detector, geometry.goniometer
    first, increment = phi_of(goniometer)
    degrees = {
        "orientErrorDetPitch": detector.pitch, "orientErrorDetRoll": detector.roll,
        "orientErrorDetYaw": detector.yaw, "orientErrorGonPitch": goniometer.theta,
        "omegaNom": goniometer.omega, "chiNom": goniometer.chi,
        "phiNom": first, "phiStep": increment,
    }  # fmt: skip
    zeros = (
        "twoThetaCorrection", "twoThetaNom", "twoThetaStep", "omegaCorrection", "omegaStep",
        "chiCorrection", "chiStep", "phiCorrection",
    )  # fmt: skip
    return {
        "pixelSize": detector.pixel_size,
        "wavelength": geometry.wavelength,
        "distance": detector.distance,
        "ubMat": (rotation(2, goniometer.step / 2) @ np.array(geometry.UB)).tolist(),
        "oMat": np.array(detector.orientation, dtype=float).tolist(),
        "oVec": [0, 0, 0],
        "det0x": detector.beam_center[0],
        "det0y": detector.beam_center[1],
        "xTrans": [float(v) for v in offset_to_file(goniometer.sample_offset, goniometer.step)],
        **{name: float(np.radians(angle)) for name, angle in degrees.items()},
        **dict.fromkeys(zeros, 0),
        "extraFlip": False,
    }


def _grid(grid: HKLGrid, voxels: Voxels) -> dict[str, Setting]:
    step = np.array(grid.step)
    n_per_unit = np.where(abs(1 / step - np.rint(1 / step)) < 1e-9 / step, np.rint(1 / step), 1.0)
    width = np.where(n_per_unit == 1.0, step, 1.0)
    axes = np.array(grid.axes).T
    return {
        "gridOrigin": (axes @ np.array(grid.origin)).tolist(),
        "gridBasis": (axes * width).tolist(),
        "gridDim": [int(n) for n in n_per_unit],
        "gridOffset": [0.5 if voxels == "centred" else 0.0] * 3,
    }


def phi_of(goniometer: Goniometer) -> tuple[float, float]:
    """Return the angle of the first frame, and from each frame to the next [degrees].

    Raises
    ------
    InputError
        If the frames are not at equal steps.
    """
    phi = np.array(goniometer.phi)
    increment = goniometer.step
    if phi.size > 1 and abs(phi[-1] - phi[0] - increment * (phi.size - 1)) > 1e-9:
        increment = float(phi[-1] - phi[0]) / (phi.size - 1)
    off = abs(phi - phi[0] - increment * np.arange(phi.size))
    if off.max() > UNEVEN * abs(increment):
        frame = int(off.argmax())
        raise InputError(
            f"phi: expected equal steps, which is all that CCTW knows, found frame {frame} at "
            f"{phi[frame]:g} instead of {phi[0] + increment * frame:g} degrees"
        )
    return float(phi[0]), increment


def script_of(settings: Mapping[str, Setting]) -> str:
    """Return a script that makes settings, a line each.

    Numbers are written so that they are read back to the last bit.
    """
    return "".join(f"{name} = {json.dumps(value)};\n" for name, value in settings.items())
