"""Numbers that look random and depend on their keys alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nxmpi._typing import F8

    U8 = NDArray[np.uint64]


def mix(bits: U8) -> U8:
    """Return well mixed bits (the finalizer of splitmix64)."""
    with np.errstate(over="ignore"):
        bits = bits * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(bits ^ (bits >> np.uint64(31)))


def uniform(keys: U8) -> F8:
    """Return numbers in [0, 1), one of each key."""
    return np.asarray((mix(keys) >> np.uint64(11)) * 2.0**-53)


def hkl_key(hkl: F8) -> U8:
    """Return a key of integer hkl, (..., 3) to (...); different ones below 2**15 differ."""
    shifted = np.rint(hkl).astype(np.int64) + 2**15
    key = (shifted[..., 0] << 32) | (shifted[..., 1] << 16) | shifted[..., 2]
    return np.asarray(key.astype(np.uint64))
