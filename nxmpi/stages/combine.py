"""Several positions to one volume: sums of counts and of norm, divided once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nxmpi._typing import F8, Mask


class Sums(NamedTuple):
    """What the intensity of voxels is the ratio of."""

    counts: F8
    """Σc, (...) float64."""
    norm: F8
    """Σw, (...) float64; 0 where nothing was measured."""


class Subtracted(NamedTuple):
    """Voxels less a background; all sums are 0 where either was not measured."""

    intensity: F8
    """(...) float64, NaN where either was not measured [counts per unit of norm]."""
    norm: F8
    """Σw, (...) float64."""
    errors: F8
    """(...) float64, NaN as the intensity."""
    counts: F8
    """Σc, (...) float64."""
    background_counts: F8
    """Σc of the background, (...) float64."""
    background_norm: F8
    """Σw of the background, (...) float64."""


def add(counts: Sequence[F8] | F8, norm: Sequence[F8] | F8) -> Sums:
    """Return sums over positions. Not collective.

    Parameters
    ----------
    counts, norm : n_positions times (...) float64
        In the order of the scan: sums of floats depend on their order.
    """
    total, weight = np.zeros_like(counts[0]), np.zeros_like(norm[0])
    for c, w in zip(counts, norm, strict=True):
        total += c
        weight += w
    return Sums(total, weight)


def combine(counts: list[F8], norm: list[F8]) -> tuple[F8, F8, F8]:
    """Return the intensity of voxels measured at several positions. Not collective.

    Parameters
    ----------
    counts, norm : lists of (...) float64
        Of each position, in the order of the scan: sums of floats depend on their order.

    Returns
    -------
    intensity : (...) float64
        Σc / Σw; NaN where nothing was measured [counts per unit of norm].
    norm : (...) float64
        Σw.
    errors : (...) float64
        Square root of the variance, Σc / (Σw)², and 1 / (Σw)² where no count fell: the
        variance of a Poisson sum estimated by the sum, which cannot be zero.
    """
    total, weight = add(counts, norm)
    with np.errstate(invalid="ignore", divide="ignore"):
        intensity = np.where(weight > 0, total / weight, np.nan)
        errors = np.where(weight > 0, np.sqrt(np.maximum(total, 1)) / weight, np.nan)
    return intensity, weight, errors


def subtract(sums: Sums, background: Sums, scale: float) -> Subtracted:
    """Return the intensity of voxels less a multiple of a background's. Not collective.

    Parameters
    ----------
    sums, background : Sums
        Of the same voxels, N and D, and N_b and D_b.
    scale : float
        s, of the background's intensity [1].

    Notes
    -----
    I = N/D - s N_b/D_b with the variance N/D² + s² N_b/D_b², where 1 stands for an N or N_b of 0
    as in `combine`. A mean over voxels is Σ D I / Σ D: as a background has not the crystal's
    symmetry, it is to be weighted in each voxel as the scan is there.
    """
    both = (sums.norm > 0) & (background.norm > 0)
    intensity, variance = _ratio(sums, both)
    level, noise = _ratio(background, both)
    return Subtracted(
        intensity=intensity - scale * level,
        norm=np.where(both, sums.norm, 0.0),
        errors=np.sqrt(variance + scale**2 * noise),
        counts=np.where(both, sums.counts, 0.0),
        background_counts=np.where(both, background.counts, 0.0),
        background_norm=np.where(both, background.norm, 0.0),
    )


def _ratio(sums: Sums, measured: Mask) -> tuple[F8, F8]:
    """Return Σc / Σw and its variance, NaN where nothing was measured."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(measured, sums.counts / sums.norm, np.nan)
        variance = np.where(measured, np.maximum(sums.counts, 1) / sums.norm**2, np.nan)
    return ratio, variance
