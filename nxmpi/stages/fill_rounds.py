"""Holes dealt out to ranks round by round: voxels about them go there, and values come back."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.kernels.laplace import locate
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.traffic import count_sent
from nxmpi.stages.fill_system import solve

if TYPE_CHECKING:
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi._typing import I8, Mask
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.stages.fill_system import Systems
    from nxmpi.stages.holes import Clusters

    Slab = tuple[NDArray[Any], int, VoxelGroup]
    """(n, n_k, n_h) float32 or float64; its first plane, from the first of the grid; the group."""
    Solved = tuple[list[NDArray[Any]], I8]
    """Values of each cluster, (n_unknown,), and (n, 3) int64: whether voxels about it were not
    measured, whether one of its own is linked to nothing measured, and a number of its system."""

ROUND = 64 * 2**20
"""Most that all ranks solve at a time [bytes]."""
FACTORIZATION = 100
"""Time to factorize a hole that is cut, by that to solve it."""


def rounds_of(clusters: Clusters, size: int) -> list[I8]:
    """Return the clusters of each round, at least one in each. Not collective."""
    sizes = np.array([8 * (len(each.unknown) + len(each.shell)) for each in clusters.shapes])
    ends = np.cumsum(sizes[clusters.shape]) if len(clusters.shape) else np.zeros(0)
    parts: list[I8] = []
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        stop = max(first + 1, int(np.searchsorted(ends, before + ROUND, side="right")))
        parts.append(np.arange(first, stop))
        first = stop
    return parts


def deal(clusters: Clusters, part: I8, group: VoxelGroup, size: int) -> I8:
    """Return the rank that solves each cluster of a round, ascending. Not collective."""
    costs = np.array(
        [
            len(clusters.leaders[c]) * (1 if _is_inner(clusters, c, group) else FACTORIZATION)
            for c in part.tolist()
        ],
        dtype=float,
    )
    middle = np.cumsum(costs) - costs / 2
    ranks = (middle / max(costs.sum(), 1.0) * size).astype(np.int64)
    return np.asarray(np.minimum(ranks, size - 1))


def _is_inner(clusters: Clusters, c: int, group: VoxelGroup) -> bool:
    shell, base = clusters.shapes[clusters.shape[c]].shell, clusters.bases[c]
    first, last = shell.min(axis=0) + base, shell.max(axis=0) + base
    return bool((first >= group.low).all() and (last <= group.high).all())


def _places(voxels: I8, group: VoxelGroup) -> I8:
    """Return where voxels, or images of them, are in the grid, along h, k, l; -1 if nowhere."""
    if (voxels.min(axis=0) >= group.low).all() and (voxels.max(axis=0) <= group.high).all():
        return np.asarray(voxels - group.low)
    found: I8 = np.empty_like(voxels)
    locate(voxels, group.matrices, group.low, group.high, found)
    return np.asarray(found)


def _shell(clusters: Clusters, c: int, group: VoxelGroup) -> I8:
    return _places(clusters.shapes[clusters.shape[c]].shell + clusters.bases[c], group)


def collect(
    comm: MPI.Intracomm, source: Slab, clusters: Clusters, part: I8, owners: I8
) -> list[NDArray[Any]]:
    """Return the values about the clusters of a round that this rank solves.

    Collective on ``comm``: one ``Alltoallv``.

    Returns
    -------
    list of (n_shell,) float32 or float64
        NaN where nothing was measured, or is no voxel.
    """
    slab, start, group = source
    n_l = int(group.high[2] - group.low[2]) + 1
    stops = np.array([block_range(n_l, comm.size, rank)[1] for rank in range(comm.size)])
    pieces: list[NDArray[Any]] = []
    sent = np.zeros((2, comm.size), np.int64)
    for c, owner in zip(part.tolist(), owners.tolist(), strict=True):
        h, k, l = _shell(clusters, c, group).T
        own = (l >= start) & (l < start + len(slab))
        pieces.append(slab[l[own] - start, k[own], h[own]])
        sent[0, owner] += len(pieces[-1])
    mine = part[owners == comm.rank].tolist()
    ranks = [_ranks(_shell(clusters, c, group)[:, 2], stops) for c in mine]
    for each in ranks:
        sent[1] += np.bincount(each[each >= 0], minlength=comm.size)
    received = np.empty(int(sent[1].sum()), slab.dtype)
    going = np.concatenate([*pieces, np.zeros(0, slab.dtype)])
    comm.Alltoallv([going, sent[0]], [received, sent[1]])
    count_sent((going.size - int(sent[0, comm.rank])) * going.itemsize)
    at = np.cumsum(sent[1]) - sent[1]
    about = []
    for each in ranks:
        values = np.full(len(each), np.nan, slab.dtype)
        for rank in np.unique(each[each >= 0]).tolist():
            of_rank = np.flatnonzero(each == rank)
            values[of_rank] = received[at[rank] : at[rank] + len(of_rank)]
            at[rank] += len(of_rank)
        about.append(values)
    return about


def _ranks(l: I8, stops: I8) -> I8:
    """Return the rank that has each plane; -1 for -1."""
    return np.where(l < 0, -1, np.searchsorted(stops, l, side="right"))


def round_bytes(clusters: Clusters, part: I8, group: VoxelGroup, size: int, itemsize: int) -> int:
    """Return what ranks send each other in a round, see `collect` and `share`. Not collective.

    Parameters
    ----------
    itemsize : int
        Of a value [bytes].
    """
    n_l = int(group.high[2] - group.low[2]) + 1
    stops = np.array([block_range(n_l, size, rank)[1] for rank in range(size)])
    n = 0
    for c, owner in zip(part.tolist(), deal(clusters, part, group, size).tolist(), strict=True):
        ranks = _ranks(_shell(clusters, c, group)[:, 2], stops)
        n += int(((ranks >= 0) & (ranks != owner)).sum())
        n += len(clusters.leaders[c]) * (size - 1)
    return n * itemsize


def solve_round(
    systems: Systems, source: Slab, clusters: Clusters, mine: I8, about: list[NDArray[Any]]
) -> Solved:
    """Solve the clusters of a rank, those with the same system together. Not collective."""
    dtype, group = source[0].dtype, source[2]
    cases: dict[bytes, list[int]] = {}
    masks: list[tuple[Mask, Mask]] = []
    flags = np.zeros((len(mine), 3), np.int64)
    for i, (c, values) in enumerate(zip(mine.tolist(), about, strict=True)):
        shape = clusters.shapes[clusters.shape[c]]
        exists = _places(shape.unknown + clusters.bases[c], group)[:, 2] >= 0
        measured = ~np.isnan(values)
        masks.append((exists, measured))
        parts = (clusters.shape[c], np.packbits(exists), np.packbits(measured))
        key = b"".join(each.tobytes() for each in parts)
        digest = blake2b(key, digest_size=8).digest()
        cases.setdefault(digest, []).append(i)
        in_grid = _shell(clusters, c, group)[:, 2] >= 0
        flags[i] = (in_grid & ~measured).any(), 0, np.frombuffer(digest, np.int64)[0]
    solved: list[NDArray[Any]] = [np.zeros(0, dtype)] * len(mine)
    for digest, which in cases.items():
        exists, measured = masks[which[0]]
        shape = clusters.shapes[clusters.shape[mine[which[0]]]]
        system = systems.find(digest, shape, exists, measured)
        known = np.stack([about[i][measured] for i in which], axis=1).astype(np.float64)
        found = solve(system, known)
        for column, i in enumerate(which):
            leaders = clusters.leaders[mine[i]]
            solved[i] = found[leaders, column].astype(dtype)
            flags[i, 1] = bool((exists & ~system.determined).any())
    return solved, flags


def share(
    comm: MPI.Intracomm, own: Solved, clusters: Clusters, part: I8, owners: I8
) -> Solved:  # fmt: skip
    """Return what all ranks solved in a round. Collective on ``comm``: one ``Allgatherv``."""
    values, flags = own
    sizes = np.array([len(clusters.leaders[c]) for c in part.tolist()], np.int64)
    of_ranks = np.bincount(owners, sizes, minlength=comm.size).astype(np.int64)
    dtype = np.result_type(*values) if values else None
    dtype = next(each for each in comm.allgather(dtype) if each is not None)
    going = np.concatenate([*values, np.zeros(0, dtype)])
    every = np.empty(int(sizes.sum()), dtype)
    comm.Allgatherv(going, [every, of_ranks])
    count_sent(going.nbytes * (comm.size - 1))
    all_flags = np.concatenate(comm.allgather(flags))
    return np.split(every, np.cumsum(sizes)[:-1]), all_flags
