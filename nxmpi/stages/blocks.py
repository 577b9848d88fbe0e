"""What the sums of a transform must come to, block by block, and the pixels without a count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels.blocks import BlockSums, add_to_blocks
from nxmpi.kernels.transform import Batch
from nxmpi.parallel.arrays import bcast_array, largest, sum_arrays
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.packed import pack_mask
from nxmpi.parallel.progress import progress
from nxmpi.stages.batches import batches, signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

    from nxmpi._typing import I8
    from nxmpi.kernels.tiles import Tables
    from nxmpi.stages.batches import FrameReader

MOST_BLOCKS = 64
"""Along an axis."""
LEAST_EDGE = 32
"""Of a block [voxels]: blocks are made of whole chunks of a file."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Expected:
    """What a transform of a position must come to; sums are the root's alone."""

    edge: int
    """Of a block [voxels]."""
    sums: BlockSums
    near: BlockSums
    """Of pixels that may be in the next block, by rounding: see `nxmpi.kernels.blocks.NEAR`."""
    dead: I8
    """(n,) int64: good pixels without a count in any frame, in a flattened frame."""
    n_lost: int
    """How many other good pixels have no count, of all frames."""
    lost: dict[int, bytes]
    """Good pixels without a count, by frame, of the frames in which some are not dead: flattened,
    as `nxmpi.parallel.packed` packs them; the root's alone."""
    bad_frames: list[int]
    """Those that could not be read, of all ranks."""


def block_edge(shape: tuple[int, ...]) -> int:
    """Return the edge of the blocks of a grid, a multiple of 32 [voxels]."""
    return LEAST_EDGE * -(-max(shape) // (LEAST_EDGE * MOST_BLOCKS))


def expect_blocks(
    comm: MPI.Intracomm, tables: Tables, reader: FrameReader, frames: I8, batch_frames: int,
    is_stopped: Callable[[], bool],
) -> Expected | None:  # fmt: skip
    """Read all frames once, and sum over the blocks of the grid.

    Collective on ``comm``. Frames are dealt out in contiguous blocks. Sums are of integers, the
    same for any number of ranks. Takes 8 bytes a pixel, and for each frame with pixels that have
    no count 1 bit a pixel at most.

    Parameters
    ----------
    tables : Tables
        On every rank; of unsplit pixels.
    frames : (n,) int64
        Those that are used, whether they reach the grid or not.
    is_stopped : callable
        Returns whether there is a wish to stop; must not wait.

    Returns
    -------
    Expected or None
        None on every rank if any stopped.

    Raises
    ------
    CollectiveError
        On every rank, if any rank fails to read its frames.
    """
    edge = block_edge(tuple(tables.shape))
    n_h, n_k, n_l = (int(n) for n in -(-tables.shape // edge))
    shape = (2 if reader.masked else 1, n_l, n_k, n_h)
    sums, near = (BlockSums(np.zeros(shape, np.int64), np.zeros(shape, np.int64)) for _ in "sn")
    mine = frames[slice(*block_range(frames.size, comm.size, comm.rank))]
    lost: dict[int, tuple[int, bytes]] = {}
    known: dict[bytes, bytes] = {}
    n_lost = np.zeros(int(tables.pixels.max()) + 1, np.int64)
    bad: list[int] = []
    stopped = False
    with all_or_none(comm, is_stopped), progress(comm, "look", mine.size, "frames") as bar:
        for run in batches(mine, batch_frames, reader.chunk_frames):
            data, excluded, unread = reader.read(run)
            numbers = np.setdiff1d(run, unread)
            bad.extend(int(number) for number in unread)
            if numbers.size:
                counts = signed(data)
                found = np.zeros(numbers.size, np.int64)
                batch = Batch(frames=counts, excluded=excluded, numbers=numbers)
                add_to_blocks(batch, tables, edge, sums, near, found)
                for i in np.flatnonzero(found):
                    mask = np.zeros(n_lost.size, bool)
                    mask[tables.pixels] = counts[i, tables.pixels] < 0
                    n_lost += mask
                    packed = pack_mask(mask)
                    lost[int(numbers[i])] = int(found[i]), known.setdefault(packed, packed)
            bar.advance(run.size)
            stopped = is_stopped()
            if stopped:
                break
    if largest(comm, int(stopped)):
        return None
    bad = sorted(number for some in comm.allgather(bad) for number in some)
    n_lost = bcast_array(comm, sum_arrays(comm, n_lost))
    n_read = frames.size - len(bad)
    dead = np.flatnonzero(n_lost == max(n_read, 1))
    others = {number: packed for number, (n, packed) in lost.items() if n > dead.size}
    return Expected(
        edge=edge,
        sums=BlockSums(*(sum_arrays(comm, array) for array in sums)),
        near=BlockSums(*(sum_arrays(comm, array) for array in near)),
        dead=dead,
        n_lost=int(n_lost.sum()) - dead.size * n_read,
        lost={n: packed for some in comm.gather(others) or [] for n, packed in some.items()},
        bad_frames=bad,
    )
