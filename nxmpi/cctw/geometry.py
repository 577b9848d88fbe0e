"""The geometry of CCTW as it is, oversampling and all angles included."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.cctw.script import CIRCLES
from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.reciprocal import Sights
from nxmpi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nxmpi._typing import F8

OPTIONAL = {
    "parameters.useGonPitchError": False,
    "transformer.transformOptions": 0,
    **{f"transformer.oversample{axis}": 1 for axis in "XYZ"},
    **{f"parameters.twoTheta{end}": 0 for end in ("Correction", "Nom", "Step")},
    **{f"parameters.{circle}Step": 0 for circle in ("omega", "chi")},
}
"""What may be left out. Of all others CCTW has values of its own, those of one instrument."""
FLIPPED_SIZE = 2048
"""Pixels of the detector that ``extraFlip`` is made for."""


def find_sights(values: Mapping[str, Any], shape: tuple[int, int], n_frames: int) -> Sights:
    """Return how CCTW sees the pixels of every frame. Not collective.

    Parameters
    ----------
    values : mapping
        Settings, as `nxmpi.cctw.script.parse_script` returns them; angles in radians, lengths
        in mm, wavelength in Å, without 2 pi.
    shape : tuple of int
        Of a frame, (n_slow, n_fast).

    Returns
    -------
    Sights
        Parts of frames, rows and columns begin where these begin: CCTW does not centre them.

    Raises
    ------
    InputError
        If a setting is missing, or cannot be.

    Notes
    -----
    Source of CCTW 0.2.3. With G = Ry(gonPitch) Rz(omega) Rx(chi) Rz(phi) at z frames from the
    start, D = Rx(roll) Ry(pitch) Rz(yaw), c = (distance, 0, 0) and p on the detector,
    r = D (inv(oMat) p - oVec) + c - G xTrans leads from the sample to the pixel, k = (r/|r| - x)
    / wavelength, hkl = inv(ubMat) inv(G) k, and the voxel is the floor of gridDim
    inv(gridBasis) (hkl - gridOrigin) + gridOffset. ``useGonPitchError`` turns D and c by
    Ry(gonPitch) Rz(twoTheta), which nothing else makes use of.
    """

    def get(name: str) -> Any:
        if name not in values and name not in OPTIONAL:
            raise InputError(f"settings: expected {name}, found nothing")
        return values.get(name, OPTIONAL.get(name))

    def matrix(name: str) -> F8:
        found = np.array(get(f"parameters.{name}"), float)
        if not abs(np.linalg.det(found)) > 1e-12:
            raise InputError(f"settings: parameters.{name}: expected an invertible matrix, "
                             f"found {found.tolist()}")  # fmt: skip
        return found

    def vector(name: str) -> F8:
        return np.array(get(f"parameters.{name}"), float)

    _require_possible(get)
    split = [int(get(f"transformer.oversample{axis}")) for axis in "XYZ"]
    frames = np.arange(n_frames)[:, None] + np.arange(split[2]) / split[2]
    turns = _turns(get, frames.ravel())
    size, distance = get("parameters.pixelSize"), get("parameters.distance")
    roll, pitch, yaw, theta = (
        float(np.degrees(get(f"parameters.orientError{name}")))
        for name in ("DetRoll", "DetPitch", "DetYaw", "GonPitch")
    )
    tilt = rotation(0, roll) @ rotation(1, pitch) @ rotation(2, yaw)
    centre = np.array([distance, 0.0, 0.0])
    if get("parameters.useGonPitchError"):
        angle = get("parameters.twoThetaNom") + get("parameters.twoThetaCorrection")
        arm = rotation(1, theta) @ rotation(2, float(np.degrees(angle)))
        tilt, centre = arm @ tilt, arm @ centre
    lead = tilt @ np.linalg.inv(matrix("oMat"))
    y, x = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    along = np.eye(3)[:2]
    if get("parameters.extraFlip"):
        x, y, along = FLIPPED_SIZE - y, FLIPPED_SIZE - x, -along[::-1]
    u = (x + 0.5 - get("parameters.det0x")) * size
    v = (y + 0.5 - get("parameters.det0y")) * size
    flat = np.stack([u, v, np.zeros(shape)], axis=-1)
    parts = [
        (a * along[0] + b * along[1]) * size
        for b, a in product(np.arange(split[1]) / split[1], np.arange(split[0]) / split[0])
    ]
    samples = (turns @ vector("xTrans"))[:, None] - np.array(parts) @ lead.T
    dims = vector("gridDim")
    scale = dims[:, None] * np.linalg.inv(matrix("gridBasis"))
    turned = np.swapaxes(turns, 1, 2) / get("parameters.wavelength")
    return Sights(
        places=flat @ lead.T - tilt @ vector("oVec") + centre,
        matrices=np.repeat(scale @ np.linalg.inv(matrix("ubMat")) @ turned, len(parts), axis=0),
        offset=vector("gridOffset") - scale @ vector("gridOrigin"),
        samples=samples.reshape(-1, 3),
        views=int(np.prod(split)),
    )


def _require_possible(get: Any) -> None:
    positive = [f"parameters.{name}" for name in ("pixelSize", "wavelength", "distance", "gridDim")]
    for name in (*positive, *(f"transformer.oversample{axis}" for axis in "XYZ")):
        if not np.min(get(name)) > 0:
            raise InputError(f"settings: {name}: expected more than 0, found {get(name)}")
    if get("transformer.transformOptions") != 0:
        found = get("transformer.transformOptions")
        raise InputError(f"settings: transformer.transformOptions: expected 0, found {found}")
    if get("parameters.useGonPitchError") and get("parameters.twoThetaStep") != 0:
        found = get("parameters.twoThetaStep")
        raise InputError(
            f"settings: parameters.twoThetaStep: expected 0, a detector at rest, found {found}"
        )


def _turns(get: Any, frames: F8) -> F8:
    """Return G at places between frames, (n, 3, 3) float64."""
    theta = float(np.degrees(get("parameters.orientErrorGonPitch")))
    angles = {
        name: np.degrees(
            get(f"parameters.{name}Nom")
            + frames * get(f"parameters.{name}Step")
            + get(f"parameters.{name}Correction")
        )
        for name in CIRCLES[1:]
    }
    outer = rotation(1, theta)
    return np.array(
        [
            outer @ rotation(2, omega) @ rotation(0, chi) @ rotation(2, phi)
            for omega, chi, phi in zip(*(angles[name] for name in CIRCLES[1:]), strict=True)
        ]
    ).reshape(-1, 3, 3)
