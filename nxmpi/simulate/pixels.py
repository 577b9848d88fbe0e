"""Pixels that are not as they should be: masked, dead, hot, saturated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError
from nxmpi.simulate.factors import bad_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nxmpi._typing import F8, I8, Mask
    from nxmpi.simulate.experiment import Experiment, PositionSetting

DRAW = 0x9E7
"""Keeps this draw apart from that of noise, which has the number of a position here."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pixels:
    """What is wrong with pixels: the same ones in all positions of the same detector."""

    dead: int = 0
    """Pixels that always count 0."""
    known: float = 0.5
    """Part of the dead ones in the pixel mask [1]."""
    hot: int = 0
    """Pixels, none in the mask, that count on their own as well."""
    hot_rates: tuple[float, float] = (50.0, 1000.0)
    """Ends between which what they count is drawn, logarithms being uniform [counts a frame]."""
    saturation: int | None = None
    """Higher counts are recorded as this; None is the limit of the data type."""

    def __post_init__(self) -> None:
        low, high = self.hot_rates
        if min(self.dead, self.hot) < 0 or not 0 <= self.known <= 1 or not 0 < low <= high:
            raise InputError(f"pixels: expected numbers of 0 or more, found {self}")
        if self.saturation is not None and self.saturation < 1:
            raise InputError(f"saturation: expected at least 1 count, found {self.saturation}")


@dataclass(frozen=True, kw_only=True, eq=False)
class TruePixels:
    """Dead and hot pixels of a position."""

    dead: I8
    """(n, 2): rows and columns."""
    dead_known: Mask
    """(n,): in the pixel mask."""
    hot: I8
    """(m, 2): rows and columns."""
    hot_rates: F8
    """(m,): what they count on their own [counts a frame]."""


def require_room(pixels: Pixels, settings: Sequence[PositionSetting]) -> None:
    """Raise `InputError` if a position has fewer pixels than are dead and hot."""
    wanted = pixels.dead + pixels.hot
    room = min(np.count_nonzero(~bad_pixels(setting)) for setting in settings)
    if wanted > room:
        raise InputError(f"dead and hot pixels: expected at most {room}, found {wanted}")


def true_pixels(experiment: Experiment, index: int) -> TruePixels:
    """Return the dead and hot pixels of a position: the seed and the gaps decide."""
    pixels, setting = experiment.pixels, experiment.positions[index]
    good = np.flatnonzero(~bad_pixels(setting))
    wanted = pixels.dead + pixels.hot
    rng = np.random.default_rng([experiment.seed, DRAW, DRAW])
    chosen = good[rng.choice(len(good), wanted, replace=False)] if wanted else good[:0]
    places = np.stack(np.unravel_index(chosen, setting.detector.shape), axis=-1).astype(np.int64)
    low, high = pixels.hot_rates
    n_known = round(pixels.known * pixels.dead)
    return TruePixels(
        dead=places[: pixels.dead],
        dead_known=np.arange(pixels.dead) < n_known,
        hot=places[pixels.dead :],
        hot_rates=low * (high / low) ** rng.random(pixels.hot),
    )


def masked_pixels(experiment: Experiment, index: int) -> Mask:
    """Return the pixel mask of a position: gaps and known dead pixels, (n_slow, n_fast)."""
    found = true_pixels(experiment, index)
    mask = bad_pixels(experiment.positions[index])
    mask[tuple(found.dead[found.dead_known].T)] = True
    return mask


def silent_pixels(experiment: Experiment, index: int) -> Mask:
    """Return True for the pixels that count nothing: gaps and dead ones, (n_slow, n_fast)."""
    silent = bad_pixels(experiment.positions[index])
    silent[tuple(true_pixels(experiment, index).dead.T)] = True
    return silent


def largest_count(experiment: Experiment) -> int:
    """Return the largest number that a frame can hold for a pixel."""
    dtype = np.dtype(experiment.dtype)
    limit = int(np.iinfo(dtype).max) - (dtype.kind == "u")  # all ones mean a masked pixel
    limit = min(limit, int(np.iinfo(np.int64).max))
    saturation = experiment.pixels.saturation
    return limit if saturation is None else min(limit, saturation)
