"""Stored chunks of whole frames, read as they are and decompressed here rather than by HDF5."""

from __future__ import annotations

import ctypes
import math
import sys
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import hdf5plugin
import numpy as np

from nxmpi.kernels.bitshuffle import expand, unshuffle

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from nxmpi._typing import Frames

    Bytes = NDArray[np.uint8]
    Decoder = Callable[[Bytes, Frames], None]
    """Fills (n_pixels,) unsigned integers from a chunk, or raises ValueError."""

BITSHUFFLE, LZ4 = 32008, 32004
"""Registered numbers of HDF5 filters."""
NOT_COMPRESSED, WITH_LZ4 = 0, 2
"""What bitshuffle does to its blocks."""
HEADER = 12
"""Bytes before the blocks: those of the pixels as 8 of them, those of a block as 4."""
LARGEST_BLOCK = 2**31 - 1
"""LZ4 counts bytes as int."""


class ChunkReader:
    """Frames of an open dataset whose chunks hold whole frames, and have one filter."""

    def __init__(self, dataset: h5py.Dataset, decode: Decoder) -> None:
        """Not collective."""
        self._dataset = dataset
        self._decode = decode
        self._kept: Frames = np.empty((0, 0), dataset.dtype)
        self._kept_start = -1

    def read(self, first: int, out: Frames) -> dict[int, str]:
        """Read consecutive frames. Not collective.

        Parameters
        ----------
        first : int
        out : (n, n_pixels) integer of the type of the dataset, contiguous
            Written; what is in the rows of bad frames is undefined.

        Returns
        -------
        dict of int to str
            Bad frames, and what is wrong with their chunk.
        """
        length = self._dataset.chunks[0]
        stop = first + len(out)
        bad: dict[int, str] = {}
        for start in range(first // length * length, stop, length):
            a, b = max(first, start), min(stop, start + length)
            try:
                self._read_part(start, a, out[a - first : b - first])
            except (OSError, RuntimeError, ValueError) as error:
                bad |= dict.fromkeys(range(a, b), str(error))
        return bad

    def _read_part(self, start: int, first: int, out: Frames) -> None:
        """Read frames of one chunk; keep the others where only some are wanted."""
        shape = self._dataset.chunks[0], out.shape[1]
        if start != self._kept_start:
            try:
                skipped, stored = self._dataset.id.read_direct_chunk((start, 0, 0))
            except (OSError, RuntimeError):  # nothing is stored where nothing was written
                where = np.s_[first : first + len(out)]
                self._dataset.read_direct(out.reshape(-1, *self._dataset.shape[1:]), where)
                return
            decode = copy if skipped & 1 else self._decode
            chunk = np.frombuffer(stored, np.uint8)
            if out.shape == shape:
                decode(chunk, _pixels(out))
                return
            self._kept_start = -1
            if self._kept.shape != shape:
                self._kept = np.empty(shape, out.dtype)
            decode(chunk, _pixels(self._kept))
            self._kept_start = start
        out[:] = self._kept[first - start :][: len(out)]


def _pixels(frames: Frames) -> Frames:
    return frames.reshape(-1).view(f"u{frames.dtype.itemsize}")


def filters_of(dataset: h5py.Dataset) -> list[tuple[int, int, tuple[int, ...], bytes]]:
    """Return number, flags, options and name of each filter of a dataset. Not collective."""
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(i) for i in range(plist.get_nfilters())]


