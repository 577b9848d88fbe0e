"""From a place where a peak may be to the peak: fitted, judged and described."""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels import profile as kernels
from nxmpi.kernels import screen
from nxmpi.kernels.start import core_of_box, start_values
from nxmpi.stages.held import WHOLE, summed_shape
from nxmpi.stages.search import LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nxmpi._typing import F8
    from nxmpi.stages.held import Box, Cut, Steps
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
    candidate: Candidate, box: Box, cut: Cut, level: float, gain: float
) -> NDArray[np.void] | None:
    """Return the peak at a candidate's place, None if there is none.

    Parameters
    ----------
    candidate : Candidate
    box : tuple of slice
        See `box_of`.
    cut : callable
        Returns counts of a part of the box.
    level : float
        Least significance [standard deviations].
    gain : float
        Counts of a photon [1].

    Returns
    -------
    () FITTED or None
    """
    if _is_of_one_pixel(candidate, box, cut):
        return None
    start, stop = LEVELS[candidate.level].window(candidate.window)
    widest = np.array([WIDEST, WIDEST, RANGE_SIGMA_Z[candidate.level][1]])
    values = _begin(candidate, box)
    z, y, x = (float(place) for place in values[2::-1])
    if not _fit_coarsely(candidate, box, cut, widest, level * sqrt(gain) * DOUBT, values):
        return None
    counts = cut(box)
    errors, region = np.empty(kernels.N), np.empty((3, 2), np.int32)
    room = np.empty((3, 3, max(counts.shape)))
    least, most = np.empty(kernels.SLOPES), np.empty(kernels.SLOPES)
    screen.write_limits(counts.shape, WHOLE, widest, BEYOND, least, most)
    pace = kernels.FROM_AFAR if _steps(candidate, box) == WHOLE else kernels.FROM_NEAR
    if not kernels.fit_profile(counts, least, most, pace, room, values, errors, region):
        return None
    significance = kernels.significance(counts, values, region, room) / sqrt(gain)
    sigmas = np.exp(values[3:6])
    moved = np.abs(values[:3] - [x, y, z]) > [3 + sigmas[0], 3 + sigmas[1], stop - start]
    fits = (sigmas < widest).all() and sigmas[2] > RANGE_SIGMA_Z[candidate.level][0]
    flickers = sigmas[:2].max() < SHARP and sigmas[2] > LONG
    if significance < level or moved.any() or not fits or flickers:
        return None
    if errors[6] > VAGUE * values[6]:
        return None
    n_pixels, maximum, masked = kernels.describe(counts, values, CORE)
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


def _fit_coarsely(
    candidate: Candidate, box: Box, cut: Cut, widest: F8, level: float, values: F8
) -> bool:
    """Find where a fit is to begin from a fit to fewer voxels; return whether there is a peak.

    Most of what is no peak is found out here, at a small part of the cost.
    """
    steps = _steps(candidate, box)
    frames, rows, columns = box
    shape = frames.stop - frames.start, rows.stop - rows.start, columns.stop - columns.start
    z, y, x = core_of_box(shape, steps, values)
    core = (
        slice(frames.start + z[0], frames.start + z[1]),
        slice(rows.start + y[0], rows.start + y[1]),
        slice(columns.start + x[0], columns.start + x[1]),
    )
    corner = z[0], y[0], x[0]
    if not screen.seems_a_peak(cut(core, steps), corner, steps, level, values):
        return False
    if steps == WHOLE:
        return True
    shortest = RANGE_SIGMA_Z[candidate.level][0]
    counts = cut(box, steps)
    return bool(screen.fit_coarsely(counts, steps, shortest, widest, BEYOND, level, values))


def _steps(candidate: Candidate, box: Box) -> Steps:
    """Return how many voxels a first fit sums along z, y, x."""
    steps = (STEPS_Z[candidate.level], *STEPS_XY[candidate.scale])
    return WHOLE if min(summed_shape(box, steps)) < FEWEST else steps


def _is_of_one_pixel(candidate: Candidate, box: Box, cut: Cut) -> bool:
    """Return whether the excess of 3 x 3 pixels is that of one of them, and no peak: hot, or hit.

    A peak may fall into one pixel, but it comes and goes over more than one frame.
    """
    frames, rows, columns = box
    y, x = candidate.y, candidate.x
    rows = slice(max(y - 1, rows.start), min(y + 2, rows.stop))
    columns = slice(max(x - 1, columns.start), min(x + 2, columns.stop))
    start, stop = LEVELS[candidate.level].window(candidate.window)
    heart = cut((frames, rows, columns))
    window = max(start - frames.start, 0), stop - frames.start
    expected = candidate.expected / SIDE[candidate.scale] ** 2
    return bool(screen.falls_into_one_pixel(heart, *window, expected, SINGLE_PIXEL, HIT, BRIEF))


def _begin(candidate: Candidate, box: Box) -> F8:
    """Return the parameters that a fit begins with."""
    frames, rows, columns = box
    start, stop = LEVELS[candidate.level].window(candidate.window)
    return start_values(
        (candidate.x - columns.start, candidate.y - rows.start),
        (start - frames.start, min(stop, frames.stop) - frames.start),
        SIDE[candidate.scale],
        (candidate.strong, candidate.expected),
        (START_SIGMA_XY[candidate.scale], START_SIGMA_Z[candidate.level]),
    )
