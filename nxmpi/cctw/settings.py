"""A settings file of CCTW to geometry and grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.cctw.script import read_script
from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.reciprocal import offset_from_file
from nxmpi.errors import InputError
from nxmpi.model import Detector, Geometry, Goniometer, HKLGrid

if TYPE_CHECKING:
    from pathlib import Path

ZEROS = (
    "oVec", "twoThetaCorrection", "twoThetaNom", "twoThetaStep",
    "omegaStep", "chiStep",
)  # fmt: skip
"""Parameters of CCTW that must be zero here."""


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

    for name in ZEROS:
        if np.any(values.get(f"parameters.{name}", 0)):
            raise InputError(f"{path}: parameters.{name}: expected 0, found {get(name)}")
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
