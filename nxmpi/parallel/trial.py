"""A trial of writing a file together, before anything depends on it."""

from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING

import h5py
import numpy as np
from mpi4py import MPI

from nxmpi.errors import InputError
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.h5 import create_file, filters

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi._typing import I4

TRIAL_SHAPE = (40, 64, 1024)
"""Of int32: 10 MB; chunks are planes."""


def write_trial(comm: MPI.Intracomm, directory: Path, *, root_writes: bool = False) -> float:
    """Write 10 MB together as results are written, read them back, and remove them.

    Collective on ``comm``. Every rank verifies its own part and that of the next rank, which
    finds folders that are not the same on all nodes.

    Parameters
    ----------
    directory : Path
        Must be there.
    root_writes : bool
        Let the root write what the others send, even with parallel HDF5.

    Returns
    -------
    float
        Of the slowest rank [s].

    Raises
    ------
    CollectiveError
        On every rank, if any finds another value than was written.
    """
    with all_or_none(comm):
        if not directory.is_dir() or not os.access(directory, os.W_OK):
            raise InputError(f"{directory}: expected a folder that can be written")
    path = on_root(comm, lambda: directory / f".nxmpi-check-{uuid.uuid4().hex}.h5")
    start = time.monotonic()
    try:
        _write(comm, path, root_writes=root_writes)
        with all_or_none(comm):
            _verify(path, comm.size, {comm.rank, (comm.rank + 1) % comm.size})
    finally:
        if comm.rank == 0:
            path.unlink(missing_ok=True)
    return float(comm.allreduce(time.monotonic() - start, op=MPI.MAX))


def _write(comm: MPI.Intracomm, path: Path, *, root_writes: bool) -> None:
    first, last = block_range(TRIAL_SHAPE[0], comm.size, comm.rank)
    planes = {"trial": [(n, 0, 0) for n in range(first, last)]}
    with create_file(comm, path, _create, planes, root_writes=root_writes) as output:
        slab = (slice(first, last), *(slice(0, n) for n in TRIAL_SHAPE[1:]))
        output.write_round({"trial": (slab, _values(first, last))})


def _create(file: h5py.File) -> None:
    file.create_dataset(
        "trial", shape=TRIAL_SHAPE, dtype=np.int32, chunks=(1, *TRIAL_SHAPE[1:]),
        **filters("bitshuffle-lz4"),
    )  # fmt: skip


def _verify(path: Path, size: int, ranks: set[int]) -> None:
    with h5py.File(path, "r") as file:
        for rank in sorted(ranks):
            first, last = block_range(TRIAL_SHAPE[0], size, rank)
            if not np.array_equal(file["trial"][first:last], _values(first, last)):
                raise InputError(
                    f"{path.parent}: expected what rank {rank} wrote, found something else; "
                    "is this folder the same on all nodes?"
                )


def _values(first: int, last: int) -> I4:
    plane = TRIAL_SHAPE[1] * TRIAL_SHAPE[2]
    return np.arange(first * plane, last * plane, dtype=np.int32).reshape(-1, *TRIAL_SHAPE[1:])
