"""Averages of a volume less a background, which does not have the symmetry of the crystal."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none
from nxmpi.stages.planes import in_units, norm_unit
from nxmpi.stages.symmetrize import add_images

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F4, F8, I8
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.stages.combine import Sums


class Background(NamedTuple):
    """What a background adds to the counts of a rank's planes, as integers, or sums over images."""

    counts: I8
    """(2, n, n_k, n_h) int64: s D N_b/D_b."""
    variance: I8
    """(2, n, n_k, n_h) int64: of these, s² D² N_b/D_b²."""
    one_count: F4
    """(2, n, n_k, n_h) float32: what the variance of a single count would be, (s D/D_b)²
    [counts²]; of sums the largest of the images."""
    units: tuple[float, float]
    """Of counts and variance [counts, counts²]."""

    def plane(self, side: int, p: int) -> Background:
        """Return the same of one plane, (n_k, n_h)."""
        return Background(
            self.counts[side, p], self.variance[side, p], self.one_count[side, p], self.units
        )


class Less(NamedTuple):
    """A background as kernels take it."""

    arrays: tuple[I8, I8, I8, I8]
    """(2, n, n_k, n_h) int64: counts and variance of images, and their sums over orbits."""
    units: F8
    """(2,) float64: of counts and variance; empty where nothing was subtracted."""

    def plane(self, side: int, p: int) -> tuple[I8, I8, I8, I8]:
        """Return the same of one plane."""
        if not self.units.size:
            return NO_PLANE
        a, b, c, d = (values[side, p] for values in self.arrays)
        return a, b, c, d


NO_PLANE = (np.zeros((0, 0), np.int64),) * 4
NOTHING = Less((np.zeros((0, 0, 0, 0), np.int64),) * 4, np.zeros(0))
"""Where no background was subtracted."""


class Averages(NamedTuple):
    """Of the images of voxels, less a background."""

    intensity: F8
    """(...) float64, NaN where nothing was measured [counts per unit of norm]."""
    norm: F8
    """(...) float64"""
    errors: F8
    """(...) float64, NaN as the intensity."""
    spread: F8
    """(...) float64: variance of the counts that are left, 0 where no count fell [counts²]."""


def expected_background(norm: F8, background: Sums, scale: float) -> tuple[F8, F8, F8]:
    """Return what a background adds to the counts of voxels. Not collective.

    Parameters
    ----------
    norm : (...) float64
        Of the voxels; 0 where they or the background were not measured.
    background : Sums
        Of the same voxels.
    scale : float
        Of the background's intensity [1].

    Returns
    -------
    counts, variance, one_count : (...) float64
        As of `Background`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(background.norm > 0, scale * norm / background.norm, 0.0)
    return ratio * background.counts, ratio**2 * background.counts, ratio**2


def whole_background(comm: MPI.Intracomm, counts: F8, variance: F8, one_count: F4) -> Background:
    """Return the same memory as integers, in units of the whole volume. Collective on ``comm``."""
    units = [
        norm_unit(largest(comm, float(values.max(initial=0.0)))) for values in (counts, variance)
    ]
    with all_or_none(comm):
        return Background(
            in_units(counts, units[0]), in_units(variance, units[1]), one_count,
            (units[0], units[1]),
        )  # fmt: skip


def sum_background(
    comm: MPI.Intracomm, background: Background, first: int, group: VoxelGroup
) -> Background:
    """Return the sums over the distinct images of each voxel.

    Collective on ``comm``: see `nxmpi.stages.symmetrize.add_images`.
    """
    with all_or_none(comm):
        sums = Background(
            background.counts.copy(), background.variance.copy(), background.one_count.copy(),
            background.units,
        )  # fmt: skip
    add_images(comm, sums.counts, first, group)
    add_images(comm, sums.variance, first, group)
    add_images(comm, sums.one_count, first, group, largest=True)
    return sums


def less(background: Background, sums: Background, parts: int) -> Less:
    """Return a background of images and of orbits, as parts of counts. Not collective.

    That these are taken for Poisson counts makes variances and chi squared so many times larger.
    """
    return Less(
        (background.counts, background.variance, sums.counts, sums.variance),
        np.array(background.units) * parts,
    )


def average(sums: Sums, background: Background) -> Averages:
    """Return the average of images less a background. Not collective.

    Parameters
    ----------
    sums : Sums
        ΣN and ΣD of the images, 0 where nothing was measured.
    background : Background
        Sums over the same images.

    Notes
    -----
    Σ (N - s D N_b/D_b) / Σ D, which is the mean of the intensities weighted by D, with the variance
    (Σ N + s² Σ D² N_b/D_b²) / (Σ D)². Where no count of the scan, or of the background, fell in any
    image, a single one stands for it, as in `nxmpi.stages.combine.combine`.
    """
    counts, norm = sums
    own = background.counts * background.units[0]
    noise = background.variance * background.units[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        intensity = np.where(norm > 0, (counts - own) / norm, np.nan)
        floored = np.maximum(counts, 1) + np.where(noise > 0, noise, background.one_count)
        errors = np.where(norm > 0, np.sqrt(floored) / norm, np.nan)
    return Averages(intensity, norm, errors, counts + noise)
