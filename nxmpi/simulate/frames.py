"""Frames: expected counts, and what a detector makes of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.detector import pixel_centres
from nxmpi.crystal.goniometer import frame_matrices
from nxmpi.kernels.simulate import write_diffuse
from nxmpi.kernels.simulate_peaks import REACH, add_halos, add_peaks
from nxmpi.parallel.arrays import bcast_array
from nxmpi.simulate.diffuse import expand
from nxmpi.simulate.experiment import geometry
from nxmpi.simulate.factors import bad_pixels, frame_factors, pixel_factors
from nxmpi.simulate.halos import true_halos
from nxmpi.simulate.pixels import largest_count, silent_pixels, true_pixels

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F8, I8, Frames, Mask
    from nxmpi.simulate.experiment import Experiment
    from nxmpi.simulate.peaks import TruePeaks


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTables:
    """What the counts of a position's frames are computed from; mostly float64."""

    places: F8
    """(n_slow, n_fast, 3): centres of the pixels in the laboratory [mm]."""
    weight: F8
    """(n_slow, n_fast): polarization x solid angle, zero in gaps and dead pixels [1]."""
    peak_weight: F8
    """(n_slow, n_fast): polarization, zero in gaps and dead pixels [1]."""
    bad: Mask
    """(n_slow, n_fast): gaps."""
    matrices: F8
    """(n_frames, 3, 3): inv(R UB) in the middle of each frame, over the divisor of the
    vectors between atoms [Å]."""
    samples: F8
    """(n_frames, 3): where the sample is [mm]."""
    scales: F8
    """(n_frames,): factor of each frame [1]."""
    levels: F8
    orders: I8
    coefficients: F8
    """Of the diffuse scattering; see `nxmpi.kernels.simulate.write_diffuse`."""
    peaks: F8
    """(n, 7): x, y, z, strength and widths, sorted by z."""
    halos: F8
    """(n, 6): x, y, first and last frame, radius, counts per pixel."""
    hot: I8
    """(n, 2): rows and columns of hot pixels."""
    hot_rates: F8
    """(n,): what they count on their own [counts a frame]."""


def build_tables(experiment: Experiment, index: int, peaks: TruePeaks) -> FrameTables:
    """Return the tables of a position. Not collective: the root calls it."""
    setting, place = experiment.positions[index], geometry(experiment, index)
    R = frame_matrices(place.goniometer)
    silent, pixels = silent_pixels(experiment, index), true_pixels(experiment, index)
    polarization, angle = pixel_factors(experiment, index)
    diffuse = expand(experiment.diffuse, experiment.space_group, experiment.lattice)
    divisor = diffuse.divisor
    return FrameTables(
        places=pixel_centres(setting.detector),
        weight=np.where(silent, 0.0, polarization * angle),
        peak_weight=np.where(silent, 0.0, polarization),
        bad=bad_pixels(setting),
        matrices=np.ascontiguousarray(np.linalg.inv(R @ np.array(place.UB)) / divisor),
        samples=np.ascontiguousarray(R @ np.array(setting.sample_offset)),
        scales=frame_factors(experiment, index).total,
        levels=diffuse.levels,
        orders=np.rint(diffuse.vectors * divisor).astype(np.int64),
        coefficients=diffuse.coefficients,
        peaks=peaks.table,
        halos=true_halos(experiment, index, peaks).table,
        hot=pixels.hot,
        hot_rates=pixels.hot_rates,
    )


def bcast_tables(comm: MPI.Intracomm, tables: FrameTables | None) -> FrameTables:
    """Return the root's tables on every rank, so that all use the same bits.

    Collective on ``comm``: one broadcast of each array.
    """
    arrays = {field.name: getattr(tables, field.name, None) for field in fields(FrameTables)}
    return FrameTables(**{name: bcast_array(comm, array) for name, array in arrays.items()})


def expected_frame(tables: FrameTables, frame: int, wavelength: float) -> F8:
    """Return the counts expected in a frame, zero in gaps and dead pixels. Not collective.

    The diffuse intensity is that of the pixel's centre in the middle of the frame; peaks are
    integrated over pixel and frame.

    Returns
    -------
    (n_slow, n_fast) float64
        [counts]
    """
    expected = np.empty(tables.bad.shape)
    scale = tables.scales[frame]
    write_diffuse(
        tables.places, tables.samples[frame], tables.matrices[frame], wavelength,
        tables.weight, scale, tables.levels, tables.orders, tables.coefficients, expected,
    )  # fmt: skip
    z, widths = tables.peaks[:, 2], tables.peaks[:, 6]
    reach = REACH * widths.max(initial=0.0) + 1.0
    near = slice(*np.searchsorted(z, [frame - reach, frame + reach]))
    add_peaks(frame, tables.peaks[near], tables.peak_weight, scale, expected)
    add_halos(frame, tables.halos, tables.peak_weight, expected)
    expected[tables.hot[:, 0], tables.hot[:, 1]] += tables.hot_rates
    return expected


def simulated_frame(
    experiment: Experiment, index: int, tables: FrameTables, frame: int
) -> Frames:  # fmt: skip
    """Return a frame as the detector records it. Not collective.

    Its noise depends on the seed, the position and the frame alone. Pixels in gaps hold -1, or
    all ones in unsigned types; dead ones hold 0. Counts beyond saturation, or the type's range,
    are recorded as the largest value.

    Returns
    -------
    (n_slow, n_fast) of the experiment's dtype
    """
    expected = expected_frame(tables, frame, experiment.wavelength)
    if experiment.poisson:
        keys = np.random.SeedSequence([experiment.seed, index, frame])
        counts = np.random.Generator(np.random.SFC64(keys)).poisson(expected)
    else:
        counts = np.rint(expected).astype(np.int64)
    dtype = np.dtype(experiment.dtype)
    limit = np.iinfo(dtype).max
    recorded = np.minimum(counts, largest_count(experiment)).astype(dtype)
    recorded[tables.bad] = limit if dtype.kind == "u" else -1
    return recorded
