"""Directions of the scattering: polar angle, azimuth and |Q| of places on the detector."""

import numpy as np

from nxmpi._typing import F8
from nxmpi.crystal.detector import pixel_centres, pixel_positions
from nxmpi.crystal.reciprocal import scattering_vectors
from nxmpi.model import Detector


def polar_azimuth(detector: Detector, x: F8, y: F8) -> tuple[F8, F8]:
    """Return the scattering angle of places on the detector, and the angle about the beam.

    Parameters
    ----------
    x, y : (...) float64
        Indices: the centre of pixel 0 is 0 [pixels].

    Returns
    -------
    polar : (...) float64
        2 theta [degrees].
    azimuth : (...) float64
        From +z, towards -y, as NXRefine has it [degrees].
    """
    v = pixel_positions(detector, np.asarray(x) + 0.5, np.asarray(y) + 0.5)
    polar = np.arctan2(np.hypot(v[..., 1], v[..., 2]), v[..., 0])
    azimuth = np.arctan2(-v[..., 1], v[..., 2])
    return np.asarray(np.degrees(polar)), np.asarray(np.degrees(azimuth))


def pixel_Q(detector: Detector, wavelength: float) -> F8:
    """Return |Q| = 4 pi sin(theta) / wavelength at the centre of every pixel.

    Returns
    -------
    (n_slow, n_fast) float64
        [1/Å]
    """
    k = scattering_vectors(pixel_centres(detector), wavelength)
    return np.asarray(2 * np.pi * np.linalg.norm(k, axis=-1))


def far_edge_Q(detector: Detector, wavelength: float) -> float:
    """Return |Q| of the edge farthest from the beam, where it is nearest to it.

    Returns
    -------
    float
        [1/Å]
    """
    n_slow, n_fast = detector.shape
    x, y = (np.clip(c, 0, n) for c, n in zip(detector.beam_center, (n_fast, n_slow), strict=True))
    edges = np.array([(0.0, y), (n_fast, y), (x, 0.0), (x, n_slow)])
    k = scattering_vectors(pixel_positions(detector, edges[:, 0], edges[:, 1]), wavelength)
    return float(2 * np.pi * np.linalg.norm(k, axis=-1).max())
