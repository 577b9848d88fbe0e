"""Diffuse counts expected in simulated frames.

Pixels go through in tiles of a row, each step of the formula in a loop of its own without
branches and over contiguous arrays, which compilers turn into vector instructions: several times
the speed of one pixel after the other.
"""

from math import exp, floor, pi, sqrt

import numpy as np
from numba import njit

from nxmpi._typing import F8, I8

TILE = 256
"""Pixels of a tile, so that its arrays stay in a fast cache."""


@njit(cache=True, nogil=True)
def write_points(
    places: F8, first: int, n: int, sample: F8, matrix: F8, wavelength: float, hkl: F8, Q2: F8
) -> None:  # fmt: skip
    """Write where pixels are in reciprocal space.

    Parameters
    ----------
    places : (n_fast, 3) float64
        Centres of the pixels of a row in the laboratory [mm].
    first, n : int
        The tile: its first pixel in the row, and how many it has.
    sample, matrix, wavelength
        See `write_diffuse`.
    hkl : (3, TILE) float64
        Receives ``matrix`` times the scattering vector [r.l.u.].
    Q2 : (TILE,) float64
        Receives the square of its length, with 2 pi [1/Å^2].
    """
    for j in range(n):
        x = places[first + j, 0] - sample[0]
        y = places[first + j, 1] - sample[1]
        z = places[first + j, 2] - sample[2]
        unit = 1.0 / (sqrt(x * x + y * y + z * z) * wavelength)
        x, y, z = x * unit - 1.0 / wavelength, y * unit, z * unit
        hkl[0, j] = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] * z
        hkl[1, j] = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] * z
        hkl[2, j] = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2] * z
        Q2[j] = (2 * pi) ** 2 * (x * x + y * y + z * z)


@njit(cache=True, nogil=True)
def write_harmonics(coordinate: F8, n: int, cosines: F8, sines: F8) -> None:
    """Write cos and sin of 2 pi m coordinate for m = 0, 1, and so on, of the first n values.

    Of a quarter of the angle by the series to the 17th power, whose rest is below 1e-17 there,
    doubled twice: to 1e-15, and faster than a library's function, which takes one at a time.

    Parameters
    ----------
    coordinate : (TILE,) float64
        [1]
    n : int
        Pixels of the tile.
    cosines, sines : (m, TILE) float64
        Receive the values.
    """
    n_harmonics = cosines.shape[0]
    for j in range(n):
        cosines[0, j], sines[0, j] = 1.0, 0.0
    if n_harmonics == 1:
        return
    for j in range(n):
        t = (coordinate[j] - floor(coordinate[j] + 0.5)) * (pi / 2)
        u = t * t
        s = 1 - u * (1 / 210) * (1 - u * (1 / 272))
        s = 1 - u * (1 / 42) * (1 - u * (1 / 72) * (1 - u * (1 / 110) * (1 - u * (1 / 156) * s)))
        s = t * (1 - u * (1 / 6) * (1 - u * (1 / 20) * s))
        c = 1 - u * (1 / 182) * (1 - u * (1 / 240))
        c = 1 - u * (1 / 30) * (1 - u * (1 / 56) * (1 - u * (1 / 90) * (1 - u * (1 / 132) * c)))
        c = 1 - u * (1 / 2) * (1 - u * (1 / 12) * c)
        s, c = 2 * s * c, 1 - 2 * s * s
        cosines[1, j], sines[1, j] = 1 - 2 * s * s, 2 * s * c
    for m in range(2, n_harmonics):
        for j in range(n):
            c, s = cosines[m - 1, j], sines[m - 1, j]
            cosines[m, j] = c * cosines[1, j] - s * sines[1, j]
            sines[m, j] = s * cosines[1, j] + c * sines[1, j]


@njit(cache=True, nogil=True)
def add_waves(
    order: I8, alpha: float, stiffness: float, n: int, cosines: F8, sines: F8,
    correlation: F8, q2: F8,
) -> None:  # fmt: skip
    """Add alpha cos(2 pi hkl . order), and 2 stiffness (1 - cos(2 pi hkl . order)).

    Parameters
    ----------
    order : (3,) int64
        A vector between atoms.
    alpha, stiffness : float
        Its coefficients [1], [1/Å^2].
    n : int
        Pixels of the tile.
    cosines, sines : (3, m, TILE) float64
        Harmonics of h, k, l; see `write_harmonics`.
    correlation, q2 : (TILE,) float64
        Added to in place.
    """
    a, b, c = abs(order[0]), abs(order[1]), abs(order[2])
    sign_a, sign_b, sign_c = np.sign(order[0]), np.sign(order[1]), np.sign(order[2])
    sign_ab = sign_a * sign_b
    cos_a, cos_b, cos_c = cosines[0, a], cosines[1, b], cosines[2, c]
    sin_a, sin_b, sin_c = sines[0, a], sines[1, b], sines[2, c]
    for j in range(n):
        together = cos_a[j] * cos_b[j] - sign_ab * sin_a[j] * sin_b[j]
        turned = sign_a * sin_a[j] * cos_b[j] + sign_b * cos_a[j] * sin_b[j]
        wave = together * cos_c[j] - sign_c * turned * sin_c[j]
        correlation[j] += alpha * wave
        q2[j] += 2 * stiffness * (1 - wave)


@njit(cache=True, nogil=True)
def write_diffuse(
    places: F8, sample: F8, matrix: F8, wavelength: float, weight: F8, scale: float,
    levels: F8, orders: I8, coefficients: F8, expected: F8,
) -> None:  # fmt: skip
    """Write the diffuse counts expected in each pixel of a frame; see `nxmpi.simulate.diffuse`.

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
        Factor of each pixel; zero where it counts nothing [1].
    scale : float
        Factor of the frame [1].
    levels : (7,) float64
        flat, air [counts], air_width [1/Å], amplitude [counts], falloff [Å^2], tds [counts],
        tds_width [1/Å].
    orders : (m, 3) int64
        Vectors between atoms, as integers.
    coefficients : (m, 2) float64
        Of each pair of opposite vectors: correlation [1], stiffness [1/Å^2].
    expected : (n_slow, n_fast) float64
        Receives the counts; zero where ``weight`` is.
    """
    n_harmonics = 1
    for order in orders.ravel():
        n_harmonics = max(n_harmonics, int(abs(order)) + 1)
    n_slow, n_fast = expected.shape
    hkl, Q2, q2, correlation = np.empty((3, TILE)), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    cosines, sines = np.empty((3, n_harmonics, TILE)), np.empty((3, n_harmonics, TILE))
    flat, air, air_width, amplitude, falloff, tds, tds_width = levels
    for i in range(n_slow):
        for first in range(0, n_fast, TILE):
            n = min(TILE, n_fast - first)
            write_points(places[i], first, n, sample, matrix, wavelength, hkl, Q2)
            for axis in range(3):
                write_harmonics(hkl[axis], n, cosines[axis], sines[axis])
            correlation[:], q2[:] = 1.0, tds_width**2
            for m in range(orders.shape[0]):
                alpha, stiffness = coefficients[m]
                add_waves(orders[m], alpha, stiffness, n, cosines, sines, correlation, q2)
            for j in range(n):
                total = amplitude * correlation[j] + tds * Q2[j] / q2[j]
                total *= exp(-falloff * Q2[j])
                total += flat + air * exp(-0.5 / air_width**2 * Q2[j])
                expected[i, first + j] = total * weight[i, first + j] * scale
