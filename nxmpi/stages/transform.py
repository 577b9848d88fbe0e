"""Frames to counts and norm on an HKL grid, one detector position at a time."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nxmpi.errors import EndedError, StoppedError
from nxmpi.kernels.bricks import EDGE
from nxmpi.kernels.transform import Batch, Room, bin_batch
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, answers_of_all
from nxmpi.parallel.progress import progress
from nxmpi.parallel.signals import wishes
from nxmpi.parallel.window import node_of
from nxmpi.stages.batches import batches_of, shared_bytes, shared_length, signed
from nxmpi.stages.bricks import Bricks, packed_pieces, send_to_owners
from nxmpi.stages.wedges import wedge_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi._typing import I8, Frames
    from nxmpi.kernels.tiles import Tables
    from nxmpi.parallel.timing import Timer
    from nxmpi.params import TransformParams
    from nxmpi.stages.batches import FrameReader, Read
    from nxmpi.stages.wedges import NodeOf

log = logging.getLogger(__name__)
LARGEST_BOX = 2**18
"""Voxels that a tile may span before it is binned in fewer frames, or pixel by pixel."""


LARGEST_WEDGE = 2**30
"""Of the bricks that a rank holds for others, however much memory there is [bytes]. Without a limit
2 ranks had held most of the volume each, for 3650 frames and 1001^3 voxels."""


class Store(Protocol):
    """Where checkpoints are kept: a state, and this rank's packed bricks by volume."""

    def load(self, comm: MPI.Intracomm) -> tuple[object | None, Iterator[tuple[int, I8]]]:
        """Return what was saved last, and this rank's share of the bricks."""

    def save(
        self, comm: MPI.Intracomm, state: object, pieces: Iterable[tuple[int, I8]]
    ) -> None:  # fmt: skip
        """Save the work done so far."""


class NoStore:
    """Keeps no checkpoints."""

    def load(self, comm: MPI.Intracomm) -> tuple[object | None, Iterator[tuple[int, I8]]]:
        """Return nothing."""
        return None, iter(())

    def save(
        self, comm: MPI.Intracomm, state: object, pieces: Iterable[tuple[int, I8]]
    ) -> None:  # fmt: skip
        """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What a long stage works with besides its data."""

    store: Store
    timer: Timer
    scratch: Path | None = None
    """Folder for volumes larger than the memory."""
    node_of: NodeOf = node_of
    """Which ranks have memory in common."""


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
    hits: tuple[Bricks, ...]
    """Of the same two, with the number of pixels for the norm; empty unless asked for."""
    unit: float
    """Of the norm."""
    views: int
    """By which counts and hits are to be divided: each pixel was added so many times."""
    bad_frames: list[int] = field(default_factory=list)


