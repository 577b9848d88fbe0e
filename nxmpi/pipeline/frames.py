"""The pass over the frames of every position: sums, peaks and mask into the files."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.log import now
from nxmpi.nexus import schema
from nxmpi.nexus.frames import StackReader
from nxmpi.nexus.growing_stack import settled_identity
from nxmpi.nexus.process import write_process
from nxmpi.parallel.arrays import bcast_array, largest_arrays, sum_arrays
from nxmpi.parallel.collective import all_or_none, kept_on_root, on_root
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.publish import temporary, unpublished_removed
from nxmpi.parallel.saved import Saved
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.follow import positions_in_turn
from nxmpi.pipeline.found import Gathered, conclude, write_found
from nxmpi.pipeline.inputs import Inputs, file_input, fingerprint
from nxmpi.pipeline.mask import write_mask
from nxmpi.pipeline.searched import Searched, frame_tables, read_searched
from nxmpi.pipeline.tasks import tasks_due
from nxmpi.pipeline.wrapper import publish_results
from nxmpi.stages.frames import frames_pass
from nxmpi.stages.own_frames import FrameTables, PassResult
from nxmpi.stages.profiles import FITTED

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import I8
    from nxmpi.nexus.stack import Stack
    from nxmpi.params import FramesParams, NormParams, OutputParams, ScanParams
    from nxmpi.pipeline.found import Found

log = logging.getLogger(__name__)
STEP = "frames"


def run_frames(
    comm: MPI.Intracomm, wrapper: Path, scan_params: ScanParams, norm: NormParams,
    params: FramesParams, output: OutputParams,
) -> None:  # fmt: skip
    """Go through the frames of the positions of a scan that are not complete.

    Collective on ``comm``. Positions one after another, each over all ranks.

    Raises
    ------
    CollectiveError
        On every rank, if the input is unusable, or a file cannot be read or written.
    StoppedError
        On every rank, if any heard a wish to stop and something is left to do.
    """
    for some in positions_in_turn(comm, wrapper, scan_params):
        now_wanted = replace(scan_params, entries=some)
        read = partial(read_searched, wrapper, now_wanted, norm, params)
        scan = kept_on_root(comm, read)
        names = comm.bcast([position.name for position in scan] if scan else None)
        for index, name in enumerate(names):
            with step_lock(comm, wrapper, name, STEP):
                position = scan[index] if scan else None
                due = on_root(comm, partial(_due, position, params, output))
                if due:
                    stop_if_wished(comm)
                    _search_position(comm, position, due, params, output)


def _due(
    position: Searched | None, params: FramesParams, output: OutputParams
) -> dict[str, Inputs]:  # fmt: skip
    assert position is not None  # on the root
    files = schema.ScanFiles(position.wrapper)
    due = tasks_due(files, position, params, overwrite=output.overwrite)
    if not due:
        shutil.rmtree(files.checkpoint(position.name, STEP), ignore_errors=True)
    return due


def _settled(due: dict[str, Inputs], raw: Stack) -> dict[str, Inputs]:
    """Return what results depend on, now that all frames have been written."""
    told = file_input(replace(raw, identity=settled_identity(raw)))
    return {task: {**inputs, "raw": told} for task, inputs in due.items()}


def _search_position(
    comm: MPI.Intracomm, position: Searched | None, due: dict[str, Inputs], params: FramesParams,
    output: OutputParams,
) -> None:  # fmt: skip
    timer, start_time = Timer(), now()
    params = replace(
        params, sums=schema.MAX_TASK in due, peaks=schema.FIND_TASK in due,
        mask=schema.MASK_TASK in due,
    )  # fmt: skip
    told = (position.name, position.raw, position.wrapper) if position else None
    name, raw, wrapper = comm.bcast(told)
    with timer.part("tables"):
        built = kept_on_root(comm, lambda: _tables(position, params))
        tables = _bcast_tables(comm, built[0] if built else None)
    with all_or_none(comm):
        # one batch is worked on while the next is read
        reader = StackReader(raw, None, skip_bad_frames=params.skip_bad_frames, n_rooms=2)
    folder = schema.ScanFiles(wrapper).checkpoint(name, STEP)
    saved = Saved(
        path=folder / f"{comm.rank}-of-{comm.size}",
        key=comm.bcast(fingerprint(due) if comm.rank == 0 else ""),
    )
    result = frames_pass(comm, tables, reader, params, timer, saved)
    reader.close()
    if raw.wait is not None:
        due = on_root(comm, partial(_settled, due, raw))
    with timer.part("gather"):
        gathered = _gather(comm, result)

        def conclude_on_root() -> Found:
            assert position is not None
            assert built is not None
            assert gathered is not None
            return conclude(position, built[1], gathered, params)

        found = kept_on_root(comm, conclude_on_root)
    mask = schema.ScanFiles(wrapper).mask(name)
    written = [mask] if params.mask else []
    with unpublished_removed(comm, written):
        if params.mask:
            attributes = {schema.FINGERPRINT: fingerprint(due[schema.MASK_TASK])}
            with timer.part("write"):
                write_mask(comm, output, temporary(mask), (raw, tables, result), attributes)
        line = f"{name}: {tables.n_frames} frames, {timer.summary(comm)}"

        def publish_all() -> None:
            assert position is not None
            assert found is not None
            assert gathered is not None
            bad = gathered.bad_frames
            note = f"{line}\nFrames that could not be read: {bad}" if bad else line

            def change(file: h5py.File) -> None:
                write_found(file[name], position, found, params)
                for task, inputs in due.items():
                    write_process(file[name], task, inputs, start_time=start_time, note=note)

            publish_results(wrapper, written, change)
            shutil.rmtree(folder, ignore_errors=True)

        on_root(comm, publish_all)
    log.info("frames of %s", line)


def _tables(position: Searched | None, params: FramesParams) -> tuple[FrameTables, I8]:
    assert position is not None  # on the root
    return frame_tables(position, params)


def _bcast_tables(comm: MPI.Intracomm, tables: FrameTables | None) -> FrameTables:
    numbers = comm.bcast((tables.first_frame, tables.n_frames, tables.n_blocks) if tables else None)
    first_frame, n_frames, n_blocks = numbers
    return FrameTables(
        first_frame=first_frame, n_frames=n_frames, n_blocks=n_blocks,
        bad=bcast_array(comm, tables.bad if tables else None),
        blocks=bcast_array(comm, tables.blocks if tables else None),
    )  # fmt: skip


def _gather(comm: MPI.Intracomm, result: PassResult) -> Gathered | None:
    """Return what all ranks found, on the root. Collective on ``comm``."""
    total = sum_arrays(comm, result.total)
    largest = largest_arrays(comm, result.largest)
    rows = comm.gather(
        (
            result.frame_sums, result.block_sums - result.strong_sums, result.strong_pixels,
            np.array(result.peaks, FITTED),
        )
    )  # fmt: skip
    bad_frames = comm.gather(result.bad_frames)
    if rows is None or bad_frames is None:
        return None
    frame_sums, block_sums, strong_pixels, fitted = (
        np.concatenate(parts) for parts in zip(*rows, strict=True)
    )
    return Gathered(
        total=total, largest=largest, frame_sums=frame_sums, block_sums=block_sums,
        strong_pixels=strong_pixels, fitted=fitted,
        bad_frames=sorted(n for some in bad_frames for n in some),
    )  # fmt: skip
