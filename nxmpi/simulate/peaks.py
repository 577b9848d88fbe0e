"""Bragg peaks: where they are, from the Ewald condition, and how strong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.crossings import crossings, least_spacing
from nxmpi.crystal.detector import pixel_positions
from nxmpi.crystal.factors import polarization_factor, solid_angle
from nxmpi.crystal.goniometer import goniometer_matrix
from nxmpi.crystal.reciprocal import hkl_to_pixel
from nxmpi.crystal.symmetry import reflections
from nxmpi.kernels.simulate_peaks import REACH, peak_sums
from nxmpi.simulate.bragg import drawn_widths, mosaic_widths, strengths
from nxmpi.simulate.diffuse import diffuse_intensity, expand
from nxmpi.simulate.experiment import geometry
from nxmpi.simulate.factors import frame_factors, pixel_factors, solid_angle_unit
from nxmpi.simulate.pixels import largest_count, silent_pixels

if TYPE_CHECKING:
    from nxmpi._typing import F8, Mask
    from nxmpi.model import Geometry
    from nxmpi.simulate.experiment import Experiment, PositionSetting


MARGIN = 0.95
"""To the least spacing of the detector's places, for peaks that reach it from outside [1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TruePeaks:
    """Peaks that reach a position's frames; arrays of one value a peak, float64."""

    hkl: F8
    """(n, 3)"""
    phi: F8
    """True angle at which it reflects [degrees]."""
    x: F8
    """Index coordinates: the centre of pixel 0 is 0 [pixels]."""
    y: F8
    z: F8
    """The middle of frame 0 is 0 [frames]."""
    lorentz: F8
    """[1]"""
    strength: F8
    """Expected counts, but for the factors of pixel and frame."""
    intensity: F8
    """Expected counts, were no pixel masked and no frame missing."""
    sigx: F8
    """Widths of the Gaussian [pixels]."""
    sigy: F8
    sigz: F8
    """[frames]"""
    background: F8
    """Expected diffuse counts at the peak's place [counts per pixel and frame]."""
    recorded: F8
    """Expected counts on pixels that count and all frames."""
    peak: F8
    """The part of these in the strongest pixel of the strongest frame."""
    saturated: Mask
    """That part and the background are beyond what a frame can hold."""

    @property
    def table(self) -> F8:
        """(n, 7) x, y, z, strength and widths, as kernels take them."""
        columns = (self.x, self.y, self.z, self.strength, self.sigx, self.sigy, self.sigz)
        return np.stack(columns, axis=1)


def reflection_strengths(experiment: Experiment, hkl: F8) -> F8:
    """Return the intensity of reflections, (n, 3) to (n,); see `nxmpi.simulate.bragg`."""
    UB = np.array(geometry(experiment, 0).UB)
    return strengths(experiment.bragg, experiment.space_group, experiment.seed, UB, hkl)


def true_peaks(experiment: Experiment, index: int) -> TruePeaks:
    """Return the Bragg peaks of a position, sorted by z."""
    setting, place = experiment.positions[index], geometry(experiment, index)
    bragg, detector = experiment.bragg, setting.detector
    d_min = MARGIN * least_spacing(detector, place.wavelength)
    everything = reflections(experiment.lattice, experiment.space_group, d_min)
    everything = everything[reflection_strengths(experiment, everything) > 0]
    hkl, phi = crossings(place, everything, REACH * bragg.longest(setting.step))
    order = np.lexsort((*hkl.T, phi * np.sign(setting.step)))
    hkl, phi = hkl[order], phi[order]
    x, y = hkl_to_pixel(place, hkl, phi) if len(hkl) else (phi, phi)
    z = (phi - setting.phi) / setting.step - 0.5
    lorentz = _lorentz_factors(place, hkl, phi, bragg.lorentz_limit)
    rays = pixel_positions(detector, x, y)
    if bragg.spread is None:
        sigmas = mosaic_widths(bragg, place, hkl, rays, lorentz)
    else:
        sigmas = drawn_widths(bragg.spread, hkl, phi, experiment.seed)
    reaches = _reaches(np.stack([x, y, z + 0.5], axis=1), sigmas, setting)
    hkl, phi, x, y, z = hkl[reaches], phi[reaches], x[reaches], y[reaches], z[reaches]
    lorentz, rays, sigmas = lorentz[reaches], rays[reaches], sigmas[reaches]
    strength = reflection_strengths(experiment, hkl) * lorentz / abs(setting.step)
    total = frame_factors(experiment, index).total
    here = total[np.clip(np.rint(z), 0, setting.n_frames - 1).astype(int)]
    here = here * polarization_factor(rays, experiment.polarization)
    background = here * _diffuse(experiment, index, hkl, rays)
    polarization = pixel_factors(experiment, index)[0]
    weight = np.where(silent_pixels(experiment, index), 0.0, polarization)
    table = np.column_stack([x - 0.5, y - 0.5, z, strength, sigmas])
    recorded, peak = np.empty(len(x)), np.empty(len(x))
    peak_sums(table, weight, total, recorded, peak)
    return TruePeaks(
        hkl=hkl, phi=phi, x=x - 0.5, y=y - 0.5, z=z, lorentz=lorentz, strength=strength,
        intensity=strength * here, sigx=sigmas[:, 0], sigy=sigmas[:, 1], sigz=sigmas[:, 2],
        background=background, recorded=recorded, peak=peak,
        saturated=peak + background > largest_count(experiment),
    )  # fmt: skip


def _diffuse(experiment: Experiment, index: int, hkl: F8, rays: F8) -> F8:
    """Return the diffuse intensity times the solid angle of a pixel, in units of one."""
    Q = 2 * np.pi * np.linalg.norm(hkl @ np.array(geometry(experiment, index).UB).T, axis=1)
    parameters = expand(experiment.diffuse, experiment.space_group, experiment.lattice)
    angle = solid_angle(experiment.positions[index].detector, rays)
    return diffuse_intensity(parameters, hkl, Q) * angle / solid_angle_unit(experiment)


def _reaches(places: F8, sigmas: F8, setting: PositionSetting) -> Mask:
    """Return True for peaks of which something is in the frames; places count from the edge."""
    n_slow, n_fast = setting.detector.shape
    size = np.array([n_fast, n_slow, setting.n_frames])
    margin = REACH * sigmas
    return np.asarray(((places > -margin) & (places < size + margin)).all(axis=1))


def _lorentz_factors(place: Geometry, hkl: F8, phi: F8, limit: float) -> F8:
    g = hkl @ np.array(place.UB).T
    R = np.array([goniometer_matrix(place.goniometer, angle) for angle in phi]).reshape(-1, 3, 3)
    kf = (R @ g[..., None])[..., 0] + [1 / place.wavelength, 0.0, 0.0]
    axis = goniometer_matrix(place.goniometer, 0.0)[:, 2]
    velocity = np.cross(axis, (R @ g[..., None])[..., 0])
    normal = np.abs((velocity * kf).sum(axis=1)) / np.linalg.norm(kf, axis=1)
    return np.asarray(1 / np.maximum(place.wavelength * normal, 1 / limit))
