"""Raw frames and their 3-D mask: read-only, by each rank for itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np

from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, location, open_file, require

if TYPE_CHECKING:
    from nxmpi._typing import I8, Frames, Mask

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
    status = target.stat()
    return Stack(
        file=target,
        path=dataset.name,
        shape=dataset.shape,
        dtype=dataset.dtype.str,
        chunk_frames=dataset.chunks[0] if dataset.chunks else 1,
        identity=(status.st_size, status.st_mtime_ns),
    )


def _require_filters(dataset: h5py.Dataset) -> None:
    plist = dataset.id.get_create_plist()
    for i in range(plist.get_nfilters()):
        code, _, _, name = plist.get_filter(i)
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
        If the mask has another shape than the frames.
    """
    path = f"{schema.DETECTOR}/{schema.PIXEL_MASK}"
    dataset = find(entry, path)
    if dataset is None:
        return np.zeros(shape, bool)
    if dataset.shape != shape:
        raise SchemaError(
            entry.file.filename, location(entry, path),
            f"the shape of the frames, {shape}", f"{dataset.shape}",
        )  # fmt: skip
    return np.asarray(dataset[()] != 0)


class StackReader:
    """Open raw frames, and their 3-D mask where there is one."""

    def __init__(self, raw: Stack, mask: Stack | None, *, skip_bad_frames: bool) -> None:
        """Open the files. Not collective.

        Raises
        ------
        InputError
            If a file cannot be opened on this node.
        """
        self.skip_bad_frames = skip_bad_frames
        self.dtype = np.dtype(raw.dtype).newbyteorder("=")
        self.chunk_frames = raw.chunk_frames
        self.masked = mask is not None
        self._raw = _open(raw)
        self._mask = _open(mask) if mask else None

    def read(self, frames: I8) -> tuple[Frames, Frames, I8]:
        """Return frames of consecutive numbers. Not collective.

        Parameters
        ----------
        frames : (n,) int64

        Returns
        -------
        data : (m, n_pixels) integer
            Those that could be read, and their mask too.
        excluded : (m, n_pixels) int8 or (0, 0)
            Their 3-D mask.
        bad : (n - m,) int64
            Numbers of those that could not.

        Raises
        ------
        InputError
            If a frame cannot be read and bad frames are not to be skipped.
        """
        where = slice(int(frames[0]), int(frames[-1]) + 1)
        bad = np.empty(0, np.int64)
        excluded: Frames = np.empty((0, 0), np.int8)
        try:
            data = self._raw[where]
            if self._mask is not None:
                excluded = self._mask[where]
        except (OSError, RuntimeError):
            data, excluded, bad = self._read_one_by_one(frames)
        data = data.astype(self.dtype, copy=False).reshape(data.shape[0], -1)
        if self._mask is not None:
            excluded = excluded if excluded.dtype == np.int8 else excluded != 0
            excluded = excluded.astype(np.int8, copy=False).reshape(data.shape)
        return data, excluded, bad

    def _read_one_by_one(self, frames: I8) -> tuple[Frames, Frames, I8]:
        stacks = [self._raw] if self._mask is None else [self._raw, self._mask]
        parts: list[list[Frames]] = [[] for _ in stacks]
        bad = []
        for frame in frames:
            read = [self._read_frame(stack, int(frame)) for stack in stacks]
            readable = [part for part in read if part is not None]
            if len(readable) < len(stacks):
                bad.append(frame)
                continue
            for kept, part in zip(parts, readable, strict=True):
                kept.append(part)
        arrays = [
            np.array(kept, stack.dtype).reshape(len(kept), *stack.shape[1:])
            for kept, stack in zip(parts, stacks, strict=True)
        ]
        excluded = arrays[1] if self._mask is not None else np.empty((0, 0), np.int8)
        return arrays[0], excluded, np.array(bad, np.int64)

    def _read_frame(self, stack: h5py.Dataset, frame: int) -> Frames | None:
        try:
            return np.asarray(stack[frame])
        except (OSError, RuntimeError) as error:
            if self.skip_bad_frames:
                return None
            raise InputError(
                f"{stack.file.filename}:{stack.name}: expected frame {frame} to be readable, "
                f"found: {error} (--skip-bad-frames goes on without it)"
            ) from error

    def close(self) -> None:
        """Close the files."""
        self._raw.file.close()
        if self._mask is not None:
            self._mask.file.close()


def _open(stack: Stack) -> h5py.Dataset:
    cache = CHUNK_CACHE if stack.chunk_frames > 1 else 2**20
    try:
        return h5py.File(stack.file, "r", rdcc_nbytes=cache)[stack.path]
    except (OSError, KeyError) as error:
        raise InputError(f"{stack.file}:{stack.path}: cannot be opened: {error}") from error
