"""Volumes punched about reflections, and the holes filled from what is about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nxmpi.crystal.laplacian import laplace_stencil
from nxmpi.kernels.laplace import put_images
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.stages.fill_missing import fill_missing
from nxmpi.stages.fill_rounds import collect, deal, round_bytes, rounds_of, share, solve_round
from nxmpi.stages.fill_system import Equation, Systems
from nxmpi.stages.holes import find_clusters

if TYPE_CHECKING:
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi._typing import I8, Mask
    from nxmpi.crystal.holes import Holes
    from nxmpi.kernels.symmetry import Images
    from nxmpi.params import PunchParams
    from nxmpi.stages.fill_rounds import Slab
    from nxmpi.stages.holes import Clusters

PUNCHED, BESIDE_MISSING = 1, 2
"""Marks of voxels in holes; the second one where voxels beside it were not measured."""


class Report(NamedTuple):
    """What was punched and how it was filled: numbers over the whole volume."""

    holes: int
    """Those with a voxel in the grid; what follows are numbers of these, which may overlap."""
    cut: int
    """With voxels outside of the grid too."""
    linked: int
    """Filled together with others, which they touch."""
    missing: int
    """With voxels beside them, or those they are linked with, that were not measured."""
    failed: int
    """Of which a voxel, or one of those they are linked with, is linked to nothing measured."""
    voxels: int
    """In any hole."""
    factorizations: int
    """Different systems that were solved."""
    together: int
    """Voxels that were filled as those that were not measured are, in holes beside them too."""


class Filled(NamedTuple):
    """A rank's slab after the punch."""

    punched: Mask
    """(n, n_k, n_h) bool: True in holes, or for outliers."""
    values: NDArray[Any]
    """(n, n_k, n_h) float32 or float64: NaN where nothing was measured, and in failed holes."""
    report: Report


def punch_and_fill(
    comm: MPI.Intracomm,
    slab: NDArray[Any],
    start: int,
    holes: Holes,
    params: PunchParams,
    wanted: Mask | None = None,
) -> Filled:
    """Replace what is in holes by what is about them says, with the symmetry kept to the bit.

    Collective on ``comm``: of holes that are images of each other one is solved, in rounds of
    `nxmpi.stages.fill_rounds.ROUND`, by ranks that get the voxels about it; the values go to all.
    A rank holds 2.5 times its slab, that of the input included, some times `ROUND`, and
    `nxmpi.stages.fill_system.MEMORY` of factorizations.

    Parameters
    ----------
    slab : (n, n_k, n_h) float32 or float64
        Symmetric to the bit; NaN where nothing was measured.
    start : int
        Its first plane, from the first of the grid, with the planes dealt out evenly.
    wanted : (n, n_k, n_h) bool, optional
        Of voxels that were not measured, those to be filled too, all of their images among them,
        together with the holes beside them. None for no voxel.

    Raises
    ------
    CollectiveError
        On every rank, if so many holes run together that they cannot be solved, or voxels are
        wanted and nothing was measured.
    StoppedError
        On every rank, if any heard a wish to stop.

    Notes
    -----
    Where a grid holds only a part of the images of its voxels, those beyond it are taken from
    their images: it is the volume of all images that is filled. Inside of a hole it does not
    matter what was measured; outside, voxels that were not are neighbours of none.
    """
    with all_or_none(comm):
        equation = _equation(holes, params)
        clusters = find_clusters(holes, equation.neighbours, linked=params.fill != "none")
        values, marks = slab.copy(), np.zeros(slab.shape, np.int8)
        source: Slab = (slab, start, holes.group)
        systems = Systems(equation)
    counts, keys = np.zeros(2, np.int64), set[int]()
    for part in rounds_of(clusters, comm.size):
        stop_if_wished(comm)
        if params.fill == "none":
            zeros = [np.zeros(len(clusters.leaders[c]), slab.dtype) for c in part]
            solved, flags = zeros, np.zeros((len(part), 3), np.int64)
        else:
            owners = deal(clusters, part, holes.group, comm.size)
            about = collect(comm, source, clusters, part, owners)
            with all_or_none(comm):
                mine = part[owners == comm.rank]
                own, own_flags = solve_round(systems, source, clusters, mine, about)
            solved, flags = share(comm, (own, own_flags), clusters, part, owners)
        with all_or_none(comm):
            _put(clusters, part, solved, flags, (holes, start, values, marks))
        counts += (clusters.n_holes[part, None] * flags[:, :2]).sum(axis=0)
        keys |= set(flags[:, 2].tolist()) - {0}
    n_filled = 0
    if wanted is not None:
        with all_or_none(comm):
            unknown = wanted & (np.isnan(slab) & (marks == 0) | (marks == BESIDE_MISSING))
        n_filled = fill_missing(comm, values, unknown, holes.group, equation.stencil)
    punched = marks > 0
    report = Report(
        int(clusters.n_holes.sum()), int(clusters.n_cut.sum()), int(clusters.n_linked.sum()),
        int(counts[0]), int(counts[1]), sum(comm.allgather(int(punched.sum()))), len(keys),
        n_filled,
    )  # fmt: skip
    return Filled(punched, values, report)


def filled_bytes(holes: Holes, params: PunchParams, size: int, itemsize: int) -> int:
    """Return what ranks send each other in `punch_and_fill` to fill holes. Not collective.

    What fills voxels that were not measured is not in it, as it goes on until that is solved.

    Parameters
    ----------
    itemsize : int
        Of a value [bytes].
    """
    if params.fill == "none" or size == 1:
        return 0
    clusters = find_clusters(holes, _equation(holes, params).neighbours, linked=True)
    parts = rounds_of(clusters, size)
    return sum(round_bytes(clusters, part, holes.group, size, itemsize) for part in parts)


def _equation(holes: Holes, params: PunchParams) -> Equation:
    stencil = laplace_stencil(holes.metric, holes.group)
    power, epsilon = {
        "laplace": (1, 0.0), "matern": (params.power, params.epsilon),
    }.get(params.fill, (0, 0.0))  # fmt: skip
    return Equation(stencil, holes.metric, power, epsilon)


def _put(
    clusters: Clusters, part: I8, solved: list[NDArray[Any]], flags: I8,
    target: tuple[Holes, int, NDArray[Any], Images],
) -> None:  # fmt: skip
    """Put the values of clusters at all of their images in the slab, in place."""
    holes, start, values, marks = target
    first = holes.group.low + np.array([0, 0, start])
    for c, own, (missing, _, _) in zip(part.tolist(), solved, flags, strict=True):
        voxels = clusters.shapes[clusters.shape[c]].unknown + clusters.bases[c]
        mark = BESIDE_MISSING if missing else PUNCHED
        for operator in clusters.group_images[c]:
            matrix = holes.group.matrices[operator]
            l = voxels @ matrix[2] - first[2]
            if l.min() < len(values) and l.max() >= 0:
                put_images(own, voxels, matrix, first, mark, values, marks)
