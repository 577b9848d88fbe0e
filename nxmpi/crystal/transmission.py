"""The sample's transmission, from the background between Bragg peaks."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter

from nxmpi._typing import F8, I4, I8, Mask
from nxmpi.crystal.angles import far_edge_Q
from nxmpi.errors import InputError
from nxmpi.model import Detector

ANNULUS = (0.30, 0.95)
"""Of the distance from the beam to the far edge, in |Q|."""
N_BLOCKS = 1000
BRIGHT = 10
"""One in so many blocks, the brightest, is left out."""
WINDOW = 31
"""Of the median filter [frames]."""


class Transmission(NamedTuple):
    """Transmission of each frame; the arrays are (n_frames,) float64."""

    values: F8
    """Filtered, in units of its median [1]."""
    median: float
    """The median that the values were divided by [counts per unit of the monitor]."""
    raw: F8
    """Sums divided by the monitor, not filtered; NaN in frames not used."""
    frame_sums: F8
    """Background of each frame [counts]."""


def annulus(detector: Detector, wavelength: float) -> tuple[float, float]:
    """Return the default limits of |Q| for the background [1/Å]."""
    Q = far_edge_Q(detector, wavelength)
    return ANNULUS[0] * Q, ANNULUS[1] * Q


def background_blocks(
    shape: tuple[int, int], bad: Mask, Q: F8 | None, qmin: float, qmax: float,
    n_blocks: int = N_BLOCKS,
) -> I4:  # fmt: skip
    """Divide the background into square blocks of pixels.

    Parameters
    ----------
    shape : tuple of int
        (n_slow, n_fast).
    bad : (n_slow, n_fast) bool
        True = leave out.
    Q : (n_slow, n_fast) float64 or None
        |Q| of pixels; None for the whole detector [1/Å].
    qmin, qmax : float
        Limits of |Q| [1/Å].
    n_blocks : int
        About so many.

    Returns
    -------
    (n_slow, n_fast) int32
        Number of the block, consecutive from 0; -1 outside.

    Raises
    ------
    InputError
        If no pixel is left.
    """
    chosen = ~bad
    if Q is not None:
        chosen &= np.greater_equal(Q, qmin) & np.less_equal(Q, qmax)
    n_chosen = int(np.count_nonzero(chosen))
    if n_chosen == 0:
        raise InputError(
            f"transmission: no unmasked pixel has |Q| from {qmin:g} to {qmax:g} 1/Å"
            if Q is not None else "transmission: all pixels are masked"
        )  # fmt: skip
    side = max(1, round(float(np.sqrt(n_chosen / n_blocks))))
    slow, fast = (np.arange(n) // side for n in shape)
    cells = slow[:, None] * (fast[-1] + 1) + fast
    blocks = np.full(shape, -1, np.int32)
    blocks[chosen] = np.unique(cells[chosen], return_inverse=True)[1]
    return blocks


def block_pixels(blocks: I4) -> I8:
    """Return the number of pixels of each block, (n_blocks,) int64."""
    return np.bincount(blocks[blocks >= 0]).astype(np.int64)


def transmission(
    sums: I8, removed: I8, pixels: I8, monitor: F8, used: Mask | None = None
) -> Transmission:  # fmt: skip
    """Return the transmission of each frame from what its background counted.

    Parameters
    ----------
    sums : (n_frames, n_blocks) int64
        Of the background, without strong pixels [counts].
    removed : (n_frames, n_blocks) int64
        Strong pixels that the sums lack.
    pixels : (n_blocks,) int64
        Pixels of each block.
    monitor : (n_frames,) float64
        Incident flux.
    used : (n_frames,) bool or None
        Frames to use; others get the values of their neighbours. None for all.

    Raises
    ------
    InputError
        If there is no frame, or one without a count; names it.

    Notes
    -----
    Blocks are chosen by what they sum to over all frames, not frame by frame: given its total, a
    block's counts are dealt out to the frames in proportion to what is expected there, so the
    choice leaves the ratios of frames unbiased however few the counts.
    """
    numbers = np.arange(len(monitor)) if used is None else np.flatnonzero(used)
    if numbers.size == 0:
        raise InputError("transmission: expected a frame to use, found none")
    frame_sums = np.zeros(len(monitor))
    frame_sums[numbers] = _sum_blocks(sums[numbers], removed[numbers], pixels)
    empty = numbers[~(frame_sums[numbers] > 0)]
    if empty.size:
        raise InputError(
            f"transmission: expected background counts in every frame used, found none in frame "
            f"{empty[0]} ({empty.size} such frames)"
        )
    raw = np.full(len(monitor), np.nan)
    raw[numbers] = frame_sums[numbers] / monitor[numbers]
    window = min(WINDOW, numbers.size - 1 + numbers.size % 2)
    filtered = median_filter(raw[numbers], size=window, mode="nearest")
    median = float(np.median(filtered))
    values = np.interp(np.arange(len(monitor)), numbers, filtered / median)
    return Transmission(values, median, raw, frame_sums)


def _sum_blocks(sums: I8, removed: I8, pixels: I8) -> F8:
    """Return the sum over the blocks that are not bright, (n_frames,), as if none were removed."""
    seen = (pixels - removed).sum(axis=0)
    mean = np.divide(sums.sum(axis=0), seen, out=np.full(len(pixels), np.inf), where=seen > 0)
    kept = np.sort(np.argsort(mean, kind="stable")[: len(pixels) - len(pixels) // BRIGHT])
    kept = kept[seen[kept] > 0]
    left = pixels[kept] - removed[:, kept]
    filled = np.divide(
        sums[:, kept] * pixels[kept].astype(np.float64), left,
        out=np.zeros(left.shape), where=left > 0,
    ).sum(axis=1)  # fmt: skip
    expected = mean[kept] * pixels[kept]
    share = ((left > 0) * expected).sum(axis=1)
    scale = np.divide(expected.sum(), share, out=np.zeros(len(sums)), where=share > 0)
    return np.asarray(filled * scale)
