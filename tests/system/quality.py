"""How good found peaks are, held against the truth of a simulation."""

from dataclasses import replace

import numpy as np
from mpi4py import MPI
from scipy.special import erf

from nxmpi.crystal.detector import parse_orientation
from nxmpi.model import Detector, Lattice
from nxmpi.simulate.bragg import Bragg
from nxmpi.simulate.diffuse import Diffuse
from nxmpi.simulate.experiment import Experiment, PositionSetting
from nxmpi.simulate.halos import Halos
from nxmpi.simulate.pixels import Pixels
from nxmpi.simulate.presets import rotated

SPREAD = ((0.6, 4.0), (0.6, 4.0), (0.4, 12.0))
"""Standard deviations along x, y [pixels] and z [frames] that a search has to cope with."""
CELLS = {
    "triclinic": (
        Lattice(a=12.1, b=13.3, c=15.2, alpha=83.0, beta=97.0, gamma=105.0), "P -1",
        (((0.25, 0, 0), -0.3), ((0, 0.25, 0.25), 0.2)),
    ),
    "hexagonal": (
        Lattice(a=16.2, b=16.2, c=14.4, alpha=90.0, beta=90.0, gamma=120.0), "P 6/m m m",
        (((0.25, 0, 0), -0.4), ((0, 0, 0.25), 0.2)),
    ),
    "cubic": (
        Lattice(a=19.5, b=19.5, c=19.5, alpha=90.0, beta=90.0, gamma=90.0), "I m -3 m",
        (((0.5, 0, 0), -0.4), ((0.25, 0.25, 0), 0.2)),
    ),
}  # fmt: skip
"""Lattice, space group and correlations."""


def experiment(cell, level, strength, seed=0, n_frames=120):
    """Return a scan of peaks of all widths on a background of so many counts per pixel."""
    lattice, space_group, shells = CELLS[cell]
    detector = Detector(
        shape=(512, 540), pixel_size=0.172, distance=330.0, beam_center=(278.3, 251.6),
        orientation=parse_orientation("-y +z -x"), yaw=0.4, pitch=-0.3, roll=0.2,
    )  # fmt: skip
    setting = PositionSetting(
        detector=detector, n_frames=n_frames, step=0.2, phi=-7.0, chi=-90.0, omega=4.0,
        row_gaps=((195, 212), (407, 424)), column_gaps=((262, 269),),
    )  # fmt: skip
    return Experiment(
        name="found", lattice=lattice, space_group=space_group, positions=(setting,),
        U=rotated((21.0, -38.0, 14.0)), wavelength=0.3, seed=seed, norm=1e5,
        diffuse=Diffuse(
            flat=0.4 * level, air=0.4 * level, air_width=2.0, amplitude=0.4 * level,
            falloff=0.02, tds=0.002 * level, tds_width=0.2, shells=shells,
        ),
        bragg=Bragg(strength=strength, B=0.5, spread=SPREAD, lorentz_limit=4.0),
        pixels=Pixels(dead=20, hot=15, hot_rates=(max(3.0 * level, 1.0), 300.0 * level + 30.0),
                      saturation=2**20 - 1),
    )  # fmt: skip


def with_halos(scan):
    """Return a scan with halos near its strongest peaks."""
    return replace(scan, halos=Halos(threshold=3000.0, fraction=1e-3))


def counts_over_noise(truth):
    """Return S / sqrt(S + B) of true peaks, B being the background within two sigma."""
    widths = [np.maximum(truth[f"sig{axis}"], 0.5) for axis in "xyz"]
    voxels = 4 / 3 * np.pi * 8 * np.prod(widths, axis=0)
    return truth["intensity"] / np.sqrt(truth["intensity"] + truth["background"] * voxels)


def whole_and_single(truth, bad, hot, n_frames):
    """Return True for true peaks that nothing cuts, no other comes near, and no hot pixel."""
    n_slow, n_fast = bad.shape
    x, y, z = (truth[axis] for axis in "xyz")
    sx, sy, sz = (truth[f"sig{axis}"] for axis in "xyz")
    whole = (truth["recorded"] > 0.995 * truth["intensity"]) & (truth["saturated"] == 0)
    for place, width, n in ((x, sx, n_fast), (y, sy, n_slow), (z, sz, n_frames)):
        whole &= (place > 3 * width) & (place < n - 1 - 3 * width)
    places = np.stack([x, y, z], axis=1)
    sigmas = np.stack([sx, sy, sz], axis=1)
    visible = truth["recorded"] > 5
    for i in np.flatnonzero(whole):
        apart = np.abs(places - places[i]) > 3 * (sigmas + sigmas[i]) + 2
        near = ~apart.any(axis=1) & visible
        whole[i] = near.sum() <= 1
    for y_hot, x_hot in hot:
        whole &= np.maximum(np.abs(x - x_hot) - 3 * sx, np.abs(y - y_hot) - 3 * sy) > 4
    return whole


