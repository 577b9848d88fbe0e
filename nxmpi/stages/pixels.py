"""Pixels that are wrong all along: hot and dead ones, from sums over the frames."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import distance_transform_edt, maximum_filter, minimum_filter

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
BESIDE = ((-1, 0), (1, 0), (0, -1), (0, 1))
"""Steps to the nearest neighbours [pixels]."""


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
    mean = total / n_frames
    # medians are worked out where the least, or the largest, value around would do
    least = minimum_filter(filled, SIDE, mode="nearest")
    hot = (
        _is_far(filled, least) & ~bad & (largest <= mean + STEADY * np.sqrt(mean + 1.0))
    )  # fmt: skip
    y, x = np.nonzero(hot)
    around = _median(filled, y, x)
    excess = filled[y, x] - around
    hot[y, x] = _is_far(filled[y, x], around)
    for step_y, step_x in BESIDE:
        beside_y, beside_x = y + step_y, x + step_x
        there = (beside_y >= 0) & (beside_y < len(filled)) & (beside_x >= 0)
        there &= beside_x < filled.shape[1]
        there[there] = ~bad[beside_y[there], beside_x[there]]
        places = beside_y[there], beside_x[there]
        beside = filled[places] - _median(filled, *places)
        hot[y[there], x[there]] &= beside < LONELY * excess[there]
    dead = (total == 0) & ~bad & (maximum_filter(filled, SIDE, mode="nearest") >= EXPECTED)
    y, x = np.nonzero(dead)
    dead[y, x] = _median(filled, y, x) >= EXPECTED
    return hot, dead


def _is_far(counts: F8, around: F8) -> Mask:
    excess = counts - around
    return np.asarray((excess > SIGMAS * np.sqrt(around + 1.0)) & (excess > around))


def _median(image: F8, y: I8, x: I8) -> F8:
    """Return medians of squares around some pixels; beyond an edge its pixels go on."""
    windows = sliding_window_view(np.pad(image, SIDE // 2, mode="edge"), (SIDE, SIDE))
    return np.asarray(np.median(windows[y, x].reshape(-1, SIDE * SIDE), axis=1))


def _filled(total: I8, bad: Mask) -> F8:
    """Return sums with the nearest good pixel's in the place of bad ones."""
    if bad.all() or not bad.any():
        return total.astype(np.float64)
    nearest = distance_transform_edt(bad, return_distances=False, return_indices=True)
    return np.asarray(total[tuple(nearest)], np.float64)