def transform(
    comm: MPI.Intracomm,
    tables: Tables,
    reader: FrameReader,
    params: TransformParams,
    workspace: Workspace,
) -> Transformed:
    """Bin all frames of a position that have a weight.

    Collective on ``comm``. Frames are dealt out in contiguous blocks, to ranks or, where they are
    few, to nodes, whose ranks have a part of the detector each. A rank bins into bricks of its own
    until their memory is spent; then all bring their bricks to the owners.
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
        bricks = [
            Bricks((n_l, n_k, n_h), workspace.scratch) for _ in range(4 if params.hits else 2)
        ]
        result = Transformed(
            kept=bricks[0],
            excluded=bricks[1],
            hits=tuple(bricks[2:]),
            unit=tables.unit / tables.views,
            views=tables.views,
        )
    parts = tuple(bricks)
    with workspace.timer.part("restart"):
        done = _resume(comm, parts, workspace.store)
        result.bad_frames = done.bad_frames
    frames = np.setdiff1d(np.flatnonzero(tables.scales > 0), done.frames)
    binned: list[int] = []
    bad: list[int] = []
    last_saved = time.monotonic()

    def room(n_ranks: int) -> int:
        return shared_bytes(reader, tables, shared_length(params.batch_frames, n_ranks))

    def bin_and_look(read: Read) -> bool:
        """Bin a batch, and return whether a round is due."""
        binner.bin(read.numbers, read.data, read.excluded, parts)
        return wish.heard() or _round_is_due(comm, parts, params, last_saved)

    with (
        wedge_of(comm, frames, tables, room, workspace.node_of) as wedge,
        batches_of(wedge, reader, tables, params.batch_frames) as waiting,
        progress(comm, "transform", wedge.frames.size, "frames") as bar,
        wishes(comm) as wish,
    ):
        with all_or_none(comm):
            binner = Binner(wedge.tables)
        reader.is_over = wish.heard
        while largest(comm, len(waiting)):
            with (
                all_or_none(comm, wish.heard),
                wish.failure_passed_on(),
                suppress(EndedError),
            ):
                while waiting:
                    with workspace.timer.part("read"):
                        read = waiting.read_next()
                    if read is None:  # on another rank of the node, which tells why
                        break
                    with workspace.timer.part("bin"):
                        due = answers_of_all(wedge.node, partial(bin_and_look, read))
                    frames_read = np.union1d(read.numbers, read.bad).tolist()
                    bad.extend(read.bad.tolist())
                    binned.extend(frames_read)
                    bar.advance(len(frames_read))
                    del read  # before the next batch is read
                    if due is None or any(due):
                        break
            with workspace.timer.part("exchange"):
                for part in parts:
                    send_to_owners(comm, part)
            now, signal = time.monotonic(), wish.agreed()
            save = signal is not None or now - last_saved > params.checkpoint
            if largest(comm, int(save and len(waiting) > 0)):
                with workspace.timer.part("checkpoint"):
                    _checkpoint(comm, parts, workspace.store, _together(comm, done, binned, bad))
                last_saved = now
                if signal is not None:
                    raise StoppedError(signal)
    result.bad_frames = _together(comm, done, binned, bad).bad_frames
    return result


def _resume(comm: MPI.Intracomm, parts: tuple[Bricks, ...], store: Store) -> Done:
    state, pieces = store.load(comm)
    with all_or_none(comm):
        for number, words in pieces:
            part, which = divmod(number, 2)
            parts[part].add(words, which)
    for brick_part in parts:
        send_to_owners(comm, brick_part)
    if not isinstance(state, dict):
        return Done()
    log.info("going on from a checkpoint of %d frames", len(state["frames"]))
    return Done(**state)


def _round_is_due(
    comm: MPI.Intracomm, parts: tuple[Bricks, ...], params: TransformParams, last_saved: float
) -> bool:
    if time.monotonic() - last_saved > params.checkpoint:
        return True
    held = sum(part.n_bytes for part in parts)
    is_short = params.memory and held > params.memory
    limit = min(LARGEST_WEDGE, params.memory // 4) if is_short else LARGEST_WEDGE
    return held > limit and sum(part.foreign_bytes(comm) for part in parts) > limit


def _together(comm: MPI.Intracomm, done: Done, binned: list[int], bad: list[int]) -> Done:
    everyone = comm.allgather((binned, bad))
    return Done(
        frames=sorted({*done.frames, *(n for frames, _ in everyone for n in frames)}),
        bad_frames=sorted({*done.bad_frames, *(n for _, frames in everyone for n in frames)}),
    )


def _checkpoint(comm: MPI.Intracomm, parts: tuple[Bricks, ...], store: Store, done: Done) -> None:
    store.save(
        comm,
        asdict(done),
        (
            (2 * i + which, words)
            for i, part in enumerate(parts)
            for which, words in packed_pieces(part)
        ),
    )


class Binner:
    """The tables and the room that the kernel works in."""

    def __init__(self, tables: Tables) -> None:
        m = int(np.diff(tables.tiles).max(initial=0))
        self.tables = tables
        self.ones = tables._replace(
            weight=np.ones_like(tables.weight), scales=np.sign(tables.scales), blocked=0.0
        )
        """As if all factors were 1, for the number of pixels."""
        self.room = Room(
            cell=np.empty(m, np.int32),
            norm=np.empty(m, np.int32),
            vectors=np.empty((3, m)),
            boxes=np.zeros((2, LARGEST_BOX), np.int64),
            rows=np.empty((LARGEST_BOX // EDGE, 3), np.int64),
        )

    def bin(self, frames: I8, data: Frames, excluded: Frames, parts: tuple[Bricks, ...]) -> None:
        """Add frames to the bricks."""
        if frames.size:
            batch = Batch(frames=signed(data), excluded=excluded, numbers=frames)
            sums = [part.sums for part in parts]
            bin_batch(batch, self.tables, self.room, *sums[:2])
            if sums[2:]:
                bin_batch(batch, self.ones, self.room, *sums[2:])
