"""One pass over the frames of a position: sums, transmission, peaks and the 3-D mask."""

from __future__ import annotations

import logging
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import EndedError, StoppedError
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, split
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.progress import progress
from nxmpi.parallel.readahead import read_ahead
from nxmpi.parallel.signals import wishes
from nxmpi.stages.batches import batches
from nxmpi.stages.own_frames import FrameTables, OwnFrames, PassResult
from nxmpi.stages.saved import restore, to_arrays
from nxmpi.stages.seams import fetch_boxes, to_neighbours, to_previous
from nxmpi.stages.search import LEVELS, NOTHING, UNIT

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi.parallel.saved import Saved
    from nxmpi.parallel.timing import Timer
    from nxmpi.params import FramesParams
    from nxmpi.stages.batches import FrameReader

log = logging.getLogger(__name__)
SHARE = 0.1
"""Of the time, that checkpoints may take where nothing else is asked for [1]."""


def frames_pass(
    comm: MPI.Intracomm,
    tables: FrameTables,
    reader: FrameReader,
    params: FramesParams,
    timer: Timer,
    saved: Saved | None = None,
) -> PassResult:
    """Read all frames of a position once.

    Collective on ``comm``. Frames are dealt out in contiguous blocks, in units of 18; each rank
    reads the frame behind its block too. Nothing depends on the ranks: sums are of integers,
    windows of the search lie at the same frames for any number of ranks, and a peak near a seam
    is fitted to counts that other ranks send.

    Parameters
    ----------
    saved : Saved, optional
        Where each rank keeps what it knows, from time to time, and goes on from: any rank by
        itself, but as one of the same number of ranks.

    Raises
    ------
    CollectiveError
        On every rank, if any rank fails to read its frames.
    StoppedError
        On every rank, after each has saved what it knows, if any rank heard a wish to stop and
        frames are left.
    """
    units = -(-tables.n_frames // UNIT)
    edges = [block_range(units, comm.size, rank) for rank in range(comm.size)]
    blocks = [
        (min(UNIT * low, tables.n_frames), min(UNIT * high, tables.n_frames)) for low, high in edges
    ]
    start, stop = blocks[comm.rank]
    with all_or_none(comm):
        worker = OwnFrames(tables, params, start, stop, reader.dtype)
    first, chunk = tables.first_frame, reader.chunk_frames
    with all_or_none(comm):
        _go_on(worker, reader, params, saved)
    seen = comm.reduce(worker.seen - start)
    if seen:
        log.info("going on behind %d frames, as saved", seen)
    end = min(stop + 1, tables.n_frames) if stop > start else start
    own = np.arange(worker.seen, end) + first
    waiting = batches(own, params.batch_frames, chunk)
    started = last_saved = time.monotonic()
    with wishes(comm) as wish:
        reader.is_over = lambda: wish.known  # it reads in a thread, which is waited for at the end
        read = wish.failure_passed_on()(reader.read)
        with (
            progress(comm, "frames", stop - start, "frames") as bar,
            all_or_none(comm, wish.heard),
            closing(read_ahead(read, waiting, meanwhile=wish.heard)) as ahead,
            wish.failure_passed_on(),
            suppress(EndedError),
        ):
            bar.advance(worker.seen - start)
            for batch, (data, _, unread) in ahead:
                with timer.part("search"):
                    worker.add_batch(batch, data, unread)
                bar.advance(batch.size)
                del data
                if wish.heard():
                    break
                spent, now = timer.parts["checkpoint"], time.monotonic()
                if saved is not None and (
                    now - last_saved > params.checkpoint if params.checkpoint is not None
                    else spent <= SHARE * (now - started)
                ):  # fmt: skip
                    with timer.part("checkpoint"):
                        saved = saved if saved.save(to_arrays(worker)) else None
                    last_saved = time.monotonic()
        signal = wish.agreed()
    if signal is not None and largest(comm, end - worker.seen):
        with timer.part("checkpoint"), all_or_none(comm):
            if saved is not None and worker.seen > start:
                saved.save(to_arrays(worker))
        raise StoppedError(signal)
    # what fails there fails on all ranks with frames; the others have to hear of it
    with timer.part("seams"), all_or_none(comm), split(comm, int(stop > start)) as active:
        if stop > start:
            _finish(active, worker, [block for block in blocks if block[0] < block[1]])
    return worker.result


def _go_on(
    worker: OwnFrames, reader: FrameReader, params: FramesParams, saved: Saved | None
) -> None:  # fmt: skip
    """Make a rank know what it saved, if it did, and hold the frames that it held then."""
    arrays = saved.load() if saved is not None else None
    if arrays is None:
        return
    restore(worker, arrays)
    numbers = np.array(worker.held.numbers(worker.seen), np.int64) + worker.tables.first_frame
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    waiting = [
        batch for run in runs for batch in batches(run, params.batch_frames, reader.chunk_frames)
    ]
    with closing(read_ahead(reader.read, waiting)) as ahead:
        for batch, (data, _, unread) in ahead:
            worker.hold_again(batch, data, unread)
    worker.resume()


def _finish(comm: MPI.Intracomm, worker: OwnFrames, blocks: list[tuple[int, int]]) -> None:
    """Do what needs the frames of other ranks. Collective on ``comm``, of ranks with frames."""
    windows, result = worker.windows, worker.result
    following = {
        level: image
        for level in (1, 2)
        if (image := to_previous(comm, windows.first.get(level))) is not None
    }
    with all_or_none(comm):
        windows.finish(following)
        firsts, lasts = [], []
        for level in range(len(LEVELS)):
            own = windows.windows(level)
            firsts.append(windows.strong[level, own.start] if own else NOTHING)
            lasts.append(windows.strong[level, own.stop - 1] if own else NOTHING)
    before, behind = to_neighbours(comm, firsts, lasts)
    with all_or_none(comm):
        for level in range(len(LEVELS)):
            own = windows.windows(level)
            left_out = range(own.start, min(own.start + 1, own.stop)) if result.start else ()
            for window in (*left_out, *range(worker.looked_at[level], own.stop)):
                worker.find_maxima(
                    level, window, before[level] if before else NOTHING,
                    behind[level] if behind else NOTHING,
                )  # fmt: skip
        worker.fit_ready(result.stop)
        left = worker.left()
    for candidate, counts in fetch_boxes(comm, left, blocks, worker.shape, worker.held.counts):
        worker.fit(candidate, counts)
    np.maximum(result.largest, windows.largest, out=result.largest)
    last, _ = to_neighbours(comm, None, worker.changed.get(result.stop - 1))
    if last is not None:
        worker.changed[result.start - 1] = last
    for i in range(result.start, result.stop):
        patches = worker.changed.get(i - 1), worker.changed.get(i)
        if patches != (None, None):
            result.masks[i] = patches
