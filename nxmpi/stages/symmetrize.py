"""Volumes averaged over their Laue group: planes l and -l of a volume lie on one rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nxmpi.crystal.laue import coset_leaders
from nxmpi.kernels.symmetry import add_planar, divide_by_stabilizers
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.traffic import swap

if TYPE_CHECKING:
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi._typing import I8
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.kernels.symmetry import Images, Values

ROUND = 64 * 2**20
"""Most that a rank sends to another at a time [bytes]."""


class Planes(NamedTuple):
    """The planes of a volume that a rank owns, as integers."""

    first: int
    """The least |l|."""
    counts: I8
    """(2, n, n_k, n_h) int64: planes first, first + 1, …, and those of -l; nothing is zero."""
    norm: I8
    """(2, n, n_k, n_h) int64, in units that are the same for the whole volume."""
    parts: int = 1
    """That a count was divided into: these are counted."""


class Symmetrized(NamedTuple):
    """Sums over the distinct images of every voxel of `Planes`."""

    counts: I8
    norm: I8
    images: Images
    """(2, n, n_k, n_h) int8: images that have a norm."""


def owned_planes(group: VoxelGroup, size: int, rank: int) -> tuple[int, int]:
    """Return the half-open range of |l| of the planes that a rank owns."""
    return block_range(int(max(-group.low[2], group.high[2])) + 1, size, rank)


def symmetrize(comm: MPI.Intracomm, planes: Planes, group: VoxelGroup) -> Symmetrized:
    """Return the sums of counts and norm over the distinct images of each voxel.

    Collective on ``comm``: see `add_images`.

    Parameters
    ----------
    planes : Planes
        Of this rank, as `owned_planes` says. What is outside of the grid counts nothing.

    Raises
    ------
    StoppedError
        On every rank, if any heard a wish to stop.
    """
    with all_or_none(comm):
        sums = Symmetrized(
            planes.counts.copy(), planes.norm.copy(), (planes.norm > 0).view(np.int8)
        )
    for values in sums:
        stop_if_wished(comm)
        add_images(comm, values, planes.first, group)
    return sums


def add_images(
    comm: MPI.Intracomm, values: Values, first: int, group: VoxelGroup, *,
    largest: bool = False,
) -> None:  # fmt: skip
    """Replace the values of voxels by their sums over the distinct images of each, in place.

    Collective on ``comm``: only groups that exchange l with h and k send planes, in rounds of
    `ROUND` at most. Sums of integers are the same in any order, so no result depends on the number
    of ranks, and all voxels of an orbit have the same bits.

    Parameters
    ----------
    values : (2, n, n_k, n_h) int64, int8 or float32
        Planes of this rank, as of `Planes`. Sums of 48 fit in it.
    first : int
        The least |l|.
    largest : bool
        Take the largest of the images, of values not below 0, instead of their sum.
    """
    with all_or_none(comm):
        planar, leaders = coset_leaders(group.matrices)
        add_planar(values, planar, group.low, group.high, first, len(leaders) == 1, largest)
    if len(leaders) > 1:
        _add_exchanged(comm, values, first, leaders, group, largest=largest)


def _add_exchanged(
    comm: MPI.Intracomm, values: Values, first: int, leaders: I8, group: VoxelGroup, *,
    largest: bool,
) -> None:  # fmt: skip
    """Make sums over all operators of those that keep l, in place. Collective on ``comm``.

    What they are at l >= 0 tells them at -l; where all signs are alike, h, k >= 0 tells the rest.
    """
    reach, low = int(group.high[0]), _lowest(group)
    signs = low == 0
    own = np.ascontiguousarray(values[0][:, low + reach :, low + reach :])
    total = own.copy()
    for leader in leaders[1:]:
        images = _images(comm, own, leader, reach, low)
        (np.maximum if largest else np.add)(total, images, out=total)
        del images
    with all_or_none(comm):
        if not largest:
            divide_by_stabilizers(total, group.matrices, low, first)
        corner = np.abs(np.arange(-reach, reach + 1))
        for p, plane in enumerate(total):
            values[0, p] = plane[corner][:, corner] if signs else plane
            values[1, p] = 0 if first + p == 0 else values[0, p, ::-1, ::-1]


def exchanged_voxels(group: VoxelGroup, n_planes: int) -> int:
    """Return how many voxels of so many planes are held apart to be exchanged; 0 if none are."""
    _, leaders = coset_leaders(group.matrices)
    width = int(group.high[0]) + 1 - _lowest(group)
    return n_planes * width**2 if len(leaders) > 1 else 0


def exchanged_bytes(group: VoxelGroup, size: int, itemsize: int) -> int:
    """Return what ranks send each other in `add_images`. Not collective.

    Parameters
    ----------
    itemsize : int
        Of a value [bytes].
    """
    _, leaders = coset_leaders(group.matrices)
    reach, low = int(group.high[0]), _lowest(group)
    lengths = [b - a for a, b in (block_range(reach + 1, size, rank) for rank in range(size))]
    voxels = (sum(lengths) ** 2 - sum(n * n for n in lengths)) * (reach - low + 1)
    return (len(leaders) - 1) * (2 if low else 1) * voxels * itemsize


def _lowest(group: VoxelGroup) -> int:
    """Return the first voxel along h and k that is exchanged."""
    return 0 if _changes_signs(group.matrices) else -int(group.high[0])


def _changes_signs(matrices: I8) -> bool:
    """Return whether the sign of each index alone can change."""
    every = {one.tobytes() for one in np.ascontiguousarray(matrices)}
    return all(np.diag(1 - 2 * row).tobytes() in every for row in np.eye(3, dtype=np.int64))


class _Cut(NamedTuple):
    """Which part of the planes of a rank another one needs."""

    along: int
    """The axis of the planes along which it is the other's l."""
    side: int
    """-1 for parts at -l, whose images are at -l' of the sender."""
    reach: int
    low: int
    """Last and first voxel along h and k."""


