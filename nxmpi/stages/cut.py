"""Voxels of a volume added up in bins: counts and norm apart where there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from nxmpi._typing import F8, I8


class Voxels(NamedTuple):
    """A part of a volume; what it does not have is None."""

    intensity: F8
    """(...) float64, NaN where nothing was measured."""
    norm: F8 | None
    counts: F8 | None
    """There where the norm is."""
    errors: F8 | None
    background: tuple[F8, F8, float] | None
    """Counts and norm of what was subtracted, and its scale."""
    spread: F8 | None = None
    """Variance of the counts, which are less a background already."""


class Totals:
    """Sums of the voxels in each bin, from one part of a volume after another."""

    def __init__(self, n: int) -> None:
        self.voxels = np.zeros(n)
        self.weight, self.weighted, self.squared = np.zeros(n), np.zeros(n), np.zeros(n)
        self.counts, self.variance = np.zeros(n), np.zeros(n)
        self.background = np.zeros((2, n))
        self.one_count = np.zeros(n)
        """Largest variance that one count of the background would bring."""
        self.scale = 0.0

    def add(self, bins: I8, part: Voxels) -> None:
        """Add a part of the volume. Not collective.

        Parameters
        ----------
        bins : (...) int64
            Of each voxel; -1 for none.
        """
        good = (bins >= 0) & np.isfinite(part.intensity)
        if part.norm is not None:
            good &= part.norm > 0
        elif part.errors is not None:
            good &= part.errors > 0
        where, values = bins[good], part.intensity[good]
        self._sum(self.voxels, where, np.ones(values.size))
        if part.norm is not None and part.counts is not None:
            weight = part.norm[good]
            self._sum(self.counts, where, part.counts[good])
            weighted = part.counts[good]
            if part.background is not None:
                counts, norm = (array[good] for array in part.background[:2])
                self.scale = part.background[2]
                self._sum(self.background[0], where, counts)
                self._sum(self.background[1], where, norm)
                self._sum(self.variance, where, (weight / norm) ** 2 * counts)
                np.maximum.at(self.one_count, where, (weight / norm) ** 2)
                weighted = weighted - self.scale * weight * (counts / norm)
            if part.spread is not None:
                self._sum(self.variance, where, part.spread[good])
        else:
            weight = np.ones(values.size) if part.errors is None else 1 / part.errors[good] ** 2
            weighted = weight * values
        self._sum(self.weight, where, weight)
        self._sum(self.weighted, where, weighted)
        self._sum(self.squared, where, values**2)

    def _sum(self, total: F8, where: I8, values: F8) -> None:
        total += np.bincount(where, values, total.size)


def means(totals: Totals, part: Voxels) -> tuple[F8, F8]:
    """Return the mean of each bin and its error, NaN where nothing was measured. Not collective.

    Parameters
    ----------
    part : Voxels
        Any part of the volume, to tell what it has.

    Notes
    -----
    With counts and norm, Σc / Σw and Σc / (Σw)² as `nxmpi.stages.combine.combine`; less a
    background, see `nxmpi.stages.combine.subtract` and `nxmpi.stages.background.average`. With
    errors alone the mean is weighted by 1/σ², and with nothing it is the plain mean with its error
    from the scatter.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(totals.voxels > 0, totals.weighted / totals.weight, np.nan)
        if part.counts is not None:
            spread = totals.counts if part.spread is None else totals.variance
            variance = np.where(spread > 0, spread, 1) / totals.weight**2
            if part.background is not None:
                noise = np.where(totals.background[0] > 0, totals.variance, totals.one_count)
                variance = variance + totals.scale**2 * noise / totals.weight**2
        elif part.errors is not None:
            variance = 1 / totals.weight
        else:
            n = totals.voxels
            variance = np.maximum(totals.squared / n - mean**2, 0.0) / (n - 1)
        errors = np.where(totals.voxels > 0, np.sqrt(variance), np.nan)
    return mean, errors
