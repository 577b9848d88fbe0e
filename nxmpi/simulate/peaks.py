"""Bragg peaks: where they are, from the Ewald condition, and how strong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.detector import pixel_positions, polarization_factor
from nxmpi.crystal.goniometer import goniometer_matrix
from nxmpi.crystal.reciprocal import hkl_to_pixel, reflecting_angles, scattering_vectors
from nxmpi.crystal.symmetry import reflections
from nxmpi.kernels.simulate import REACH, peak_sums
from nxmpi.simulate.diffuse import laue_operators
from nxmpi.simulate.experiment import geometry
from nxmpi.simulate.factors import bad_pixels, frame_factors, pixel_factors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nxmpi._typing import F8
    from nxmpi.model import Geometry
    from nxmpi.simulate.experiment import Experiment

    U8 = NDArray[np.uint64]

FORMULA = (
    "counts of a peak = structure exp(-B |G|^2 / 2) lorentz polarization / |step| x factor of "
    "the frame, lorentz = min(1 / (wavelength |dG/dphi . kf/|kf||), lorentz_limit); a pixel's "
    "solid angle is no factor, as a peak is smaller than a pixel in reciprocal space"
)


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
    recorded: F8
    """Expected counts on unmasked pixels of all frames."""

    @property
    def table(self) -> F8:
        """(n, 4) x, y, z, strength, as kernels take them."""
        return np.stack([self.x, self.y, self.z, self.strength], axis=1)


def reflection_strengths(experiment: Experiment, hkl: F8) -> F8:
    """Return the intensity of reflections, the same for all that the Laue group makes equal.

    Exponentially distributed (Wilson, Acta Cryst. 2, 318 (1949), acentric), times the
    Debye-Waller factor.

    Parameters
    ----------
    hkl : (n, 3) float64
        Integers.

    Returns
    -------
    (n,) float64
        [counts x degrees]
    """
    images = np.rint(hkl @ laue_operators(experiment.space_group)).astype(np.int64) + 2**15
    key = ((images[..., 0] << 32) | (images[..., 1] << 16) | images[..., 2]).max(axis=0)
    uniform = (_mix(key.astype(np.uint64) + np.uint64(experiment.seed)) >> np.uint64(11)) * 2.0**-53
    UB = np.array(geometry(experiment, 0).UB)
    G2 = ((hkl @ UB.T) ** 2).sum(axis=1)
    wilson = -np.log1p(-uniform)
    return np.asarray(experiment.bragg.strength * wilson * np.exp(-experiment.bragg.B * G2 / 2))


def _mix(bits: U8) -> U8:
    """Return well mixed bits (the finalizer of splitmix64)."""
    with np.errstate(over="ignore"):
        bits = bits * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(bits ^ (bits >> np.uint64(31)))


def true_peaks(experiment: Experiment, index: int) -> TruePeaks:
    """Return the Bragg peaks of a position, sorted by z."""
    setting, place = experiment.positions[index], geometry(experiment, index)
    bragg, detector = experiment.bragg, setting.detector
    n_slow, n_fast = detector.shape
    everything = reflections(experiment.lattice, experiment.space_group, _least_spacing(place))
    everything = everything[reflection_strengths(experiment, everything) > 0]
    hkl, phi = _crossings(place, everything, REACH * bragg.sigma[2])
    x, y = hkl_to_pixel(place, hkl, phi) if len(hkl) else (phi, phi)
    margin_x, margin_y = REACH * bragg.sigma[0], REACH * bragg.sigma[1]
    reaches = (x > -margin_x) & (x < n_fast + margin_x) & (y > -margin_y) & (y < n_slow + margin_y)
    hkl, phi, x, y = hkl[reaches], phi[reaches], x[reaches], y[reaches]
    order = np.lexsort((*hkl.T, phi * np.sign(setting.step)))
    hkl, phi, x, y = hkl[order], phi[order], x[order], y[order]
    z = (phi - setting.phi) / setting.step - 0.5
    lorentz = _lorentz_factors(place, hkl, phi, bragg.lorentz_limit)
    strength = reflection_strengths(experiment, hkl) * lorentz / abs(setting.step)
    total = frame_factors(experiment, index).total
    nearest = np.clip(np.rint(z), 0, setting.n_frames - 1).astype(int)
    polarization = polarization_factor(pixel_positions(detector, x, y), experiment.polarization)
    recorded = np.empty(len(x))
    peaks = TruePeaks(
        hkl=hkl, phi=phi, x=x - 0.5, y=y - 0.5, z=z, lorentz=lorentz, strength=strength,
        intensity=strength * polarization * total[nearest], recorded=recorded,
    )  # fmt: skip
    weight = np.where(bad_pixels(setting), 0.0, pixel_factors(experiment, index)[0])
    peak_sums(peaks.table, np.array(bragg.sigma), weight, total, recorded)
    return peaks


def _least_spacing(place: Geometry) -> float:
    n_slow, n_fast = place.detector.shape
    edge = np.array([0.0, 0.5, 1.0])
    x, y = (grid.ravel() for grid in np.meshgrid(edge * n_fast, edge * n_slow))
    k = scattering_vectors(pixel_positions(place.detector, x, y), place.wavelength)
    return 0.95 / float(np.linalg.norm(k, axis=1).max())


def _crossings(place: Geometry, hkl: F8, margin: float) -> tuple[F8, F8]:
    """Return hkl and phi of all crossings of the Ewald sphere in the frames and a margin."""
    goniometer = place.goniometer
    start, n = goniometer.phi[0], len(goniometer.phi)
    rotation = abs(goniometer.step) * (n + 2 * margin)
    first, way = start - margin * goniometer.step, np.sign(goniometer.step)
    found_hkl, found_phi = [], []
    for phi in reflecting_angles(place, hkl).T:
        for turn in range(int(rotation // 360) + 1):
            offset = ((phi - first) * way) % 360 + 360 * turn
            inside = (offset >= 0) & (offset < rotation)
            found_hkl.append(hkl[inside])
            found_phi.append(first + way * offset[inside])
    return np.concatenate(found_hkl), np.concatenate(found_phi)


def _lorentz_factors(place: Geometry, hkl: F8, phi: F8, limit: float) -> F8:
    g = hkl @ np.array(place.UB).T
    R = np.array([goniometer_matrix(place.goniometer, angle) for angle in phi]).reshape(-1, 3, 3)
    kf = (R @ g[..., None])[..., 0] + [1 / place.wavelength, 0.0, 0.0]
    axis = goniometer_matrix(place.goniometer, 0.0)[:, 2]
    velocity = np.cross(axis, (R @ g[..., None])[..., 0])
    normal = np.abs((velocity * kf).sum(axis=1)) / np.linalg.norm(kf, axis=1)
    return np.asarray(1 / np.maximum(place.wavelength * normal, 1 / limit))
