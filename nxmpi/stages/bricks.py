"""A volume in sparse bricks, one copy of it over all ranks.

Bricks of 16^3 voxels come into being where a pixel falls, with one integer a voxel; another brick
has two, for what does not fit. A rank adds to any brick; at the end of a round the bricks it does
not own go to their owners, packed. Owners hold pillars: all voxels along h of 32 x 32 in l and k,
dealt out in turn, the unit in which files are written.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.kernels.bricks import EDGE, VOXELS, Sums, Volume, add_to_slab
from nxmpi.kernels.packing import HEADER, add_packed, pack
from nxmpi.nexus.volume import CHUNK
from nxmpi.parallel.arrays import PIECE, exchange, largest
from nxmpi.parallel.memory import lazy_zeros

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi._typing import F8, I8

WIDTH = CHUNK
"""Voxels of a pillar along l and k: a chunk of a file has one owner. A multiple of `EDGE`."""
BRICK_BYTES = VOXELS * 8
"""Of each integer of the voxels of a brick."""


class Pillar(NamedTuple):
    """A part of a volume that one rank owns and writes: 32 x 32 voxels, some way along h."""

    l: int
    """First voxel along l."""
    k: int
    """First voxel along k."""
    h_start: int
    """First voxel along h, at a chunk's beginning."""
    h_stop: int
    """Last voxel along h, plus 1."""


@dataclass
class Sent:
    """What left a rank for the owners."""

    bricks: int = 0
    integers: int = 0
    bytes: int = 0


class Bricks:
    """Counts and norm of the voxels that this rank has touched or owns."""

    def __init__(self, array_shape: tuple[int, int, int], scratch: Path | None = None) -> None:
        """Make an empty volume. Memory is taken as bricks are touched.

        Parameters
        ----------
        array_shape : tuple of int
            (n_l, n_k, n_h) [voxels].
        scratch : Path or None
            Folder of a scratch file to hold it instead of memory.
        """
        self.array_shape = array_shape
        self.sums = Sums(*(_empty(array_shape, n, scratch) for n in (1, 2)))
        self.sent = Sent()

    @property
    def n_bytes(self) -> int:
        """Of the bricks held now."""
        return sum(int(v.used[0] - v.used[1]) * bytes_of_brick(v) for v in self.sums)

    def foreign_bytes(self, comm: MPI.Intracomm) -> int:
        """Return the bytes of the bricks held that other ranks own. Not collective."""
        return sum(
            int((owners(v, touched(v), comm.size) != comm.rank).sum()) * bytes_of_brick(v)
            for v in self.sums
        )

    def add(self, words: I8, to: int) -> None:
        """Add packed bricks of the narrow volume (0) or the wide one (1)."""
        add_packed(words, self.sums, bool(to))


def _empty(array_shape: tuple[int, int, int], n_integers: int, scratch: Path | None) -> Volume:
    n_l, n_k, n_h = (ceil(n / EDGE) for n in array_shape)
    n = n_l * n_k * n_h
    return Volume(
        n_bricks=(n_l, n_k, n_h),
        table=np.full(n, -1, np.int32),
        arena=lazy_zeros((n, n_integers, VOXELS), scratch),
        free=np.empty(n, np.int32),
        used=np.zeros(2, np.int64),
    )


def bytes_of_brick(volume: Volume) -> int:
    """Return the memory of a brick."""
    return BRICK_BYTES * int(volume.arena.shape[1])


def touched(volume: Volume) -> I8:
    """Return the numbers of the bricks held, in C order of the table."""
    return np.flatnonzero(volume.table >= 0)


def owners(volume: Volume, numbers: I8, size: int) -> I8:
    """Return the rank that owns each brick."""
    _, n_k, n_h = volume.n_bricks
    row = numbers // n_h
    ranks: I8 = (row // n_k // 2 * ceil(n_k / 2) + row % n_k // 2) % size
    return ranks


def send_to_owners(comm: MPI.Intracomm, bricks: Bricks) -> None:
    """Bring every brick to the rank that owns it.

    Collective on ``comm``. Each rank sends at most 4 MiB in a round, which stay in a cache,
    and empties what it has sent; the number of rounds is agreed on before the first.
    """
    for number in range(len(bricks.sums)):
        _send(comm, bricks, number)


def _send(comm: MPI.Intracomm, bricks: Bricks, which: int) -> None:
    volume = bricks.sums[which]
    numbers = touched(volume)
    numbers = numbers[owners(volume, numbers, comm.size) != comm.rank]
    words, n = room_to_pack(volume)
    for i in range(largest(comm, -(-numbers.size // n))):
        now = numbers[i * n : (i + 1) * n]
        to = owners(volume, now, comm.size)
        order = np.argsort(to, kind="stable")
        sizes = pack(now[order], volume, True, words)
        for_rank = np.bincount(to[order], sizes, comm.size).astype(np.int64)
        bricks.sent.bytes += int(sizes.sum()) * 8
        bricks.sent.bricks += now.size
        bricks.sent.integers += int((sizes - HEADER).sum())
        bricks.add(exchange(comm, words[: sizes.sum()], for_rank), which)


def room_to_pack(volume: Volume) -> tuple[I8, int]:
    """Return room for some packed bricks, and how many they are."""
    largest_brick = HEADER + volume.arena.shape[1] * VOXELS
    n = PIECE // (8 * largest_brick)
    return np.empty(n * largest_brick, np.int64), n


def packed_pieces(bricks: Bricks) -> Iterator[tuple[int, I8]]:
    """Yield all bricks held, packed, in pieces, and where to `Bricks.add` each.

    A piece is to be used before the next is asked for, which takes its room.
    """
    for which, volume in enumerate(bricks.sums):
        numbers = touched(volume)
        words, n = room_to_pack(volume)
        for start in range(0, numbers.size, n):
            sizes = pack(numbers[start : start + n], volume, False, words)
            yield which, words[: sizes.sum()]


def pillars_held(bricks: tuple[Bricks, ...]) -> list[Pillar]:
    """Return the pillars held here in which anything was touched, in order. Not collective."""
    ends: dict[tuple[int, int], list[int]] = {}
    for volume in (volume for part in bricks for volume in part.sums):
        _, n_k, n_h = volume.n_bricks
        numbers = touched(volume)
        rows, along = numbers // n_h, numbers % n_h // 2
        for l, k, h in zip(rows // n_k // 2, rows % n_k // 2, along, strict=True):
            ends.setdefault((int(l), int(k)), []).append(int(h))
    n_voxels = bricks[0].array_shape[2]
    return [
        Pillar(l * WIDTH, k * WIDTH, min(h) * WIDTH, min((max(h) + 1) * WIDTH, n_voxels))
        for (l, k), h in sorted(ends.items())
    ]


def fill_pillar(
    parts: tuple[Bricks, ...], pillar: Pillar, unit: float, views: int = 1
) -> tuple[F8, F8]:
    """Return one pillar of the sum of volumes as dense arrays. Not collective.

    Parameters
    ----------
    unit : float
        Of the norm.
    views : int
        How often each count was added.

    Returns
    -------
    counts, norm : (at most 32, at most 32, n_h) float64
        Exact sums of the integers, divided by ``views`` and multiplied by ``unit``.
    """
    n_l, n_k, _ = parts[0].array_shape
    l, k, start, stop = pillar
    shape = (min(WIDTH, n_l - l), min(WIDTH, n_k - k), stop - start)
    counts, norm = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for part in parts:
        add_to_slab(part.sums, np.array([l, k, start]), counts, norm)
    return counts.astype(np.float64) / views, norm.astype(np.float64) * unit
