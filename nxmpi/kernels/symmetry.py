"""Sums over the images of voxels, row by row; places are counted from the voxel of 0 0 0."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nxmpi._typing import I8

Values = NDArray[Any]
"""int64, int8 or float32."""
Images = NDArray[np.int8]
"""Numbers of images, which are 48 at most."""


@njit(cache=True, nogil=True)
def _part_above(slope: int, offset: int, start: int, stop: int) -> tuple[int, int]:
    """Return the part of start <= h < stop where slope * h + offset >= 0."""
    if slope > 0:
        return max(start, -(offset // slope)), stop
    if slope < 0:
        return start, min(stop, offset // -slope + 1)
    return (start, stop) if offset >= 0 else (start, start)


@njit(cache=True, nogil=True)
def _part_between(
    slope: int, offset: int, low: int, high: int, start: int, stop: int
) -> tuple[int, int]:
    """Return the part of start <= h < stop where slope * h + offset is in low, …, high."""
    start, stop = _part_above(slope, offset - low, start, stop)
    return _part_above(-slope, high - offset, start, stop)


@njit(cache=True, nogil=True)
def _part_first(
    slope: int, offset: int, then_slope: int, then_offset: int, start: int, stop: int
) -> tuple[int, int]:
    """Return the part of a row where a number is above 0, or is 0 and another is not below."""
    if slope == 0:
        if offset == 0:
            return _part_above(then_slope, then_offset, start, stop)
        return _part_above(0, offset, start, stop)
    at = -offset // slope
    if slope * at + offset == 0 and then_slope * at + then_offset < 0:
        return _part_above(slope, offset - 1, start, stop)
    return _part_above(slope, offset, start, stop)


@njit(cache=True, nogil=True)
def _count_fixed(matrices: I8, k: int, l: int, start: int, stop: int, fixed: I8) -> bool:
    """Count how many operators map each voxel of a row to itself; say whether any but one does."""
    fixed[: stop - start] = 0
    several = False
    for g in range(matrices.shape[0]):
        a, first, last = matrices[g], start, stop
        for i in range(3):
            own = k if i == 1 else l if i == 2 else 0
            slope = a[i, 0] - (1 if i == 0 else 0)
            first, last = _part_between(
                slope, a[i, 1] * k + a[i, 2] * l - own, 0, 0, first, last
            )  # fmt: skip
        for h in range(first, last):
            fixed[h - start] += 1
            several |= fixed[h - start] > 1
    return several


@njit(cache=True, nogil=True)
def add_planar(
    values: Values, matrices: I8, low: I8, high: I8, first: int, distinct: bool,
    largest: bool,
) -> None:  # fmt: skip
    """Replace values by their sums over the images that keep l or change its sign, in place.

    Parameters
    ----------
    values : (2, n, n_k, n_h) int64, int8 or float32
        Planes l = first, first + 1, … and those of -l; of l = 0 the first is used.
    matrices : (m, 3, 3) int64
        A group with the inversion, on columns (h, k, l).
    low, high : (3,) int64
        First and last voxel along h, k, l; what is outside adds nothing.
    first : int
        The least l, not below 0.
    distinct : bool
        Add every image once; otherwise as often as operators lead to it.
    largest : bool
        Take the largest of the images, of values not below 0, instead of their sum.

    Notes
    -----
    One voxel of each orbit, inside the grid or not, is the farthest along a direction that no
    operator keeps; for groups of mirrors these fill a sector. In a row they follow each other, and
    so do their images, along a line: loops run along h, without a question about a voxel.
    """
    n_k, n_h = values.shape[2:]
    # the scalar product with (3, 1), in a metric that the group leaves as it is
    along_h, along_k = 0, 0
    reach_h, reach_k = 0, 0
    far = np.maximum(-low, high)
    for g in range(matrices.shape[0]):
        a = matrices[g]
        ahead_h, ahead_k = 3 * a[0, 0] + a[0, 1], 3 * a[1, 0] + a[1, 1]
        along_h += a[0, 0] * ahead_h + a[1, 0] * ahead_k
        along_k += a[0, 1] * ahead_h + a[1, 1] * ahead_k
        reach_h = max(reach_h, (np.abs(a[0]) * far).sum())
        reach_k = max(reach_k, (np.abs(a[1]) * far).sum())
    wide = 2 * reach_k + 1
    totals = np.zeros(2 * reach_h + 1, values.dtype)
    fixed = np.zeros(2 * reach_h + 1, np.int64)
    flat = values.reshape(-1)
    for p in range(values.shape[1]):
        l = first + p
        for k in range(-reach_k, reach_k + 1):
            start, stop = -reach_h, reach_h + 1
            for g in range(matrices.shape[0]):
                a = matrices[g]
                if a[2, 2] < 0 and l > 0:
                    continue
                h_offset = a[0, 1] * k + a[0, 2] * l
                k_offset = a[1, 1] * k + a[1, 2] * l
                start, stop = _part_first(
                    along_h * (1 - a[0, 0]) - along_k * a[1, 0],
                    along_k * (k - k_offset) - along_h * h_offset,
                    wide * (1 - a[0, 0]) - a[1, 0], k - k_offset - wide * h_offset,
                    start, stop,
                )  # fmt: skip
            if start >= stop:
                continue
            totals[: stop - start] = 0
            for writing in range(2):
                if writing and distinct and not largest:
                    _divide(totals, matrices, k, l, start, stop, fixed)
                for g in range(matrices.shape[0]):
                    a = matrices[g]
                    l_image = a[2, 2] * l
                    if l_image < low[2] or l_image > high[2]:
                        continue
                    h_offset = a[0, 1] * k + a[0, 2] * l
                    k_offset = a[1, 1] * k + a[1, 2] * l
                    begin, end = _part_between(a[0, 0], h_offset, low[0], high[0], start, stop)
                    begin, end = _part_between(a[1, 0], k_offset, low[1], high[1], begin, end)
                    if begin >= end:
                        continue
                    plane = (values.shape[1] if l_image < 0 else 0) + p
                    step = a[1, 0] * n_h + a[0, 0]
                    place = (plane * n_k + k_offset - low[1]) * n_h + h_offset - low[0]
                    place += step * begin
                    if writing:
                        for i in range(end - begin):
                            flat[place + step * i] = totals[begin - start + i]
                    elif largest:
                        for i in range(end - begin):
                            if flat[place + step * i] > totals[begin - start + i]:
                                totals[begin - start + i] = flat[place + step * i]
                    else:
                        for i in range(end - begin):
                            totals[begin - start + i] += flat[place + step * i]


@njit(cache=True, nogil=True)
def _divide(
    totals: Values, matrices: I8, k: int, l: int, start: int, stop: int, fixed: I8
) -> None:  # fmt: skip
    """Divide totals of a row, in place, by how many operators map its voxels to themselves."""
    if _count_fixed(matrices, k, l, start, stop, fixed):
        for i in range(stop - start):
            if fixed[i] > 1:
                totals[i] = totals[i] // fixed[i]


@njit(cache=True, nogil=True)
def divide_by_stabilizers(values: Values, matrices: I8, low: int, first: int) -> None:
    """Divide sums over all operators by the number of those that map the voxel to itself.

    Parameters
    ----------
    values : (n, n_k, n_h) int64 or int8
        In place; the divisions leave no rest.
    matrices : (m, 3, 3) int64
        The whole group.
    low : int
        The first voxel along h and along k.
    first : int
        The first l.
    """
    n_h = values.shape[2]
    fixed = np.zeros(n_h, np.int64)
    for p in range(values.shape[0]):
        for i in range(values.shape[1]):
            _divide(values[p, i], matrices, i + low, first + p, low, low + n_h, fixed)
