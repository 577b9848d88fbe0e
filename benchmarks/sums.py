"""A key of the integer sums of a volume, to see whether two volumes are the same to the bit."""

import numpy as np
from numba import njit

from nxmpi.kernels.bricks import add_to_slab
from nxmpi.stages.bricks import WIDTH, pillars_held

WORD = 2**64


@njit(cache=True, nogil=True)
def mixed(number):
    """Return the odd uint64 that stands for a number (splitmix64)."""
    z = number * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


@njit(cache=True, nogil=True)
def key_of_slab(counts, norm, lower, shape):
    """Return the key of a dense part of a volume, and its counts.

    Each voxel adds its counts and its norm, times numbers of its own: the key of a sum is the
    sum of the keys, in any order.

    Parameters
    ----------
    counts, norm : (n_l, n_k, n_h) int64
    lower : (3,) int64
        First voxel of the slab along l, k, h.
    shape : (3,) int64
        Of the volume.
    """
    key, total = np.uint64(0), np.int64(0)
    n_l, n_k, n_h = counts.shape
    for l in range(n_l):
        for k in range(n_k):
            row = ((l + lower[0]) * shape[1] + k + lower[1]) * shape[2] + lower[2]
            for h in range(n_h):
                if norm[l, k, h] or counts[l, k, h]:
                    number = np.uint64(2) * np.uint64(row + h)
                    key += np.uint64(counts[l, k, h]) * mixed(number)
                    key += np.uint64(norm[l, k, h]) * mixed(number + np.uint64(1))
                    total += counts[l, k, h]
    return key, total


def key_of_bricks(bricks):
    """Return the key of what a rank holds of a volume, and its counts. Not collective."""
    n_l, n_k, _ = bricks.array_shape
    key, total = 0, 0
    for l, k, start, stop in pillars_held((bricks,)):
        lower = np.array([l, k, start])
        shape = (min(WIDTH, n_l - l), min(WIDTH, n_k - k), stop - start)
        counts, norm = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        add_to_slab(bricks.sums, lower, counts, norm)
        own, own_counts = key_of_slab(counts, norm, lower, np.array(bricks.array_shape))
        key, total = (key + int(own)) % WORD, total + int(own_counts)
    return key, total
