"""Which bricks the ranks of a transform touch, counted by binning as they would."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.kernels.packing import HEADER, pack
from nxmpi.stages.batches import batches
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
    shared = frames.size < FEWEST_FRAMES * size
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
        some = own[: max(int(np.ceil(own.size * part)), min(own.size, 2))]
        halves = _bin(tiles, some, params, reader, (size, rank))
        is_exact &= some.size == own.size
        found.append(_extended(*halves, own.size / max(some.size, 1)))
    columns = np.array(found).reshape(-1, len(Touched._fields))
    most, total = columns.max(axis=0), columns.sum(axis=0) * size / ranks.size
    return Counted(
        Touched(*most.astype(int).tolist()), Touched(*total.astype(int).tolist()), is_exact
    )


def _extended(half: Touched, whole: Touched, times: float) -> Touched:
    """Return what a line through two points says of so many times the second one."""
    return Touched(
        *(round(b + 2 * (b - a) * (times - 1)) for a, b in zip(half, whole, strict=True))
    )


def _bin(
    tables: Tables, frames: I8, params: TransformParams, reader: FrameReader,
    owner: tuple[int, int],
) -> tuple[Touched, Touched]:  # fmt: skip
    """Return what is touched after half of the frames, and after all."""
    n_h, n_k, n_l = (int(n) for n in tables.shape)
    parts = tuple(Bricks((n_l, n_k, n_h)) for _ in range(4 if params.hits else 2))
    binner, states = Binner(tables), []
    for some in (frames[: frames.size // 2], frames[frames.size // 2 :]):
        for batch in batches(some, params.batch_frames, reader.chunk_frames):
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
