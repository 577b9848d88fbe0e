"""Planes of a volume between those who average and those who write, and as integers."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.errors import InputError
from nxmpi.parallel.traffic import swap
from nxmpi.stages.symmetrize import ROUND, owned_planes

if TYPE_CHECKING:
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi._typing import F8, I8
    from nxmpi.crystal.laue import VoxelGroup

DIGITS = 45
"""Binary digits of the largest norm: sums over 48 images stay whole numbers in float64."""


WHOLE, SINGLE = 0.02, 1e-6
"""How far from whole numbers counts may be [counts], and to themselves by single precision [1]."""
LARGEST = 2.0**52
"""Of counts: sums over images fit 64 bits."""


def norm_unit(largest: float) -> float:
    """Return the unit of integer norms, a power of two, from the largest norm of the volume."""
    return float(2.0 ** (np.frexp(largest)[1] - DIGITS)) if largest > 0 else 1.0


def whole_counts(counts: F8, parts: int = 1) -> I8:
    """Return counts of voxels as integers.

    Parameters
    ----------
    counts : (...) float64
        Single precision tells those up to some millions.
    parts : int, optional
        That each was divided into: these are counted.

    Raises
    ------
    InputError
        If these are no counts.
    """
    counts = counts * parts
    whole = np.rint(counts)
    with np.errstate(invalid="ignore"):
        off = np.abs(counts - whole) > WHOLE + SINGLE * np.abs(whole)
    if off.any() or not np.isfinite(counts).all() or np.abs(counts).max(initial=0) > LARGEST:
        worst = counts[off | ~np.isfinite(counts) | (np.abs(counts) > LARGEST)][0] / parts
        kind = f"multiples of 1/{parts}" if parts > 1 else "whole numbers"
        raise InputError(f"expected intensity times norm to be counts, {kind}, found {worst:g}")
    return whole.astype(np.int64)


def in_units(norm: F8, unit: float) -> I8:
    """Return the same memory with norm as whole numbers of units.

    Parameters
    ----------
    norm : (2, n, n_k, n_h) float64
        Overwritten.
    unit : float
        See `norm_unit`.
    """
    whole = norm.view(np.int64)
    for side in range(2):
        for plane, values in zip(whole[side], norm[side], strict=True):
            plane[:] = np.rint(values / unit)
    return whole


def own_ranges(group: VoxelGroup, size: int, rank: int) -> list[tuple[int, int, int]]:
    """Return the planes of a rank that are in the grid: side (0 for l, 1 for -l), range of l.

    The range is half-open; l = 0 is on side 0.
    """
    a, b = owned_planes(group, size, rank)
    low, high = int(group.low[2]), int(group.high[2]) + 1
    above = (0, max(a, low), min(b, high))
    below = (1, max(1 - b, low), min(1 - max(a, 1), high))
    return [each for each in (above, below) if each[1] < each[2]]


def to_slabs(
    comm: MPI.Intracomm, values: NDArray[Any], group: VoxelGroup, slabs: list[tuple[int, int]]
) -> NDArray[Any]:
    """Return a rank's slab of a volume whose planes lie on others.

    Collective on ``comm``: each plane is sent once, in rounds of 64 MiB at most.

    Parameters
    ----------
    values : (2, n, n_k, n_h)
        Planes of this rank, as of `nxmpi.stages.symmetrize.Planes`.
    slabs : list of tuple of int
        Half-open range of planes of each rank, from the first of the grid on.

    Returns
    -------
    (stop - start, n_k, n_h)
    """
    start, stop = slabs[comm.rank]
    slab = np.empty((stop - start, *values.shape[2:]), values.dtype)
    n = max(1, ROUND // max(1, values[0, 0].nbytes if values.shape[1] else 1))
    owned = [owned_planes(group, comm.size, rank) for rank in range(comm.size)]
    n = min(comm.allgather(n))
    longest = 2 * max(b - a for a, b in owned)
    for shift in range(comm.size):
        to, fro = (comm.rank + shift) % comm.size, (comm.rank - shift) % comm.size
        mine = _shared(group, comm.size, comm.rank, slabs[to])
        theirs = _shared(group, comm.size, fro, slabs[comm.rank])
        for first in range(0, longest, n):
            going = [values[s, abs(l) - owned[comm.rank][0]] for s, l in mine[first : first + n]]
            coming = theirs[first : first + n]
            received = np.empty((len(coming), *values.shape[2:]), values.dtype)
            sent = np.array(going, values.dtype).reshape(-1, *values.shape[2:])
            swap(comm, sent, to, received, fro)
            for (_, l), plane in zip(coming, received, strict=True):
                slab[l - int(group.low[2]) - start] = plane
    return slab


def slab_bytes(group: VoxelGroup, slabs: list[tuple[int, int]], plane: int) -> int:
    """Return what ranks send each other in `to_slabs`, of planes of so many bytes."""
    size = len(slabs)
    return plane * sum(
        len(_shared(group, size, rank, slab))
        for rank, (other, slab) in product(range(size), enumerate(slabs))
        if rank != other
    )


def _shared(
    group: VoxelGroup, size: int, rank: int, slab: tuple[int, int]
) -> list[tuple[int, int]]:  # fmt: skip
    """Return the planes of a rank, side and l, that are in a slab. Not collective."""
    low = int(group.low[2])
    return [
        (side, l)
        for side, a, b in own_ranges(group, size, rank)
        for l in range(max(a, slab[0] + low), min(b, slab[1] + low))
    ]
