"""Errors of the 3D-ΔPDF from those of the volume."""

from __future__ import annotations

import math
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nxmpi.errors import InputError
from nxmpi.kernels.pdf_errors import add_over_group, stabilizer_orders
from nxmpi.parallel.collective import all_or_none, on_root, split, wait_for_all
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.slabs import ROUND, even_slabs
from nxmpi.parallel.traffic import count_sent
from nxmpi.parallel.window import alone, has_room, node_of, window
from nxmpi.stages.fourier import half_planes, transform
from nxmpi.stages.pdf import TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpi4py import MPI
    from numpy.typing import DTypeLike, NDArray

    from nxmpi._typing import F8, I8
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.parallel.window import Window
    from nxmpi.params import PdfParams
    from nxmpi.stages.fourier import Sizes


class PdfErrors(NamedTuple):
    """Standard deviations of a ΔPDF."""

    values: NDArray[Any]
    """(n, N_z, N_x) float32 or float64: planes as those of `nxmpi.stages.fourier.RealSpace`."""
    general: float
    """What they are far from 0 and from points, axes and mirrors of the group: sqrt(S(0)) / N."""


def pdf_errors(
    comm: MPI.Intracomm, variances: NDArray[Any], weights: NDArray[Any], group: VoxelGroup,
    sizes: Sizes, params: PdfParams,
) -> PdfErrors:  # fmt: skip
    """Return the errors of a ΔPDF whose volume has one independent value for each orbit.

    Collective on ``comm``. No bit depends on the number of ranks. Besides what
    `nxmpi.stages.fourier.transform` needs, each node holds half of real space once, in shared
    memory, 2 or 4 bytes times N; each rank does where there is too little of it.

    Parameters
    ----------
    variances : (n, n_k, n_h) float32 or float64
        Of the volume, equal for all voxels of an orbit; this rank's planes, dealt out evenly. 0
        where values were filled in, NaN where nothing was measured.
    weights : (n, n_k, n_h) float32 or float64
        The window, as of `nxmpi.stages.pdf.pdf`.
    group : VoxelGroup
        With the inversion.
    sizes : tuple of int
        As of `nxmpi.stages.fourier.transform_sizes`: axes that the group mixes have the same.

    Notes
    -----
    An orbit O of voxels with one value X_O adds w_O X_O Σ_{Q in O} exp(-2πi Q·r) / N to P(r). As
    O is each g Q as often as there are operators that keep Q, |Stab(Q)|, the square of that sum is
    Σ_{Q in O} Σ_g exp(2πi (g Q - Q)·r) / |Stab(Q)|, and

        Var P(r) = 1/N² Σ_g S((1 - gᵀ) r),        S(r) = Σ_Q w² Var(I) / |Stab(Q)| cos(2π Q·r).

    g and its inverse add the same. Orbits have to be whole where w is not 0, as they are under a
    sphere or an ellipsoid that the grid holds. A mean that was taken away is Σ w I / Σ w, that is,
    P(0) W(r) / W(0) was, where W is the transform of w; with Cov(P(r), P(0)) = |G| S(r) / N²

        Var P'(r) = Var P(r) - 2 ρ |G| S(r) / N² + ρ² |G| S(0) / N²,        ρ = W(r) / W(0).
    """
    dtype = TYPES[params.precision]
    orders = np.empty(variances.shape[1:], np.int64)
    n_l = int(group.high[2] - group.low[2]) + 1
    first_l = int(group.low[2]) + block_range(n_l, comm.size, comm.rank)[0]

    def spread(i: int) -> F8:
        stabilizer_orders(group.matrices, group.low, first_l + i, orders)
        known = np.nan_to_num(variances[i].astype(np.float64), nan=0.0)
        return np.asarray(known * weights[i].astype(np.float64) ** 2 / orders)

    own = transform(comm, spread, group, sizes, dtype).values
    at_0 = _at_0(comm, own, sizes)
    ratios = None
    if params.subtract_mean:
        ratios = _of_mean(comm, variances, weights, group, sizes, dtype)
    with all_or_none(comm):
        matrices, times = without_inverses(group.matrices)
        changes = np.eye(3, dtype=np.int64) - matrices.transpose(0, 2, 1)
        real = group.matrices.transpose(0, 2, 1)  # S is invariant under these
        planar = np.ascontiguousarray(real[(real[:, 1] == [0, 1, 0]).all(axis=1)])
        values, total = np.empty_like(own), np.empty(own.shape[1:])
    stop_if_wished(comm)
    with _gathered(comm, own, sizes) as half, all_or_none(comm):
        for p, y in enumerate(range(*half_planes(sizes, comm.size, comm.rank))):
            add_over_group(half, changes, times, planar, sizes[1], y, total)
            if ratios is not None:
                rho = ratios[p].astype(np.float64)
                total += len(group.matrices) * rho * (rho * at_0 - 2 * own[p])
            values[p] = np.sqrt(np.maximum(total, 0.0) / math.prod(sizes))
    return PdfErrors(values, math.sqrt(max(at_0, 0.0) / math.prod(sizes)))


