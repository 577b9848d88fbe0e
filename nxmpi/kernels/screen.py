"""What is no peak, found out before it is fitted voxel by voxel."""

from math import exp, log

import numpy as np
from numba import njit

from nxmpi._typing import F8, I4
from nxmpi.kernels.profile import BACKGROUND, INTENSITY, ROUGHLY, N, fit_profile, significance
from nxmpi.kernels.score import score

LEAST_SIGMA = (0.2, 0.2, 0.12)
"""Along x, y, z [pixels, pixels, frames]."""
LEAST_INTENSITY = 1e-3
SURE = 4.0
"""By how much a peak is too short if that is found from sums of frames [standard deviations]."""


@njit(cache=True, nogil=True)
def write_limits(
    shape: tuple[int, int, int], steps: tuple[int, int, int], widest: F8, beyond: float,
    least: F8, most: F8,
) -> None:  # fmt: skip
    """Write the limits of the parameters of `nxmpi.kernels.profile.fit_profile`.

    Parameters
    ----------
    shape : tuple of int
        Of the box, along z, y, x.
    steps : tuple of int
        Voxels that one of the box sums, along z, y, x.
    widest : (3,) float64
        Largest sigma along x, y, z, before voxels are summed.
    beyond : float
        How far outside of the box the middle may be along z.
    least, most : (8,) float64
        Receive the limits.
    """
    for axis in range(3):
        n, step = shape[2 - axis], steps[2 - axis]
        least[axis], most[axis] = -1.0, float(n)
        least[3 + axis] = log(LEAST_SIGMA[axis] / step)
        most[3 + axis] = log(widest[axis] / step)
    least[2], most[2] = -beyond, shape[0] - 1.0 + beyond
    least[INTENSITY], most[INTENSITY] = LEAST_INTENSITY, 1e12
    least[BACKGROUND], most[BACKGROUND] = 0.1 / (shape[0] * shape[1] * shape[2]), 1e9


@njit(cache=True, nogil=True)
def to_sums(values: F8, steps: tuple[int, int, int]) -> F8:
    """Return parameters of single voxels, (N,) float64, as those of sums of voxels."""
    binned = values.copy()
    for axis in range(3):
        step = steps[2 - axis]
        binned[axis] = (values[axis] - 0.5 * (step - 1.0)) / step
        binned[3 + axis] -= log(step)
    binned[BACKGROUND:] *= steps[0] * steps[1] * steps[2]
    return binned


@njit(cache=True, nogil=True)
def seems_a_peak(
    box: I4, corner: tuple[int, int, int], steps: tuple[int, int, int], level: float, values: F8
) -> bool:  # fmt: skip
    """Return whether a peak is significant enough to be fitted, by a score test.

    Parameters
    ----------
    box : (n_z, n_y, n_x) int32
        Sums of counts around the peak; negative where masked.
    corner : tuple of int
        Of the box, in single voxels.
    steps : tuple of int
        Voxels that one of the box sums, along z, y, x.
    level : float
        Least significance.
    values : (N,) float64
        Where a fit would begin, in single voxels.
    """
    moved = values.copy()
    for axis in range(3):
        moved[axis] -= corner[2 - axis]
    region = np.empty((3, 2), np.int32)
    room = np.empty((3, 3, max(box.shape[0], box.shape[1], box.shape[2])))
    return bool(score(box, to_sums(moved, steps), region, room) > level)


@njit(cache=True, nogil=True)
def fit_coarsely(
    box: I4, steps: tuple[int, int, int], shortest: float, widest: F8, beyond: float, level: float,
    values: F8,
) -> bool:  # fmt: skip
    """Fit a peak to sums of neighbouring voxels; return whether there may be one.

    Parameters
    ----------
    box : (n_z, n_y, n_x) int32
        Counts; negative where masked.
    shortest : float
        Least sigma along z, before voxels are summed.
    steps, widest, beyond
        See `write_limits`.
    level : float
        Least significance of what is fitted.
    values : (N,) float64
        Where to begin, in voxels that are not summed; receives the same of the fit, if there may
        be a peak.
    """
    errors, region = np.empty(N), np.empty((3, 2), np.int32)
    room = np.empty((3, 3, max(box.shape[0], box.shape[1], box.shape[2])))
    binned = to_sums(values, steps)
    score(box, binned, region, room)
    least, most = np.empty(8), np.empty(8)
    write_limits(box.shape, steps, widest, beyond, least, most)
    if not fit_profile(box, least, most, ROUGHLY, room, binned, errors, region):
        return False
    if exp(binned[5] + SURE * errors[5]) * steps[0] < shortest:
        return False
    if significance(box, binned, region, room) < level:
        return False
    for axis in range(3):
        step = steps[2 - axis]
        values[axis] = binned[axis] * step + 0.5 * (step - 1.0)
        values[3 + axis] = binned[3 + axis] + log(step)
    values[INTENSITY] = binned[INTENSITY]
    values[BACKGROUND:] = binned[BACKGROUND:] / (steps[0] * steps[1] * steps[2])
    return True


@njit(cache=True, nogil=True)
def falls_into_one_pixel(
    heart: I4, start: int, stop: int, expected: float, part: float, hit: float, brief: float
) -> bool:  # fmt: skip
    """Return whether an excess is that of one pixel, and all in one frame or in all of them.

    Parameters
    ----------
    heart : (n_z, n_y, n_x) int32
        Counts; negative where masked.
    start, stop : int
        Frames with the excess.
    expected : float
        Counts expected of a pixel in these frames.
    part : float
        Of the excess, that one pixel has more than [1].
    hit : float
        Counts in the frames beside the pixel's largest, as a part of that, below which it was
        hit by a particle [1].
    brief : float
        Part of the pixel's counts in its three strongest frames, below which it is hot [1].
    """
    best, row, column, total = -np.inf, 0, 0, 0.0
    for y in range(heart.shape[1]):
        for x in range(heart.shape[2]):
            excess = -expected
            for z in range(start, min(stop, heart.shape[0])):
                excess += max(heart[z, y, x], 0)
            total += excess
            if excess > best:
                best, row, column = excess, y, x
    if not best > part * max(total, 1.0):
        return False
    largest, all_counts = 0, 0
    for z in range(heart.shape[0]):
        all_counts += max(heart[z, row, column], 0)
        if heart[z, row, column] > heart[largest, row, column]:
            largest = z
    beside = 0
    for z in (largest - 1, largest + 1):
        if 0 <= z < heart.shape[0]:
            beside += max(heart[z, row, column], 0)
    most = max(heart[largest, row, column], 0)
    return bool(beside - 2.0 * expected < hit * most or beside + most < brief * all_counts)
