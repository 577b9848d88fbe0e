"""Frames: expected counts, and what a detector makes of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.detector import pixel_centres
from nxmpi.crystal.goniometer import frame_matrices
from nxmpi.kernels.simulate import add_peaks, write_diffuse
from nxmpi.parallel.arrays import bcast_array
from nxmpi.simulate.diffuse import expand
from nxmpi.simulate.experiment import geometry
from nxmpi.simulate.factors import bad_pixels, frame_factors, pixel_factors

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
    """(n_slow, n_fast): polarization x solid angle, zero where masked [1]."""
    peak_weight: F8
    """(n_slow, n_fast): polarization, zero where masked [1]."""
    bad: Mask
    """(n_slow, n_fast)"""
    matrices: F8
    """(n_frames, 3, 3): inv(R UB) in the middle of each frame, over the divisor of the
    vectors between atoms [Å]."""
    samples: F8
    """(n_frames, 3): where the sample is [mm]."""
    scales: F8
    """(n_frames,): factor of each frame [1]."""
    levels: F8
    orders: I8
    alphas: F8
    """Of the diffuse scattering; see `nxmpi.kernels.simulate.diffuse`."""
    peaks: F8
    """(n, 4): x, y, z, strength."""
    sigmas: F8
    """(3,): widths of the peaks."""


def build_tables(experiment: Experiment, index: int, peaks: TruePeaks) -> FrameTables:
    """Return the tables of a position. Not collective: the root calls it."""
    setting, place = experiment.positions[index], geometry(experiment, index)
    R = frame_matrices(place.goniometer)
    bad = bad_pixels(setting)
    polarization, angle = pixel_factors(experiment, index)
    diffuse = expand(experiment.diffuse, experiment.space_group)
    divisor = diffuse.divisor
    return FrameTables(
        places=pixel_centres(setting.detector),
        weight=np.where(bad, 0.0, polarization * angle),
        peak_weight=np.where(bad, 0.0, polarization),
        bad=bad,
        matrices=np.ascontiguousarray(np.linalg.inv(R @ np.array(place.UB)) / divisor),
        samples=np.ascontiguousarray(R @ np.array(setting.sample_offset)),
        scales=frame_factors(experiment, index).total,
        levels=diffuse.levels,
        orders=np.rint(diffuse.vectors * divisor).astype(np.int64),
        alphas=diffuse.alphas,
        peaks=peaks.table,
        sigmas=np.array(experiment.bragg.sigma),
    )


def bcast_tables(comm: MPI.Intracomm, tables: FrameTables | None) -> FrameTables:
    """Return the root's tables on every rank, so that all use the same bits.

    Collective on ``comm``: one broadcast of each array.
    """
    arrays = {field.name: getattr(tables, field.name, None) for field in fields(FrameTables)}
    return FrameTables(**{name: bcast_array(comm, array) for name, array in arrays.items()})


def expected_frame(tables: FrameTables, frame: int, wavelength: float) -> F8:
    """Return the counts expected in a frame, zero in masked pixels. Not collective.

    The intensity is that of the pixel's centre in the middle of the frame; peaks are
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
        tables.weight, scale, tables.levels, tables.orders, tables.alphas, expected,
    )  # fmt: skip
    add_peaks(frame, tables.peaks, tables.sigmas, tables.peak_weight, scale, expected)
    return expected


def simulated_frame(
    experiment: Experiment, index: int, tables: FrameTables, frame: int
) -> Frames:  # fmt: skip
    """Return a frame as the detector records it. Not collective.

    Its noise depends on the seed, the position and the frame alone. Masked pixels hold -1, or
    all ones in unsigned types; counts beyond the type's range are its largest value.

    Returns
    -------
    (n_slow, n_fast) of the experiment's dtype
    """
    expected = expected_frame(tables, frame, experiment.wavelength)
    if experiment.poisson:
        keys = np.random.SeedSequence([experiment.seed, index, frame])
        counts = np.random.Generator(np.random.Philox(keys)).poisson(expected)
    else:
        counts = np.rint(expected).astype(np.int64)
    dtype = np.dtype(experiment.dtype)
    limit = np.iinfo(dtype).max
    largest = limit - 1 if dtype.kind == "u" else limit  # all ones mean a masked pixel
    recorded = np.minimum(counts, min(largest, np.iinfo(np.int64).max)).astype(dtype)
    recorded[tables.bad] = limit if dtype.kind == "u" else -1
    return recorded
