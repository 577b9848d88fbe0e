"""Peaks of a position as the reflections they are, once the crystal is oriented."""

from dataclasses import dataclass

import h5py
import numpy as np

from nxmpi._typing import F8, I8
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_goniometer
from nxmpi.nexus.peaks import read_indices, read_peaks
from nxmpi.nexus.values import read_array
from nxmpi.stages.orient import angles_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Reflections:
    """Peaks whose place is known, the strongest first."""

    x: F8
    """(n,) from the outer corner of pixel 0 [pixels]."""
    y: F8
    """(n,) [pixels]"""
    phi: F8
    """(n,) true angle [degrees]."""
    residuals: F8
    """(n, 3) predicted less observed x, y, phi; NaN where there is none [pixels, degrees]."""
    off: F8
    """(n,) largest distance of h, k, l from a whole number, NaN where unknown [r.l.u.]."""
    grain: I8
    """(n,) number of the crystal that explains the peak, 0 for none."""
    fraction: float | None
    """Part of the strong peaks that is explained [1]."""
    shape: tuple[int, int]
    """(n_slow, n_fast) of the detector [pixels]."""


def read_reflections(entry: h5py.Group, raw: h5py.Dataset | None) -> Reflections | None:
    """Return the peaks of a position with their indices, None where it was not oriented.

    Not collective.

    Parameters
    ----------
    raw : (n_frames, n_slow, n_fast) int, or None

    Raises
    ------
    SchemaError
        If columns of the peaks, or the rotation angle, are not complete.
    """
    indices = read_indices(entry)
    if indices is None:
        return None
    peaks = read_peaks(entry)
    phi = read_array(entry, f"{schema.GONIOMETER}/{schema.PHI}")
    goniometer = read_goniometer(entry, 1 if phi is None else max(phi.size, 1))
    order = np.argsort(-np.nan_to_num(peaks.intensity), kind="stable")
    order = order[np.isfinite(peaks.x + peaks.y + peaks.z)[order]]
    x, y, z = (values[order] for values in (peaks.x, peaks.y, peaks.z))
    hkl = indices.hkl[order]
    return Reflections(
        x=x + 0.5, y=y + 0.5, phi=angles_of(goniometer, z),
        residuals=indices.residuals[order] * [1.0, 1.0, goniometer.step],
        off=np.abs(hkl - np.rint(hkl)).max(axis=1), grain=indices.grain[order],
        fraction=indices.fraction, shape=_shape(entry, raw, x, y),
    )  # fmt: skip


def _shape(entry: h5py.Group, raw: h5py.Dataset | None, x: F8, y: F8) -> tuple[int, int]:
    """Return the shape of the detector, as far as there are peaks where it is not known."""
    stored = read_array(entry, f"{schema.DETECTOR}/{schema.DETECTOR_SHAPE}")
    if raw is not None:
        return raw.shape[1], raw.shape[2]
    if stored is not None and stored.size == 2 and (stored > 0).all():
        return int(stored.ravel()[0]), int(stored.ravel()[1])
    return int(y.max(initial=0)) + 1, int(x.max(initial=0)) + 1
