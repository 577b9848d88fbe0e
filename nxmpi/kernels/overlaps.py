"""Where positions overlap: sums over voxels that tell how well they agree."""

import numpy as np
from numba import njit

from nxmpi._typing import F8

CUBE = 8
"""Edge of the cubes of voxels that are summed together."""
LEAST_SHARE = 0.1
"""Of the largest norm in a voxel: a position with less hardly measures there, and would give chi
squared a long tail."""
LEAST_BRIGHT = 5
"""Counts of a bright voxel: fewer do not show that it is one."""
CHI2, NDOF, VARIANCE, CUBE_EXCESS, CUBE_SQUARE = range(5)
"""Columns of a cube."""
R, S, V = range(3)
"""Columns of a pair of positions, or of one and all others, in a cube."""
VOXELS, PAIR_CHI2, PAIR_NDOF, PAIR_VARIANCE, EXCESS, SQUARE, INFORMATION = range(7)
"""Columns of a pair in a pillar."""


@njit(cache=True, nogil=True)
def _largest(norm: F8, l: int, k: int, h: int) -> float:
    largest = 0.0
    for p in range(norm.shape[0]):
        largest = max(largest, norm[p, l, k, h])
    return largest


@njit(cache=True, nogil=True)
def overlap_intensity(counts: F8, norm: F8, intensity: F8) -> None:
    """Fill in the intensity of voxels that several positions reached.

    Parameters
    ----------
    counts, norm : (n_positions, n_l, n_k, n_h) float64
        Of a pillar.
    intensity : (n_l, n_k, n_h) float64
        Σc / Σw; NaN in other voxels [counts per unit of norm].
    """
    n_positions, n_l, n_k, n_h = counts.shape
    for l in range(n_l):
        for k in range(n_k):
            for h in range(n_h):
                least = LEAST_SHARE * _largest(norm, l, k, h)
                n, count, weight = 0, 0.0, 0.0
                for p in range(n_positions):
                    if norm[p, l, k, h] > 0 and norm[p, l, k, h] >= least:
                        n += 1
                        count += counts[p, l, k, h]
                        weight += norm[p, l, k, h]
                intensity[l, k, h] = count / weight if n > 1 else np.nan


@njit(cache=True, nogil=True)
def add_overlaps(
    counts: F8, norm: F8, limits: F8, chunk: int, cubes: F8, positions: F8, pairs: F8, totals: F8
) -> None:
    """Add up how positions compare, voxel by voxel, in cubes of 8 x 8 x 8.

    With n the counts of a pair in a voxel and π = w_p / (w_p + w_q): R = c_p (1 - π),
    S = c_q π, V = n π (1 - π). For a position and all others together likewise.

    Parameters
    ----------
    counts, norm : (n_positions, n_l, n_k, n_h) float64
        Of a pillar.
    limits : (n_chunks,) float64
        Intensity above which a voxel is bright if it has counts enough, by chunk along h.
    chunk : int
        Length of a chunk along h, a multiple of 8 [voxels].
    cubes : (n_l / 8, n_k / 8, n_h / 8, 5) float64
        Of voxels that are not bright: chi squared, degrees of freedom, variance of the former; of
        the bright ones, over all pairs, (R - S)² - V and V².
    positions : (n_l / 8, n_k / 8, n_h / 8, n_positions, 3) float64
        R, S, V of each position and the others, not bright.
    pairs : (n_l / 8, n_k / 8, n_h / 8, n_pairs, 3) float64
        R, S, V of each pair of positions, not bright.
    totals : (n_pairs, 7) float64
        Voxels that both reached; of those not bright and with counts, chi squared of the pair,
        its degrees of freedom and its variance; of the bright ones, (R - S)² - V and V²; of those
        not bright, Σc π_p π_q of all positions.
    """
    n_positions, n_l, n_k, n_h = counts.shape
    reached = np.empty(n_positions, np.int64)
    for l in range(n_l):
        for k in range(n_k):
            for h in range(n_h):
                least = LEAST_SHARE * _largest(norm, l, k, h)
                n, count, weight = 0, 0.0, 0.0
                for p in range(n_positions):
                    if norm[p, l, k, h] > 0 and norm[p, l, k, h] >= least:
                        reached[n] = p
                        n += 1
                        count += counts[p, l, k, h]
                        weight += norm[p, l, k, h]
                if n < 2:
                    continue
                is_bright = count >= LEAST_BRIGHT and count > limits[h // chunk] * weight
                place = (l // CUBE, k // CUBE, h // CUBE)
                cube = cubes[place]
                if count > 0 and not is_bright:
                    chi2, inverse = 0.0, 0.0
                    for i in range(n):
                        p = reached[i]
                        c, share = counts[p, l, k, h], norm[p, l, k, h] / weight
                        chi2 += (c - count * share) ** 2 / (count * share)
                        inverse += 1 / share
                        own = positions[place][p]
                        own[R] += c * (1 - share)
                        own[S] += (count - c) * share
                        own[V] += count * share * (1 - share)
                    cube[CHI2] += chi2
                    cube[NDOF] += n - 1
                    # Cramér, Mathematical Methods of Statistics (1946), (30.1.1)
                    cube[VARIANCE] += 2 * (n - 1) + (inverse - n * n - 2 * n + 2) / count
                for i in range(n):
                    p = reached[i]
                    c, w = counts[p, l, k, h], norm[p, l, k, h]
                    for j in range(i + 1, n):
                        q = reached[j]
                        pair = p * (2 * n_positions - p - 1) // 2 + q - p - 1
                        total = totals[pair]
                        total[VOXELS] += 1
                        other, other_w = counts[q, l, k, h], norm[q, l, k, h]
                        if not is_bright:
                            total[INFORMATION] += count * w * other_w / (weight * weight)
                        both = c + other
                        if both <= 0:
                            continue
                        share = w / (w + other_w)
                        r, s = c * (1 - share), other * share
                        v = both * share * (1 - share)
                        if is_bright:
                            total[EXCESS] += (r - s) ** 2 - v
                            total[SQUARE] += v * v
                            cube[CUBE_EXCESS] += (r - s) ** 2 - v
                            cube[CUBE_SQUARE] += v * v
                            continue
                        total[PAIR_CHI2] += (r - s) ** 2 / v
                        total[PAIR_NDOF] += 1
                        total[PAIR_VARIANCE] += 2 + (1 / share + 1 / (1 - share) - 6) / both
                        two = pairs[place][pair]
                        two[R] += r
                        two[S] += s
                        two[V] += v
