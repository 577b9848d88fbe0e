"""A scan file to where its reflections appear."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.crystal.angles import polar_azimuth
from nxmpi.crystal.crossings import Appearances, appearances, least_spacing
from nxmpi.crystal.lattice import spacings
from nxmpi.crystal.symmetry import is_allowed, reflections
from nxmpi.errors import InputError
from nxmpi.nexus.geometry import read_geometry, read_sample
from nxmpi.nexus.values import chosen_entries, open_file
from nxmpi.pipeline.scan import read_stacks

if TYPE_CHECKING:
    from pathlib import Path
    from typing import TextIO

    from nxmpi._typing import F8
    from nxmpi.model import Geometry, Sample
    from nxmpi.params import PredictParams

HEADINGS = ("entry", "h", "k", "l", "d", "x", "y", "frame", "phi", "two_theta")


class Prediction(NamedTuple):
    """Reflections of a position."""

    name: str
    geometry: Geometry
    sample: Sample
    found: Appearances


def predict_scan(path: Path, params: PredictParams) -> list[Prediction]:
    """Return where reflections appear in the frames of a scan. Not collective.

    Raises
    ------
    InputError
        If the scan has no orientation, or something else that is needed is missing.
    """
    predictions = []
    with open_file(path) as wrapper:
        for name in chosen_entries(wrapper, params.entries):
            entry = wrapper[name]
            raw, n_frames = read_stacks(entry)
            sample = read_sample(entry)
            geometry = read_geometry(entry, raw.shape[1:], n_frames, sample)
            hkl = _wanted(geometry, sample, params)
            predictions.append(Prediction(name, geometry, sample, appearances(geometry, hkl)))
    return predictions


def _wanted(geometry: Geometry, sample: Sample, params: PredictParams) -> F8:
    """Return the reflections that are asked for, (n, 3) float64 [r.l.u.]."""
    if params.hkl:
        return np.array(params.hkl, float)
    least = 0.98 * least_spacing(geometry.detector, geometry.wavelength)
    symbol = sample.space_group or "P 1"
    if params.ranges is None:
        return reflections(sample.lattice, symbol, max(least, params.d_min or 0.0))
    axes = [np.arange(math.ceil(low), math.floor(high) + 1.0) for low, high in params.ranges]
    hkl = np.array(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).T
    hkl = hkl[(hkl != 0).any(axis=1)]
    if not len(hkl):
        raise InputError(f"range of hkl: expected whole numbers in it, found {params.ranges}")
    hkl = hkl[is_allowed(symbol, hkl)]
    return np.asarray(hkl[spacings(sample.lattice, hkl) >= (params.d_min or 0.0)])


def write_list(predictions: list[Prediction], file: TextIO) -> None:
    """Write one line a reflection, as CSV: x, y and frame are indices. Not collective."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADINGS)
    for each in predictions:
        found = each.found
        d = spacings(each.sample.lattice, found.hkl)
        two_theta = polar_azimuth(each.geometry.detector, found.x, found.y)[0]
        for i, (h, k, l) in enumerate(found.hkl):
            writer.writerow(
                (each.name, f"{h:g}", f"{k:g}", f"{l:g}", f"{d[i]:.5f}", f"{found.x[i]:.3f}",
                 f"{found.y[i]:.3f}", f"{found.z[i]:.3f}", f"{found.phi[i]:.4f}",
                 f"{two_theta[i]:.4f}")
            )  # fmt: skip
