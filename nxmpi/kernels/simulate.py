"""Expected counts of simulated frames."""

from math import cos, erf, exp, pi, sin, sqrt

import numpy as np
from numba import njit

from nxmpi._typing import F8, I8

REACH = 6.0
"""Widths after which a peak ends: 2e-9 of its counts lie beyond."""


@njit(cache=True, nogil=True)
def write_harmonics(coordinate: float, cosines: F8, sines: F8) -> None:
    """Write cos and sin of 2 pi n coordinate for n = 0, 1, and so on."""
    c, s = cos(2 * pi * coordinate), sin(2 * pi * coordinate)
    cosines[0], sines[0] = 1.0, 0.0
    for n in range(1, cosines.shape[0]):
        cosines[n] = cosines[n - 1] * c - sines[n - 1] * s
        sines[n] = sines[n - 1] * c + cosines[n - 1] * s


@njit(cache=True, nogil=True)
def diffuse(
    h: float, k: float, l: float, Q: float, levels: F8, orders: I8, alphas: F8,
    cosines: F8, sines: F8,
) -> float:  # fmt: skip
    """Return the diffuse intensity at a point; see `nxmpi.simulate.diffuse`.

    Parameters
    ----------
    h, k, l : float
        Divided by what makes the vectors integers [r.l.u.].
    Q : float
        [1/Å]
    levels : (5,) float64
        flat, halo [counts], halo_width [1/Å], amplitude [counts], falloff [Å^2].
    orders, alphas : (m, 3) int64, (m,) float64
        Vectors between atoms, as integers; correlation of each pair of opposite ones [1].
    cosines, sines : (3, n) float64
        Room to work, n being above the largest order.
    """
    write_harmonics(h, cosines[0], sines[0])
    write_harmonics(k, cosines[1], sines[1])
    write_harmonics(l, cosines[2], sines[2])
    order = 1.0
    for j in range(alphas.shape[0]):
        c, s = 1.0, 0.0
        for axis in range(3):
            n = orders[j, axis]
            cn = cosines[axis, abs(n)]
            sn = sines[axis, abs(n)] if n >= 0 else -sines[axis, abs(n)]
            c, s = c * cn - s * sn, s * cn + c * sn
        order += alphas[j] * c
    halo = levels[1] * exp(-0.5 * (Q / levels[2]) ** 2)
    intensity: float = levels[0] + halo + levels[3] * exp(-levels[4] * Q * Q) * order
    return intensity


@njit(cache=True, nogil=True)
def write_diffuse(
    places: F8, sample: F8, matrix: F8, wavelength: float, weight: F8, scale: float,
    levels: F8, orders: I8, alphas: F8, expected: F8,
) -> None:  # fmt: skip
    """Write the diffuse counts expected in each pixel of a frame.

    Parameters
    ----------
    places : (n_slow, n_fast, 3) float64
        Centres of the pixels in the laboratory [mm].
    sample : (3,) float64
        Where the sample is in this frame [mm].
    matrix : (3, 3) float64
        ``inv(R UB)`` in the middle of the frame, divided by what makes the vectors between
        atoms integers [Å].
    wavelength : float
        [Å]
    weight : (n_slow, n_fast) float64
        Factor of each pixel; zero where it is masked [1].
    scale : float
        Factor of the frame [1].
    levels, orders, alphas
        See `diffuse`.
    expected : (n_slow, n_fast) float64
        Receives the counts; zero where ``weight`` is.
    """
    n_harmonics = 1
    for order in orders.ravel():
        n_harmonics = max(n_harmonics, int(abs(order)) + 1)
    cosines, sines = np.empty((3, n_harmonics)), np.empty((3, n_harmonics))
    for i in range(expected.shape[0]):
        for j in range(expected.shape[1]):
            expected[i, j] = 0.0
            if weight[i, j] == 0.0:
                continue
            x = places[i, j, 0] - sample[0]
            y = places[i, j, 1] - sample[1]
            z = places[i, j, 2] - sample[2]
            unit = 1.0 / (sqrt(x * x + y * y + z * z) * wavelength)
            x, y, z = x * unit - 1.0 / wavelength, y * unit, z * unit
            h = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z
            k = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z
            l = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z
            Q = 2 * pi * sqrt(x * x + y * y + z * z)
            intensity = diffuse(h, k, l, Q, levels, orders, alphas, cosines, sines)
            expected[i, j] = intensity * weight[i, j] * scale


