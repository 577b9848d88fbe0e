"""Voxels that stand out of the median of what is around them."""

import numpy as np
from numba import njit

from nxmpi._typing import I8
from nxmpi.kernels.symmetry import Images, Values

SIGMA = 1.4826
"""Standard deviation of a normal distribution by its median absolute deviation."""
OUTLIER, LEVEL = 3.0, 2.2
"""Weng et al., J. Appl. Cryst. 53, 159 (2020): how far an outlier is, in standard deviations, and
what it becomes, in median absolute deviations."""


@njit(cache=True, nogil=True)
def replace_outliers(
    around: Values, before: int, offsets: I8, values: Values, marks: Images
) -> None:  # fmt: skip
    """Replace what is farther than 3 sigma from the median around it by median + 2.2 MAD.

    Parameters
    ----------
    around : (n + before + after, n_k, n_h) float32 or float64
        Planes of the slab with those before and after it; NaN is left out.
    before : int
        Number of planes before the slab.
    offsets : (m, 3) int64
        Along h, k, l, of what counts as around a voxel, itself among them.
    values, marks : (n, n_k, n_h) float32 or float64, int8
        Values of the slab, changed in place where they are outliers; overwritten with 1 where they
        were, and with 2 where there is nothing around.
    """
    n_planes, n_k, n_h = around.shape
    sample = np.empty(offsets.shape[0], around.dtype)
    for l in range(values.shape[0]):
        for k in range(n_k):
            for h in range(n_h):
                own = values[l, k, h]
                marks[l, k, h] = 0
                if np.isnan(own):
                    continue
                n = 0
                for i in range(offsets.shape[0]):
                    x, y, z = h + offsets[i, 0], k + offsets[i, 1], l + before + offsets[i, 2]
                    if 0 <= x < n_h and 0 <= y < n_k and 0 <= z < n_planes:
                        value = around[z, y, x]
                        if not np.isnan(value):
                            sample[n] = value
                            n += 1
                if n == 0:
                    marks[l, k, h] = 2
                    continue
                median = np.median(sample[:n])
                deviation = np.median(np.abs(sample[:n] - median))
                if np.abs(own - median) > OUTLIER * SIGMA * deviation:
                    values[l, k, h] = median + LEVEL * deviation
                    marks[l, k, h] = 1
