"""Frames in batches, each read once for all ranks that bin it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from nxmpi.parallel.collective import answers_of_all
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.window import window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py import MPI

    from nxmpi._typing import I8, Frames
    from nxmpi.kernels.tiles import Tables
    from nxmpi.parallel.window import Window
    from nxmpi.stages.wedges import Wedge

NO_COUNT = -1


class FrameReader(Protocol):
    """Where frames come from."""

    dtype: np.dtype[Any]
    chunk_frames: int
    """Frames that are stored together."""
    masked: bool
    """There is a 3-D mask."""
    is_over: Callable[[], bool]
    """Asked while frames are waited for, if they are; True lets `read` raise an `EndedError`."""

    def read(self, frames: I8) -> tuple[Frames, Frames, I8]:
        """Return consecutive frames, (n, n_pixels), their mask or (0, 0), and the bad ones."""


class Read(NamedTuple):
    """A batch that was read."""

    numbers: I8
    """(n,) int64: of the frames."""
    data: Frames
    """(n, n_pixels or fewer) integer: counts."""
    excluded: Frames
    """(n, n_pixels or fewer) int8, or (0, 0): their mask."""
    bad: I8
    """Frames that could not be read; not in the others, or without counts."""


def batches(frames: I8, size: int, chunk: int) -> list[I8]:
    """Return frames in runs of consecutive numbers, at most ``size`` long.

    Runs end at multiples of the frames stored together where size allows, so that no stored
    chunk is read twice.
    """
    length = size // chunk * chunk or size
    cuts = (np.diff(frames) != 1) | (frames[1:] % length == 0)
    return [run for run in np.split(frames, np.flatnonzero(cuts) + 1) if run.size]


def part_of_batch(batch: I8, chunk: int, size: int, rank: int) -> slice:
    """Return which frames of a batch one of its ranks reads: whole chunks, contiguous."""
    chunks = batch // chunk - batch[0] // chunk
    start, stop = block_range(int(chunks[-1]) + 1, size, rank)
    return slice(*(int(i) for i in np.searchsorted(chunks, (start, stop))))


def signed(counts: Frames) -> Frames:
    """Return counts as int32, or as int64 where these do not hold them; negative is no count.

    Negative values, and all ones of an unsigned type, are none. Nothing is copied of int32, int64,
    uint64 and, as a rule, uint32. One compiled kernel does for all types.
    """
    dtype = counts.dtype
    if dtype.kind == "u" and dtype.itemsize == np.dtype(np.int32).itemsize:
        seen = counts.view(np.int32)
        if not (seen < -1).any():
            return seen
    if dtype.itemsize < np.dtype(np.int64).itemsize and dtype != np.int32:
        wide = counts.astype(np.int64 if dtype.itemsize > 2 else np.int32)
        if dtype.kind == "u":
            wide[counts == np.iinfo(dtype).max] = NO_COUNT
        return wide
    return counts.view(np.int64) if dtype == np.uint64 else counts


def shared_type(reader: FrameReader) -> np.dtype[Any]:
    """Return the type that holds all counts of a reader as `signed` makes them."""
    narrow = reader.dtype.itemsize < 4 or reader.dtype == np.int32
    return np.dtype(np.int32 if narrow else np.int64)


def shared_pixels(tables: Tables) -> int:
    """Return how many pixels of a frame there are to the end of the last row with a good one."""
    return (int(tables.pixels.max()) // tables.n_fast + 1) * tables.n_fast


def shared_length(batch_frames: int, n_ranks: int) -> int:
    """Return how many frames a batch of a node has at most: one or more for each rank to read."""
    return max(batch_frames, n_ranks)


def shared_bytes(reader: FrameReader, tables: Tables, length: int) -> int:
    """Return the memory of a batch that ranks share."""
    return length * shared_pixels(tables) * (shared_type(reader).itemsize + reader.masked)


class Batches:
    """Batches not yet binned, the same on all ranks that bin them."""

    def __init__(
        self, node: MPI.Intracomm, waiting: list[I8], reader: FrameReader, shared: Shared | None
    ) -> None:  # fmt: skip
        """Not collective.

        Parameters
        ----------
        waiting : list of (n,) int64
            In order.
        shared : Shared or None
            Where the ranks of a node read the frames to; None where there is only one.
        """
        self.node, self.reader, self.shared = node, reader, shared
        self.waiting = waiting[::-1]

    def __len__(self) -> int:
        return len(self.waiting)

    def read_next(self) -> Read | None:
        """Take a batch and read it; return None if another rank failed to read its part.

        Collective on the node. Shared memory holds the batch until the next call, by when all
        ranks must have met.
        """
        batch = self.waiting[-1]
        if self.shared is None:
            data, excluded, bad = self.reader.read(batch)
            self.waiting.pop()
            return Read(batch[~np.isin(batch, bad)], data, excluded, bad)
        shared = self.shared.first(batch.size)
        answers = answers_of_all(
            self.node, lambda: self._read_part(batch, shared), self.reader.is_over
        )
        self.shared.window.sync()
        if answers is None:
            return None
        self.waiting.pop()
        return Read(batch, shared.data, shared.excluded, np.concatenate(answers))

    def _read_part(self, batch: I8, shared: Shared) -> I8:
        """Fill this rank's part of a batch; return its frames that could not be read."""
        part = part_of_batch(batch, self.reader.chunk_frames, self.node.size, self.node.rank)
        if part.start == part.stop:
            return batch[:0]
        data, excluded, bad = self.reader.read(batch[part])
        readable = ~np.isin(batch[part], bad)
        n_pixels = shared.data.shape[1]
        shared.data[part][~readable] = NO_COUNT
        shared.data[part][readable] = signed(data)[:, :n_pixels]
        if self.reader.masked:
            shared.excluded[part][readable] = excluded[:, :n_pixels]
        shared.window.sync()
        return bad


class Shared(NamedTuple):
    """A batch in memory that ranks have in common."""

    window: Window
    data: Frames
    """(n, n_pixels) int32 or int64"""
    excluded: Frames
    """(n, n_pixels) int8, or (0, 0)"""

    def first(self, n: int) -> Shared:
        """Return the first frames alone."""
        return self._replace(data=self.data[:n], excluded=self.excluded[:n])


@contextmanager
def batches_of(
    wedge: Wedge, reader: FrameReader, tables: Tables, batch_frames: int
) -> Iterator[Batches]:
    """Give the batches of a wedge, with memory for them if ranks share it.

    Collective on the node of the wedge, like `nxmpi.parallel.window.window`.

    Parameters
    ----------
    tables : Tables
        Of all tiles.
    batch_frames : int
        Frames of a batch at most; a node has batches of at least one for each rank.
    """
    node = wedge.node
    length = shared_length(batch_frames, node.size)
    waiting = batches(wedge.frames, length, reader.chunk_frames)
    if node.size == 1 or not waiting:
        yield Batches(node, waiting, reader, None)
        return
    longest = max(batch.size for batch in waiting)
    dtype, n_pixels = shared_type(reader), shared_pixels(tables)
    with window(node, shared_bytes(reader, tables, longest)) as room:
        size = longest * n_pixels * dtype.itemsize
        data = room.bytes[:size].view(dtype).reshape(longest, n_pixels)
        excluded = room.bytes[size:].view(np.int8).reshape(-1, n_pixels)
        yield Batches(node, waiting, reader, Shared(room, data, excluded))
