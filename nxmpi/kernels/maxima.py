"""The most significant of strong pixels, among all around them in three windows."""

import numpy as np
from numba import njit

from nxmpi._typing import F4, I4, U1


@njit(cache=True, nogil=True)
def spread(places: I4, strong: F4, image: F4) -> None:
    """Write the significance of strong pixels into a flat image."""
    for i in range(places.shape[0]):
        image[places[i]] = strong[i]


@njit(cache=True, nogil=True)
def clear(places: I4, image: F4) -> None:
    """Write zero into a flat image at some places."""
    for i in range(places.shape[0]):
        image[places[i]] = 0.0


@njit(cache=True, nogil=True)
def flag_maxima(
    before: F4, here: F4, after: F4, places: I4, reach: int, maxima: U1
) -> None:  # fmt: skip
    """Flag the strong pixels of a window that are more significant than all around them.

    Parameters
    ----------
    before, here, after : (n_slow, n_fast) float32
        Significance in three successive windows, zero where not strong.
    places : (n,) int32
        Strong pixels of the middle window.
    reach : int
        How far in x and y others are looked at [pixels].
    maxima : (n,) uint8
        Receives 1 or 0. Of equals the first in (window, y, x) counts.
    """
    n_slow, n_fast = here.shape
    for i in range(places.shape[0]):
        y, x = places[i] // n_fast, places[i] % n_fast
        mine = here[y, x]
        # most are told by their next neighbours
        low, high = max(x - 1, 0), min(x + 1, n_fast - 1)
        if (
            here[y, low] > mine
            or here[y, high] > mine
            or before[y, x] >= mine
            or after[y, x] > mine
        ):
            maxima[i] = 0
            continue
        best = np.uint8(1)
        for v in range(max(y - reach, 0), min(y + reach + 1, n_slow)):
            for u in range(max(x - reach, 0), min(x + reach + 1, n_fast)):
                sooner = here[v, u] == mine and v * n_fast + u < places[i]
                if before[v, u] >= mine or here[v, u] > mine or after[v, u] > mine or sooner:
                    best = np.uint8(0)
                    break
            if not best:
                break
        maxima[i] = best
