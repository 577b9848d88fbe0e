"""Reflections that frames show: how far out they go, and when each crosses the Ewald sphere."""

from typing import NamedTuple

import numpy as np

from nxmpi._typing import F8, Mask
from nxmpi.crystal.detector import pixel_positions
from nxmpi.crystal.reciprocal import hkl_to_pixel, reflecting_angles, scattering_vectors
from nxmpi.model import Detector, Geometry, Goniometer


class Appearances(NamedTuple):
    """Reflections where and when they appear."""

    hkl: F8
    """(n, 3) float64 [r.l.u.]"""
    phi: F8
    """(n,) float64, true angle [degrees]."""
    x: F8
    """(n,) float64, index: the centre of pixel 0 is 0 [pixels]."""
    y: F8
    """(n,) float64 [pixels]"""
    z: F8
    """(n,) float64, index: the middle of frame 0 is 0 [frames]."""


def least_spacing(detector: Detector, wavelength: float) -> float:
    """Return the least spacing that reaches corners and edges of the detector [Å]."""
    n_slow, n_fast = detector.shape
    edge = np.array([0.0, 0.5, 1.0])
    x, y = (grid.ravel() for grid in np.meshgrid(edge * n_fast, edge * n_slow))
    k = scattering_vectors(pixel_positions(detector, x, y), wavelength)
    return 1 / float(np.linalg.norm(k, axis=1).max())


def crossings(geometry: Geometry, hkl: F8, margin: float = 0.0) -> tuple[F8, F8]:
    """Return all crossings of the Ewald sphere during the frames.

    Parameters
    ----------
    hkl : (n, 3) float64
        [r.l.u.]
    margin : float, optional
        Before the first frame and behind the last one [frames].

    Returns
    -------
    hkl : (m, 3) float64
        Once for each crossing.
    phi : (m,) float64
        True angle [degrees].
    """
    goniometer, way = geometry.goniometer, np.sign(geometry.goniometer.step)
    first = goniometer.phi[0] - margin * goniometer.step
    last = goniometer.phi[-1] + (1 + margin) * goniometer.step
    rotation = abs(last - first)
    found_hkl, found_phi = [], []
    for phi in reflecting_angles(geometry, hkl).T:
        for turn in range(int(rotation // 360) + 1):
            offset = ((phi - first) * way) % 360 + 360 * turn
            inside = (offset >= 0) & (offset < rotation)
            found_hkl.append(hkl[inside])
            found_phi.append(first + way * offset[inside])
    return np.concatenate(found_hkl), np.concatenate(found_phi)


def appearances(geometry: Geometry, hkl: F8) -> Appearances:
    """Return where reflections appear on the detector during the frames, in their order.

    Parameters
    ----------
    hkl : (n, 3) float64
        [r.l.u.]
    """
    hkl, phi = crossings(geometry, hkl)
    z, recorded = _frames(geometry.goniometer, phi)
    hkl, phi, z = hkl[recorded], phi[recorded], z[recorded]
    x, y = hkl_to_pixel(geometry, hkl, phi) if len(hkl) else (phi, phi)
    n_slow, n_fast = geometry.detector.shape
    use = (x >= 0) & (x < n_fast) & (y >= 0) & (y < n_slow)
    order = np.flatnonzero(use)[np.lexsort((*hkl[use].T, z[use]))]
    return Appearances(hkl[order], phi[order], x[order] - 0.5, y[order] - 0.5, z[order])


def _frames(goniometer: Goniometer, phi: F8) -> tuple[F8, Mask]:
    """Return the place of angles along the frames, and whether a frame covers them."""
    starts, step = np.array(goniometer.phi), goniometer.step
    way = np.sign(step)
    frame = np.searchsorted(way * starts, way * phi + 1e-9, side="right") - 1
    into = (phi - starts[np.maximum(frame, 0)]) / step
    return frame + into - 0.5, np.asarray((frame >= 0) & (into < 1 + 1e-9))
