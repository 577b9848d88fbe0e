"""One file written by many ranks: through parallel HDF5, or by the root for all."""

from __future__ import annotations

import logging
import re
import resource
import shutil
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import hdf5plugin
import numpy as np
from rich.filesize import decimal

from nxmpi.errors import CollectiveError, NxmpiError
from nxmpi.parallel.collective import all_or_none, at_abort, or_abort
from nxmpi.parallel.publish import remove_quietly
from nxmpi.parallel.traffic import count_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi.params import Compression

log = logging.getLogger(__name__)

Slab = tuple[slice, ...]
Chunks = dict[str, list[tuple[int, int, int]]]
DIRTY_BYTES = 32 * 2**20
"""Changed metadata that HDF5 keeps back, its largest. Beyond the default of 256 KiB HDF5 1.10
writes metadata in the middle of a collective write of chunks, by the data's own MPI types, and
crashes."""
ROUNDS_TO_FLUSH = 64
"""After so many rounds metadata is written, between two writes."""
_abandoned: dict[int, h5py.File | h5py.Dataset] = {}
"""What could not be written, kept open: HDF5 1.10 crashes when it is to close such a file."""


def has_parallel_hdf5() -> bool:
    """Return whether h5py was built with MPI."""
    return bool(h5py.get_config().mpi)


def must_not_end_in_order() -> bool:
    """Return whether HDF5 would crash when the process ends in order. Not collective."""
    return bool(_abandoned)


