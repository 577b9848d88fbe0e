"""Hot and dead pixels, against medians of the whole frame."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, median_filter

from nxmpi.stages.pixels import EXPECTED, LONELY, SIDE, SIGMAS, STEADY, hot_and_dead

SHAPE = (61, 73)
CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
N_FRAMES = 50
HOT = [(0, 20), (30, 0), (60, 72), (25, 31), (40, 8)]
"""At edges, in a corner, in the middle and beside a gap."""


def sums(mean):
    """Return the sum over frames and the largest counts, with hot pixels that are steady."""
    rng = np.random.default_rng(4)
    frames = rng.poisson(mean, (N_FRAMES, *SHAPE))
    for y, x in HOT:
        frames[:, y, x] = rng.poisson(4 * mean + 3, N_FRAMES)
    frames[10:13, 12, 50] += 500  # a peak in one pixel
    frames[:, 50, 60:62] = rng.poisson(4 * mean + 3, (N_FRAMES, 2))  # two, so none is alone
    frames[:, 33, 44] = 0
    bad = np.zeros(SHAPE, bool)
    bad[:, 9:12] = True
    frames[:, bad] = 0
    return frames.sum(axis=0), frames.max(axis=0), bad


@pytest.mark.parametrize("mean", [0.5, 5.0, 1e4])
def test_steady_lonely_pixels_are_hot_and_silent_ones_dead(mean):
    hot, dead = hot_and_dead(*sums(mean), N_FRAMES)
    assert sorted(map(tuple, np.argwhere(hot).tolist())) == sorted(HOT)
    silent = [[33, 44]] if mean * N_FRAMES > EXPECTED else []
    assert np.argwhere(dead).tolist() == silent


@pytest.mark.parametrize("mean", [0.5, 5.0, 1e4])
def test_medians_of_the_whole_frame_say_the_same(mean):
    total, largest, bad = sums(mean)
    bad[:] = False  # the gap is seen as pixels that never count
    around = median_filter(total.astype(float), SIDE, mode="nearest")
    excess = total - around
    beside = maximum_filter(excess, footprint=CROSS, mode="constant", cval=-np.inf)
    steady = largest <= total / N_FRAMES + STEADY * np.sqrt(total / N_FRAMES + 1)
    far = (excess > SIGMAS * np.sqrt(around + 1)) & (excess > around)
    hot, dead = hot_and_dead(total, largest, bad, N_FRAMES)
    assert np.array_equal(hot, far & steady & (beside < LONELY * excess))
    assert np.array_equal(dead, (total == 0) & (around >= EXPECTED))
    assert far.sum() > hot.sum() > 0


def test_nothing_is_hot_or_dead_where_all_pixels_are_masked():
    total, largest, bad = sums(5.0)
    for found in hot_and_dead(total, largest, np.ones_like(bad), N_FRAMES):
        assert not found.any()
