"""The geometry of CCTW as it is, oversampling and all angles included."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

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
    settings = _Settings(values)
    _require_possible(settings)
    split = [int(settings.get(f"transformer.oversample{axis}")) for axis in "XYZ"]
    frames = np.arange(n_frames)[:, None] + np.arange(split[2]) / split[2]
    turns = _turns(settings, frames.ravel())
    lead, centre = _detector(settings)
    flat, parts = _pixels(settings, shape, split)
    samples = (turns @ settings.vector("xTrans"))[:, None] - parts @ lead.T
    scale = settings.vector("gridDim")[:, None] * np.linalg.inv(settings.matrix("gridBasis"))
    turned = np.swapaxes(turns, 1, 2) / settings.get("parameters.wavelength")
    to_voxel = scale @ np.linalg.inv(settings.matrix("ubMat")) @ turned
    return Sights(
        places=flat @ lead.T + centre,
        matrices=np.repeat(to_voxel, len(parts), axis=0),
        offset=settings.vector("gridOffset") - scale @ settings.vector("gridOrigin"),
        samples=samples.reshape(-1, 3),
        views=int(np.prod(split)),
    )


class _Settings(NamedTuple):
    """What a script sets, and CCTW's own values of what may be left out."""

    values: Mapping[str, Any]

    def get(self, name: str) -> Any:
        if name not in self.values and name not in OPTIONAL:
            raise InputError(f"settings: expected {name}, found nothing")
        return self.values.get(name, OPTIONAL.get(name))

    def degrees(self, *names: str) -> float:
        """Return the sum of parameters that are angles [degrees]."""
        return float(np.degrees(sum(self.get(f"parameters.{name}") for name in names)))

    def vector(self, name: str) -> F8:
        return np.array(self.get(f"parameters.{name}"), float)

    def matrix(self, name: str) -> F8:
        found = self.vector(name)
        if not abs(np.linalg.det(found)) > 1e-12:
            raise InputError(f"settings: parameters.{name}: expected an invertible matrix, "
                             f"found {found.tolist()}")  # fmt: skip
        return found


def _detector(settings: _Settings) -> tuple[F8, F8]:
    """Return D inv(oMat) (3, 3) and c - D oVec (3,) [mm], float64."""
    tilt = (
        rotation(0, settings.degrees("orientErrorDetRoll"))
        @ rotation(1, settings.degrees("orientErrorDetPitch"))
        @ rotation(2, settings.degrees("orientErrorDetYaw"))
    )
    centre = np.array([settings.get("parameters.distance"), 0.0, 0.0])
    if settings.get("parameters.useGonPitchError"):
        arm = rotation(1, settings.degrees("orientErrorGonPitch")) @ rotation(
            2, settings.degrees("twoThetaNom", "twoThetaCorrection")
        )
        tilt, centre = arm @ tilt, arm @ centre
    lead = tilt @ np.linalg.inv(settings.matrix("oMat"))
    return lead, centre - tilt @ settings.vector("oVec")


def _pixels(settings: _Settings, shape: tuple[int, int], split: list[int]) -> tuple[F8, F8]:
    """Return places on the detector: pixels (n_slow, n_fast, 3), parts in one (n, 3) [mm]."""
    size = settings.get("parameters.pixelSize")
    y, x = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    along = np.eye(3)[:2]
    if settings.get("parameters.extraFlip"):
        x, y, along = FLIPPED_SIZE - y, FLIPPED_SIZE - x, -along[::-1]
    u = (x + 0.5 - settings.get("parameters.det0x")) * size
    v = (y + 0.5 - settings.get("parameters.det0y")) * size
    parts = [
        (a * along[0] + b * along[1]) * size
        for b, a in product(np.arange(split[1]) / split[1], np.arange(split[0]) / split[0])
    ]
    return np.stack([u, v, np.zeros(shape)], axis=-1), np.array(parts)


def _require_possible(settings: _Settings) -> None:
    get = settings.get
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


def _turns(settings: _Settings, frames: F8) -> F8:
    """Return G at places between frames, (n, 3, 3) float64."""
    get = settings.get
    angles = {
        name: np.degrees(
            get(f"parameters.{name}Nom")
            + frames * get(f"parameters.{name}Step")
            + get(f"parameters.{name}Correction")
        )
        for name in CIRCLES[1:]
    }
    outer = rotation(1, settings.degrees("orientErrorGonPitch"))
    return np.array(
        [
            outer @ rotation(2, omega) @ rotation(0, chi) @ rotation(2, phi)
            for omega, chi, phi in zip(*(angles[name] for name in CIRCLES[1:]), strict=True)
        ]
    ).reshape(-1, 3, 3)
