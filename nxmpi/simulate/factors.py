"""The factors between intensity and counts: those of each frame, those of each pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.detector import pixel_centres
from nxmpi.crystal.factors import polarization_factor, solid_angle

if TYPE_CHECKING:
    from nxmpi._typing import F8, Mask
    from nxmpi.simulate.experiment import Experiment, PositionSetting


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameFactors:
    """Factors of each frame of a position, (n_frames,) float64."""

    monitor: F8
    """Recorded flux [counts]."""
    attenuator: F8
    """[1]"""
    filter: F8
    """[1]"""
    transmission: F8
    """Of the sample; not recorded [1]."""
    total: F8
    """monitor/norm x attenuator x filter x transmission [1]."""


def frame_factors(experiment: Experiment, index: int) -> FrameFactors:
    """Return the factors of the frames of a position.

    The flux is a parabola, which smoothing of second order leaves as it is, and equal in the
    first two and in the last two frames, whose outer ones programs replace by their neighbours.
    """
    setting = experiment.positions[index]
    n = setting.n_frames
    frames = np.arange(n)
    u = np.clip(frames, 1, n - 2) / (n - 1) if n > 3 else np.zeros(n)
    drift = experiment.monitor_drift if experiment.monitor else 0.0
    later = 1 - 0.05 * index if experiment.monitor else 1.0  # the beam decays between rotations
    monitor = experiment.norm * later * (1 - drift * u * (1.5 - 0.5 * u))
    if experiment.monitor:
        monitor = np.round(monitor)
    attenuator = np.full(n, 1.0 if setting.attenuator is None else setting.attenuator)
    filtered = (frames >= n // 3) & (frames < n - n // 3)
    filter_ = np.where(filtered, 1.0 if setting.filter is None else setting.filter, 1.0)
    turned = np.radians(setting.step * (frames + 0.5))
    transmission = 1 - experiment.transmission_drift * np.sin(turned) ** 2
    return FrameFactors(
        monitor=monitor,
        attenuator=attenuator,
        filter=filter_,
        transmission=transmission,
        total=monitor / experiment.norm * attenuator * filter_ * transmission,
    )


def solid_angle_unit(experiment: Experiment) -> float:
    """Return the solid angle that counts as 1: at the foot of the first detector's normal [sr]."""
    detector = experiment.positions[0].detector
    return (detector.pixel_size / detector.distance) ** 2


def bad_pixels(setting: PositionSetting) -> Mask:
    """Return True for the pixels between modules, (n_slow, n_fast)."""
    bad = np.zeros(setting.detector.shape, bool)
    for start, stop in setting.row_gaps:
        bad[start:stop] = True
    for start, stop in setting.column_gaps:
        bad[:, start:stop] = True
    return bad


def pixel_factors(experiment: Experiment, index: int) -> tuple[F8, F8]:
    """Return the factors of each pixel, seen from the goniometer's centre.

    Returns
    -------
    polarization, solid_angle : (n_slow, n_fast) float64
        [1]
    """
    detector = experiment.positions[index].detector
    places = pixel_centres(detector)
    angle = solid_angle(detector, places) / solid_angle_unit(experiment)
    return polarization_factor(places, experiment.polarization), angle
