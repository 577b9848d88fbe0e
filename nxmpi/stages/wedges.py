"""Who bins what: a wedge is a block of frames, and the tiles of them that a rank bins.

A rank with many frames has a wedge of its own, and bins all tiles. A voxel is touched by ranks
that have frames near each other, and goes to its owner from each of them. So where frames are few,
the ranks of a node share a wedge: all its frames, and a part of the detector for each.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.window import alone, has_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py import MPI

    from nxmpi._typing import I8
    from nxmpi.kernels.tiles import Tables

    NodeOf = Callable[[MPI.Intracomm], MPI.Intracomm]
    """Gives each rank a communicator of the ranks of its node, in their order."""

log = logging.getLogger(__name__)
FEWEST_FRAMES = 100
"""With fewer frames in the mean, ranks of a node share a wedge. One frame passes through some 5200
bricks of a grid of 1001^3, each further one (0.1 degrees) adds 110: with a hundred, two thirds of a
rank's bricks are due to its number of frames, with ten a sixth."""


def frames_of_node(n_frames: int, firsts: list[int], first: int) -> tuple[int, int]:
    """Return the half-open range of frames that the ranks of a node have together.

    Parameters
    ----------
    firsts : list of int
        For each rank the lowest rank of its node.
    first : int
        The lowest rank of the node in question. Nodes take frames in the order of these, as many
        as their ranks would take one by one.
    """
    before, size = sum(f < first for f in firsts), firsts.count(first)
    start, _ = block_range(n_frames, len(firsts), before)
    _, stop = block_range(n_frames, len(firsts), before + size - 1)
    return start, stop


def tiles_of_rank(tables: Tables, size: int, rank: int) -> Tables:
    """Return the tables with those tiles alone that a rank of a node bins.

    Tiles are dealt out in contiguous runs with about as many pixels each; some may be empty.
    """
    n_pixels = int(tables.tiles[-1])
    ends = [n_pixels * i // size for i in (rank, rank + 1)]
    start, stop = (int(i) for i in np.searchsorted(tables.tiles, ends))
    return tables._replace(
        tiles=tables.tiles[start : stop + 1],
        corners=tables.corners[start:stop],
        middles=tables.middles[start:stop],
        halves=tables.halves[start:stop],
    )


class Wedge(NamedTuple):
    """What one rank bins, and with whom."""

    node: MPI.Intracomm
    """Of the ranks that bin the same frames: those of a node, or this one alone."""
    frames: I8
    """(n,) int64: in order."""
    tables: Tables
    """Of the tiles of them that this rank bins."""


@contextmanager
def wedge_of(
    comm: MPI.Intracomm, frames: I8, tables: Tables, n_bytes: Callable[[int], int],
    node_of: NodeOf,
) -> Iterator[Wedge]:  # fmt: skip
    """Deal out frames over all ranks, and tiles over those that share a wedge.

    Collective on ``comm``.

    Parameters
    ----------
    frames : (n,) int64
        Of all ranks, in order.
    tables : Tables
        Of all tiles.
    n_bytes : function
        Of the shared memory that a number of ranks need to have a wedge in common.
    node_of : function
        Gives the ranks of a node a communicator, like `nxmpi.parallel.window.node_of`.
    """
    node = node_of(comm)
    share = frames.size < FEWEST_FRAMES * comm.size
    if share and not all(comm.allgather(node.size == 1 or has_room(n_bytes(node.size)))):
        log.info("ranks have frames of their own: there is too little shared memory")
        share = False
    if not share:
        node.Free()
        node = alone(comm)
    firsts = comm.allgather(node.bcast(comm.rank))
    own = slice(*frames_of_node(frames.size, firsts, firsts[comm.rank]))
    try:
        yield Wedge(node, frames[own], tiles_of_rank(tables, node.size, node.rank))
    finally:
        node.Free()
