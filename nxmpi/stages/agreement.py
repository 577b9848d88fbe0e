"""Sums of overlaps to what they say: how well positions agree, where, and with what scales."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError
from nxmpi.kernels.overlaps import (
    CHI2,
    CUBE,
    EXCESS,
    INFORMATION,
    NDOF,
    PAIR_CHI2,
    PAIR_NDOF,
    SQUARE,
    VARIANCE,
    VOXELS,
    R,
    S,
    V,
)
from nxmpi.model import Agreement
from nxmpi.stages.bricks import WIDTH
from nxmpi.stages.overlaps import map_shape, pairs_of
from nxmpi.stages.scales import Scales, fit_scales, unconnected

if TYPE_CHECKING:
    from nxmpi._typing import F4, F8, I8
    from nxmpi.model import HKLGrid
    from nxmpi.stages.overlaps import Overlaps

FAR = 5.0
"""From where on a cube is said to disagree [standard deviations]."""


def refine_scales(
    overlaps: Overlaps, names: list[str], array_shape: tuple[int, int, int]
) -> Scales:
    """Return the scales of all positions, the first's being 1. Not collective.

    Parameters
    ----------
    names : list of str
        Of the positions.
    array_shape : tuple of int
        (n_l, n_k, n_h) of the volume [voxels].

    Raises
    ------
    InputError
        If a position does not overlap with the first, neither by way of others.
    """
    if len(names) == 1:
        return no_scales(1)
    lost = [names[p] for p in unconnected(overlaps.pairs, len(names))]
    if lost:
        raise InputError(
            f"expected positions that overlap, with counts, found no overlap that connects "
            f"{', '.join(lost)} with {names[0]}: a scale cannot be refined (leave out "
            f"--refine-scale, or take larger steps of the grid)"
        )
    information = overlaps.totals[..., INFORMATION].sum(axis=0)
    chunks = _chunks(overlaps.places, array_shape)
    scales = fit_scales(overlaps.pairs, chunks, information, len(names))
    if not np.isfinite(scales.values).all():
        raise InputError(
            f"expected overlaps that tell the scales of {', '.join(names)}, found that they "
            f"contradict each other: a scale cannot be refined (leave out --refine-scale)"
        )
    return scales


def find_agreement(
    overlaps: Overlaps, names: list[str], grid: HKLGrid, scales: Scales
) -> Agreement:
    """Return how well positions agree. Not collective.

    Parameters
    ----------
    overlaps : Overlaps
        With the norm multiplied by the scales.
    grid : HKLGrid
        Of the volume.
    """
    n = len(names)
    cubes = overlaps.cubes.sum(axis=0)
    ndof = float(cubes[NDOF])
    totals = overlaps.totals.sum(axis=0)
    chunks = _chunks(overlaps.places, grid.array_shape)
    matrices = {name: np.full((n, n), np.nan) for name in ("ratio", "error", "scatter")}
    for i, (p, q) in enumerate(pairs_of(n)):
        fit = _pair(overlaps.pairs[:, i : i + 1], chunks, totals[i, INFORMATION : INFORMATION + 1])
        if fit is None:
            continue
        # the first is held at 1, so that the second's scale is the inverse
        value, relative = float(fit.values[1]), float(fit.errors[1] / fit.values[1])
        for place, ratio in (((p, q), 1 / value), ((q, p), value)):
            matrices["ratio"][place], matrices["error"][place] = ratio, ratio * relative
            matrices["scatter"][place] = fit.scatter
    with np.errstate(invalid="ignore", divide="ignore"):
        bright = np.sqrt(np.maximum(totals[:, EXCESS], 0) / totals[:, SQUARE])
        chi2 = totals[:, PAIR_CHI2] / totals[:, PAIR_NDOF]
    return Agreement(
        names=tuple(names), scales=scales.values, scale_errors=scales.errors,
        chi2=float(cubes[CHI2]) / ndof if ndof else np.nan,
        chi2_error=float(np.sqrt(cubes[VARIANCE])) / ndof if ndof else np.nan,
        disagreeing=_disagreeing(overlaps),
        voxels=np.nan_to_num(_matrix(totals[:, VOXELS], n)).astype(np.int64),
        ratio=matrices["ratio"], ratio_errors=matrices["error"], scatter=matrices["scatter"],
        pair_chi2=_matrix(chi2, n), bright=_matrix(bright, n),
        map_grid=_map_grid(grid), maps=_maps(overlaps, names, grid.array_shape),
    )  # fmt: skip


def no_scales(n: int) -> Scales:
    """Return scales of 1, which nobody refined."""
    return Scales(values=np.ones(n), errors=np.zeros(n), scatter=0.0)


def _chunks(places: I8, array_shape: tuple[int, int, int]) -> I8:
    """Return which of the chunks each cube is in, numbered from 0: (n_cubes,) int64."""
    each = WIDTH // CUBE
    indices = [index // each for index in np.unravel_index(places, map_shape(array_shape))]
    numbers = np.ravel_multi_index(indices, map_shape(array_shape))
    return np.asarray(np.unique(numbers, return_inverse=True)[1], np.int64)


def _pair(pairs: F8, chunks: I8, information: F8) -> Scales | None:
    """Return the fit of one pair alone, None where its overlap tells nothing."""
    if unconnected(pairs, 2):
        return None
    return fit_scales(pairs, chunks, information, 2)


def _matrix(values: F8, n: int) -> F8:
    matrix = np.full((n, n), np.nan)
    for value, (p, q) in zip(values, pairs_of(n), strict=True):
        matrix[p, q] = matrix[q, p] = value
    return matrix


def _disagreeing(overlaps: Overlaps) -> float:
    if not len(overlaps.places):
        return float("nan")
    chi2, ndof, variance = overlaps.cubes[:, [CHI2, NDOF, VARIANCE]].T
    r, s, v = np.moveaxis(overlaps.positions, -1, 0)
    far = chi2 - ndof > FAR * np.sqrt(variance)
    far |= (np.abs(r - s) > FAR * np.sqrt(v)).any(axis=1)
    return float(far.mean())


def _map_grid(grid: HKLGrid) -> HKLGrid:
    widths = [min(CUBE, n) for n in grid.shape]
    h, k, l = (
        origin + step * (width - 1) / 2
        for origin, step, width in zip(grid.origin, grid.step, widths, strict=True)
    )
    dh, dk, dl = (step * width for step, width in zip(grid.step, widths, strict=True))
    n_l, n_k, n_h = map_shape(grid.array_shape)
    return replace(grid, origin=(h, k, l), step=(dh, dk, dl), shape=(n_h, n_k, n_l))


def _maps(overlaps: Overlaps, names: list[str], array_shape: tuple[int, int, int]) -> dict[str, F4]:
    """Return the maps by name: chi squared, difference in bright voxels, ratio to all others."""

    def spread(values: F8) -> F4:
        dense = np.full(map_shape(array_shape), np.nan, np.float32)
        dense.reshape(-1)[overlaps.places] = values
        return dense

    chi2, ndof, variance, excess, square = overlaps.cubes.T
    with np.errstate(invalid="ignore", divide="ignore"):
        maps = {
            "chi2": spread(chi2 / ndof),
            "chi2_errors": spread(np.sqrt(np.maximum(variance, 0)) / ndof),
            "bright_difference": spread(np.sqrt(np.maximum(excess, 0) / square)),
        }
    for p, name in enumerate(names):
        r, s, v = (overlaps.positions[:, p, i] for i in (R, S, V))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where((r > 0) & (s > 0), r / s, np.nan)
            maps[f"ratio_{name}"] = spread(ratio)
            maps[f"ratio_{name}_errors"] = spread(ratio * np.sqrt(v / (r * s)))
    return maps
