"""Fisher's information of a fit: its inverse, and parameters that are taken out."""

from math import sqrt

import numpy as np
from numba import njit

from nxmpi._typing import F8


@njit(cache=True, nogil=True)
def invert(matrix: F8, inverse: F8) -> None:
    """Write the inverse of a positive definite matrix, which is overwritten (Gauss, Jordan)."""
    n = matrix.shape[0]
    inverse[:] = 0.0
    for i in range(n):
        inverse[i, i] = 1.0
    for i in range(n):
        pivot = 1.0 / max(matrix[i, i], 1e-12)
        for j in range(n):
            matrix[i, j] *= pivot
            inverse[i, j] *= pivot
        for k in range(n):
            factor = matrix[k, i]
            if k != i:
                for j in range(n):
                    matrix[k, j] -= factor * matrix[i, j]
                    inverse[k, j] -= factor * inverse[i, j]


@njit(cache=True, nogil=True)
def damped_inverse(information: F8, damping: float, inverse: F8) -> None:
    """Write the inverse of a matrix whose diagonal is made larger by a part of itself."""
    n = information.shape[0]
    scaled = information.copy()
    scale = np.empty(n)
    for i in range(n):
        scale[i] = 1.0 / sqrt(information[i, i]) if information[i, i] > 0 else 1.0
    for i in range(n):
        for j in range(n):
            scaled[i, j] *= scale[i] * scale[j]
        scaled[i, i] = 1.0 + damping
    invert(scaled, inverse)
    for i in range(n):
        for j in range(n):
            inverse[i, j] *= scale[i] * scale[j]


@njit(cache=True, nogil=True)
def hold_at_limits(values: F8, least: F8, most: F8, gradient: F8, information: F8) -> None:
    """Take out the parameters that are at a limit and would go beyond it."""
    for i in range(least.shape[0]):
        low = values[i] <= least[i] and gradient[i] < 0.0
        if low or (values[i] >= most[i] and gradient[i] > 0.0):
            hold(i, gradient, information)


@njit(cache=True, nogil=True)
def hold(i: int, gradient: F8, information: F8) -> None:
    """Take out a parameter."""
    gradient[i] = 0.0
    for j in range(gradient.shape[0]):
        if j != i:
            information[i, j] = 0.0
            information[j, i] = 0.0
