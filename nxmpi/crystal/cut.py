"""Lines through a volume: which voxels lie along them, by true lengths and angles."""

from typing import NamedTuple

import numpy as np

from nxmpi._typing import F8, I8
from nxmpi.errors import InputError

NEAR = 1e-6
"""Parts of a bin or a voxel by which a voxel may lie outside, through rounding."""


class Line(NamedTuple):
    """A cylinder, divided along its axis."""

    start: F8
    """(3,) float64: the middle of the first bin, along the volume's axes."""
    step: F8
    """(3,) float64: to the middle of the next."""
    n: int
    """Number of bins."""
    radius: float
    """[1/Å, Å in real space]"""
    metric: F8
    """(3, 3) float64: ``x @ metric @ x`` is the square of the length of x."""


def metric_of(lengths: tuple[float, ...], angles: tuple[float, ...]) -> F8:
    """Return the metric of three axes, (3, 3) float64.

    Parameters
    ----------
    lengths : tuple of float
        Of the axes h, k, l, or x, y, z.
    angles : tuple of float
        Between the second and the third, the first and the third, the first and the second
        [degrees].
    """
    alpha, beta, gamma = np.cos(np.radians(angles))
    cosines = np.array([[1, gamma, beta], [gamma, 1, alpha], [beta, alpha, 1]])
    return np.asarray(np.outer(lengths, lengths) * cosines)


def make_line(
    ends: tuple[F8, F8], voxel: F8, metric: F8, step: float | None, width: float | None
) -> Line:
    """Return a line with bins about places from its first end on.

    Parameters
    ----------
    ends : tuple of (3,) float64
        Along the volume's axes.
    voxel : (3,) float64
        Steps of the volume.
    metric : (3, 3) float64
        See `metric_of`.
    step : float or None
        Of the coordinate that changes most; None for the volume's.
    width : float or None
        Diameter [1/Å, Å in real space]; None for the longest edge of a voxel.

    Raises
    ------
    InputError
        If it has no length.
    """
    start, stop = ends
    way = stop - start
    if not way.any():
        raise InputError("line: expected two ends, found the same place twice")
    main = int(np.argmax(np.abs(way)))
    length = step or float(voxel[main])
    edges = voxel * np.sqrt(np.diag(metric))
    return Line(
        start=start,
        step=way * (length / abs(way[main])),
        n=int(np.floor(abs(way[main]) / length + NEAR)) + 1,
        radius=(width or float(edges.max())) / 2,
        metric=metric,
    )


def bounds(line: Line) -> tuple[F8, F8]:
    """Return the least and largest coordinates of a line's cylinder, (3,) float64 each."""
    ends = np.array([line.start - line.step / 2, line.start + line.step * (line.n - 0.5)])
    reach = line.radius * np.sqrt(np.diag(np.linalg.inv(line.metric)))
    return ends.min(axis=0) - reach, ends.max(axis=0) + reach


def bins_of(line: Line, places: F8) -> I8:
    """Return the bin of each place, -1 for those that are off the line.

    Parameters
    ----------
    places : (..., 3) float64
        Along the volume's axes.

    Returns
    -------
    (...) int64
        By the foot of the perpendicular; a place between two bins is in the farther one.
    """
    from_start = places - line.start
    covector = line.metric @ line.step
    along = from_start @ covector / (line.step @ covector)
    off = from_start - along[..., None] * line.step
    distance = np.sqrt(np.maximum(np.einsum("...i,ij,...j", off, line.metric, off), 0.0))
    bins = np.floor(along + 0.5 + NEAR).astype(np.int64)
    inside = (distance <= line.radius * (1 + NEAR)) & (bins >= 0) & (bins < line.n)
    return np.where(inside, bins, -1)