def is_whole(dataset: h5py.Dataset) -> bool:
    """Return whether all chunks of a dataset are stored. Not collective.

    True for virtual datasets, and those in other files, which do not tell.
    """
    if dataset.is_virtual or dataset.external:
        return True
    if dataset.chunks is None:
        return bool(dataset.id.get_storage_size())
    grid = zip(dataset.shape, dataset.chunks, strict=True)
    return bool(dataset.id.get_num_chunks() == math.prod(-(-n // edge) for n, edge in grid))


def is_stored(dataset: h5py.Dataset, first: int) -> bool:
    """Return whether the chunks of the frames from ``first`` on are stored. Not collective."""
    _, slow, fast = dataset.chunks
    _, n_slow, n_fast = dataset.shape
    return all(
        dataset.id.get_chunk_info_by_coord((first, y, x)).byte_offset is not None
        for y in range(0, n_slow, slow)
        for x in range(0, n_fast, fast)
    )


def unwritten_frames(dataset: h5py.Dataset, first: int, stop: int) -> list[int]:
    """Return which frames of a range have a chunk that is not stored. Not collective."""
    if dataset.chunks is None:
        return [] if is_whole(dataset) else list(range(first, stop))
    length = dataset.chunks[0]
    absent = {
        start
        for start in range(first // length * length, stop, length)
        if not is_stored(dataset, start)
    }
    return [frame for frame in range(first, stop) if frame // length * length in absent]


def find_decoder(dataset: h5py.Dataset) -> Decoder | None:
    """Return what decompresses the chunks of a dataset, None if HDF5 has to. Not collective."""
    if dataset.chunks is None or dataset.chunks[1:] != dataset.shape[1:]:
        return None
    native = h5py.h5t.py_create(dataset.dtype.newbyteorder("="), logical=True)
    if sys.byteorder != "little" or not dataset.id.get_type().equal(native):
        return None
    filters = filters_of(dataset)
    if len(filters) != 1:  # HDF5 is as fast where there is none
        return None
    code, _, options, _ = filters[0]
    if code == LZ4 and lz4_address():
        return expand_lz4
    if code == BITSHUFFLE and len(options) >= 3 and options[2] == dataset.dtype.itemsize:
        block, method = (*options[3:5], 0, 0)[:2]
        if method == WITH_LZ4 and lz4_address():
            return unshuffle_lz4
        if method == NOT_COMPRESSED:
            return partial(unshuffle_blocks, block or _default_block(dataset.dtype.itemsize), 0)
    return None


@cache
def lz4_address() -> int:
    """Return where LZ4_decompress_safe is in memory, 0 if no filter brings it. Not collective."""
    folder = Path(hdf5plugin.PLUGIN_PATH)
    for file in (*folder.glob("libh5bshuf*"), *folder.glob("libh5lz4*")):
        try:
            function = ctypes.CDLL(str(file)).LZ4_decompress_safe
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def copy(chunk: Bytes, out: Frames) -> None:
    """Take a chunk that was stored without its filter."""
    if chunk.size != out.nbytes:
        raise ValueError(f"a chunk of {chunk.size} bytes, not {out.nbytes}")
    out.view(np.uint8)[:] = chunk


def expand_lz4(chunk: Bytes, out: Frames) -> None:
    """Undo the filter LZ4."""
    block = _block(chunk, out)
    _require_all(expand(chunk[HEADER:], block, lz4_address(), out.view(np.uint8)), out.nbytes)


def unshuffle_lz4(chunk: Bytes, out: Frames) -> None:
    """Undo the filter bitshuffle where it compressed with LZ4."""
    block = _block(chunk, out) // out.itemsize
    unshuffle_blocks(block, lz4_address(), chunk[HEADER:], out)


def unshuffle_blocks(block: int, lz4: int, chunk: Bytes, out: Frames) -> None:
    """Undo bitshuffle in blocks of so many elements, compressed or (where lz4 is 0) not."""
    if block < 8 or block % 8:
        raise ValueError(f"a chunk in blocks of {block} pixels, not of a multiple of 8")
    block = min(block, max(8, out.size // 8 * 8))
    planes, room = np.empty(block * out.itemsize, np.uint8), np.empty(block, np.uint8)
    _require_all(unshuffle(chunk, block, lz4, planes, room, out), out.size)


def _block(chunk: Bytes, out: Frames) -> int:
    """Return the bytes of a block according to the header, which is checked."""
    if chunk.size < HEADER:
        raise ValueError(f"a chunk of {chunk.size} bytes, shorter than its header")
    size, block = (int.from_bytes(part) for part in (chunk[:8].tobytes(), chunk[8:12].tobytes()))
    if size != out.nbytes:
        raise ValueError(f"a chunk whose header tells of {size} bytes, not {out.nbytes}")
    if not 0 < block <= LARGEST_BLOCK:
        raise ValueError(f"a chunk whose header tells of blocks of {block} bytes")
    return block


def _default_block(itemsize: int) -> int:
    """Return the elements of a block where the filter was not told: 8 kiB in multiples of 8."""
    return max(8192 // itemsize // 8 * 8, 128)


def _require_all(done: int, wanted: int) -> None:
    if done != wanted:
        raise ValueError(f"a chunk that cannot be decompressed after {done / wanted:.1%} of it")
