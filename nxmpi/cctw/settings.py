"""Settings of CCTW to geometry and grid, and back."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.cctw.geometry import OPTIONAL
from nxmpi.cctw.script import read_script
from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.reciprocal import offset_from_file, offset_to_file
from nxmpi.errors import InputError
from nxmpi.model import Detector, Geometry, Goniometer, HKLGrid

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi.cctw.script import Setting
    from nxmpi.model import Lattice
    from nxmpi.params import Voxels

FIXED = {**OPTIONAL, "parameters.oVec": 0}
"""Settings that must be so here; `nxmpi.cctw.geometry` knows others too."""
BLOCK = 50
"""Voxels along each axis of a block of the program's volume, as NXRefine sets it."""
UNEVEN = 1e-3
"""How far a frame may be from its place in equal steps [steps]."""


def geometry_and_grid(
    path: Path, shape: tuple[int, int], n_frames: int
) -> tuple[Geometry, HKLGrid]:  # fmt: skip
    """Return what a settings file says of the instrument and the grid. Not collective.

    The program's angle phi0 + k step stands for the middle of frame k; as phi is the innermost
    rotation, half a frame is taken from the crystal's orientation and place.

    Parameters
    ----------
    shape : tuple of int
        Of the raw frames, (n_slow, n_fast).

    Raises
    ------
    InputError
        If a setting is missing, or one that changes the result is not understood.
    """
    values = read_script(path)

    def get(name: str, owner: str = "parameters") -> Any:
        if f"{owner}.{name}" not in values:
            raise InputError(f"{path}: expected {owner}.{name}, found nothing")
        return values[f"{owner}.{name}"]

    for name, value in FIXED.items():
        found = values.get(name, value)
        if np.any(np.asarray(found) != value):
            raise InputError(
                f"{path}: {name}: expected {json.dumps(value)}, found {json.dumps(found)} "
                "(nxcctw transform knows others)"
            )
    if get("extraFlip") or not np.array_equal(get("gridBasis"), np.eye(3)):
        raise InputError(f"{path}: expected extraFlip = false and gridBasis the unit matrix")
    angle = {
        name: float(np.degrees(get(f"{name}Nom") + get(f"{name}Correction")))
        for name in ("omega", "chi", "phi")
    }
    step = float(np.degrees(get("phiStep")))
    x, y, z = get("xTrans")
    geometry = Geometry(
        wavelength=get("wavelength"),
        detector=Detector(
            shape=shape,
            pixel_size=get("pixelSize"),
            distance=get("distance"),
            beam_center=(get("det0x"), get("det0y")),
            orientation=as_matrix(np.array(get("oMat"), dtype=float)),
            yaw=float(np.degrees(get("orientErrorDetYaw"))),
            pitch=float(np.degrees(get("orientErrorDetPitch"))),
            roll=float(np.degrees(get("orientErrorDetRoll"))),
        ),
        goniometer=Goniometer(
            theta=float(np.degrees(get("orientErrorGonPitch"))),
            omega=angle["omega"],
            chi=angle["chi"],
            phi=tuple(float(angle["phi"] + step * k) for k in range(n_frames)),
            step=step,
            sample_offset=offset_from_file((x, y, z), step),
        ),
        UB=as_matrix(rotation(2, -step / 2) @ np.array(get("ubMat"))),
    )
    dims = np.array(get("gridDim"), dtype=float)
    origin = np.array(get("gridOrigin")) - np.array(get("gridOffset")) / dims
    n_h, n_k, n_l = get("dimensions", "outputData")
    h, k, l = (float(v) for v in origin)
    dh, dk, dl = (float(v) for v in 1 / dims)
    return geometry, HKLGrid(origin=(h, k, l), step=(dh, dk, dl), shape=(n_h, n_k, n_l))


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
