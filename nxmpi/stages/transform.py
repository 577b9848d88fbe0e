"""Frames to counts and norm on an HKL grid, one detector position at a time."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nxmpi.errors import StoppedError
from nxmpi.kernels.bricks import EDGE
from nxmpi.kernels.transform import Batch, Room, bin_batch
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.progress import progress
from nxmpi.parallel.signals import wishes
from nxmpi.stages.bricks import BRICK_BYTES, Bricks, packed_pieces, send_to_owners

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi._typing import I8, Frames
    from nxmpi.kernels.tiles import Tables
    from nxmpi.parallel.timing import Timer
    from nxmpi.params import TransformParams

log = logging.getLogger(__name__)
LARGEST_BOX = 2**18
"""Voxels that a tile may span before it is binned in fewer frames, or pixel by pixel."""


class FrameReader(Protocol):
    """Where frames come from."""

    dtype: np.dtype[Any]
    chunk_frames: int
    """Frames that are stored together."""
    masked: bool
    """There is a 3-D mask."""

    def read(self, frames: I8) -> tuple[Frames, Frames, I8]:
        """Return consecutive frames, (n, n_pixels), their mask or (0, 0), and the bad ones."""


class Store(Protocol):
    """Where checkpoints are kept: a state, and this rank's packed bricks by part."""

    def load(self, comm: MPI.Intracomm) -> tuple[object | None, Iterator[tuple[int, I8]]]:
        """Return what was saved last, and this rank's share of the bricks."""

    def save(
        self, comm: MPI.Intracomm, state: object, pieces: Iterable[tuple[int, I8]]
    ) -> None:  # fmt: skip
        """Save the work done so far."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What a long stage works with besides its data."""

    store: Store
    timer: Timer
    scratch: Path | None = None
    """Folder for volumes larger than the memory."""


@dataclass(kw_only=True)
class Done:
    """Frames that the bricks of all ranks contain."""

    frames: list[int] = field(default_factory=list)
    bad_frames: list[int] = field(default_factory=list)
    """Those among them that could not be read, and were left out."""


@dataclass(kw_only=True, eq=False)
class Transformed:
    """The volume of a position: this rank's bricks."""

    kept: Bricks
    """Of the pixels that the 3-D mask keeps, or of all where there is none."""
    excluded: Bricks
    """Of the pixels that the mask excludes; with ``kept`` all of them."""
    unit: float
    """Of the norm."""
    bad_frames: list[int] = field(default_factory=list)


def batches(frames: I8, size: int, chunk: int) -> list[I8]:
    """Return frames in runs of consecutive numbers, at most ``size`` long.

    Runs end at multiples of the frames stored together where size allows, so that no stored
    chunk is read twice.
    """
    length = size // chunk * chunk or size
    cuts = (np.diff(frames) != 1) | (frames[1:] % length == 0)
    return [run for run in np.split(frames, np.flatnonzero(cuts) + 1) if run.size]


