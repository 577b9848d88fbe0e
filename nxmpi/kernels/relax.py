"""Laplace's operator applied to unknown voxels of a volume."""

import numpy as np
from numba import njit

from nxmpi._typing import F8, I8
from nxmpi.kernels.symmetry import Images

OUTSIDE, KNOWN, UNKNOWN = 0, 1, 2
"""States of voxels; those outside have no part in any equation."""


@njit(cache=True, nogil=True)
def apply_laplacian(
    values: F8, states: Images, before: int, vectors: I8, weights: F8, places: I8, result: F8,
    diagonal: F8,
) -> None:  # fmt: skip
    """Write Σ w (u(x) - u(x + e)) over linked voxels, for unknown ones, and Σ w.

    Parameters
    ----------
    values : (n + before + after, n_k, n_h) float64
        u, on planes with those before and after them.
    states : (n + before + after, n_k, n_h) int8
        `OUTSIDE`, `KNOWN` or `UNKNOWN`.
    before : int
    vectors : (m, 3) int64
        Every e, along h, k, l, those of opposite sign too.
    weights : (m,) float64
    places : (n_unknown,) int64
        Of unknown voxels, counted from the first of the rank's own planes.
    result, diagonal : (n_unknown,) float64
        Overwritten.

    Notes
    -----
    Terms are added in the order of their size, so that images of a voxel get the same bits.
    """
    n_planes, n_k, n_h = values.shape
    terms, shares = np.empty(len(weights)), np.empty(len(weights))
    for i in range(len(places)):
        l, rest = divmod(places[i], n_k * n_h)
        k, h = divmod(rest, n_h)
        l += before
        n = 0
        for e in range(len(weights)):
            x, y, z = h + vectors[e, 0], k + vectors[e, 1], l + vectors[e, 2]
            if 0 <= x < n_h and 0 <= y < n_k and 0 <= z < n_planes and states[z, y, x] != OUTSIDE:
                terms[n] = weights[e] * (values[l, k, h] - values[z, y, x])
                shares[n] = weights[e]
                n += 1
        terms[:n].sort()
        shares[:n].sort()
        total, share = 0.0, 0.0
        for e in range(n):
            total += terms[e]
            share += shares[e]
        result[i] = total
        diagonal[i] = share
