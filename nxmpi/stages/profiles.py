"""From a place where a peak may be to the peak: fitted, judged and described."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels import profile as kernels
from nxmpi.kernels import screen
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
    if not kernels.fit_profile(counts, least, most, room, values, errors, region):
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
    steps = (STEPS_Z[candidate.level], *STEPS_XY[candidate.scale])
    if steps != WHOLE and min(summed_shape(box, steps)) < FEWEST:
        steps = WHOLE
    core, corner = _core(box, steps, values)
    if not screen.seems_a_peak(cut(core, steps), corner, steps, level, values):
        return False
    if steps == WHOLE:
        return True
    return bool(screen.fit_coarsely(cut(box, steps), steps, widest, BEYOND, level, values))


def _core(box: Box, steps: Steps, values: F8) -> tuple[Box, tuple[int, int, int]]:
    """Return the part of a box that a peak to begin with reaches into, and its first voxel."""
    parts, corner = [], []
    for axis, (part, step) in enumerate(zip(box, steps, strict=True)):
        middle = values[2 - axis]
        half = kernels.REACH * exp(values[5 - axis]) + step * kernels.MARGIN[2 - axis]
        n = (part.stop - part.start) // step
        low = min(max(int((middle - half) / step), 0), n - 1)
        high = max(min(int((middle + half) / step) + 2, n), low + 1)
        parts.append(slice(part.start + low * step, part.start + high * step))
        corner.append(low * step)
    return (parts[0], parts[1], parts[2]), (corner[0], corner[1], corner[2])


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
    corner = tuple(part.start for part in box)
    start, stop = LEVELS[candidate.level].window(candidate.window)
    stop = min(stop, box[0].stop)
    values = np.zeros(kernels.N)
    values[:3] = (
        candidate.x - corner[2],
        candidate.y - corner[1],
        0.5 * (start + stop - 1) - corner[0],
    )
    width = log(START_SIGMA_XY[candidate.scale])
    values[3:6] = width, width, log(START_SIGMA_Z[candidate.level])
    counts = (sqrt(candidate.expected) + 0.5 * candidate.strong) ** 2
    values[kernels.INTENSITY] = 1.5 * max(counts - candidate.expected, 5.0)
    voxels = SIDE[candidate.scale] ** 2 * (stop - start)
    values[kernels.BACKGROUND] = max(candidate.expected / voxels, 1e-3)
    return values