def share(index, centre, sigma):
    """Return the part of a Gaussian in unit intervals."""
    edges = np.append(index - 0.5, index[-1] + 0.5)
    return 0.5 * np.diff(erf((edges - centre) / (np.sqrt(2) * sigma)))


def bounds(x, y, z, sigmas, intensity, background):
    """Return Cramér and Rao's bounds of x, y, z for Poisson counts, all eight unknown."""
    parts, slopes, widths = [], [], []
    for centre, sigma in zip((x, y, z), sigmas, strict=True):
        index = np.arange(np.floor(centre - 5 * sigma - 2), np.ceil(centre + 5 * sigma + 3))
        low, high = share(index, centre - 1e-4, sigma), share(index, centre + 1e-4, sigma)
        parts.append(share(index, centre, sigma))
        slopes.append((high - low) / 2e-4)
        wide, narrow = share(index, centre, sigma * 1.0001), share(index, centre, sigma * 0.9999)
        widths.append((wide - narrow) / 2e-4)
    gx, gy, gz = parts

    def volume(a, b, c):
        return (a[:, None, None] * b[:, None] * c).ravel()

    shape = volume(gz, gy, gx)
    derivatives = np.stack([
        *(intensity * volume(*p) for p in ((gz, gy, slopes[0]), (gz, slopes[1], gx),
                                           (slopes[2], gy, gx))),
        *(intensity * volume(*p) for p in ((gz, gy, widths[0]), (gz, widths[1], gx),
                                           (widths[2], gy, gx))),
        shape, np.ones_like(shape),
    ])  # fmt: skip
    information = (derivatives / (background + intensity * shape)) @ derivatives.T
    return np.sqrt(np.diag(np.linalg.inv(information))[:3])


class Report:
    """Found peaks held against true ones."""

    def __init__(self, truth, peaks, bad, hot, n_frames, least=10.0):
        """Match found peaks to true ones, the nearest first."""
        self.truth, self.peaks = truth, peaks
        true = np.stack([truth[axis] for axis in "xyz"], axis=1)
        sigma = np.stack([truth[f"sig{axis}"] for axis in "xyz"], axis=1)
        found = np.stack([peaks.x, peaks.y, peaks.z], axis=1)
        off = np.abs(found[:, None] - true[None]) / (1.0 + sigma[None])
        distance = np.where((off < 1).all(axis=2), off.max(axis=2), np.inf)
        self.is_true = np.isfinite(distance).any(axis=1) if found.size else np.zeros(0, bool)
        self.signal = counts_over_noise(truth)
        scored = whole_and_single(truth, bad, hot, n_frames)
        scored &= (self.signal >= least) & (truth["intensity"] >= 20)
        self.scored = np.flatnonzero(scored)
        nearest = distance[:, self.scored].argmin(axis=0) if found.size else np.zeros(0, int)
        hit = np.isfinite(distance[nearest, self.scored])
        self.missed = self.scored[~hit]
        self.pairs = np.stack([self.scored[hit], nearest[hit]], axis=1)

    def columns(self):
        """Return errors of place, those told, bounds, sigmas; and pulls and log of intensity."""
        t, p = self.truth, self.peaks
        i, j = self.pairs.T
        error = np.stack([getattr(p, axis)[j] - t[axis][i] for axis in "xyz"], axis=1)
        told = np.stack([getattr(p, f"{axis}_error")[j] for axis in "xyz"], axis=1)
        sigma = np.stack([t[f"sig{axis}"][i] for axis in "xyz"], axis=1)
        bound = np.array([
            bounds(*(t[axis][k] for axis in "xyz"), [t[f"sig{axis}"][k] for axis in "xyz"],
                   t["intensity"][k], t["background"][k]) for k in i
        ]).reshape(-1, 3)  # fmt: skip
        pull = (p.intensity[j] - t["intensity"][i]) / p.intensity_error[j]
        logs = np.log(p.intensity[j]), np.log(t["intensity"][i])
        return error, told, bound, sigma, pull, logs


def search(folder, scan, **options):
    """Simulate a scan, search it, and return a `Report` and the scan file."""
    from nxmpi.nexus.peaks import read_peaks
    from nxmpi.nexus.values import open_file
    from nxmpi.params import FramesParams, NormParams, OutputParams, ScanParams
    from nxmpi.pipeline.frames import run_frames
    from nxmpi.simulate.factors import bad_pixels
    from nxmpi.simulate.pixels import true_pixels
    from nxmpi.simulate.truth import read_peaks as read_true_peaks
    from nxmpi.simulate.write import scan_files, simulate

    wrapper = simulate(MPI.COMM_SELF, folder, scan)
    params = FramesParams(**options)
    run_frames(MPI.COMM_SELF, wrapper, ScanParams(), NormParams(), params, OutputParams())
    truth = read_true_peaks(scan_files(folder, scan).truth(), "f1")
    with open_file(wrapper) as file:
        peaks = read_peaks(file["f1"])
    setting = scan.positions[0]
    hot = true_pixels(scan, 0).hot
    return Report(truth, peaks, bad_pixels(setting), hot, setting.n_frames), wrapper
