"""Bragg peaks taken out of volumes without knowing where they are: KAREN."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nxmpi.crystal.laue import has_all_images
from nxmpi.kernels.karen import replace_outliers
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.slabs import even_slabs, with_halo

if TYPE_CHECKING:
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi._typing import I8, Mask
    from nxmpi.crystal.laue import VoxelGroup


class Smoothed(NamedTuple):
    """A rank's slab without outliers."""

    punched: Mask
    """(n, n_k, n_h) bool: True for outliers."""
    values: NDArray[Any]
    """(n, n_k, n_h) float32 or float64."""
    voxels: int
    """Outliers in the whole volume."""
    alone: int
    """Measured voxels with nothing around to hold them against, which stay."""


def karen(comm: MPI.Intracomm, slab: NDArray[Any], group: VoxelGroup, width: int) -> Smoothed:
    """Replace voxels farther than 3 standard deviations from the median of those around them.

    Collective on ``comm``, plane by plane of each rank.

    Parameters
    ----------
    slab : (n, n_k, n_h) float32 or float64
        This rank's planes, dealt out evenly; NaN where nothing was measured, which stays.
    width : int
        Edge of the box around a voxel, an odd number [voxels].

    Raises
    ------
    StoppedError
        On every rank, if any heard a wish to stop.

    Notes
    -----
    Weng et al., J. Appl. Cryst. 53, 159 (2020): x is an outlier if |x - median| > 3 · 1.4826 MAD,
    and becomes median + 2.2 MAD, where MAD is the median of |x - median|. The box is made of all
    of its images under the group, and what is in it counts where the grid has all of its images,
    so that the volume keeps its symmetry to the bit.
    """
    offsets = box_offsets(group, width)
    reach = int(np.abs(offsets[:, 2]).max())
    slabs = even_slabs(int(group.high[2] - group.low[2]) + 1, comm.size)
    around, before = with_halo(comm, slab, slabs, reach)
    with all_or_none(comm):
        first = slabs[comm.rank][0] - before + int(group.low[2])
        for l, plane in enumerate(around, first):
            plane[~has_all_images(group, l)] = np.nan
        values, marks = slab.copy(), np.empty(slab.shape, np.int8)
    for i in range(max(b - a for a, b in slabs)):
        stop_if_wished(comm)
        with all_or_none(comm):
            low, own = max(i + before - reach, 0), slice(i, i + 1)
            replace_outliers(around[low:], i + before - low, offsets, values[own], marks[own])
    with all_or_none(comm):
        punched = marks == 1
        counts = punched.sum(), (marks == 2).sum()
    n_outliers, n_alone = np.sum(comm.allgather(counts), axis=0)
    return Smoothed(punched, values, int(n_outliers), int(n_alone))


def box_offsets(group: VoxelGroup, width: int) -> I8:
    """Return the voxels of a box about 0 and of its images, (n, 3) int64 along h, k, l."""
    box = np.array(list(product(range(-(width // 2), width // 2 + 1), repeat=3)))
    images = box @ group.matrices.transpose(0, 2, 1)
    return np.unique(images.reshape(-1, 3), axis=0)
