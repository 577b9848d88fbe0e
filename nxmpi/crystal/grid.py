"""A grid that suits a detector and a unit cell."""

import math

import numpy as np

from nxmpi.crystal.detector import pixel_positions
from nxmpi.crystal.lattice import direct_matrix
from nxmpi.crystal.reciprocal import scattering_vectors
from nxmpi.model import Detector, Lattice

POINTS = 1000
"""About so many voxels an axis."""


def largest_G(detector: Detector, wavelength: float) -> float:
    """Return the largest |G| = 1/d that the detector's rim sees.

    Returns
    -------
    float
        [1/Å]
    """
    n_slow, n_fast = detector.shape
    x, y = np.meshgrid(np.linspace(0, n_fast, 64), np.linspace(0, n_slow, 64))
    k = scattering_vectors(pixel_positions(detector, x, y), wavelength)
    return float(np.linalg.norm(k, axis=-1).max())


def default_axes(G_max: float, lattice: Lattice) -> tuple[tuple[float, float, float], ...]:
    """Return (start, step, stop) along h, k, l that hold a sphere of 0.8 times a radius.

    Steps are 1, 2 or 5 times a power of ten, for about 1000 voxels an axis; the number of
    voxels is odd, so that 0 is the centre of one.

    Parameters
    ----------
    G_max : float
        [1/Å]
    """
    axes = []
    for length in np.linalg.norm(direct_matrix(lattice), axis=0):
        stop = 2 * math.ceil(max(0.8 * G_max * length, 1.0) / 2)
        wanted = 2 * stop / POINTS
        power = 10.0 ** math.floor(math.log10(wanted))
        factor = min((1, 2, 5, 10), key=lambda f: abs(f - wanted / power))
        step = float(f"{factor * power:.10g}")
        axes.append((-float(stop), step, float(stop)))
    return tuple(axes)
