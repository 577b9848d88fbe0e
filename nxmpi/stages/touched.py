"""Which bricks the ranks of a transform touch, counted by binning as they would."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.kernels.packing import HEADER, pack
from nxmpi.stages.batches import batches, shared_length
from nxmpi.stages.bricks import Bricks, owners, room_to_pack, touched
from nxmpi.stages.transform import Binner
from nxmpi.stages.wedges import FEWEST_FRAMES, frames_of_node, tiles_of_rank

if TYPE_CHECKING:
    from nxmpi._typing import I8
    from nxmpi.kernels.tiles import Tables
    from nxmpi.params import TransformParams
    from nxmpi.stages.batches import FrameReader

MOST_RANKS = 8
"""Of which wedges are binned, unless all are asked for."""


class Touched(NamedTuple):
    """Bricks of a rank, or of the rank with the most."""

    narrow: int
    wide: int
    sent: int
    """Bricks that go to other ranks, with..."""
    integers: int
    """...so many integers."""


class Counted(NamedTuple):
    """What the ranks of a position touch."""

    most: Touched
    """Each number of the rank that has most of it."""
    total: Touched
    """Of all ranks together."""
    is_exact: bool
    """All frames of all ranks were binned."""


def count_touched(
    tables: Tables, size: int, ranks_per_node: int, params: TransformParams,
    reader: FrameReader, most_pixels: float,
) -> Counted:  # fmt: skip
    """Bin frames as ranks would, one rank after another. Not collective.

    It is the transform itself, without the exchange: what is asked for exactly takes as long as
    the transform on one rank, and the memory of one of the ranks.

    Parameters
    ----------
    ranks_per_node : int
        Of which those of a node share a wedge where frames are few.
    reader : FrameReader
        Of frames and 3-D mask.
    most_pixels : float
        To bin: if there are more, some wedges are left out, and of others the end is told from
        how numbers rise.
    """
    frames = np.flatnonzero(tables.scales > 0)
    shared = is_shared(frames.size, size)
    firsts = [rank - rank % ranks_per_node if shared else rank for rank in range(size)]
    n_pixels = frames.size * tables.pixels.size * tables.views
    ranks = np.arange(size)
    if n_pixels > most_pixels and size > MOST_RANKS:
        ranks = np.linspace(0, size - 1, MOST_RANKS).astype(np.int64)
    part = min(most_pixels / max(n_pixels, 1) * size / ranks.size, 1.0)
    found, is_exact = [], ranks.size == size
    for rank in ranks.tolist():
        own = frames[slice(*frames_of_node(frames.size, firsts, firsts[rank]))]
        tiles = tiles_of_rank(tables, firsts.count(firsts[rank]), rank - firsts[rank])
        length = shared_length(params.batch_frames, firsts.count(firsts[rank]))
        waiting = batches(own, length, reader.chunk_frames)
        some = waiting[: max(int(np.ceil(len(waiting) * part)), min(len(waiting), 2))]
        halves = _bin(tiles, some, reader, (size, rank), hits=params.hits)
        is_exact &= len(some) == len(waiting)
        n_frames = sum(batch.size for batch in some)
        found.append(_extended(*halves, own.size / max(n_frames, 1)))
    columns = np.array(found).reshape(-1, len(Touched._fields))
    most, total = columns.max(axis=0), columns.sum(axis=0) * size / ranks.size
    return Counted(
        Touched(*most.astype(int).tolist()), Touched(*total.astype(int).tolist()), is_exact
    )


def is_shared(n_frames: int, size: int) -> bool:
    """Return whether ranks of a node have so few frames that they share a wedge."""
    return n_frames < FEWEST_FRAMES * size


def batch_of_rank(
    n_frames: int, frame_bytes: int, batch_frames: int, ranks: tuple[int, int]
) -> int:  # fmt: skip
    """Return the memory that a rank sees of batches, see `nxmpi.stages.cost.memory`.

    Of a batch that a node shares it reads a part, puts that into the shared memory, and bins a
    part of each of the other frames there.

    Parameters
    ----------
    ranks : (int, int)
        Of the run, and of a node.
    """
    size, of_node = ranks
    if not is_shared(n_frames, size):
        return min(batch_frames, -(-n_frames // size)) * frame_bytes
    of_its_frames = min(n_frames, -(-n_frames * of_node // size))
    length = min(shared_length(batch_frames, of_node), of_its_frames)
    part = 1 / of_node
    seen = 2 * part + (1 - part) * part if of_node > 1 else 1.0
    return int(length * frame_bytes * seen)


def _extended(half: Touched, whole: Touched, times: float) -> Touched:
    """Return what a line through two points says of so many times the second one."""
    return Touched(
        *(round(b + 2 * (b - a) * (times - 1)) for a, b in zip(half, whole, strict=True))
    )


def _bin(
    tables: Tables, waiting: list[I8], reader: FrameReader, owner: tuple[int, int], *, hits: bool
) -> tuple[Touched, Touched]:
    """Return what is touched after half of the batches, and after all."""
    n_h, n_k, n_l = (int(n) for n in tables.shape)
    parts = tuple(Bricks((n_l, n_k, n_h)) for _ in range(4 if hits else 2))
    binner, states = Binner(tables), []
    half = len(waiting) // 2
    for some in (waiting[:half], waiting[half:]):
        for batch in some:
            data, excluded, bad = reader.read(batch)
            binner.bin(np.setdiff1d(batch, bad), data, excluded, parts)
        states.append(_state(parts, *owner))
    return states[0], states[1]


def _state(parts: tuple[Bricks, ...], size: int, rank: int) -> Touched:
    held, sent, integers = [0, 0], 0, 0
    for volumes in (part.sums for part in parts):
        for which, volume in enumerate(volumes):
            numbers = touched(volume)
            held[which] += numbers.size
            numbers = numbers[owners(volume, numbers, size) != rank]
            words, n = room_to_pack(volume)
            for start in range(0, numbers.size, n):
                sizes = pack(numbers[start : start + n], volume, False, words)
                integers += int((sizes - HEADER).sum())
            sent += numbers.size
    return Touched(held[0], held[1], sent, integers)