def transform(
    comm: MPI.Intracomm,
    tables: Tables,
    reader: FrameReader,
    params: TransformParams,
    workspace: Workspace,
) -> Transformed:
    """Bin all frames of a position that have a weight.

    Collective on ``comm``. Frames are dealt out in contiguous blocks. A rank bins into
    bricks of its own until their memory is spent; then all bring their bricks to the owners.
    Result: this rank holds the bricks it owns. Sums are of integers, so that they depend on
    neither the ranks, the batches nor a restart.

    Raises
    ------
    CollectiveError
        On every rank, if any rank fails to read its frames.
    StoppedError
        On every rank, after a checkpoint, if any rank heard a wish to stop and frames are left.
    """
    n_h, n_k, n_l = (int(n) for n in tables.shape)
    with all_or_none(comm):
        result = Transformed(
            kept=Bricks((n_l, n_k, n_h), workspace.scratch),
            excluded=Bricks((n_l, n_k, n_h), workspace.scratch),
            unit=tables.unit,
        )
    parts = (result.kept, result.excluded)
    with workspace.timer.part("restart"):
        done = _resume(comm, parts, workspace.store)
        result.bad_frames = done.bad_frames
    frames = np.setdiff1d(np.flatnonzero(tables.scales > 0), done.frames)
    mine = frames[slice(*block_range(frames.size, comm.size, comm.rank))]
    waiting = batches(mine, params.batch_frames, reader.chunk_frames)[::-1]
    binned: list[int] = []
    bad: list[int] = []
    with all_or_none(comm):
        binner = _Binner(tables)
    last_saved = time.monotonic()
    with progress(comm, "transform", mine.size, "frames") as bar, wishes(comm) as wish:
        while largest(comm, len(waiting)):
            with all_or_none(comm, wish.heard):
                while waiting:
                    batch = waiting.pop()
                    with workspace.timer.part("read"):
                        data, excluded, unread = reader.read(batch)
                    with workspace.timer.part("bin"):
                        readable = batch[~np.isin(batch, unread)]
                        binner.bin(readable, data, excluded, parts)
                    bad.extend(int(n) for n in unread)
                    binned.extend(int(n) for n in batch)
                    bar.advance(batch.size)
                    del data, excluded  # before the next batch is read
                    if wish.heard() or _round_is_due(comm, parts, params, last_saved):
                        break
            with workspace.timer.part("exchange"):
                for part in parts:
                    send_to_owners(comm, part)
            now, signal = time.monotonic(), wish.agreed()
            due = signal is not None or now - last_saved > params.checkpoint
            if largest(comm, int(due and len(waiting) > 0)):
                with workspace.timer.part("checkpoint"):
                    _checkpoint(comm, parts, workspace.store, _together(comm, done, binned, bad))
                last_saved = now
                if signal is not None:
                    raise StoppedError(signal)
    result.bad_frames = _together(comm, done, binned, bad).bad_frames
    return result


def _resume(comm: MPI.Intracomm, parts: tuple[Bricks, Bricks], store: Store) -> Done:
    state, pieces = store.load(comm)
    with all_or_none(comm):
        for part, words in pieces:
            parts[part].add(words)
    for brick_part in parts:
        send_to_owners(comm, brick_part)
    if not isinstance(state, dict):
        return Done()
    log.info("going on from a checkpoint of %d frames", len(state["frames"]))
    return Done(**state)


def _round_is_due(
    comm: MPI.Intracomm, parts: tuple[Bricks, Bricks], params: TransformParams, last_saved: float
) -> bool:
    if time.monotonic() - last_saved > params.checkpoint:
        return True
    if not params.memory:
        return False
    held = sum(part.n_bricks for part in parts) * BRICK_BYTES
    if held <= params.memory:
        return False
    foreign = 0
    for part in parts:
        numbers = part.touched()
        foreign += int((part.owners(numbers, comm.size) != comm.rank).sum())
    return foreign * BRICK_BYTES > params.memory // 4


def _together(comm: MPI.Intracomm, done: Done, binned: list[int], bad: list[int]) -> Done:
    everyone = comm.allgather((binned, bad))
    return Done(
        frames=sorted({*done.frames, *(n for frames, _ in everyone for n in frames)}),
        bad_frames=sorted({*done.bad_frames, *(n for _, frames in everyone for n in frames)}),
    )


def _checkpoint(
    comm: MPI.Intracomm, parts: tuple[Bricks, Bricks], store: Store, done: Done
) -> None:
    store.save(
        comm,
        asdict(done),
        ((i, words) for i, part in enumerate(parts) for words in packed_pieces(part)),
    )


class _Binner:
    """The tables and the room that the kernel works in."""

    def __init__(self, tables: Tables) -> None:
        m = int(np.diff(tables.tiles).max())
        self.tables = tables
        self.room = Room(
            cell=np.empty(m, np.int32),
            norm=np.empty(m, np.int32),
            vectors=np.empty((3, m)),
            boxes=np.zeros((2, LARGEST_BOX), np.int64),
            rows=np.empty((LARGEST_BOX // EDGE, 2), np.int64),
        )

    def bin(self, frames: I8, data: Frames, excluded: Frames, parts: tuple[Bricks, Bricks]) -> None:
        """Add frames to the bricks."""
        if frames.size:
            batch = Batch(frames=signed(data), excluded=excluded, numbers=frames)
            bin_batch(batch, self.tables, self.room, *(part.volume for part in parts))


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
            wide[counts == np.iinfo(dtype).max] = -1
        return wide
    return counts.view(np.int64) if dtype == np.uint64 else counts
