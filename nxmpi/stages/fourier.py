"""Volumes of reciprocal space to real space: one Fourier transform over all ranks."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import fft

from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.window import mixed_axes
from nxmpi.model import HKLGrid
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.slabs import ROUND, even_slabs
from nxmpi.parallel.traffic import swap

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI
    from numpy.typing import DTypeLike, NDArray

    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.model import Lattice
    from nxmpi.parallel.slabs import Ranges

Sizes = tuple[int, int, int]
"""Voxels along h, k, l, and along x, y, z after the transform."""


class RealSpace(NamedTuple):
    """The planes y >= 0 of a rank, `half_planes`; the others are P(-x, -y, -z) = P(x, y, z)."""

    values: NDArray[Any]
    """(n, N_z, N_x) float32 or float64: z and x from -(N // 2) to (N - 1) // 2."""
    largest: float
    """Largest absolute value of the real part, over all ranks."""
    imaginary: float
    """Largest absolute value of the imaginary part, which is left out, over all ranks."""

    @property
    def residue(self) -> float:
        """The imaginary part by the real one, both as the largest; 0 if there is none."""
        return self.imaginary / self.largest if self.imaginary > 0 else 0.0


def transform_sizes(
    group: VoxelGroup, grid: HKLGrid, lattice: Lattice, spacing: float | None
) -> Sizes:
    """Return the number of voxels to transform, at least those of the grid, along h, k, l.

    Parameters
    ----------
    spacing : float or None
        Widest step in real space [Å], reached by odd numbers with no factor but 3, 5 and 7; None
        for those of the grid.

    Notes
    -----
    Steps are 1 / (N_i step_i) of the axes that are dual to the grid's. Axes that the group mixes
    get the largest number of theirs, so that real space has the symmetry too.
    """
    sizes = np.array(grid.shape)
    if spacing is not None:
        to_q = reciprocal_matrix(lattice) @ np.array(grid.axes).T * np.array(grid.step)
        lengths = np.linalg.norm(np.linalg.inv(to_q), axis=1)
        wanted = np.ceil(lengths / spacing * (1 - 1e-12)).astype(int)
        sizes = np.array([_fast_size(int(n)) for n in np.maximum(sizes, wanted)])
    n_h, n_k, n_l = (int(sizes[together].max()) for together in mixed_axes(group))
    return n_h, n_k, n_l


def _fast_size(n: int) -> int:
    """Return the least odd number from n on with no factor but 3, 5 and 7."""
    size = n | 1
    while (3 * 5 * 7) ** 20 % size:
        size += 2
    return size


def real_space_grid(grid: HKLGrid, sizes: Sizes) -> HKLGrid:
    """Return the grid of x, y, z, in units of a, b, c, or what is dual to the axes of the grid."""
    step = [1 / (n * width) for n, width in zip(sizes, grid.step, strict=True)]
    x, y, z = (-(n // 2) * width for n, width in zip(sizes, step, strict=True))
    return HKLGrid(origin=(x, y, z), step=(step[0], step[1], step[2]), shape=sizes)


def half_planes(sizes: Sizes, size: int, rank: int) -> tuple[int, int]:
    """Return the half-open range of y >= 0 of a rank."""
    return block_range(sizes[1] // 2 + 1, size, rank)


def transform(
    comm: MPI.Intracomm, plane_of: Callable[[int], NDArray[Any]], group: VoxelGroup, sizes: Sizes,
    dtype: DTypeLike,
) -> RealSpace:  # fmt: skip
    """Return the real part of the Fourier transform of a volume, whose planes are dealt evenly.

    Collective on ``comm``: half of the spectrum is sent once, in rounds of `ROUND` at most. Every
    line is transformed in the same surroundings whoever has it: no bit depends on the number of
    ranks. A rank holds twice its share of half the spectrum, or that and its share of the result.

    Parameters
    ----------
    plane_of : function
        Gives each plane of this rank, (n_k, n_h) of real numbers without NaN, by its index from
        the first of the rank on; asked for once, in order.
    group : VoxelGroup
        Of the grid; where its voxels lie.
    sizes : tuple of int
        As of `transform_sizes`; beyond the grid there are zeros.
    dtype : float32 or float64

    Raises
    ------
    StoppedError
        On every rank, if any heard a wish to stop, before or after planes are exchanged.

    Notes
    -----
    P(r) = 1/N Σ f(v) exp(-2πi Σ v_i j_i / N_i) with N = N_x N_y N_z, voxels v counted from that
    of 0 0 0 and r = j_i / (N_i step_i). A volume that is not centrosymmetric has an imaginary
    part; the real one alone is the transform of its mean with its inverse.
    """
    slabs, low = even_slabs(int(group.high[2] - group.low[2]) + 1, comm.size), group.low
    start, stop = slabs[comm.rank]
    first, last = half_planes(sizes, comm.size, comm.rank)
    complex_type = np.result_type(dtype, np.complex64)
    stop_if_wished(comm)
    with all_or_none(comm):
        lines = np.empty((sizes[1] // 2 + 1, stop - start, sizes[0]), complex_type)
        for i in range(stop - start):
            lines[:, i] = _transform_plane(plane_of(i).astype(dtype, copy=False), low, sizes)
        pillars = np.empty((last - first, slabs[-1][1], sizes[0]), complex_type)
    stop_if_wished(comm)
    _transpose(comm, lines, pillars, slabs)
    del lines
    stop_if_wished(comm)
    greatest = [0.0, 0.0]
    with all_or_none(comm):
        values = np.empty((last - first, sizes[2], sizes[0]), dtype)
        for own, pillar in zip(values, pillars, strict=True):
            plane = fft.fft(
                _padded(pillar, int(low[2]), sizes[2]), axis=0, norm="forward", overwrite_x=True
            )
            own[:] = np.fft.fftshift(plane.real)
            for i, part in enumerate((own, plane.imag)):
                greatest[i] = max(greatest[i], float(part.max()), -float(part.min()))
    return RealSpace(values, largest(comm, greatest[0]), largest(comm, greatest[1]))


def _transform_plane(plane: NDArray[Any], low: NDArray[Any], sizes: Sizes) -> NDArray[Any]:
    """Return the transform of (n_k, n_h) along both, of y >= 0."""
    along_k = fft.rfft(_padded(plane, int(low[1]), sizes[1]), axis=0, norm="forward")
    across = _padded(along_k.T, int(low[0]), sizes[0]).T
    return np.asarray(fft.fft(across, axis=1, norm="forward", overwrite_x=True))


def _padded(rows: NDArray[Any], low: int, size: int) -> NDArray[Any]:
    """Return rows low, low + 1, … at their places modulo the number of all, others as zeros."""
    n, at = len(rows), low % size
    before = min(n, size - at)
    padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
    padded[at : at + before] = rows[:before]
    padded[: n - before] = rows[before:]
    return padded


def _transpose(
    comm: MPI.Intracomm, lines: NDArray[Any], pillars: NDArray[Any], slabs: Ranges
) -> None:
    """Bring what ranks have of each y together on its owner, in place. Collective on ``comm``.

    Parameters
    ----------
    lines : (n_y, n, n_x)
        Of all y, and of this rank's l.
    pillars : (n, n_l, n_x)
        Of this rank's y, and of all l.
    slabs : list of tuple of int
        The range of l of each rank.
    """
    n_y, longest = len(lines), max(b - a for a, b in slabs)
    ranges = even_slabs(n_y, comm.size)
    step = max(1, ROUND // max(longest * lines.shape[2] * lines.itemsize, 1))
    for shift in range(comm.size):
        to, fro = (comm.rank + shift) % comm.size, (comm.rank - shift) % comm.size
        (a, b), (c, d) = ranges[to], slabs[fro]
        if shift == 0:
            pillars[:, c:d] = lines[a:b]
            continue
        for first in range(0, math.ceil(n_y / comm.size), step):
            received = np.empty(
                (len(pillars[first : first + step]), d - c, lines.shape[2]), lines.dtype
            )
            sent = lines[min(a + first, b) : min(a + first + step, b)]
            swap(comm, sent, to, received, fro)
            pillars[first : first + step, c:d] = received


def transposed_bytes(sizes: Sizes, n_l: int, size: int, itemsize: int) -> int:
    """Return what ranks send each other in `transform`. Not collective.

    Parameters
    ----------
    n_l : int
        Planes of the grid.
    itemsize : int
        Of a complex number [bytes].
    """
    of_y, of_l = (
        [b - a for a, b in even_slabs(n, size)] for n in (sizes[1] // 2 + 1, n_l)
    )  # fmt: skip
    kept = sum(one * other for one, other in zip(of_y, of_l, strict=True))
    return (sum(of_y) * sum(of_l) - kept) * sizes[0] * itemsize


def full_slab_bytes(sizes: Sizes, slabs: Ranges, itemsize: int) -> int:
    """Return what ranks send each other in `to_full_slabs`, of numbers of so many bytes."""
    middle, size = sizes[1] // 2, len(slabs)
    planes = sum(
        len(_wanted(half_planes(sizes, size, rank), slab, middle))
        for rank, (other, slab) in product(range(size), enumerate(slabs))
        if rank != other
    )
    return planes * sizes[0] * sizes[2] * itemsize


def to_full_slabs(
    comm: MPI.Intracomm, values: NDArray[Any], sizes: Sizes, slabs: Ranges
) -> NDArray[Any]:
    """Return a rank's slab of all of real space, of which others have the planes y >= 0.

    Collective on ``comm``: a plane is sent once to each who wants it or its image, in rounds of
    `ROUND` at most.

    Parameters
    ----------
    values : (n, N_z, N_x)
        As of `RealSpace`.
    slabs : list of tuple of int
        Half-open range along y of each rank, 0 being the first: y = -(N_y // 2).

    Returns
    -------
    (N_z, stop - start, N_x)
        A view of memory in which y comes first.
    """
    start, stop = slabs[comm.rank]
    slab = np.empty((stop - start, *values.shape[1:]), values.dtype)
    step = max(1, ROUND // max(sizes[0] * sizes[2] * values.itemsize, 1))
    middle = sizes[1] // 2
    own, _ = half_planes(sizes, comm.size, comm.rank)
    for shift in range(comm.size):
        to, fro = (comm.rank + shift) % comm.size, (comm.rank - shift) % comm.size
        going, coming = (
            _wanted(half_planes(sizes, comm.size, one), slabs[other], middle)
            for one, other in ((comm.rank, to), (fro, comm.rank))
        )
        for first in range(0, math.ceil((middle + 1) / comm.size), step):
            ys = coming[first : first + step]
            received = np.empty((len(ys), *values.shape[1:]), values.dtype)
            sent = values[[y - own for y in going[first : first + step]]]
            swap(comm, sent, to, received, fro)
            for y, plane in zip(ys, received, strict=True):
                if start <= middle + y < stop:
                    slab[middle + y - start] = plane
                if start <= middle - y < stop:
                    slab[middle - y - start] = plane if y == 0 else _inverted(plane)
    return slab.transpose(1, 0, 2)


def _wanted(have: tuple[int, int], slab: tuple[int, int], middle: int) -> list[int]:
    """Return the y of a rank of which a slab has the plane or its image."""
    return [y for y in range(*have) if any(slab[0] <= middle + s * y < slab[1] for s in (1, -1))]


def _inverted(plane: NDArray[Any]) -> NDArray[Any]:
    """Return a plane at -z, -x; the first one of an even number of them is its own image."""
    turned = plane[::-1, ::-1]
    return np.roll(turned, [1 - n % 2 for n in plane.shape], (0, 1))
