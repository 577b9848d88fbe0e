"""Bragg peaks and halos in simulated frames."""

from math import erf, sqrt

import numpy as np
from numba import njit

from nxmpi._typing import F8

REACH = 6.0
"""Widths after which a peak ends: 2e-9 of its counts lie beyond."""


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
def add_peaks(frame: int, peaks: F8, weight: F8, scale: float, expected: F8) -> None:
    """Add Bragg peaks to the counts expected in a frame.

    Parameters
    ----------
    frame : int
        Its number.
    peaks : (n, 7) float64
        x, y [pixels], z [frames], centres of index 0 at 0; strength [counts]; widths along x, y
        [pixels] and z [frames].
    weight : (n_slow, n_fast) float64
        Factor of each pixel for peaks; zero where it counts nothing [1].
    scale : float
        Factor of the frame [1].
    expected : (n_slow, n_fast) float64
        Added to in place [counts].
    """
    n_slow, n_fast = expected.shape
    columns = np.empty(n_fast)
    for p in range(peaks.shape[0]):
        x, y, z, strength, sigma_x, sigma_y, sigma_z = peaks[p]
        if abs(frame - z) > REACH * sigma_z + 0.5:
            continue
        here = strength * scale * share(frame, z, sigma_z)
        start, stop = first_index(x, sigma_x), last_index(x, sigma_x, n_fast)
        for j in range(start, stop):
            columns[j] = share(j, x, sigma_x)
        for i in range(first_index(y, sigma_y), last_index(y, sigma_y, n_slow)):
            row = here * share(i, y, sigma_y)
            for j in range(start, stop):
                expected[i, j] += row * columns[j] * weight[i, j]


@njit(cache=True, nogil=True)
def peak_sums(peaks: F8, weight: F8, scales: F8, sums: F8, largest: F8) -> None:
    """Write what is expected of each peak alone, in pixels that count and all frames.

    Parameters
    ----------
    peaks, weight
        See `add_peaks`.
    scales : (n_frames,) float64
        Factor of each frame [1].
    sums, largest : (n,) float64
        Receive all counts of the peak, and those of its strongest pixel in its strongest frame.
    """
    n_slow, n_fast = weight.shape
    for p in range(peaks.shape[0]):
        x, y, z, strength, sigma_x, sigma_y, sigma_z = peaks[p]
        frames, best_frame = 0.0, 0.0
        for f in range(first_index(z, sigma_z), last_index(z, sigma_z, scales.shape[0])):
            part = share(f, z, sigma_z) * scales[f]
            frames += part
            best_frame = max(best_frame, part)
        pixels, best_pixel = 0.0, 0.0
        for i in range(first_index(y, sigma_y), last_index(y, sigma_y, n_slow)):
            row = share(i, y, sigma_y)
            for j in range(first_index(x, sigma_x), last_index(x, sigma_x, n_fast)):
                part = row * share(j, x, sigma_x) * weight[i, j]
                pixels += part
                best_pixel = max(best_pixel, part)
        sums[p] = strength * frames * pixels
        largest[p] = strength * best_frame * best_pixel


@njit(cache=True, nogil=True)
def add_halos(frame: int, halos: F8, weight: F8, expected: F8) -> None:
    """Add halos, discs of constant counts, to the counts expected in a frame.

    Parameters
    ----------
    frame : int
        Its number.
    halos : (n, 6) float64
        x, y of the middle [pixels], first and last frame, radius [pixels], counts per pixel.
    weight : (n_slow, n_fast) float64
        Zero where a pixel counts nothing; otherwise no factor.
    expected : (n_slow, n_fast) float64
        Added to in place [counts].
    """
    n_slow, n_fast = expected.shape
    for p in range(halos.shape[0]):
        x, y, first, last, radius, counts = halos[p]
        if not first <= frame <= last:
            continue
        for i in range(max(int(y - radius), 0), min(int(y + radius) + 2, n_slow)):
            for j in range(max(int(x - radius), 0), min(int(x + radius) + 2, n_fast)):
                inside = (i - y) ** 2 + (j - x) ** 2 <= radius**2
                if inside and weight[i, j] > 0.0:
                    expected[i, j] += counts
