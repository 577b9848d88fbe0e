"""Masks in little memory: for keeping one of each frame, and for sending them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nxmpi._typing import Mask


def pack_mask(mask: Mask) -> bytes:
    """Return a mask, (n,) bool, in n / 8 bytes at most, a few hundred of which are usual."""
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def unpack_mask(packed: bytes, n: int) -> Mask:
    """Return the first ``n`` elements of a packed mask, (n,) bool; False beyond its end."""
    bits = np.frombuffer(zlib.decompress(packed), np.uint8)
    return np.unpackbits(bits, count=n).view(bool)
