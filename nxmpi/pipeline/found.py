"""What the pass over the frames of a position found, and into the scan file with it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.angles import polar_azimuth
from nxmpi.crystal.detector import pixel_centres
from nxmpi.crystal.factors import polarization_factor
from nxmpi.crystal.radial import radial_sum
from nxmpi.crystal.transmission import transmission
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.mask import link_mask
from nxmpi.nexus.peaks import write_peaks
from nxmpi.nexus.sums import FrameSums, write_sums
from nxmpi.stages.catalogue import catalogue
from nxmpi.stages.pixels import hot_and_dead

if TYPE_CHECKING:
    import h5py
    from numpy.typing import NDArray

    from nxmpi._typing import I8, Mask
    from nxmpi.model import Peaks
    from nxmpi.params import FramesParams
    from nxmpi.pipeline.searched import Searched

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """What all ranks brought to the root; by frame from the first one used."""

    total: I8
    """(n_slow, n_fast) int64: counts of each pixel."""
    largest: I8
    """(n_slow, n_fast) int64: the largest count of each pixel."""
    frame_sums: I8
    """(n_frames,) int64"""
    block_sums: I8
    """(n_frames, n_blocks) int64: of the background, without strong pixels."""
    strong_pixels: I8
    """(n_frames, n_blocks) int64"""
    fitted: NDArray[np.void]
    """(n,) FITTED"""
    bad_frames: list[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """Results of a position; None for what was not asked for."""

    sums: FrameSums | None
    peaks: Peaks | None


def conclude(
    position: Searched, pixels: I8, gathered: Gathered, params: FramesParams
) -> Found:  # fmt: skip
    """Return the results of a position. Not collective: the root calls it.

    Parameters
    ----------
    pixels : (n_blocks,) int64
        Pixels of each block of the background.

    Raises
    ------
    InputError
        If a frame has no background at all.
    """
    n_frames = gathered.frame_sums.size
    hot, dead = hot_and_dead(gathered.total, gathered.largest, position.bad, n_frames)
    log.info("%s: %d hot pixels, %d dead ones", position.name, hot.sum(), dead.sum())
    return Found(
        sums=_sums(position, pixels, gathered, hot, dead) if params.sums else None,
        peaks=_peaks(position, gathered, hot) if params.peaks else None,
    )


def _peaks(position: Searched, gathered: Gathered, hot: Mask) -> Peaks:
    shape = (gathered.frame_sums.size, *position.bad.shape)
    peaks = catalogue(gathered.fitted, shape, position.saturation, hot)
    peaks = replace(peaks, z=peaks.z + position.first_frame)
    if position.threshold is not None:
        peaks = peaks.chosen(peaks.maximum >= position.threshold)
    whole = int((peaks.flags == 0).sum())
    log.info("%s: %d peaks, %d of them whole and single", position.name, len(peaks), whole)
    return peaks


def _sums(
    position: Searched, pixels: I8, gathered: Gathered, hot: Mask, dead: Mask
) -> FrameSums:  # fmt: skip
    used = np.zeros(position.n_frames, bool)
    used[position.first_frame : position.last_frame + 1] = True
    used[gathered.bad_frames] = False
    block_sums, strong_pixels, frame_sums = (
        _in_all_frames(position, part)
        for part in (gathered.block_sums, gathered.strong_pixels, gathered.frame_sums)
    )
    flux = np.where(used, position.weight, 1.0)
    try:
        found = transmission(block_sums, strong_pixels, pixels, flux, used)
    except InputError as error:
        raise InputError(f"{position.raw.file}:{position.raw.path}: {error}") from error
    radial = polarization = None
    wrong = position.bad | hot | dead
    detector = position.detector
    if detector is not None and position.wavelength is not None:
        polarization = polarization_factor(pixel_centres(detector), position.polarization)
        radial = radial_sum(detector, position.wavelength, gathered.total, wrong, polarization)
    return FrameSums(
        summed_data=gathered.total,
        maximum_data=gathered.largest,
        summed_frames=frame_sums,
        bad=position.bad,
        hot=hot,
        dead=dead,
        maximum=int(gathered.largest[~wrong].max(initial=0)),
        first_frame=position.first_frame,
        last_frame=position.last_frame,
        transmission=found,
        radial=radial,
        polarization=polarization,
    )


def _in_all_frames(position: Searched, part: I8) -> I8:
    whole = np.zeros((position.n_frames, *part.shape[1:]), np.int64)
    whole[position.first_frame : position.last_frame + 1] = part
    return whole


def write_found(entry: h5py.Group, position: Searched, found: Found, params: FramesParams) -> None:
    """Write what was found into a position's entry. Not collective."""
    files = schema.ScanFiles(position.wrapper)
    if found.sums is not None:
        write_sums(entry, found.sums, position.name)
    if found.peaks is not None:
        peaks = found.peaks
        polar = azimuth = np.full(len(peaks), np.nan)
        if position.detector is not None:
            polar, azimuth = polar_azimuth(position.detector, peaks.x, peaks.y)
        attributes = {
            schema.FIRST_USED: position.first_frame,
            schema.LAST_USED: position.last_frame,
            schema.THRESHOLD: position.threshold or 0.0,
            "sigma_background": params.sigma_background,
            "sigma_strong": params.sigma_strong,
        }
        write_peaks(entry, peaks, polar, azimuth, attributes)
    if params.mask:
        link_mask(entry, files.mask(position.name))
