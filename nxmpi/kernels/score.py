"""How significant a peak would be, before anything is fitted: Rao's score test."""

from math import exp, pi, sqrt

import numpy as np
from numba import njit

from nxmpi._typing import F8, I4
from nxmpi.kernels.information import damped_inverse
from nxmpi.kernels.profile import (
    BACKGROUND,
    BENT,
    INTENSITY,
    N,
    set_region,
    write_shares,
)

FAINT = 0.3
"""Height of a peak in parts of the background, below which a fit begins with the background that
the test leaves, and not with a flat one: what is this faint is not told from slopes otherwise."""
LINEAR = N - INTENSITY
"""Parameters that the counts are linear in: intensity, background, its slopes and curvatures."""
ALONG_X = (0, 1, 2, 1, 1, 3, 1, 1)
"""Which of gx, 1, u and u² their derivatives have along x."""
N_ALONG_X = 4


@njit(cache=True, nogil=True)
def write_products(counts: I4, shapes: F8, products: F8) -> None:
    """Write sums over the voxels of a row, that are not masked, of products of two shapes.

    Parameters
    ----------
    counts : (n,) int32
        Negative where masked.
    shapes : (N_ALONG_X, n) float64
    products : (N_ALONG_X, N_ALONG_X) float64
        Receives the sums.
    """
    products[:] = 0.0
    for x in range(counts.shape[0]):
        if counts[x] >= 0:
            for i in range(N_ALONG_X):
                for j in range(N_ALONG_X):
                    products[i, j] += shapes[i, x] * shapes[j, x]


@njit(cache=True, nogil=True)
def write_pulls(counts: I4, shapes: F8, pulls: F8) -> int:
    """Write sums over a row of counts times shapes; return how many voxels are masked."""
    a = b = c = d = 0.0
    masked = 0
    for x in range(counts.shape[0]):
        n = float(max(counts[x], 0))
        masked += counts[x] < 0
        a += n * shapes[0, x]
        b += n * shapes[1, x]
        c += n * shapes[2, x]
        d += n * shapes[3, x]
    pulls[0], pulls[1], pulls[2], pulls[3] = a, b, c, d
    return masked


@njit(cache=True, nogil=True)
def add_linear(box: I4, values: F8, region: I4, shares: F8, gradient: F8, information: F8) -> int:
    """Sum what `nxmpi.kernels.profile.add_information` does, of the linear parameters.

    The background is flat and there is no peak as yet, so all voxels have the same weight.

    Parameters
    ----------
    box, values, region, shares
        See there.
    gradient, information : (LINEAR,), (LINEAR, LINEAR) float64
        Receive the sums.

    Returns
    -------
    int
        Voxels that are not masked.
    """
    for axis in range(3):
        n = region[axis, 1] - region[axis, 0]
        write_shares(values[axis], exp(values[3 + axis]), region[axis, 0], shares[axis, :, :n])
    n = region[0, 1] - region[0, 0]
    shapes = np.ones((N_ALONG_X, n))
    shapes[0] = shares[0, 0, :n]
    for x in range(n):
        shapes[2, x] = (2.0 * (region[0, 0] + x) + 1.0) / box.shape[2] - 1.0
        shapes[3, x] = shapes[2, x] * shapes[2, x]
    whole, part = np.empty((N_ALONG_X, N_ALONG_X)), np.empty((N_ALONG_X, N_ALONG_X))
    write_products(np.zeros(n, np.int32), shapes, whole)
    pulls, factors = np.empty(N_ALONG_X), np.ones(LINEAR)
    weight = 1.0 / values[BACKGROUND]
    gradient[:] = 0.0
    information[:] = 0.0
    voxels = 0
    for z in range(region[2, 0], region[2, 1]):
        w = (2.0 * z + 1.0) / box.shape[0] - 1.0
        for y in range(region[1, 0], region[1, 1]):
            v = (2.0 * y + 1.0) / box.shape[1] - 1.0
            counts = box[z, y, region[0, 0] : region[0, 1]]
            masked = write_pulls(counts, shapes, pulls)
            if masked:
                write_products(counts, shapes, part)
            products = part if masked else whole
            voxels += n - masked
            factors[0] = shares[1, 0, y - region[1, 0]] * shares[2, 0, z - region[2, 0]]
            factors[3], factors[4], factors[6], factors[7] = v, w, v * v, w * w
            for i in range(LINEAR):
                p = ALONG_X[i]
                gradient[i] += factors[i] * (pulls[p] * weight - products[p, 1])
                for j in range(i + 1):
                    pair = products[p, ALONG_X[j]]
                    information[i, j] += factors[i] * factors[j] * pair * weight
    for i in range(LINEAR):
        if i > 1:
            information[i, i] += (weight / BENT) ** 2
        for j in range(i):
            information[j, i] = information[i, j]
    return voxels


@njit(cache=True, nogil=True)
def score(box: I4, values: F8, region: I4, shares: F8) -> float:
    """Return how significant a peak of the place and widths given is, before anything is fitted.

    One step from the flat background alone, in intensity and background (C. R. Rao, Proc. Camb.
    Phil. Soc. 44, 50 (1948)).

    Parameters
    ----------
    box, region, shares
        See `nxmpi.kernels.profile.fit_profile`.
    values : (N,) float64
        Where a fit is to begin, with a flat background; receives that of the step if the peak is
        faint.
    """
    gradient, step = np.empty(LINEAR), np.zeros(LINEAR)
    information, inverse = np.empty((LINEAR, LINEAR)), np.empty((LINEAR, LINEAR))
    set_region(values, box.shape, region)
    if add_linear(box, values, region, shares, gradient, information) <= N:
        return 0.0
    damped_inverse(information, 1e-9, inverse)
    for i in range(LINEAR):
        for j in range(LINEAR):
            step[i] += inverse[i, j] * gradient[j]
    volume = 1.0
    for axis in range(3):
        volume *= sqrt(2.0 * pi) * max(exp(values[3 + axis]), 0.4)
    if 0.0 < step[0] < FAINT * volume * values[BACKGROUND]:
        values[INTENSITY] = step[0]
        for i in range(1, LINEAR):
            values[INTENSITY + i] += step[i]
    return float(step[0]) / sqrt(max(inverse[0, 0], 1e-300))
