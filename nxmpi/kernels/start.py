"""Where the fit of a peak begins, and what of its box is looked at first."""

from math import exp, log, sqrt

import numpy as np
from numba import njit

from nxmpi._typing import F8
from nxmpi.kernels.profile import BACKGROUND, INTENSITY, MARGIN, REACH, N

FEWEST_COUNTS = 5.0
"""Counts above the background that a peak begins with at least."""
LEAST_BACKGROUND = 1e-3
"""The same of a voxel's background."""


@njit(cache=True, nogil=True)
def start_values(
    place: tuple[int, int], frames: tuple[int, int], side: int, found: tuple[float, float],
    sigmas: tuple[float, float],
) -> F8:  # fmt: skip
    """Return the parameters that a fit begins with, (N,) float64; see `fit_profile`.

    Parameters
    ----------
    place : tuple of int
        Column and row, in the box of the fit.
    frames : tuple of int
        First and last frame of the window, and one more, in the box of the fit.
    side : int
        Of the box of the search [pixels].
    found : tuple of float
        Significance, and counts expected in the box of the search and the window.
    sigmas : tuple of float
        In x and y, and in z, to begin with.
    """
    values = np.zeros(N)
    values[0], values[1] = place
    values[2] = 0.5 * (frames[0] + frames[1] - 1)
    values[3] = values[4] = log(sigmas[0])
    values[5] = log(sigmas[1])
    strong, expected = found
    counts = (sqrt(expected) + 0.5 * strong) ** 2
    values[INTENSITY] = 1.5 * max(counts - expected, FEWEST_COUNTS)
    voxels = side * side * (frames[1] - frames[0])
    values[BACKGROUND] = max(expected / voxels, LEAST_BACKGROUND)
    return values


@njit(cache=True, nogil=True)
def core_of_box(
    shape: tuple[int, int, int], steps: tuple[int, int, int], values: F8
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return the part of a box that a peak reaches into: ranges of voxels along z, y, x.

    Parameters
    ----------
    shape : tuple of int
        Of the box, along z, y, x.
    steps : tuple of int
        Voxels that are summed, along z, y, x: the ranges are of whole sums.
    values : (N,) float64
        Parameters of the peak.
    """
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for axis in range(3):
        step, middle = steps[axis], values[2 - axis]
        half = REACH * exp(values[5 - axis]) + step * MARGIN[2 - axis]
        n = shape[axis] // step
        low[axis] = min(max(int((middle - half) / step), 0), n - 1)
        high[axis] = max(min(int((middle + half) / step) + 2, n), low[axis] + 1)
        low[axis] *= step
        high[axis] *= step
    return (low[0], high[0]), (low[1], high[1]), (low[2], high[2])
