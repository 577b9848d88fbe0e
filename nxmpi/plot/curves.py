"""Curves of a position: transmission by frame, intensity by scattering angle."""

from dataclasses import dataclass

import h5py

from nxmpi._typing import F8
from nxmpi.nexus import schema
from nxmpi.nexus.sums import READ
from nxmpi.nexus.values import read_array


@dataclass(frozen=True, kw_only=True, eq=False)
class Transmission:
    """Transmission of the frames of a position."""

    name: str
    """Of the position."""
    values: F8
    """(n_frames,) filtered, 1 at its median [1]."""
    raw: F8 | None
    """(n_frames,) not filtered, NaN in frames not used; None where the file lacks it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Radial:
    """The summed frame by scattering angle."""

    intensity: F8
    """(n_bins,) [counts per pixel]."""
    x: F8
    """(n_bins,)"""
    label: str
    """What ``x`` is, with its unit."""


def read_transmission(entry: h5py.Group) -> Transmission | None:
    """Return the transmission of a position, None where it is not known. Not collective."""
    values = _read(entry, schema.TRANSMISSION)
    if values is None or values.ndim != 1 or not values.size:
        return None
    raw = _read(entry, schema.TRANSMISSION_RAW)
    same = raw is not None and raw.shape == values.shape
    return Transmission(name=entry.name.strip("/"), values=values, raw=raw if same else None)


def read_radial(entry: h5py.Group) -> Radial | None:
    """Return the radial sum of a position, None where it is not known. Not collective.

    Its axis is |Q|, or the scattering angle where the file has no |Q|.
    """
    intensity = _read(entry, schema.RADIAL_SUM)
    axes = {schema.Q: "$|Q|$  (Å$^{-1}$)", schema.POLAR_ANGLE: r"$2\theta$  (degrees)"}
    for name, label in axes.items():
        x = _read(entry, name)
        if intensity is not None and x is not None and x.shape == intensity.shape:
            return Radial(intensity=intensity, x=x, label=label)
    return None


def _read(entry: h5py.Group, name: str) -> F8 | None:
    """Return one curve, without the images that are beside it."""
    values = read_array(entry, f"{schema.SUMS}/{READ[name]}")
    return read_array(entry, READ[name]) if values is None else values
