"""|Q|² of voxels, the same for all images of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.lattice import reciprocal_matrix

if TYPE_CHECKING:
    from nxmpi._typing import F8, I8
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.model import HKLGrid, Lattice

DIGITS = 61
"""Binary digits of the largest square of a grid as an integer."""


def grid_metric(grid: HKLGrid, lattice: Lattice) -> F8:
    """Return the metric of voxels: |Q|² of voxel x, counted from that of 0 0 0, is x · metric · x.

    Returns
    -------
    (3, 3) float64
        [1/Å², with 2π]
    """
    to_q = 2 * np.pi * reciprocal_matrix(lattice) @ np.array(grid.axes).T * np.array(grid.step)
    return np.asarray(to_q.T @ to_q)


def mean_metric(group: VoxelGroup, grid: HKLGrid, lattice: Lattice) -> F8:
    """Return the mean of `grid_metric` over the group, (3, 3) float64 [1/Å², with 2π].

    It differs of lattices that have not quite the symmetry.
    """
    metric = grid_metric(grid, lattice)
    images = group.matrices.transpose(0, 2, 1) @ metric @ group.matrices
    return np.asarray(images.mean(axis=0))


def whole_metric(metric: F8, group: VoxelGroup) -> tuple[I8, float]:
    """Return a metric as integers that the group leaves exactly as they are, and their unit.

    Parameters
    ----------
    metric : (3, 3) float64
        Of voxels; of a lattice that has not quite the symmetry the mean over the images is taken.

    Returns
    -------
    whole : (3, 3) int64
        The square of voxel x, counted from that of 0 0 0, is ``unit * x @ whole @ x``, off by 1e-9
        at most at the far end of grids of about 500 voxels an axis.
    unit : float
        A power of two, in the units of the metric.
    """
    n, far = len(group.matrices), int(np.maximum(-group.low, group.high).max())
    top = float(np.abs(metric).sum()) * max(far, 1) ** 2 * 4
    unit = 2.0 ** (int(np.frexp(top)[1]) - DIGITS)
    whole = np.rint(metric / (unit * n)).astype(np.int64)
    images = group.matrices.transpose(0, 2, 1) @ whole @ group.matrices
    return np.asarray(images.sum(axis=0)), unit
