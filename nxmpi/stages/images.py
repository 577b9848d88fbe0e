"""Images of voxels that deviate from the others, and how far all are from their mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels.images import (
    UNIT,
    find_deviations,
    leave_out_marked,
    mark_worst,
    replace_by_chi2,
)
from nxmpi.parallel.collective import all_or_none
from nxmpi.stages.background import NOTHING
from nxmpi.stages.symmetrize import add_images, symmetrize

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F4
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.kernels.symmetry import Images
    from nxmpi.stages.background import Less
    from nxmpi.stages.symmetrize import Planes, Symmetrized


def leave_out(
    comm: MPI.Intracomm, planes: Planes, group: VoxelGroup, sigmas: float
) -> tuple[Symmetrized, int]:
    """Take counts and norm from images that deviate from the others of their orbit, in place.

    Collective on ``comm``: `symmetrize`, once more in each round.

    Parameters
    ----------
    sigmas : float
        From where on an image deviates [standard deviations].

    Returns
    -------
    sums : Symmetrized
        Of the images that are left.
    n_left_out : int
        Voxels of all ranks that were left out.

    Notes
    -----
    In each round only the worst of an orbit goes, so that a bright one does not take good ones
    with it, whose others it is among. Of two images nobody knows which is wrong: an orbit needs
    three, and more than half of its images stay.
    """
    sums = symmetrize(comm, planes, group)
    with all_or_none(comm):
        measured = sums.images.copy()
    left_out = 0
    while True:
        with all_or_none(comm):
            deviations = np.empty(planes.norm.shape, np.float32)
            found = find_deviations(
                planes.counts, planes.norm, sums.counts, sums.norm, sums.images,
                sigmas**2 * planes.parts,
                deviations,
            )  # fmt: skip
        if not any(comm.allgather(found)):
            return sums, left_out
        n = _leave_out_worst(comm, planes, group, (deviations, sums, measured))
        if n == 0:
            return sums, left_out
        left_out += n
        del deviations, sums
        sums = symmetrize(comm, planes, group)


def _leave_out_worst(
    comm: MPI.Intracomm, planes: Planes, group: VoxelGroup,
    judged: tuple[F4, Symmetrized, Images],
) -> int:  # fmt: skip
    """Leave out the worst image of each orbit; return how many there were of all ranks.

    Collective on ``comm``. Images that are equally bad go together or stay.
    """
    deviations, sums, measured = judged
    with all_or_none(comm):
        worst = deviations.copy()
    add_images(comm, worst, planes.first, group, largest=True)
    with all_or_none(comm):
        marked = np.empty(worst.shape, np.int8)
        mark_worst(deviations, worst, marked)
        marks = marked.astype(bool)
    del worst
    add_images(comm, marked, planes.first, group)
    with all_or_none(comm):
        n = leave_out_marked(planes.counts, planes.norm, marks, marked, sums.images, measured)
    return sum(comm.allgather(n))


def residual_map(
    comm: MPI.Intracomm, planes: Planes, sums: Symmetrized, group: VoxelGroup,
    less: Less = NOTHING,
) -> F4:  # fmt: skip
    """Return chi squared of the images of each voxel against their mean, per degree of freedom.

    Collective on ``comm``: see `nxmpi.stages.symmetrize.add_images`. The counts of ``planes`` are
    overwritten.

    Parameters
    ----------
    less : Less
        What was subtracted.

    Returns
    -------
    (2, n, n_k, n_h) float32
        Σ(I - mean)²/var by the number of images less one, var = mean/norm: 1 on average for counts
        that only chance makes different. NaN where fewer than two images or no counts are.
    """
    with all_or_none(comm):
        replace_by_chi2(
            planes.counts, planes.norm, sums.counts, sums.norm, sums.images, less.arrays,
            less.units,
        )  # fmt: skip
    add_images(comm, planes.counts, planes.first, group)
    with all_or_none(comm):
        chi2 = np.full(planes.counts.shape, np.nan, np.float32)
        for side in range(2):
            for p, plane in enumerate(chi2[side]):
                freedom = sums.images[side, p] - 1
                told = sums.counts[side, p] > 0
                if less.units.size:
                    told |= less.arrays[3][side, p] > 0
                with np.errstate(invalid="ignore", divide="ignore"):
                    chi = UNIT / planes.parts * planes.counts[side, p] / freedom
                    plane[:] = np.where((freedom > 0) & told, chi, np.nan)
    return chi2
