"""Goniometer angles to rotation matrices."""

import numpy as np

from nxmpi._typing import F8
from nxmpi.model import Goniometer


def rotation(axis: int, angle: float) -> F8:
    """Return the right-handed active rotation about a laboratory axis.

    Parameters
    ----------
    axis : int
        0, 1, 2 for x, y, z.
    angle : float
        [degrees]

    Returns
    -------
    (3, 3) float64
    """
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def goniometer_matrix(goniometer: Goniometer, phi: float) -> F8:
    """Return R(phi) = Ry(theta) Rz(omega) Rx(chi) Rz(phi).

    Parameters
    ----------
    phi : float
        [degrees]

    Returns
    -------
    (3, 3) float64
    """
    outer = rotation(1, goniometer.theta) @ rotation(2, goniometer.omega)
    return np.asarray(outer @ rotation(0, goniometer.chi) @ rotation(2, phi))


def frame_matrices(goniometer: Goniometer, parts: int = 1) -> F8:
    """Return R in the middle of every frame, or of equal parts of each frame's rotation.

    Returns
    -------
    (n_frames * parts, 3, 3) float64
        Those of a frame one after another.
    """
    middles = np.array(goniometer.phi)[:, None] + goniometer.step * centred(parts, 0.5)
    matrices = [goniometer_matrix(goniometer, phi) for phi in middles.ravel()]
    return np.array(matrices).reshape(-1, 3, 3)


def centred(n: int, middle: float = 0.0) -> F8:
    """Return the middles of n equal parts of an interval of length 1, (n,) float64.

    Parameters
    ----------
    middle : float, optional
        Of the interval.
    """
    return (np.arange(n) + 0.5) / n + (middle - 0.5)