def _of_mean(
    comm: MPI.Intracomm, variances: NDArray[Any], weights: NDArray[Any], group: VoxelGroup,
    sizes: Sizes, dtype: DTypeLike,
) -> NDArray[Any]:  # fmt: skip
    """Return W(r) / W(0) of the window on measured voxels, on this rank's planes.

    Collective on ``comm``.
    """
    ratios = transform(
        comm, lambda i: np.where(np.isnan(variances[i]), 0.0, weights[i]), group, sizes, dtype
    ).values
    top = _at_0(comm, ratios, sizes)
    with all_or_none(comm):
        if top == 0:
            raise InputError("volume: expected measured voxels under the window, found none")
        ratios /= top
    return ratios


def _at_0(comm: MPI.Intracomm, values: NDArray[Any], sizes: Sizes) -> float:
    """Return what is at x, y, z = 0 0 0, which the root has. Collective on ``comm``."""
    return on_root(comm, lambda: float(values[0, sizes[2] // 2, sizes[0] // 2]))


def without_inverses(matrices: I8) -> tuple[I8, I8]:
    """Return the operators of a group, of pairs of inverses one, and how often each counts.

    Not collective.
    """
    kept: dict[bytes, int] = {}
    found = []
    for matrix in matrices:
        inverse = np.rint(np.linalg.inv(matrix)).astype(np.int64).tobytes()
        if inverse in kept:
            kept[inverse] += 1
        else:
            kept[matrix.tobytes()] = 1
            found.append(matrix)
    return np.array(found), np.array(list(kept.values()))


@contextmanager
def _gathered(comm: MPI.Intracomm, own: NDArray[Any], sizes: Sizes) -> Iterator[NDArray[Any]]:
    """Give all planes y >= 0, of which this rank has its own, to read.

    Collective on ``comm``: each plane is sent once to each node, in rounds of `ROUND` at most.
    """
    if comm.size == 1:
        yield own
        return
    shape = (sizes[1] // 2 + 1, *own.shape[1:])
    n_bytes = math.prod(shape) * own.itemsize
    node = node_of(comm)
    if not all(comm.allgather(node.size == 1 or has_room(n_bytes))):
        node.Free()
        node = alone(comm)
    try:
        with nullcontext() if node.size == 1 else window(node, n_bytes) as room:
            with all_or_none(comm):
                half = np.empty(shape, own.dtype)
                if room is not None:
                    half = room.bytes[:n_bytes].view(own.dtype).reshape(shape)
                half[slice(*half_planes(sizes, comm.size, comm.rank))] = own
            _meet(node, room)
            firsts = comm.allgather(node.bcast(comm.rank))
            with split(comm, int(node.rank > 0)) as roots:
                if node.rank == 0:
                    _complete(roots, half, firsts)
            _meet(node, room)
            yield half
    finally:
        node.Free()


def _meet(node: MPI.Intracomm, room: Window | None) -> None:
    """Let all ranks of a node see what was written before. Collective on ``node``."""
    if room is not None:
        room.sync()
        wait_for_all(node)
        room.sync()


def _complete(roots: MPI.Intracomm, half: NDArray[Any], firsts: list[int]) -> None:
    """Send planes from the nodes that have them to the others.

    Collective on ``roots``, the first ranks of the nodes.

    Parameters
    ----------
    half : (n, n_z, n_x)
        Filled in place.
    firsts : list of int
        Of each rank, the first one of its node.
    """
    nodes = sorted(set(firsts))
    step = max(1, ROUND // max(half[0].nbytes, 1))
    for (start, stop), first in zip(even_slabs(len(half), len(firsts)), firsts, strict=True):
        for a in range(start, stop, step):
            planes, source = half[a : min(a + step, stop)], nodes.index(first)
            roots.Bcast(planes, source)
            count_sent(planes.nbytes * (roots.size - 1) if roots.rank == source else 0)
