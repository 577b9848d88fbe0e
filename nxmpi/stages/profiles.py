"""From a place where a peak may be to the peak: fitted, judged and described."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels import profile as kernels
from nxmpi.kernels import screen
from nxmpi.kernels.candidates import may_be_a_peak
from nxmpi.stages.held import WHOLE, cut, summed_shape
from nxmpi.stages.search import LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nxmpi.kernels.boxes import Counts
    from nxmpi.stages.held import Box, Steps
    from nxmpi.stages.search import Candidate

SIDE = (3, 7)
"""Of the boxes of the search [pixels]."""
HALF = (7, 14)
"""Half the side of what is fitted around boxes of 3 and of 7 pixels [pixels]."""
START_SIGMA_XY = (1.0, 2.5)
START_SIGMA_Z = (0.7, 2.0, 6.0)
WIDEST = 6.0
"""What is wider in x or y is diffuse scattering [pixels]."""
RANGE_SIGMA_Z = ((0.0, 2.6), (0.6, 8.0), (2.0, 18.0))
"""Of each level; what lies outside is another level's [frames]."""
STEPS_Z = (1, 2, 4)
STEPS_XY = ((1, 1), (2, 2))
"""Voxels that a first fit sums, by level and by box: such peaks are at least so wide."""
DOUBT = 0.65
"""Part of the least significance that a peak has before it is fitted, and in fewer voxels."""
FEWEST = 4
"""Sums along an axis that a first fit needs."""
SINGLE_PIXEL = 0.75
"""Part of the counts of 3 x 3 pixels in one of them that needs a closer look."""
HIT = 0.04
"""Counts of a single pixel in the frames beside its largest, as a part of that, that make it a
peak and no hit by a particle."""
BRIEF = 0.5
"""Part of a single pixel's counts that its three strongest frames have if it is not hot."""
BEYOND = 3.0
"""How far before the first or after the last frame the middle of a peak may be [frames]."""
SHARP, LONG = 0.3, 3.0
"""What is narrower in x, y and longer in z is a pixel that is hot for a while [pixels, frames]."""
VAGUE = 0.5
"""Error of an intensity, in parts of it, with which it is not told apart from what else there is:
most often little of the peak is in the frames."""
CORE = 2.0
"""Where a peak is touched by what masks it, and where its pixels are counted [sigma]."""

FITTED = np.dtype(
    [
        (name, "f8")
        for name in (
            "z", "y", "x", "sigz", "sigy", "sigx", "intensity", "background",
            "z_error", "y_error", "x_error", "intensity_error", "significance",
            "n_pixels", "maximum", "masked", "level",
        )
    ]
)  # fmt: skip


def box_of(candidate: Candidate, shape: tuple[int, int, int]) -> Box:
    """Return the frames, rows and columns that a candidate is fitted in."""
    n_frames, n_slow, n_fast = shape
    start, stop = LEVELS[candidate.level].reach(candidate.window, n_frames)
    half, y, x = HALF[candidate.scale], candidate.y, candidate.x
    rows = slice(max(y - half, 0), min(y + half + 1, n_slow))
    return slice(start, stop), rows, slice(max(x - half, 0), min(x + half + 1, n_fast))


def fit(
    candidate: Candidate, box: Box, counts: Counts, level: float, gain: float
) -> NDArray[np.void] | None:
    """Return the peak at a candidate's place, None if there is none.

    Parameters
    ----------
    candidate : Candidate
    box : tuple of slice
        See `box_of`.
    counts : Counts
        Of frames, or of the box at least.
    level : float
        Least significance [standard deviations].
    gain : float
        Counts of a photon [1].

    Returns
    -------
    () FITTED or None
    """
    start, stop = LEVELS[candidate.level].window(candidate.window)
    steps = _steps(candidate, box)
    sigma_xy, sigma_z = START_SIGMA_XY[candidate.scale], START_SIGMA_Z[candidate.level]
    shortest, longest = RANGE_SIGMA_Z[candidate.level]
    widest = np.array([WIDEST, WIDEST, longest])
    values = np.empty(kernels.N)
    frames, rows, columns = box
    if not may_be_a_peak(
        counts,
        ((frames.start, frames.stop), (rows.start, rows.stop), (columns.start, columns.stop)),
        (candidate.y, candidate.x), (start, stop), SIDE[candidate.scale],
        (candidate.strong, candidate.expected), (sigma_xy, sigma_z),
        (SINGLE_PIXEL, HIT, BRIEF), steps, shortest, widest, BEYOND,
        level * sqrt(gain) * DOUBT, values,
    ):  # fmt: skip
        return None
    z, y, x = _middle(candidate, box)
    voxels = cut(counts, box)
    errors, region = np.empty(kernels.N), np.empty((3, 2), np.int32)
    room = np.empty((3, 3, max(voxels.shape)))
    least, most = np.empty(kernels.SLOPES), np.empty(kernels.SLOPES)
    screen.write_limits(voxels.shape, WHOLE, widest, BEYOND, least, most)
    pace = kernels.FROM_AFAR if steps == WHOLE else kernels.FROM_NEAR
    if not kernels.fit_profile(voxels, least, most, pace, room, values, errors, region):
        return None
    significance = kernels.significance(voxels, values, region, room) / sqrt(gain)
    sigmas = np.exp(values[3:6])
    moved = np.abs(values[:3] - [x, y, z]) > [3 + sigmas[0], 3 + sigmas[1], stop - start]
    fits = (sigmas < widest).all() and sigmas[2] > shortest
    flickers = sigmas[:2].max() < SHARP and sigmas[2] > LONG
    if significance < level or moved.any() or not fits or flickers:
        return None
    if errors[6] > VAGUE * values[6]:
        return None
    n_pixels, maximum, masked = kernels.describe(voxels, values, CORE)
    errors *= sqrt(gain)
    result = np.empty((), FITTED)
    for axis, name in enumerate("xyz"):
        result[name] = values[axis] + box[2 - axis].start
        result[f"sig{name}"] = sigmas[axis]
        result[f"{name}_error"] = errors[axis]
    result["intensity"], result["intensity_error"] = values[6], errors[6]
    result["background"], result["significance"] = values[7], significance
    result["n_pixels"], result["maximum"], result["masked"] = n_pixels, maximum, masked
    result["level"] = candidate.level
    return result


def _steps(candidate: Candidate, box: Box) -> Steps:
    """Return how many voxels a first fit sums along z, y, x."""
    steps = (STEPS_Z[candidate.level], *STEPS_XY[candidate.scale])
    return WHOLE if min(summed_shape(box, steps)) < FEWEST else steps


def _middle(candidate: Candidate, box: Box) -> tuple[float, float, float]:
    """Return the middle of what was found, along z, y, x in the box."""
    frames, rows, columns = box
    start, stop = LEVELS[candidate.level].window(candidate.window)
    z = 0.5 * (start + min(stop, frames.stop) - 1) - frames.start
    return z, candidate.y - rows.start, candidate.x - columns.start
