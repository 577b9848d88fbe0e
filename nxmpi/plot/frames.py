"""Frames as they are shown: without pixels that say nothing, and no finer than a figure."""

from dataclasses import dataclass

import h5py
import numpy as np

from nxmpi._typing import F8, Frames, Mask
from nxmpi.nexus import schema
from nxmpi.nexus.stack import find_stack, read_pixel_mask
from nxmpi.nexus.sums import read_faults
from nxmpi.nexus.values import find, read_array, read_number

N_SUMMED = 100
"""Frames summed where no sum is in the file."""
LONGEST_SIDE = 600
"""Pixels are averaged in square blocks to have no more [pixels]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A frame, or a sum of some."""

    values: F8
    """(n_slow, n_fast) in blocks of pixels, NaN where all are excluded [counts per pixel]."""
    block: int
    """Side of a block [pixels]."""
    beam_center: tuple[float, float] | None
    """(x, y) from the outer corner of pixel 0 [pixels]."""
    title: str
    masked: F8 | None = None
    """(n_slow, n_fast) in blocks, part that the 3-D mask excludes, to be drawn over it [1]."""


def raw_frames(entry: h5py.Group) -> h5py.Dataset | None:
    """Return the raw frames of a position, None where the link to them leads nowhere.

    Not collective.

    Raises
    ------
    SchemaError
        If they are there but cannot be used, as where a filter is not installed.
    """
    if find(entry, schema.RAW) is None or find_stack(entry).shape[0] == 0:
        return None
    return entry[schema.RAW]


def middle_frame(entry: h5py.Group, raw: h5py.Dataset, *, masked: bool) -> Picture:
    """Return the middle frame of a position. Not collective.

    Parameters
    ----------
    raw : (n_frames, n_slow, n_fast) int
    masked : bool
        Leave out what the 3-D mask excludes as well.
    """
    number = raw.shape[0] // 2
    frame = raw[number]
    bad = _excluded(entry, frame.shape) | is_unusable(frame)
    mask = find(entry, schema.DATA_MASK)
    if masked and isinstance(mask, h5py.Dataset) and mask.shape == raw.shape:
        bad |= mask[number] != 0
    values = np.where(bad, np.nan, frame)
    return _picture(entry, values, f"Frame {number} of {raw.shape[0]}")


def masked_frame(
    entry: h5py.Group, raw: h5py.Dataset, mask: h5py.Dataset, number: int, title: str
) -> Picture:
    """Return a frame and what the 3-D mask excludes of it. Not collective.

    Parameters
    ----------
    raw, mask : (n_frames, n_slow, n_fast) int
    number : int
        Of the frame.
    """
    frame = raw[number]
    values = np.where(_excluded(entry, frame.shape) | is_unusable(frame), np.nan, frame)
    return _picture(entry, values, title, mask[number] != 0)


def summed_frame(entry: h5py.Group, raw: h5py.Dataset | None) -> Picture | None:
    """Return the stored sum of all frames, else the sum of some of them. Not collective.

    Parameters
    ----------
    raw : (n_frames, n_slow, n_fast) int, or None

    Returns
    -------
    Picture or None
        None where there is neither.
    """
    for path in schema.FRAME_SUMS:
        total = read_array(entry, path)
        if total is not None and total.ndim == 2:
            bad = _excluded(entry, total.shape) | is_unusable(total)
            return _picture(entry, np.where(bad, np.nan, total), "Sum of all frames (stored)")
    if raw is None:
        return None
    n_frames = raw.shape[0]
    chosen = np.unique(np.linspace(0, n_frames - 1, min(N_SUMMED, n_frames)).astype(int))
    total, seen = np.zeros(raw.shape[1:]), np.zeros(raw.shape[1:], dtype=bool)
    for number in chosen:
        frame = raw[number]
        good = ~is_unusable(frame)
        np.add(total, frame, out=total, where=good)
        seen |= good
    values = np.where(seen & ~_excluded(entry, total.shape), total, np.nan)
    which = f"all {n_frames}" if len(chosen) == n_frames else f"{len(chosen)} of {n_frames}"
    return _picture(entry, values, f"Sum of {which} frames")


def is_unusable(frame: Frames) -> Mask:
    """Return True for values that are no counts: negative, all bits set, or no number."""
    if frame.dtype.kind == "u":
        return np.asarray(frame == np.iinfo(frame.dtype).max)
    return np.asarray((frame < 0) | ~np.isfinite(frame))


def average_blocks(values: F8, block: int) -> F8:
    """Return the mean of the finite values in each square block, NaN where there is none.

    Parameters
    ----------
    values : (n_slow, n_fast) float64
    block : int
        Side; incomplete blocks at the end are averaged over what they have [pixels].

    Returns
    -------
    (ceil(n_slow / block), ceil(n_fast / block)) float64
    """
    good = np.isfinite(values)
    total = np.where(good, values, 0.0)
    number = good.astype(np.float64)
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], block)
        total = np.add.reduceat(total, starts, axis=axis)
        number = np.add.reduceat(number, starts, axis=axis)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / number)


def _excluded(entry: h5py.Group, shape: tuple[int, int]) -> Mask:
    return read_pixel_mask(entry, shape) | read_faults(entry, shape)


def _picture(entry: h5py.Group, values: F8, title: str, masked: Mask | None = None) -> Picture:
    x = read_number(entry, f"{schema.DETECTOR}/{schema.BEAM_CENTER_X}")
    y = read_number(entry, f"{schema.DETECTOR}/{schema.BEAM_CENTER_Y}")
    block = -(-max(values.shape) // LONGEST_SIDE)
    return Picture(
        values=average_blocks(values, block), block=block, title=title,
        beam_center=None if x is None or y is None else (x, y),
        masked=None if masked is None else average_blocks(masked.astype(np.float64), block),
    )  # fmt: skip
