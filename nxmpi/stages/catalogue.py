"""Fitted peaks of all ranks to one list: each peak once, in canonical order, with flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from nxmpi.model import PeakFlag, Peaks
from nxmpi.stages.profiles import BEYOND, CORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nxmpi._typing import F8, I8, Mask

ORDER = ("z", "y", "x", "level", "significance")
FEW = 20
"""Peaks that are too few to be compared with each other."""
WIDER = 4.0
"""Times the width of the strongest peaks that a peak may have."""
MUCH = 2.0
"""Of two fits of one another's counts, the finer one stays unless the other is so much more
significant."""


def catalogue(
    fitted: NDArray[np.void], shape: tuple[int, int, int], saturation: float, hot: Mask
) -> Peaks:
    """Return the peaks of a position.

    Not collective: the root calls it.

    Parameters
    ----------
    fitted : (n,) FITTED
        In any order, the same peak more than once where several windows showed it.
    shape : tuple of int
        (n_frames, n_slow, n_fast)
    saturation : float
        Count from which a pixel is saturated [counts].
    hot : (n_slow, n_fast) bool
        Hot pixels; what is centred on one is no peak.
    """
    fitted = np.sort(fitted, order=ORDER)
    fitted = fitted[_on_the_detector(fitted, shape)]
    fitted = fitted[~_on_hot(fitted, hot)]
    fitted = fitted[_distinct(fitted)]
    fitted = fitted[_as_sharp_as_others(fitted)]
    return Peaks(
        **{name: fitted[name] for name in ("x", "y", "z", "intensity", "background")},
        **{f"{name}_error": fitted[f"{name}_error"] for name in ("x", "y", "z", "intensity")},
        **{f"sig{axis}": fitted[f"sig{axis}"] for axis in "xyz"},
        n_pixels=fitted["n_pixels"].astype(np.int64),
        maximum=fitted["maximum"].astype(np.int64),
        flags=_flags(fitted, shape, saturation),
    )


def _on_the_detector(fitted: NDArray[np.void], shape: tuple[int, int, int]) -> Mask:
    inside = fitted["masked"] < fitted["n_pixels"]
    for axis, n in zip("zyx", shape, strict=True):
        beyond = BEYOND + 0.5 if axis == "z" else 0.5
        inside &= (fitted[axis] > -beyond) & (fitted[axis] < n - 1 + beyond)
    return np.asarray(inside)


def _on_hot(fitted: NDArray[np.void], hot: Mask) -> Mask:
    y, x = (np.rint(fitted[axis]).astype(int) for axis in "yx")
    return np.asarray(hot[y, x]) if hot.any() else np.zeros(fitted.size, bool)


def _as_sharp_as_others(fitted: NDArray[np.void]) -> Mask:
    """Return False for what is much wider than the strongest peaks: diffuse scattering.

    Bragg peaks have what makes their width in common, the crystal and the beam. Diffuse maxima
    are less significant, so the strongest quarter of a list that has some is of Bragg peaks.
    """
    sharp = np.ones(fitted.size, bool)
    if fitted.size >= FEW:
        strongest = np.argsort(-fitted["significance"], kind="stable")[: fitted.size // 4]
        for axis in "xy":
            widths = fitted[f"sig{axis}"]
            sharp &= widths < WIDER * np.maximum(np.median(widths[strongest]), 1.0)
    return sharp


def _distinct(fitted: NDArray[np.void]) -> I8:
    """Return which fits to keep, in their order: of those of one peak the best."""
    if not fitted.size:
        return np.empty(0, np.int64)
    keep = np.ones(fitted.size, bool)
    # of two levels the longer windows must be much more significant
    rank = fitted["significance"] * MUCH ** -fitted["level"]
    order = np.lexsort((np.arange(fitted.size), -rank))
    position = np.empty(fitted.size, np.int64)
    position[order] = np.arange(fitted.size)
    for i, near in zip(order, _neighbours(fitted, order, 1.0), strict=True):
        if not keep[i]:
            continue
        for j in near:
            if position[j] > position[i] and _same(fitted[i], fitted[j]):
                keep[j] = False
    return np.flatnonzero(keep)


def _same(one: NDArray[np.void], other: NDArray[np.void]) -> bool:
    """Return whether either fit lies in the other's core."""
    return any(
        all(abs(one[axis] - other[axis]) < 1.0 + wide[f"sig{axis}"] for axis in "xyz")
        for wide in (one, other)
    )


def _neighbours(fitted: NDArray[np.void], order: I8, scale: float) -> list[list[int]]:
    """Return for each fit the others that are within the widest core there is."""
    places = np.stack([fitted[axis] for axis in "xyz"], axis=1)
    widest = np.array([1.0 + scale * fitted[f"sig{axis}"].max() for axis in "xyz"])
    tree = cKDTree(places / widest)
    found: list[list[int]] = list(tree.query_ball_point((places / widest)[order], 1.0, p=np.inf))
    return found


def _flags(fitted: NDArray[np.void], shape: tuple[int, int, int], saturation: float) -> I8:
    flags = np.zeros(fitted.size, np.int64)
    flags[fitted["masked"] > 0] |= PeakFlag.GAP
    flags[fitted["maximum"] >= saturation] |= PeakFlag.SATURATED
    for axis, n, flag in zip(
        "zyx", shape, (PeakFlag.ENDS, PeakFlag.EDGE, PeakFlag.EDGE), strict=True
    ):
        reach = CORE * fitted[f"sig{axis}"]
        outside = (fitted[axis] - reach < -0.5) | (fitted[axis] + reach > n - 0.5)
        flags[outside] |= flag
    flags[_overlapped(fitted)] |= PeakFlag.OVERLAP
    return flags


def _overlapped(fitted: NDArray[np.void]) -> I8:
    if not fitted.size:
        return np.empty(0, np.int64)
    order = np.arange(fitted.size)
    places: F8 = np.stack([fitted[axis] for axis in "xyz"], axis=1)
    widths: F8 = np.stack([fitted[f"sig{axis}"] for axis in "xyz"], axis=1)
    found = []
    for i, near in zip(order, _neighbours(fitted, order, 2.0 * CORE), strict=True):
        others = np.array([j for j in near if j != i], int)
        apart = np.abs(places[others] - places[i]) > CORE * (widths[others] + widths[i])
        if (~apart.any(axis=1)).any():
            found.append(i)
    return np.array(found, np.int64)