def filters(compression: Compression) -> dict[str, Any]:
    """Return the arguments of ``create_dataset`` for a kind of compression."""
    if compression == "bitshuffle-lz4":
        return dict(hdf5plugin.Bitshuffle(cname="lz4"))
    if compression == "gzip":
        return {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    return {}


class Output:
    """A file that all ranks write, slab by slab; see `create_file`."""

    def __init__(self, comm: MPI.Intracomm, file: h5py.File | None, *, parallel: bool) -> None:
        self.comm = comm
        self.file = file
        """The open file; None on ranks that only send what they have."""
        self.parallel = parallel
        self.rounds = 0

    def write_round(self, pieces: Mapping[str, tuple[Slab, NDArray[Any]]]) -> None:
        """Write at most one slab of each dataset per rank.

        Collective on the output's communicator. All ranks name the same datasets in the same
        order; a rank without a slab gives one of no extent.

        Parameters
        ----------
        pieces : mapping of dataset's path to (slices, array)
            Arrays have the dataset's dtype.
        """
        for path, (slab, data) in pieces.items():
            if self.parallel:
                assert self.file is not None
                _write_collectively(self.file[path], slab, data)
            else:
                self._write_by_root(path, slab, data)
        self.rounds += 1
        if self.parallel and self.rounds % ROUNDS_TO_FLUSH == 0:
            assert self.file is not None
            self.file.flush()

    def _write_by_root(self, path: str, slab: Slab, data: NDArray[Any]) -> None:
        slabs = self.comm.gather(slab if data.size else None)
        if self.file is None or slabs is None:
            if data.size:
                self.comm.Send(np.ascontiguousarray(data).view(np.uint8), dest=0)
                count_sent(data.nbytes, "written")
            with all_or_none(self.comm):  # hears whether the root could write
                pass
            return
        dataset = _held(self.file[path])
        error: Exception | None = None
        for source, where in enumerate(slabs):
            if where is None:
                continue
            if source:
                part = np.empty([s.stop - s.start for s in where], dataset.dtype)
                self.comm.Recv(part.view(np.uint8), source=source)
            else:
                part = data
            try:
                if error is None:
                    dataset[where] = part
            except (OSError, RuntimeError) as caught:  # the others' slabs are still to be received
                error = caught
        with all_or_none(self.comm), _named(Path(self.file.filename)):
            if error is not None:
                raise error
            _release(dataset)


def _write_collectively(dataset: h5py.Dataset, slab: Slab, data: NDArray[Any]) -> None:
    space = dataset.id.get_space()
    if data.size:
        space.select_hyperslab(tuple(s.start for s in slab), data.shape)
        memory = h5py.h5s.create_simple(data.shape)
    else:
        space.select_none()
        memory = h5py.h5s.create_simple((1,) * dataset.ndim)
        memory.select_none()
        data = np.empty((1,) * dataset.ndim, dataset.dtype)
    plist = h5py.h5p.create(h5py.h5p.DATASET_XFER)
    plist.set_dxpl_mpio(h5py.h5fd.MPIO_COLLECTIVE)
    dataset.id.write(memory, space, np.ascontiguousarray(data), dxpl=plist)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say in few words which file could not be written, and why. Not collective."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # HDF5 puts what the system said into the middle of a long text
        said = re.search(r"error message = '([^']*)'", str(error))
        free = shutil.disk_usage(path.parent).free
        reason = said[1] if said else f"{error}; {decimal(free)} are free there"
        raise NxmpiError(f"{path}: cannot be written: {reason}") from error


@cache
def _say_that_the_root_writes() -> None:
    log.info("h5py is without parallel HDF5: the root writes what the others send")


@contextmanager
def create_file(
    comm: MPI.Intracomm, path: Path, create: Callable[[h5py.File], None], chunks: Chunks,
    *, root_writes: bool, like: Path | None = None,
) -> Iterator[Output]:  # fmt: skip
    """Create a file that all ranks write together, and close it.

    Collective on ``comm``. The root creates datasets and attributes by itself, and makes room
    for the chunks that any rank is going to write: parallel HDF5 1.10 would make room for all
    chunks of a dataset, or hang at one that has none. A failure ends the run on all ranks with
    one message, and the file is removed.

    Parameters
    ----------
    path : Path
        A temporary name; see `nxmpi.parallel.publish`.
    create : callable
        Creates groups, datasets and attributes in the open file; called on the root only.
    chunks : mapping of dataset's path to list of (int, ...)
        First elements of the chunks that this rank will write.
    root_writes : bool
        Let the root write what the others send, even with parallel HDF5.
    like : Path, optional
        File of which a copy is added to, instead of an empty one.
    """
    everyone = comm.gather(chunks)
    parallel = has_parallel_hdf5() and not root_writes
    handle = None
    with at_abort(lambda: remove_quietly(path)):
        try:
            with all_or_none(comm), _named(path):
                if everyone is not None:  # on the root
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.unlink(missing_ok=True)  # an old one may belong to somebody else
                    if like is not None:
                        shutil.copy(like, path)
                    handle = h5py.File(path, "w" if like is None else "r+")
                    create(handle)
                    if parallel:
                        _make_room(handle, everyone)
                        _close(handle)
            if parallel:
                _check_file_size_limits(comm, path)
            with or_abort(comm, path), _named(path):
                if parallel:
                    with _open_by_all(comm, path) as file:
                        yield Output(comm, file, parallel=True)
                    return
                if comm.size > 1 and not root_writes:
                    _say_that_the_root_writes()
                yield Output(comm, handle, parallel=False)
                with all_or_none(comm), _named(path):
                    if handle is not None:
                        _close(handle)
        except BaseException:
            if comm.rank == 0:
                if handle is not None:
                    _close_quietly(handle)
                remove_quietly(path)
            raise


def _make_room(file: h5py.File, everyone: list[Chunks]) -> None:
    for chunks in everyone:
        for path, offsets in chunks.items():
            dataset = _held(file[path])
            empty = None
            for offset in offsets:
                if empty is None:  # compressed once, by writing one chunk of the fill value
                    corner = tuple(slice(start, start + 1) for start in offset)
                    dataset[corner] = dataset.fillvalue
                    file.flush()
                    empty = dataset.id.read_direct_chunk(offset)
                dataset.id.write_direct_chunk(offset, empty[1], empty[0])
            _release(dataset)


def _check_file_size_limits(comm: MPI.Intracomm, path: Path) -> None:
    """Refuse a file that some rank may not write in full as it is now. Collective on ``comm``.

    All metadata lies there, since room was made for every chunk; each rank writes some of it.
    Where that fails on one rank, HDF5 1.10 goes on to another collective on it than on the
    others, and hangs. The data comes behind it, and failures of that are heard of.
    """
    size = comm.bcast(path.stat().st_size if comm.rank == 0 else None)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    with all_or_none(comm):
        if limit != resource.RLIM_INFINITY and limit < size:
            raise NxmpiError(
                f"{path}: cannot be written: expected to be allowed {size} bytes at least, "
                f"found a limit of {limit} (ulimit -f)"
            )


@contextmanager
def _open_by_all(comm: MPI.Intracomm, path: Path) -> Iterator[h5py.File]:
    file = h5py.File(path, "r+", driver="mpio", comm=comm)
    config = file.id.get_mdc_config()
    config.dirty_bytes_threshold = DIRTY_BYTES
    file.id.set_mdc_config(config)
    _abandoned[id(file)] = file  # after a failure on one rank: closing waits for the others
    try:
        yield file
    except CollectiveError:  # of all ranks, which close it together
        _close(file)
        raise
    _close(file)


@contextmanager
def edited(path: Path, *, anew: bool = False) -> Iterator[h5py.File]:
    """Open a file to be changed, or made ``anew``, and close it. Not collective.

    Raises
    ------
    NxmpiError
        If it cannot be written; it stays open then.
    """
    with _named(path):
        # without a cache of chunks none is left to fail when its dataset is closed
        file = h5py.File(path, "w", rdcc_nbytes=0) if anew else h5py.File(path, "r+")
    try:
        with _named(path):
            yield file
            _close(file)
    except BaseException:
        _close_quietly(file)
        raise


def _close(file: h5py.File) -> None:
    """Close a file; if it cannot be written, leave it open for good: closing would crash."""
    _abandoned[id(file)] = file
    file.flush()
    file.close()
    del _abandoned[id(file)]


def _held(dataset: h5py.Dataset) -> h5py.Dataset:
    """Keep a dataset open until it is released: of a failure on the way h5py would tell too."""
    _abandoned[id(dataset)] = dataset
    return dataset


def _release(dataset: h5py.Dataset) -> None:
    """Close a dataset that was held; raises where h5py would only tell that something was lost."""
    h5py.h5i.dec_ref(dataset.id)
    del _abandoned[id(dataset)]


def _close_quietly(file: h5py.File) -> None:
    try:
        if file:
            _close(file)
    except (OSError, RuntimeError):
        log.debug("%s stays open after a failure", file.filename, exc_info=True)
