"""Halos: discs of scattering around the strongest peaks, in the frames that excite them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError
from nxmpi.simulate.hashing import hkl_key, mix, uniform

if TYPE_CHECKING:
    from nxmpi._typing import F8
    from nxmpi.simulate.experiment import Experiment
    from nxmpi.simulate.peaks import TruePeaks

EXCITED = 2.0
"""Widths of a peak along z within which it makes a halo."""
FORMULA = (
    "A peak whose strongest pixel is expected to count more than the threshold makes a halo in "
    "the frames with |frame - z| < 2 sigz, or in the one at z: on pixels within the radius of "
    "x, y the counts expected are higher by counts_per_pixel = fraction x those of the strongest "
    "pixel, with no other factor and the same in all frames from first_frame to last_frame, both "
    "included. In other frames there is nothing of it."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Halos:
    """Which peaks make halos, and of what size: like those of Compton scattering."""

    threshold: float = 1000.0
    """Counts of a peak's strongest pixel in its strongest frame above which it makes one."""
    fraction: float = 0.004
    """Of these counts, in each pixel of the halo [1]."""
    radius: tuple[float, float] = (20.0, 40.0)
    """Ends between which the radius of each is drawn [pixels]."""

    def __post_init__(self) -> None:
        low, high = self.radius
        if not (self.threshold >= 0 and self.fraction >= 0 and 0 < low <= high):
            raise InputError(f"halos: expected a threshold, a fraction and a radius, found {self}")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrueHalos:
    """The halos of a position; arrays of one value a halo, float64."""

    x: F8
    """Index coordinates of the middle [pixels]."""
    y: F8
    first_frame: F8
    last_frame: F8
    """Included."""
    radius: F8
    """[pixels]"""
    counts_per_pixel: F8
    """In each frame."""

    @property
    def table(self) -> F8:
        """(n, 6), as kernels take them."""
        columns = (self.x, self.y, self.first_frame, self.last_frame, self.radius)
        return np.stack([*columns, self.counts_per_pixel], axis=1)


def true_halos(experiment: Experiment, index: int, peaks: TruePeaks) -> TrueHalos:
    """Return the halos of a position, sorted as their peaks are."""
    halos = experiment.halos
    threshold = np.inf if halos is None else halos.threshold
    low, high = (0.0, 0.0) if halos is None else halos.radius
    fraction = 0.0 if halos is None else halos.fraction
    reach = np.maximum(EXCITED * peaks.sigz, 0.5)
    first = np.maximum(np.floor(peaks.z - reach) + 1, 0)
    last = np.minimum(np.ceil(peaks.z + reach) - 1, experiment.positions[index].n_frames - 1)
    strong = (peaks.peak > threshold) & (first <= last)
    draw = uniform(mix(hkl_key(peaks.hkl[strong])) + np.uint64(experiment.seed))
    return TrueHalos(
        x=peaks.x[strong],
        y=peaks.y[strong],
        first_frame=first[strong],
        last_frame=last[strong],
        radius=low + (high - low) * draw,
        counts_per_pixel=fraction * peaks.peak[strong],
    )
