"""Voxels that were not measured, filled by the equation of the holes, wherever they are."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nxmpi.crystal.laue import has_all_images
from nxmpi.errors import InputError, NxmpiError
from nxmpi.kernels.relax import KNOWN, OUTSIDE, UNKNOWN, apply_laplacian
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.slabs import even_slabs, with_halo

if TYPE_CHECKING:
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi._typing import F8, I8, Mask
    from nxmpi.crystal.laplacian import Stencil
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.parallel.slabs import Ranges

TOLERANCE = 1e-11
"""Of the residual, by that at the start."""
MOST_STEPS = 20_000
DIGITS = 40
"""Binary digits of the weights, those of equivalent links being the same."""


class _Unknowns(NamedTuple):
    """A rank's part of the equations."""

    slabs: Ranges
    states: NDArray[Any]
    """(n + before + after, n_k, n_h) int8: see `nxmpi.kernels.relax`."""
    before: int
    reach: int
    vectors: I8
    weights: F8
    places: I8
    """(n_unknown,) int64: in the slab, in its order."""
    ends: I8
    """(n + 1,) int64: where the unknown voxels of each plane begin."""


def fill_missing(
    comm: MPI.Intracomm, values: NDArray[Any], unknown: Mask, group: VoxelGroup, stencil: Stencil
) -> int:
    """Solve ∇²u = 0 in unknown voxels, in place; return how many there are in the volume.

    Collective on ``comm``: conjugate gradients, each step one exchange of planes and two of
    numbers. No bit depends on the number of ranks, or differs between images of a voxel. A rank
    holds 9 bytes for each of its voxels and 40 for each unknown one besides.

    Parameters
    ----------
    values : (n, n_k, n_h) float32 or float64
        This rank's planes, dealt out evenly; NaN where nothing was measured and nothing is wanted.
    unknown : (n, n_k, n_h) bool
        Those that have not all of their images in the grid are left as they are.

    Raises
    ------
    CollectiveError
        On every rank, if nothing was measured at all, or the solution is not reached.

    Notes
    -----
    Hestenes & Stiefel, J. Res. Natl. Bur. Stand. 49, 409 (1952), scaled by the diagonal. The
    border of the volume, and of what is neither measured nor wanted, is left to itself.
    """
    start, _ = even_slabs(int(group.high[2] - group.low[2]) + 1, comm.size)[comm.rank]
    with all_or_none(comm):
        states = np.where(np.isnan(values), OUTSIDE, KNOWN).astype(np.int8)
        states[unknown] = UNKNOWN
        for l, plane in enumerate(states, start + int(group.low[2])):
            plane[~has_all_images(group, l)] = OUTSIDE
        whole = np.where(states == KNOWN, values, 0.0).astype(np.float64)
    equations = _unknowns(comm, states, group, stencil)
    n_known, total = _sums(comm, (states == KNOWN).astype(np.float64), whole)
    n_unknown = sum(int(n) for n in comm.allgather(len(equations.places)))
    if n_unknown == 0:
        return 0

    def mean() -> float:
        if n_known == 0:
            raise InputError("volume: expected measured voxels, found none to fill the others by")
        return total / n_known

    whole.reshape(-1)[equations.places] = on_root(comm, mean)
    found = _solve(comm, equations, whole)
    with all_or_none(comm):
        values.reshape(-1)[equations.places] = found
    return n_unknown


def _unknowns(
    comm: MPI.Intracomm, states: NDArray[Any], group: VoxelGroup, stencil: Stencil
) -> _Unknowns:
    slabs = even_slabs(int(group.high[2] - group.low[2]) + 1, comm.size)
    vectors = np.concatenate([stencil.vectors, -stencil.vectors])
    unit = 2.0 ** (np.frexp(stencil.weights.max())[1] - DIGITS)
    weights = np.concatenate([np.rint(stencil.weights / unit) * unit] * 2)
    reach = int(np.abs(vectors[:, 2]).max())
    planes, before = with_halo(comm, states, slabs, reach)
    places = np.flatnonzero(states == UNKNOWN)
    plane = states.shape[1] * states.shape[2]
    ends = np.searchsorted(places, plane * np.arange(len(states) + 1))
    return _Unknowns(slabs, planes, before, reach, vectors, weights, places, ends)


def _solve(comm: MPI.Intracomm, equations: _Unknowns, whole: F8) -> F8:
    """Return the values of unknown voxels, from those that ``whole`` has. Collective on ``comm``.

    Parameters
    ----------
    whole : (n, n_k, n_h) float64
        Values of known voxels, and first guesses of unknown ones; overwritten.
    """
    flat, ends = whole.reshape(-1), equations.ends
    found = flat[equations.places].copy()
    image, diagonal = _applied(comm, equations, whole)
    residual = -image
    scaled = residual / diagonal
    direction = scaled.copy()
    whole[:] = 0.0
    square = first = _dot(comm, residual, scaled, ends)
    for _ in range(MOST_STEPS):
        stop_if_wished(comm)
        if square <= TOLERANCE**2 * first:
            return found
        flat[equations.places] = direction
        image, _ = _applied(comm, equations, whole)
        step = square / _dot(comm, direction, image, ends)
        found += step * direction
        residual -= step * image
        scaled = residual / diagonal
        previous, square = square, _dot(comm, residual, scaled, ends)
        direction = scaled + square / previous * direction
    raise NxmpiError(
        f"volume: expected voxels that were not measured to be filled in {MOST_STEPS} steps, found "
        f"the residual at {math.sqrt(square / first):.2g} of that at the start "
        "(--missing window leaves them out)"
    )


def _applied(comm: MPI.Intracomm, equations: _Unknowns, whole: F8) -> tuple[F8, F8]:
    planes, before = with_halo(comm, whole, equations.slabs, equations.reach)
    result, diagonal = np.empty((2, len(equations.places)))
    apply_laplacian(
        planes, equations.states, before, equations.vectors, equations.weights, equations.places,
        result, diagonal,
    )  # fmt: skip
    return result, diagonal


def _dot(comm: MPI.Intracomm, one: F8, other: F8, ends: I8) -> float:
    """Return the sum of products: of planes, then of these in order, without rounding."""
    products = one * other
    sums = [float(products[a:b].sum()) for a, b in pairwise(ends)]
    return math.fsum(value for part in comm.allgather(sums) for value in part)


def _sums(comm: MPI.Intracomm, *slabs: F8) -> list[float]:
    return [
        math.fsum(value for part in comm.allgather([float(plane.sum()) for plane in slab])
                  for value in part)
        for slab in slabs
    ]  # fmt: skip
