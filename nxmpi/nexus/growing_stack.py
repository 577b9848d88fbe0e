"""Raw frames read while they are being written."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from nxmpi.errors import InputError
from nxmpi.nexus.chunks import ChunkReader, find_decoder
from nxmpi.nexus.growing import (
    CLOSING_TIME,
    PAUSE,
    is_closed,
    missing_frames,
    opened,
    until_seen,
)
from nxmpi.nexus.values import identity_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import h5py

    from nxmpi._typing import Frames
    from nxmpi.nexus.stack import Stack

log = logging.getLogger(__name__)


class GrowingStack:
    """Frames that are read when they are there. The file is opened anew each time."""

    def __init__(self, stack: Stack, is_over: Callable[[], bool]) -> None:
        self.stack, self.is_over = stack, is_over
        self.dtype = np.dtype(stack.dtype).newbyteorder("=")
        self.n_pixels = stack.shape[1] * stack.shape[2]

    def read(self, first: int, out: Frames) -> dict[int, str]:
        """Fill ``out``, (n, n_pixels) of ``dtype``, waiting for frames; return bad ones, and why.

        Not collective.

        Raises
        ------
        EndedError
            If there is nothing to wait for any more.
        InputError
            If the file does not change for a time; says which frames are missing.
        """
        stack, limit = self.stack, self.stack.wait or 0.0
        stop, n = first + len(out), stack.shape[0]

        def look(dataset: h5py.Dataset, settled: bool) -> dict[int, str] | None:
            missing = missing_frames(dataset, first, stop, n, settled=settled)
            return None if missing else _fill(dataset, first, out)

        bad = until_seen(stack.file, stack.path, limit, look, self.is_over)
        if bad is None:
            self._give_up(limit)
        return bad

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _give_up(self, limit: float) -> NoReturn:
        n, where = self.stack.shape[0], f"{self.stack.file}:{self.stack.path}"
        with opened(self.stack.file, self.stack.path) as dataset:
            if dataset is None:
                raise InputError(
                    f"{where}: expected {n} frames, found a file that is gone, or that a writer "
                    f"without SWMR has open, after {limit:g} s without a change (--follow-timeout)"
                )
            settled = not dataset.file.swmr_mode
            absent = missing_frames(dataset, 0, n, n, settled=settled)
        raise InputError(
            f"{where}: expected {n} frames, found {n - len(absent)} after {limit:g} s without a "
            f"new one; missing are {_ranges(absent)} (--follow-timeout)"
        )


def settled_identity(stack: Stack) -> tuple[int, int]:
    """Return size and time of change of a file whose frames are all there. Not collective.

    Waits for a while until its writer has closed it.
    """
    deadline = time.monotonic() + min(CLOSING_TIME, stack.wait or 0.0)
    while not is_closed(stack.file):
        if time.monotonic() > deadline:
            log.warning(
                "%s: still open by its writer: it will count as changed when it is closed",
                stack.file,
            )
            break
        time.sleep(PAUSE)
    return identity_of(stack.file)


def _fill(dataset: h5py.Dataset, first: int, out: Frames) -> dict[int, str]:
    """Read frames that are there; return bad ones, and why."""
    decode = find_decoder(dataset)
    if decode is not None:
        return ChunkReader(dataset, decode).read(first, out)
    bad = {}
    for i, row in enumerate(out):
        try:
            dataset.read_direct(row.reshape(dataset.shape[1:]), np.s_[first + i])
        except (OSError, RuntimeError) as error:
            bad[first + i] = str(error)
    return bad


def _ranges(numbers: list[int]) -> str:
    """Return numbers such as ``3, 7 to 9``, the first few runs of them."""
    array = np.array(numbers)
    runs = [run for run in np.split(array, np.flatnonzero(np.diff(array) > 1) + 1) if run.size]
    told = [f"{r[0]}" if r.size == 1 else f"{r[0]} to {r[-1]}" for r in runs[:5]]
    return ", ".join([*told, *(["…"] if len(runs) > 5 else [])]) or "none"
