"""The 3D-ΔPDF of a volume: its mean taken away, windowed, transformed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nxmpi.errors import InputError
from nxmpi.parallel.arrays import gather_rows
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.stages.fourier import transform

if TYPE_CHECKING:
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi._typing import F8
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.params import PdfParams
    from nxmpi.stages.fourier import RealSpace, Sizes

TYPES = {"single": np.float32, "double": np.float64}
"""Of the transform, by `nxmpi.params.Precision`."""


class Pdf(NamedTuple):
    """What became of a volume in real space."""

    real: RealSpace
    mean: float
    """What was taken away of measured voxels before the window: 0 if that is not wished."""


def pdf(
    comm: MPI.Intracomm, slab: NDArray[Any], weights: NDArray[Any], group: VoxelGroup,
    sizes: Sizes, params: PdfParams,
) -> Pdf:  # fmt: skip
    """Return 1/N Σ w (I - mean) cos(2π h·r), of which `nxmpi.stages.fourier.transform` tells more.

    Collective on ``comm``. No bit depends on the number of ranks.

    Parameters
    ----------
    slab : (n, n_k, n_h) float32 or float64
        This rank's planes, dealt out evenly; NaN where nothing was measured, which is windowed
        out.
    weights : (n, n_k, n_h) float32 or float64
        The window on the same planes, `nxmpi.crystal.window.window_slab` [1].
    sizes : tuple of int
        As of `nxmpi.stages.fourier.transform_sizes`.

    Raises
    ------
    CollectiveError
        On every rank, if a mean is to be taken away and nothing was measured under the window.
    """
    mean = weighted_mean(comm, slab, weights) if params.subtract_mean else 0.0
    real = transform(
        comm, lambda i: windowed(slab[i], weights[i], mean), group, sizes, TYPES[params.precision]
    )
    return Pdf(real, mean)


def windowed(plane: NDArray[Any], weights: NDArray[Any], mean: float) -> F8:
    """Return w (I - mean), 0 where I is NaN. Not collective."""
    values = (plane.astype(np.float64) - mean) * weights
    return np.where(np.isnan(values), 0.0, values)


def weighted_mean(comm: MPI.Intracomm, slab: NDArray[Any], weights: NDArray[Any]) -> float:
    """Return Σ w I / Σ w over measured voxels, on every rank.

    Collective on ``comm``. Sums of planes are added in order, without rounding.

    Raises
    ------
    CollectiveError
        On every rank, if the sum of the weights is 0.
    """
    with all_or_none(comm):
        sums = np.zeros((len(slab), 2))
        for row, plane, window in zip(sums, slab, weights, strict=True):
            row[0] = windowed(plane, window, 0.0).sum()
            row[1] = window.sum(dtype=np.float64, where=~np.isnan(plane))
    everyone = gather_rows(comm, sums)
    return on_root(comm, lambda: _ratio(everyone))


def _ratio(sums: F8) -> float:
    total, weight = (math.fsum(column) for column in sums.T)
    if weight == 0:
        raise InputError("volume: expected measured voxels under the window, found none")
    return total / weight
