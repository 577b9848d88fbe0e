"""Pixels that are wrong all along: hot and dead ones, from sums over the frames."""

import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter, median_filter

from nxmpi._typing import F8, I8, Mask

SIDE = 5
"""Of the square whose median a pixel is held against [pixels]."""
SIGMAS = 10.0
"""How far a hot pixel's sum is above that [standard deviations]."""
LONELY = 0.3
"""Part of a hot pixel's excess that a neighbour has at most. The sharpest peak there is, of
0.6 pixels, leaves 0.34 in the nearest."""
STEADY = 8.0
"""How far the largest count of a hot pixel is above its mean at most [standard deviations]."""
EXPECTED = 30.0
"""Least counts around a dead pixel."""
CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)


def hot_and_dead(total: I8, largest: I8, bad: Mask, n_frames: int) -> tuple[Mask, Mask]:
    """Return the pixels that count too much in every frame, and those that never count.

    Parameters
    ----------
    total, largest : (n_slow, n_fast) int64
        Sum over frames and largest count of each pixel [counts].
    bad : (n_slow, n_fast) bool
        Known already; neither hot nor dead.
    n_frames : int
        Frames in the sum.

    Returns
    -------
    hot, dead : (n_slow, n_fast) bool

    Notes
    -----
    A hot pixel stands out of the median around it, alone and steadily: a Bragg peak does not
    fall into one pixel, nor into all frames.
    """
    filled = _filled(total, bad)
    around = median_filter(filled, SIDE, mode="nearest")
    excess = filled - around
    beside = maximum_filter(excess, footprint=CROSS, mode="nearest")
    mean = total / n_frames
    hot = (
        (excess > SIGMAS * np.sqrt(around + 1.0))
        & (excess > around)
        & (beside < LONELY * excess)
        & (largest <= mean + STEADY * np.sqrt(mean + 1.0))
    )
    dead = (total == 0) & (around >= EXPECTED)
    return np.asarray(hot & ~bad), np.asarray(dead & ~bad)


def _filled(total: I8, bad: Mask) -> F8:
    """Return sums with the nearest good pixel's in the place of bad ones."""
    if bad.all() or not bad.any():
        return total.astype(np.float64)
    nearest = distance_transform_edt(bad, return_distances=False, return_indices=True)
    return np.asarray(total[tuple(nearest)], np.float64)