@njit(cache=True, nogil=True)
def share(index: int, centre: float, sigma: float) -> float:
    """Return the part of a Gaussian that falls in the unit interval around an index."""
    low = (index - 0.5 - centre) / (sqrt(2.0) * sigma)
    high = (index + 0.5 - centre) / (sqrt(2.0) * sigma)
    return 0.5 * (erf(high) - erf(low))


@njit(cache=True, nogil=True)
def first_index(centre: float, sigma: float) -> int:
    """Return the first pixel or frame, not below 0, that a peak reaches."""
    return max(int(centre - REACH * sigma + 0.5), 0)


@njit(cache=True, nogil=True)
def last_index(centre: float, sigma: float, n: int) -> int:
    """Return the one after the last pixel or frame, at most n, that a peak reaches."""
    return min(int(centre + REACH * sigma + 1.5), n)


@njit(cache=True, nogil=True)
def add_peaks(
    frame: int, peaks: F8, sigmas: F8, weight: F8, scale: float, expected: F8
) -> None:  # fmt: skip
    """Add the Bragg peaks to the counts expected in a frame.

    Parameters
    ----------
    frame : int
        Its number.
    peaks : (n, 4) float64
        x, y [pixels], z [frames], centres of index 0 at 0; strength [counts].
    sigmas : (3,) float64
        Widths along x, y [pixels] and z [frames].
    weight : (n_slow, n_fast) float64
        Factor of each pixel for peaks; zero where it is masked [1].
    scale : float
        Factor of the frame [1].
    expected : (n_slow, n_fast) float64
        Added to in place [counts].
    """
    n_slow, n_fast = expected.shape
    for p in range(peaks.shape[0]):
        x, y, z, strength = peaks[p]
        if abs(frame - z) > REACH * sigmas[2] + 0.5:
            continue
        here = strength * scale * share(frame, z, sigmas[2])
        for i in range(first_index(y, sigmas[1]), last_index(y, sigmas[1], n_slow)):
            row = here * share(i, y, sigmas[1])
            for j in range(first_index(x, sigmas[0]), last_index(x, sigmas[0], n_fast)):
                expected[i, j] += row * share(j, x, sigmas[0]) * weight[i, j]


@njit(cache=True, nogil=True)
def peak_sums(peaks: F8, sigmas: F8, weight: F8, scales: F8, sums: F8) -> None:
    """Write the counts expected of each peak on unmasked pixels of all frames.

    Parameters
    ----------
    peaks, sigmas, weight
        See `add_peaks`.
    scales : (n_frames,) float64
        Factor of each frame [1].
    sums : (n,) float64
        Receives the counts.
    """
    n_slow, n_fast = weight.shape
    for p in range(peaks.shape[0]):
        x, y, z, strength = peaks[p]
        frames = 0.0
        for f in range(first_index(z, sigmas[2]), last_index(z, sigmas[2], scales.shape[0])):
            frames += share(f, z, sigmas[2]) * scales[f]
        pixels = 0.0
        for i in range(first_index(y, sigmas[1]), last_index(y, sigmas[1], n_slow)):
            row = share(i, y, sigmas[1])
            for j in range(first_index(x, sigmas[0]), last_index(x, sigmas[0], n_fast)):
                pixels += row * share(j, x, sigmas[0]) * weight[i, j]
        sums[p] = strength * frames * pixels
