"""Frames of repeated scans added up, pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.errors import InputError
from nxmpi.stages.batches import NO_COUNT, signed

if TYPE_CHECKING:
    from nxmpi._typing import Frames

SIZES = (1, 2, 4, 8)


def summed_type(dtypes: list[np.dtype[Any]], largest: int | None) -> np.dtype[Any]:
    """Return the smallest integer type that holds the sum of frames. Not collective.

    Parameters
    ----------
    dtypes : list of dtype
        Of the frames of each scan.
    largest : int or None
        Count at which a pixel saturates; None for the largest of each type.
    """
    kind = "u" if all(dtype.kind in "ub" for dtype in dtypes) else "i"
    total = sum(min(_limit(dtype), largest or _limit(dtype)) for dtype in dtypes)
    least = max(dtype.itemsize for dtype in dtypes)
    types = [np.dtype(f"{kind}{size}") for size in SIZES if size >= least]
    return next((dtype for dtype in types if _limit(dtype) >= total), types[-1])


def add_frames(parts: list[Frames], dtype: np.dtype[Any]) -> Frames:
    """Return the sum of frames of several scans. Not collective.

    What is no count in any of them, negative or all ones of an unsigned type, is none in the sum:
    -1 or all ones.

    Parameters
    ----------
    parts : list of (n, n_pixels) integer
    dtype : dtype
        Of the sum.

    Raises
    ------
    InputError
        If a sum does not fit the type.
    """
    total = np.zeros(parts[0].shape, np.int64)
    bad = np.zeros(parts[0].shape, bool)
    for part in parts:
        counts = signed(part)
        none = counts < 0
        bad |= none
        total += np.where(none, 0, counts)
        if (total < 0).any():
            raise InputError("sum of frames: expected counts below 2^63, found more")
    total[bad] = 0
    if total.max(initial=0) > _limit(dtype):
        raise InputError(
            f"sum of frames: expected at most {_limit(dtype)} counts in a pixel by the saturation "
            f"that the scans tell, found {total.max()}"
        )
    result: Frames = total.astype(dtype)
    result[bad] = NO_COUNT if dtype.kind == "i" else np.iinfo(dtype).max
    return result


def _limit(dtype: np.dtype[Any]) -> int:
    """Return the largest count that a type holds."""
    if dtype.kind == "b":
        return 1
    return int(np.iinfo(dtype).max) - (dtype.kind == "u")