def _images(
    comm: MPI.Intracomm, own: NDArray[Any], leader: I8, reach: int, low: int
) -> NDArray[Any]:
    """Return the value at the image of each voxel under an exchange of axes.

    Collective on ``comm``.

    Parameters
    ----------
    own : (n, n_k, n_h) int
        Of this rank's l >= 0; k and h from ``low`` to ``reach``. Values at -h, -k, -l are the same.
    leader : (3, 3) int64
        Each row has a single 1, the last one not in its last place.
    """
    source = [int(np.argmax(row)) for row in leader]  # image axis i has the index of this axis
    along = 2 - source.index(2)  # axis of `own` at which the image has the l of the voxel
    a, b = block_range(reach + 1, comm.size, comm.rank)
    shape = list(own.shape)
    shape[0], shape[along] = reach - low + 1, b - a
    images = np.empty(shape, own.dtype)
    for shift in range(comm.size):
        to, fro = (comm.rank + shift) % comm.size, (comm.rank - shift) % comm.size
        for side in (1, -1) if low else (1,):
            _pass_on(comm, own, images, (to, fro), _Cut(along, side, reach, low))
    order = [2 - source.index(axis) for axis in (2, 1, 0)]
    return images.transpose(order)


def _pass_on(
    comm: MPI.Intracomm, own: NDArray[Any], images: NDArray[Any],
    partners: tuple[int, int], cut: _Cut,
) -> None:  # fmt: skip
    """Send one rank its part of the planes, and put in place what another one sends.

    Collective on ``comm``.
    """
    (to, fro), (along, side, reach, low) = partners, cut
    to_range, own_range = (block_range(reach + 1, comm.size, n) for n in (to, comm.rank))
    fro_range = block_range(reach + 1, comm.size, fro)
    n_longest = -(-(reach + 1) // comm.size)
    plane = own.shape[1] * own.shape[2] * own.itemsize
    n = max(1, ROUND // max(plane, 1))
    for start in range(0, n_longest, n):
        piece = _part(own[start : start + n], to_range, cut)
        n_planes = max(0, min(n, fro_range[1] - fro_range[0] - start))
        shape = list(own.shape)
        shape[0], shape[along] = n_planes, own_range[1] - own_range[0]
        received = np.empty(shape, own.dtype)
        swap(comm, np.ascontiguousarray(piece), to, received, fro)
        l = fro_range[0] + start
        if side == 1:
            images[l - low : l - low + n_planes] = received
        else:
            place = slice(-l - low - n_planes + 1, -l - low + 1)
            images[place] = received[::-1]


def _part(planes: NDArray[Any], wanted: tuple[int, int], cut: _Cut) -> NDArray[Any]:
    """Return the part of planes at the l of another rank along an axis, or at -l, turned over."""
    a, b = wanted
    where = slice(a - cut.low, b - cut.low)
    if cut.side < 0:
        where = slice(-b + 1 - cut.low, -a + 1 - cut.low)
    part = planes[:, :, where] if cut.along == 2 else planes[:, where]
    return part if cut.side > 0 else part[:, ::-1, ::-1]
