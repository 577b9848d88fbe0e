"""How well the images of voxels agree, by shells of |Q|."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.kernels.images import (
    CHI2,
    COUNTS,
    COUNTS_DIFFERENCE,
    DIFFERENCE,
    INTENSITY,
    add_to_shells,
)
from nxmpi.parallel.arrays import gather_rows, sum_arrays
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.stages.background import NOTHING
from nxmpi.stages.planes import own_ranges

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F8, I8
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.stages.background import Less
    from nxmpi.stages.symmetrize import Planes, Symmetrized

N_SHELLS = 20
MOST_IMAGES = 48


class Shells(NamedTuple):
    """How well images agree in shells of |Q| of the same width, of orbits with two or more."""

    edges: F8
    """(n + 1,) float64 [1/Å, with 2π]."""
    orbits: I8
    """(n,) int64."""
    voxels: I8
    """(n,) int64: the images of these orbits that have a norm."""
    r_int: F8
    """(n,) float64: Σ|I - mean| / ΣI, NaN where there is nothing, as below."""
    r_weighted: F8
    """(n,) float64: the same with the norm of each image as its weight, to which voxels that were
    hardly measured add little."""
    chi2: F8
    """(n,) float64: of the images per degree of freedom, of orbits with counts."""
    total: tuple[float, float, float]
    """The last three of all shells together."""


def shell_edges(metric: I8, group: VoxelGroup, n_shells: int = N_SHELLS) -> I8:
    """Return the least |Q|² of shells of the same width up to the farthest voxel, as integers.

    Not collective.

    Returns
    -------
    (n_shells + 1,) int64
        The last is above all.
    """
    corners = np.array(np.meshgrid(*zip(group.low, group.high, strict=True))).reshape(3, -1)
    top = int(np.einsum("in,ij,jn->n", corners, metric, corners).max()) + 1
    return np.array([top * i * i // n_shells**2 for i in range(n_shells + 1)])


def compare_images(
    comm: MPI.Intracomm, planes: Planes, sums: Symmetrized, group: VoxelGroup,
    metric: tuple[I8, float], less: Less = NOTHING,
) -> Shells:  # fmt: skip
    """Return how well images agree by shells of |Q|.

    Collective on ``comm``: a few numbers of each plane are gathered. Floats are added up within
    planes, of which no rank has a part, and then in the order of planes.

    Parameters
    ----------
    metric : tuple
        |Q|² of voxels, as of `nxmpi.crystal.metric.whole_metric`.
    less : Less
        What was subtracted.
    """
    with all_or_none(comm):
        whole, unit = metric
        edges = shell_edges(whole, group)
        voxels = np.zeros((N_SHELLS, 2, MOST_IMAGES + 1), np.int64)
        rows = []
        for side, start, stop in own_ranges(group, comm.size, comm.rank):
            for l in range(start, stop):
                p = abs(l) - planes.first
                own = np.zeros((N_SHELLS, CHI2 + 1))
                place = np.array([group.low[0], group.low[1], l])
                add_to_shells(
                    planes.counts[side, p], planes.norm[side, p], sums.counts[side, p],
                    sums.norm[side, p], sums.images[side, p], whole, edges, place,
                    less.plane(side, p), less.units, own, voxels,
                )  # fmt: skip
                rows.append([l, *own.reshape(-1)])
        table = np.array(rows, np.float64).reshape(-1, 1 + N_SHELLS * (CHI2 + 1))
    table, voxels = gather_rows(comm, table), sum_arrays(comm, voxels)
    table[:, 1 + CHI2 :: CHI2 + 1] /= planes.parts
    return on_root(comm, lambda: _shells(table, voxels, edges, unit))


def compared_bytes(group: VoxelGroup, size: int) -> int:
    """Return what ranks send the root in `compare_images`. Not collective."""
    planes = sum(
        stop - start
        for rank in range(1, size)
        for _, start, stop in own_ranges(group, size, rank)
    )  # fmt: skip
    columns, numbers = 1 + N_SHELLS * (CHI2 + 1), N_SHELLS * 2 * (MOST_IMAGES + 1)
    return 8 * (planes * columns + (size - 1) * numbers)


def _shells(table: F8, voxels: I8, edges: I8, unit: float) -> Shells:
    in_order = table[np.argsort(table[:, 0]), 1:].reshape(len(table), N_SHELLS, -1)
    sums = np.zeros(in_order.shape[1:])
    for plane in in_order:
        sums += plane
    images = np.arange(MOST_IMAGES + 1)
    orbits = voxels // np.maximum(images, 1)  # each has as many voxels as images
    freedom = (orbits[:, 1] * (images - 1)).sum(axis=1)
    by_shell = _ratios(sums, freedom)
    total = _ratios(sums.sum(axis=0, keepdims=True), freedom.sum(keepdims=True))
    r_int, r_weighted, chi2 = (float(value[0]) for value in total)
    return Shells(
        np.sqrt(edges * unit), orbits.sum(axis=(1, 2)), voxels.sum(axis=(1, 2)), *by_shell,
        (r_int, r_weighted, chi2),
    )  # fmt: skip


def _ratios(sums: F8, freedom: I8) -> tuple[F8, F8, F8]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return (
            sums[:, DIFFERENCE] / sums[:, INTENSITY],
            sums[:, COUNTS_DIFFERENCE] / sums[:, COUNTS],
            sums[:, CHI2] / freedom,
        )
