"""The factors of the norm that belong to pixels: what a pixel sees of the scattering."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nxmpi._typing import F8
from nxmpi.crystal.detector import detector_axes, pixel_centres
from nxmpi.model import Detector


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelFactors:
    """What the factors of pixels are made of; None leaves one out."""

    polarization: float | None = None
    """Fraction of the beam polarized along y [1]."""
    solid_angle_unit: float | None = None
    """Solid angle that counts as 1, one for all positions of a scan [sr]."""
    efficiency: float | None = None
    """mu t of the sensor [1]."""
    air: float | None = None
    """mu of the air [1/mm]."""
    flat_field: F8 | None = None
    """(n_slow, n_fast) float64: response of each pixel [1]."""


def polarization_factor(positions: F8, fraction: float) -> F8:
    """Return what the beam's polarization leaves of the scattering.

    Parameters
    ----------
    positions : (..., 3) float64
        Points in the laboratory [mm].
    fraction : float
        f of ``(1+f)/2 (1 - k_y^2) + (1-f)/2 (1 - k_z^2)``, 1 for a beam polarized along y.

    Returns
    -------
    (...) float64
        [1]

    Notes
    -----
    Kahn et al., J. Appl. Cryst. 15, 330 (1982); pyFAI's for an untilted detector.
    """
    k = positions / np.linalg.norm(positions, axis=-1, keepdims=True)
    return np.asarray(
        (1 + fraction) / 2 * (1 - k[..., 1] ** 2) + (1 - fraction) / 2 * (1 - k[..., 2] ** 2)
    )


def solid_angle(detector: Detector, positions: F8) -> F8:
    """Return the solid angle of a pixel, ``p^2 |n.v| / |v|^3``.

    Parameters
    ----------
    positions : (..., 3) float64
        Centres of pixels in the laboratory [mm].

    Returns
    -------
    (...) float64
        [sr]
    """
    distance = np.linalg.norm(positions, axis=-1)
    return np.asarray(
        detector.pixel_size**2 * _cosine_of_incidence(detector, positions) / distance**2
    )


def sensor_efficiency(detector: Detector, positions: F8, thickness: float) -> F8:
    """Return the part of the photons that a pixel's sensor stops, ``1 - exp(-mu t / cos w)``.

    Parameters
    ----------
    positions : (..., 3) float64
        Centres of pixels in the laboratory [mm].
    thickness : float
        mu t: of the sensor, in absorption lengths [1]. w is the angle of incidence.

    Returns
    -------
    (...) float64
        [1]

    Notes
    -----
    Beer and Lambert's law along an oblique ray; Zaleski, Wu & Coppens, J. Appl. Cryst. 31, 302
    (1998). A photon that leaves its pixel inside of the sensor is not thought of.
    """
    return np.asarray(-np.expm1(-thickness / _cosine_of_incidence(detector, positions)))


def air_transmission(positions: F8, absorption: float) -> F8:
    """Return what the air between sample and pixel lets pass, ``exp(-mu |v|)``.

    Parameters
    ----------
    positions : (..., 3) float64
        [mm]
    absorption : float
        mu of air [1/mm].

    Returns
    -------
    (...) float64
        [1]
    """
    return np.asarray(np.exp(-absorption * np.linalg.norm(positions, axis=-1)))


def _cosine_of_incidence(detector: Detector, positions: F8) -> F8:
    axes = detector_axes(detector)
    normal = np.cross(axes[:, 0], axes[:, 1])
    normal /= np.linalg.norm(normal)
    return np.asarray(np.abs(positions @ normal) / np.linalg.norm(positions, axis=-1))


def pixel_factors(detector: Detector, chosen: PixelFactors) -> dict[str, F8]:
    """Return each factor of the pixels that is in use, by name.

    Returns
    -------
    dict of (n_slow, n_fast) float64
        [1]

    Notes
    -----
    Seen from the goniometer's centre: a sample off by 0.1 mm at 500 mm changes them by 10^-4.
    """
    v = pixel_centres(detector)
    factors = {}
    if chosen.polarization is not None:
        factors["polarization"] = polarization_factor(v, chosen.polarization)
    if chosen.solid_angle_unit is not None:
        factors["solid_angle"] = solid_angle(detector, v) / chosen.solid_angle_unit
    if chosen.efficiency is not None:
        factors["efficiency"] = sensor_efficiency(detector, v, chosen.efficiency)
    if chosen.air is not None:
        factors["air"] = air_transmission(v, chosen.air)
    if chosen.flat_field is not None:
        factors["flat_field"] = chosen.flat_field
    return factors


def whole_factor(detector: Detector, factors: Mapping[str, F8]) -> F8:
    """Return the product of factors of the pixels, 1 where there are none.

    Parameters
    ----------
    factors : mapping of str to (n_slow, n_fast) float64
        As `pixel_factors` returns them [1].

    Returns
    -------
    (n_slow, n_fast) float64
        [1]
    """
    return math.prod(factors.values(), start=np.ones(detector.shape))
