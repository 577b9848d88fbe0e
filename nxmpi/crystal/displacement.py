"""How far apart two geometries bring the pixels of a scan."""

from dataclasses import asdict

import numpy as np

from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.model import Geometry

FRAMES = 50
"""Compared, with the first and the last, if there are more."""


def displacement(one: Geometry, other: Geometry) -> float:
    """Return the largest distance between places of one pixel in two geometries [pixels].

    In reciprocal space, at the corners and the middle of the detector in frames of the first to the
    last, by the size that a pixel has there at the middle. Crystals are compared by their UB, so
    that equivalent orientations are as far apart as they are written.
    """
    n_slow, n_fast = one.detector.shape
    numbers = np.unique(np.linspace(0, len(one.goniometer.phi) - 1, FRAMES).astype(int))
    x, y = (np.ravel(part) for part in np.meshgrid([0.0, n_fast], [0.0, n_slow]))
    x, y = np.append(x, n_fast / 2), np.append(y, n_slow / 2)
    places = []
    for geometry in (one, other):
        phi = np.array(geometry.goniometer.phi)[numbers] + geometry.goniometer.step / 2
        x_all, phi_all = np.tile(x, numbers.size), np.repeat(phi, x.size)
        hkl = pixel_to_hkl(geometry, x_all, np.tile(y, numbers.size), phi_all)
        places.append(hkl @ np.array(one.UB).T)
    size = one.detector.pixel_size / (one.detector.distance * one.wavelength)
    return float(np.linalg.norm(places[0] - places[1], axis=1).max() / size)


def differences(one: Geometry, other: Geometry) -> list[str]:
    """Return what differs between two geometries, and how, in words."""
    told = []
    for name, first, second in (
        ("detector", asdict(one.detector), asdict(other.detector)),
        ("goniometer", asdict(one.goniometer), asdict(other.goniometer)),
        ("", {"wavelength": one.wavelength}, {"wavelength": other.wavelength}),
    ):
        told += [
            f"{name} {key} {_text(first[key])} and {_text(second[key])}".strip()
            for key in first
            if first[key] != second[key]
        ]
    U, V = np.array(one.UB), np.array(other.UB)
    if (U != V).any():
        change = V @ np.linalg.inv(U)
        angle = np.degrees(np.arccos(np.clip((np.trace(change) - 1) / 2, -1, 1)))
        told.append(f"orientation matrices turned by {angle:.3f} degrees")
    return told


def _text(value: object) -> str:
    if isinstance(value, tuple) and len(value) > 3:
        return f"{value[0]:g} to {value[-1]:g}"
    return f"{value:.8g}" if isinstance(value, float) else f"{value}"
