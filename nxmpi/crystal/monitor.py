"""The incident flux of each frame, from what a monitor counted."""

import numpy as np

from nxmpi._typing import F8


def smooth_monitor(monitor: F8) -> F8:
    """Return a monitor without its counting noise.

    Parameters
    ----------
    monitor : (n_frames,) float64
        [counts]

    Returns
    -------
    (n_frames,) float64
        By a Savitzky-Golay filter of order 2 over 501 points above 1000 frames, over 101 above
        200; shorter ones as they are [counts].
    """
    n = monitor.size
    if n <= 200:
        return monitor
    from scipy.signal import savgol_filter  # here: a third of the start of every rank

    return np.asarray(savgol_filter(monitor, 501 if n > 1000 else 101, 2))


def mend_ends(monitor: F8) -> F8:
    """Return a monitor whose first and last values, often cut short, are their neighbours'."""
    mended = monitor.copy()
    if mended.size > 2:
        mended[0], mended[-1] = mended[1], mended[-2]
    return mended
