"""Bragg reflections: how strong they are, and how wide they are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.detector import detector_axes
from nxmpi.errors import InputError
from nxmpi.simulate.diffuse import laue_operators
from nxmpi.simulate.hashing import hkl_key, mix, uniform

if TYPE_CHECKING:
    from nxmpi._typing import F8
    from nxmpi.model import Geometry, Vector

Range = tuple[float, float]

FORMULA = (
    "counts of a peak = structure exp(-B |G|^2 / 2) lorentz polarization / |step| x factor of "
    "the frame, lorentz = min(1 / (wavelength |dG/dphi . kf/|kf||), lorentz_limit); a pixel's "
    "solid angle is no factor, as a peak is smaller than a pixel in reciprocal space"
)
WIDTHS = (
    "sigz^2 = sigma_z^2 + (mosaic sin(2 theta) lorentz / step)^2, as a turn of a block of the "
    "crystal shifts the angle at which it reflects; (sigx, sigy)^2 = sigma_xy^2 + (wavelength "
    "|G| mosaic distance / pixel_size t_xy)^2 with t the unit vector along the Debye ring, as it "
    "shifts the ray along the ring; or, with a spread, widths drawn between its ends"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bragg:
    """Bragg peaks: intensities that look random and obey the Laue group."""

    strength: float = 500.0
    """Mean over reflections, without thermal motion [counts x degrees of rotation]."""
    B: float = 1.0
    """Debye-Waller factor, exp(-B |G|^2 / 2) of the intensity [Å^2]."""
    sigma: Vector = (0.9, 0.9, 0.5)
    """Widths along x, y [pixels] and z [frames]: of the instrument, if there is a mosaic."""
    mosaic: float = 0.0
    """Standard deviation of the orientations of the crystal's blocks [degrees]."""
    spread: tuple[Range, Range, Range] | None = None
    """Instead of all this: ends between which the widths of each peak along x, y [pixels] and
    z [frames] are drawn, their logarithms being uniform."""
    lorentz_limit: float = 15.0
    """The Lorentz factor is not larger than this [1]."""

    def __post_init__(self) -> None:
        if not (self.strength >= 0 and min(self.sigma) > 0 and self.lorentz_limit > 0):
            raise InputError(f"Bragg peaks: expected widths above 0, found {self}")
        if not 0 <= self.mosaic < 10:
            raise InputError(f"mosaic: expected 0 to 10 degrees, found {self.mosaic}")
        for low, high in self.spread or ():
            if not 0 < low <= high:
                raise InputError(f"Bragg peaks: expected a spread above 0, found {self.spread}")

    def longest(self, step: float) -> float:
        """Return what no peak's width along z exceeds [frames]."""
        if self.spread is not None:
            return self.spread[2][1]
        return float(np.hypot(self.sigma[2], np.radians(self.mosaic) * self.lorentz_limit
                              / np.radians(abs(step))))  # fmt: skip


def strengths(bragg: Bragg, space_group: str, seed: int, UB: F8, hkl: F8) -> F8:
    """Return the intensity of reflections, the same for all that the Laue group makes equal.

    Exponentially distributed (Wilson, Acta Cryst. 2, 318 (1949), acentric), times the
    Debye-Waller factor.

    Parameters
    ----------
    UB : (3, 3) float64
        [1/Å]
    hkl : (n, 3) float64
        Integers.

    Returns
    -------
    (n,) float64
        [counts x degrees]
    """
    key = hkl_key(hkl @ laue_operators(space_group)).max(axis=0)
    wilson = -np.log1p(-uniform(key + np.uint64(seed)))
    G2 = ((hkl @ UB.T) ** 2).sum(axis=1)
    return np.asarray(bragg.strength * wilson * np.exp(-bragg.B * G2 / 2))


def mosaic_widths(bragg: Bragg, place: Geometry, hkl: F8, rays: F8, lorentz: F8) -> F8:
    """Return the widths of peaks along x, y and z, by instrument and mosaic.

    Parameters
    ----------
    hkl : (n, 3) float64
        [r.l.u.]
    rays : (n, 3) float64
        Their places on the detector, in the laboratory [mm].
    lorentz : (n,) float64
        [1]

    Returns
    -------
    (n, 3) float64
        [pixels], [pixels], [frames]
    """
    mosaic, step = np.radians(bragg.mosaic), np.radians(place.goniometer.step)
    length = np.linalg.norm(rays, axis=1)
    ring = np.cross([1.0, 0.0, 0.0], rays) / length[:, None]
    sin_two_theta = np.linalg.norm(ring, axis=1)
    G = np.linalg.norm(hkl @ np.array(place.UB).T, axis=1)
    shift = place.wavelength * G * mosaic * length / place.detector.pixel_size
    along = np.abs(ring @ detector_axes(place.detector)[:, :2])
    along *= (shift / np.maximum(sin_two_theta, 1e-12))[:, None]
    rocking = mosaic * sin_two_theta * lorentz / abs(step)
    return np.asarray(np.hypot(np.array(bragg.sigma), np.column_stack([along, rocking])))


def drawn_widths(spread: tuple[Range, Range, Range], hkl: F8, phi: F8, seed: int) -> F8:
    """Return widths of peaks along x, y and z, drawn for each crossing of the Ewald sphere.

    Parameters
    ----------
    hkl, phi : (n, 3), (n,) float64
        Integers, and the true angles at which they reflect [degrees].

    Returns
    -------
    (n, 3) float64
        [pixels], [pixels], [frames]
    """
    crossing = np.floor(phi * 64).astype(np.int64).astype(np.uint64)
    key = mix(mix(hkl_key(hkl) + np.uint64(seed)) ^ crossing)
    draws = [uniform(key + np.uint64(axis)) for axis in range(3)]
    low, high = np.array(spread).T
    return np.asarray(low * (high / low) ** np.stack(draws, axis=1))
