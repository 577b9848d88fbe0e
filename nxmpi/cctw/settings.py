"""A settings file of CCTW to geometry and grid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.cctw.geometry import OPTIONAL
from nxmpi.cctw.script import read_script
from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.reciprocal import offset_from_file
from nxmpi.errors import InputError
from nxmpi.model import Detector, Geometry, Goniometer, HKLGrid

if TYPE_CHECKING:
    from pathlib import Path

FIXED = {**OPTIONAL, "parameters.oVec": 0}
"""Settings that must be so here; `nxmpi.cctw.geometry` knows others too."""


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
