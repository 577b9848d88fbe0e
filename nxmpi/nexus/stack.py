"""Where raw frames and masks are, whatever links lead there; read-only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import hdf5plugin  # noqa: F401 - brings the filters

from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.chunks import filters_of
from nxmpi.nexus.growing import (
    announced_frames,
    followed_link,
    require_growing,
    until_seen,
)
from nxmpi.nexus.values import identity_of, location, open_file, read_flags, require

if TYPE_CHECKING:
    from collections.abc import Callable

    from nxmpi._typing import Mask

CHUNK_CACHE = 256 * 2**20
"""For files whose chunks hold many frames: a chunk is decompressed once [bytes]."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A dataset (frame, slow, fast) that ranks open for themselves."""

    file: Path
    path: str
    shape: tuple[int, int, int]
    dtype: str
    chunk_frames: int
    """Frames stored together; 1 if they are not chunked."""
    identity: tuple[int, int]
    """Size and time of change of the file [bytes, ns]."""
    wait: float | None = None
    """How long to wait for a frame that is still to be written [s]; None for a finished file."""


def never() -> bool:
    """Return False: something goes on to its end."""
    return False


def follow_stack(entry: h5py.Group, limit: float, is_over: Callable[[], bool] = never) -> Stack:
    """Return where the raw frames of an entry are going to be, once the first can be read.

    Not collective. Has the number of frames that the entry announces.

    Parameters
    ----------
    limit : float
        How long to wait for a frame [s].
    is_over : function
        Asked meanwhile whether there is nothing to wait for any more.

    Raises
    ------
    EndedError
        If there is not.
    InputError
        If there is nothing to be read after that time, the number is not announced, or the file
        does not tell which frames have been written.
    """
    n_frames = announced_frames(entry)
    file, path = followed_link(entry, schema.RAW)

    def look(dataset: h5py.Dataset, settled: bool) -> Stack:
        require_growing(dataset)
        _require_filters(dataset)
        return Stack(
            file=file,
            path=path,
            shape=(n_frames, *dataset.shape[1:]),
            dtype=dataset.dtype.str,
            chunk_frames=dataset.chunks[0],
            identity=identity_of(file),
            wait=limit,
        )

    stack = until_seen(file, path, limit, look, is_over)
    if stack is None:
        raise InputError(
            f"{file}:{path}: expected frames to be written, found none after {limit:g} s without "
            "a change of the file (--follow-timeout)"
        )
    return stack


def find_stack(entry: h5py.Group, path: str = schema.RAW) -> Stack:
    """Return where the raw frames, or another stack, of an entry are. Not collective.

    Raises
    ------
    SchemaError
        If the link is broken, the data are not three-dimensional or not of an integer type,
        a filter is not installed, or a source of a virtual dataset is missing.
    """
    dataset = require(entry, path, "raw frames")
    file, where = entry.file.filename, location(entry, path)
    if not isinstance(dataset, h5py.Dataset):
        raise SchemaError(file, where, "raw frames", "a group")
    if dataset.ndim != 3:
        raise SchemaError(
            file, where, "3 dimensions (frame, y, x)", f"{dataset.ndim}: shape {dataset.shape}"
        )
    if dataset.dtype.kind not in "iu" and dataset.dtype != bool:
        raise SchemaError(file, where, "integer counts", f"{dataset.dtype}")
    _require_filters(dataset)
    if dataset.is_virtual:
        _require_sources(dataset)
    target = Path(dataset.file.filename)
    return Stack(
        file=target,
        path=dataset.name,
        shape=dataset.shape,
        dtype=dataset.dtype.str,
        chunk_frames=dataset.chunks[0] if dataset.chunks else 1,
        identity=identity_of(target),
    )


def _require_filters(dataset: h5py.Dataset) -> None:
    for code, _, _, name in filters_of(dataset):
        if not h5py.h5z.filter_avail(code):
            label = name.decode(errors="replace") or "without a name"
            raise SchemaError(
                dataset.file.filename, dataset.name,
                "a compression filter that is installed", f"filter {code} ({label}), which is not",
            )  # fmt: skip


def _require_sources(dataset: h5py.Dataset) -> None:
    """Look into the sources of a virtual dataset: one that is missing would be read as zeros."""
    folder = Path(dataset.file.filename).parent
    expected = f"a source of {dataset.file.filename}:{dataset.name}"
    for file_name, path in {(s.file_name, s.dset_name) for s in dataset.virtual_sources()}:
        if file_name in {".", ""}:
            _require_source(dataset.file, path, expected)
        elif "%b" not in file_name:  # which stands for as many numbered files as there are
            with open_file(folder / file_name) as file:
                _require_source(file, path, expected)


def _require_source(file: h5py.File, path: str, expected: str) -> None:
    source = require(file, path, expected)
    _require_filters(source)
    if source.is_virtual:
        _require_sources(source)


def read_pixel_mask(entry: h5py.Group, shape: tuple[int, int]) -> Mask:
    """Return True for the pixels to exclude; none where there is no mask. Not collective.

    Raises
    ------
    SchemaError
        If the mask has another shape than the frames, or a link leads nowhere.
    """
    return read_flags(entry, f"{schema.DETECTOR}/{schema.PIXEL_MASK}", shape)


def open_stack(stack: Stack) -> h5py.Dataset:
    """Open the file of a finished stack. Not collective.

    Raises
    ------
    InputError
        If it cannot be opened.
    """
    cache = CHUNK_CACHE if stack.chunk_frames > 1 else 2**20
    try:
        return h5py.File(stack.file, "r", rdcc_nbytes=cache)[stack.path]
    except (OSError, KeyError) as error:
        raise InputError(f"{stack.file}:{stack.path}: cannot be opened: {error}") from error
