"""Where pixels are in the laboratory."""

import re

import numpy as np

from nxmpi._typing import F8
from nxmpi.crystal.goniometer import rotation
from nxmpi.errors import InputError
from nxmpi.model import Detector, Matrix


def parse_orientation(text: str) -> Matrix:
    """Return the axes named by a string such as ``-y +z -x``.

    Row i is the laboratory axis along detector axis i at zero tilt.

    Raises
    ------
    InputError
        Unless the string names each of x, y, z once.
    """
    axes = re.findall(r"([+-]?)([xyz])", text.replace(" ", ""))
    if "".join(s + a for s, a in axes) != text.replace(" ", "") or sorted(a for _, a in axes) != [
        "x",
        "y",
        "z",
    ]:
        raise InputError(f"detector orientation: expected such as '-y +z -x', found '{text}'")
    rows = np.zeros((3, 3))
    for row, (sign, axis) in enumerate(axes):
        rows[row, "xyz".index(axis)] = -1.0 if sign == "-" else 1.0
    return as_matrix(rows)


def orientation_text(orientation: Matrix) -> str | None:
    """Return the string that `parse_orientation` reads, None where rows are no axes."""
    rows = np.array(orientation)
    if not np.isin(rows, (-1.0, 0.0, 1.0)).all():
        return None
    axes = np.abs(rows).argmax(axis=1)
    signs = ["-" if row[axis] < 0 else "+" for row, axis in zip(rows, axes, strict=True)]
    return " ".join(sign + "xyz"[axis] for sign, axis in zip(signs, axes, strict=True))


def as_matrix(values: F8) -> Matrix:
    """Return a (3, 3) array as nested tuples, for the model's frozen classes."""
    a, b, c = (tuple(float(x) for x in row) for row in np.asarray(values).reshape(3, 3))
    return a, b, c  # type: ignore[return-value]


def detector_axes(detector: Detector) -> F8:
    """Return T inv(O), whose columns are the detector's axes in the laboratory.

    ``T = Rx(roll) Ry(pitch) Rz(yaw)``.

    Returns
    -------
    (3, 3) float64
    """
    tilt = rotation(0, detector.roll) @ rotation(1, detector.pitch) @ rotation(2, detector.yaw)
    return np.asarray(tilt @ np.linalg.inv(np.array(detector.orientation)))


def pixel_positions(detector: Detector, x: F8, y: F8) -> F8:
    """Return points of the detector in the laboratory, from the goniometer's centre.

    Parameters
    ----------
    x, y : (...) float64
        From the outer corner of pixel 0; the centre of pixel i is i + 0.5 [pixels].

    Returns
    -------
    (..., 3) float64
        [mm]
    """
    axes = detector_axes(detector) * detector.pixel_size
    u = np.asarray(x)[..., None] - detector.beam_center[0]
    v = np.asarray(y)[..., None] - detector.beam_center[1]
    origin = np.array([detector.distance, 0.0, 0.0])
    return np.asarray(u * axes[:, 0] + v * axes[:, 1] + origin)


def pixel_centres(detector: Detector) -> F8:
    """Return the centre of every pixel in the laboratory.

    Returns
    -------
    (n_slow, n_fast, 3) float64
        [mm]
    """
    n_slow, n_fast = detector.shape
    x, y = np.meshgrid(np.arange(n_fast) + 0.5, np.arange(n_slow) + 0.5)
    return pixel_positions(detector, x, y)
