"""How much of each frame the 3-D mask excludes; only some tens of large frames are read."""

from dataclasses import dataclass

import h5py
import numpy as np

from nxmpi._typing import F8, I8
from nxmpi.nexus import schema

MOST_PIXELS = 2**27
"""Read of the mask of a position."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedParts:
    """Masked part of those frames for which it is known, in their order."""

    frames: I8
    """(n,) numbers."""
    percent: F8
    """(n,) of all pixels [%]."""
    n_frames: int
    """Of the position."""
    used: range
    """Frames that are used; the others are masked as a whole."""

    @property
    def is_complete(self) -> bool:
        """Whether all frames that are used are known."""
        return len(self.frames) == len(self.used)

    @property
    def most(self) -> tuple[int, float]:
        """The frame of which most is masked, and how much [%]; where nothing is, the middle one."""
        i = int(self.percent.argmax()) if self.percent.any() else len(self.frames) // 2
        return int(self.frames[i]), float(self.percent[i])


def used_frames(entry: h5py.Group, n_frames: int) -> range:
    """Return the frames that the frames step used, all where nothing is said. Not collective."""
    attributes = entry[schema.DATA].attrs
    first = max(int(attributes.get(schema.FIRST_USED, 0)), 0)
    last = min(int(attributes.get(schema.LAST_USED, n_frames - 1)), n_frames - 1)
    return range(first, last + 1) if first <= last else range(n_frames)


def masked_parts(mask: h5py.Dataset, used: range) -> MaskedParts:
    """Return how much of the frames is masked. Not collective.

    Frames that were never written have nothing masked and are not read. Where there are too many
    others, some are read at equal distances, and some that fill most of the file.

    Parameters
    ----------
    mask : (n_frames, n_slow, n_fast) int
        Not 0 = excluded.
    used : range
        Frames to look at.
    """
    length = mask.chunks[0] if mask.chunks else 1
    stored = _stored_bytes(mask, length)
    known = np.full(mask.shape[0], np.nan)
    known[np.repeat(stored == 0, length)[: mask.shape[0]]] = 0.0
    n_pixels = mask.shape[1] * mask.shape[2]
    for part in _choose(stored, used, length, max(4, MOST_PIXELS // (length * n_pixels))):
        block = mask[part * length : (part + 1) * length]
        counts = np.count_nonzero(block.reshape(len(block), -1), axis=1)
        known[part * length : part * length + len(block)] = 100 * counts / n_pixels
    frames = np.array(used, np.int64)
    frames = frames[np.isfinite(known[frames])]
    return MaskedParts(frames=frames, percent=known[frames], n_frames=mask.shape[0], used=used)


def _stored_bytes(mask: h5py.Dataset, length: int) -> I8:
    """Return what each run of so many frames takes in the file, 1 where that is not known."""
    stored = np.ones(-(-mask.shape[0] // length), np.int64)
    if mask.chunks is None or mask.chunks[1:] != mask.shape[1:] or mask.fillvalue:
        return stored
    stored[:] = 0
    for i in range(mask.id.get_num_chunks()):
        chunk = mask.id.get_chunk_info(i)
        stored[chunk.chunk_offset[0] // length] = chunk.size
    return stored


def _choose(stored: I8, used: range, length: int, n: int) -> list[int]:
    """Return the runs of frames to read, at most n."""
    runs = np.arange(used.start // length, (used.stop - 1) // length + 1)
    runs = runs[stored[runs] > 0]
    if len(runs) <= n:
        return [int(i) for i in runs]
    even = runs[np.linspace(0, len(runs) - 1, n - n // 4).astype(int)]
    largest = runs[np.argsort(-stored[runs], kind="stable")[: n // 4]]
    return [int(i) for i in np.union1d(even, largest)]
