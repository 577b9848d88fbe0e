"""From a place where a peak may be to the peak: fitted, judged and described."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels import profile as kernels
from nxmpi.stages.search import LEVELS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nxmpi._typing import F8, I4

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


def box_of(candidate: NDArray[np.void], shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    """Return the frames, rows and columns that a candidate is fitted in."""
    n_frames, n_slow, n_fast = shape
    start, stop = LEVELS[candidate["level"]].reach(int(candidate["window"]), n_frames)
    half = HALF[candidate["scale"]]
    y, x = int(candidate["y"]), int(candidate["x"])
    rows = slice(max(y - half, 0), min(y + half + 1, n_slow))
    return slice(start, stop), rows, slice(max(x - half, 0), min(x + half + 1, n_fast))


def fit(
    candidate: NDArray[np.void], box: I4, corner: tuple[int, int, int], level: float, gain: float
) -> NDArray[np.void] | None:
    """Return the peak at a candidate's place, None if there is none.

    Parameters
    ----------
    candidate : () CANDIDATE
    box : (n_z, n_y, n_x) int32
        Counts, -1 where masked; see `box_of`.
    corner : tuple of int
        First frame, row and column of the box.
    level : float
        Least significance [standard deviations].
    gain : float
        Counts of a photon [1].

    Returns
    -------
    () FITTED or None
    """
    number = int(candidate["level"])
    start, stop = LEVELS[number].window(int(candidate["window"]))
    z, y, x = (
        0.5 * (start + min(stop, corner[0] + box.shape[0]) - 1) - corner[0],
        float(candidate["y"]) - corner[1],
        float(candidate["x"]) - corner[2],
    )
    window = box[max(start - corner[0], 0) : stop - corner[0]]
    low, high = RANGE_SIGMA_Z[number]
    widest = np.log([WIDEST, WIDEST, high])
    least_seen = level * np.sqrt(gain) * DOUBT
    first = _begin(candidate, window, (x, y, z))
    values = _fit_coarsely(box, first, widest, candidate, least_seen)
    if values is None:
        return None
    errors, region = np.empty(kernels.N), np.empty((3, 2), np.int32)
    room = np.empty((3, 3, max(box.shape)))
    least, most = _limits(box, widest)
    if not kernels.fit_profile(box, least, most, room, values, errors, region):
        return None
    significance = kernels.significance(box, values, region, room) / np.sqrt(gain)
    sigmas = np.exp(values[3:6])
    moved = np.abs(values[:3] - [x, y, z]) > [3 + sigmas[0], 3 + sigmas[1], stop - start]
    fits = (values[3:6] < widest).all() and sigmas[2] > low
    flickers = sigmas[:2].max() < SHARP and sigmas[2] > LONG
    if significance < level or moved.any() or not fits or flickers:
        return None
    if errors[6] > VAGUE * values[6]:
        return None
    n_pixels, maximum, masked = kernels.describe(box, values, CORE)
    errors *= np.sqrt(gain)
    result = np.empty((), FITTED)
    for axis, name in enumerate("xyz"):
        result[name] = values[axis] + corner[2 - axis]
        result[f"sig{name}"] = sigmas[axis]
        result[f"{name}_error"] = errors[axis]
    result["intensity"], result["intensity_error"] = values[6], errors[6]
    result["background"], result["significance"] = values[7], significance
    result["n_pixels"], result["maximum"], result["masked"] = n_pixels, maximum, masked
    result["level"] = number
    return result


def _limits(box: I4, widest: F8) -> tuple[F8, F8]:
    least = np.array([-1, -1, -BEYOND, *np.log([0.2, 0.2, 0.12]), 1e-3, 0.1 / box.size])
    n_z, n_y, n_x = box.shape
    return least, np.array([n_x, n_y, n_z - 1 + BEYOND, *widest, 1e12, 1e9])


def _fit_coarsely(
    box: I4, values: F8, widest: F8, candidate: NDArray[np.void], level: float
) -> F8 | None:
    """Return where a fit is to begin, from a fit to fewer voxels; None if that fails.

    Most of what is no peak is found out here, at a small part of the cost.
    """
    steps = (STEPS_Z[candidate["level"]], *STEPS_XY[candidate["scale"]])
    coarse = np.empty([n // step for n, step in zip(box.shape, steps, strict=True)], np.int32)
    errors, region = np.empty(kernels.N), np.empty((3, 2), np.int32)
    room = np.empty((3, 3, max(box.shape)))
    if steps == (1, 1, 1) or min(coarse.shape) < FEWEST:
        return values if kernels.score(box, values, region, room) > level else None
    kernels.bin_box(box, steps, coarse)
    scale = np.array(steps[::-1], float)
    shift = 0.5 * (scale - 1.0)
    binned = values.copy()
    binned[:3] = (values[:3] - shift) / scale
    binned[3:6] -= np.log(scale)
    binned[7:] *= scale.prod()
    if kernels.score(coarse, binned, region, room) < level:
        return None
    least, most = _limits(coarse, widest - np.log(scale))
    least[3:6] -= np.log(scale)
    if not kernels.fit_profile(coarse, least, most, room, binned, errors, region):
        return None
    if kernels.significance(coarse, binned, region, room) < level:
        return None
    binned[:3] = binned[:3] * scale + shift
    binned[3:6] += np.log(scale)
    binned[7:] /= scale.prod()
    return binned


def heart_of(candidate: NDArray[np.void], box: I4, corner: tuple[int, int, int]) -> I4:
    """Return the pixels of a box that `is_of_one_pixel` looks at."""
    y, x = int(candidate["y"]) - corner[1], int(candidate["x"]) - corner[2]
    return box[:, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]


def is_of_one_pixel(candidate: NDArray[np.void], heart: I4, first_frame: int) -> bool:
    """Return whether the excess of 3 x 3 pixels is that of one of them, and no peak: hot, or hit.

    A peak may fall into one pixel, but it comes and goes over more than one frame.

    Parameters
    ----------
    candidate : () CANDIDATE
    heart : (n_z, 3, 3) int32
        Counts, -1 where masked; see `heart_of`.
    first_frame : int
        Of the heart.
    """
    start, stop = LEVELS[candidate["level"]].window(int(candidate["window"]))
    expected = float(candidate["expected"]) / SIDE[candidate["scale"]] ** 2
    window = max(start - first_frame, 0), stop - first_frame
    return bool(kernels.falls_into_one_pixel(heart, *window, expected, SINGLE_PIXEL, HIT, BRIEF))


def _begin(candidate: NDArray[np.void], window: I4, place: tuple[float, float, float]) -> F8:
    expected, n = float(candidate["expected"]), SIDE[candidate["scale"]] ** 2
    counts = (np.sqrt(expected) + 0.5 * float(candidate["strong"])) ** 2
    width = START_SIGMA_XY[candidate["scale"]]
    sigmas = (width, width, START_SIGMA_Z[candidate["level"]])
    background = max(expected / (n * max(window.shape[0], 1)), 1e-3)
    intensity = 1.5 * max(counts - expected, 5.0)
    return np.array([*place, *np.log(sigmas), intensity, background, *np.zeros(6)])
