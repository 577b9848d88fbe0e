"""What kernels that sum over boxes of pixels, row by row, have in common."""

from typing import Any

from numba import njit
from numpy.typing import NDArray

Sums = NDArray[Any]
"""Sums over boxes, of an integer type or float64."""


@njit(cache=True, nogil=True)
def slide(entering: Sums, leaving: Sums, sums: Sums) -> None:
    """Move sums over some rows by one row: let it into the columns, and another out."""
    kind = sums.dtype.type
    for x in range(sums.shape[0]):
        sums[x] = kind(sums[x] + kind(entering[x] - leaving[x]))
