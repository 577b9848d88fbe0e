"""How good found peaks are, held against the truth of a simulation."""

from dataclasses import replace
from functools import cached_property

import numpy as np
from mpi4py import MPI
from scipy.special import erf

from nxmpi.crystal.detector import parse_orientation
from nxmpi.model import Detector, Lattice, PeakFlag
from nxmpi.nexus.peaks import read_peaks
from nxmpi.nexus.values import open_file
from nxmpi.params import FramesParams, NormParams, OutputParams, ScanParams
from nxmpi.pipeline.frames import run_frames
from nxmpi.simulate.bragg import Bragg
from nxmpi.simulate.diffuse import Diffuse
from nxmpi.simulate.experiment import Experiment, PositionSetting
from nxmpi.simulate.halos import Halos
from nxmpi.simulate.pixels import Pixels, masked_pixels, true_pixels
from nxmpi.simulate.presets import rotated
from nxmpi.simulate.truth import read_peaks as read_true_peaks
from nxmpi.simulate.write import scan_files, simulate

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
STRONGEST_DIFFUSE, STRONGEST_TDS = 1000.0, 0.01
"""Background beyond these is flat: what the crystal scatters in the shape of a peak, and is told
apart from noise, is told apart from a peak by nobody [counts per pixel and frame]."""
CORE = 2.0
"""Where a peak is touched [standard deviations]."""
OUTSIDE = 3.0
"""How far outside of the frames the middle of a peak that is cut is told at most [frames]."""
SAMPLING = 0.5
"""What is narrower is not resolved [pixels, frames]."""
FLOOR = 0.03
"""Error of a place that no number of counts makes smaller [pixels, frames]."""


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
    amplitude = min(0.4 * level, STRONGEST_DIFFUSE)
    return Experiment(
        name="found", lattice=lattice, space_group=space_group, positions=(setting,),
        U=rotated((21.0, -38.0, 14.0)), wavelength=0.3, seed=seed, norm=1e5,
        dtype="uint32" if level > 1e4 else "int32",
        diffuse=Diffuse(
            flat=0.8 * level - amplitude, air=0.4 * level, air_width=2.0, amplitude=amplitude,
            falloff=0.02, tds=min(0.002 * level, STRONGEST_TDS), tds_width=0.2, shells=shells,
        ),
        bragg=Bragg(strength=strength, B=0.5, spread=SPREAD, lorentz_limit=4.0),
        pixels=Pixels(dead=20, hot=15, hot_rates=(max(3.0 * level, 1.0), 300.0 * level + 30.0),
                      saturation=None),
    )  # fmt: skip


def with_halos(scan):
    """Return a scan with halos near its strongest peaks."""
    return replace(scan, halos=Halos(threshold=3000.0, fraction=1e-3))


def crowded(scan):
    """Return a scan of a large cell, some of whose peaks overlap, and of a type that saturates."""
    setting = scan.positions[0]
    detector = replace(setting.detector, shape=(150, 280))
    setting = replace(setting, detector=detector, row_gaps=((65, 82),), n_frames=45)
    lattice = replace(scan.lattice, a=80.0, b=80.0, c=80.0)
    wide = replace(scan.bragg, spread=((1.0, 3.5), (1.0, 3.5), (1.0, 6.0)))
    return replace(scan, lattice=lattice, positions=(setting,), bragg=wide, dtype="uint16")


def counts_over_noise(truth):
    """Return S / sqrt(S + B) of true peaks, B being the background within two sigma."""
    widths = [np.maximum(truth[f"sig{axis}"], SAMPLING) for axis in "xyz"]
    voxels = 4 / 3 * np.pi * CORE**3 * np.prod(widths, axis=0)
    return truth["intensity"] / np.sqrt(truth["intensity"] + truth["background"] * voxels)


def share(index, centre, sigma):
    """Return the part of a Gaussian in unit intervals."""
    edges = np.append(index - 0.5, index[-1] + 0.5)
    return 0.5 * np.diff(erf((edges - centre) / (np.sqrt(2) * sigma)))


def bounds(x, y, z, sigmas, intensity, background):
    """Return Cramér and Rao's bounds of x, y, z for Poisson counts, all eight unknown.

    Eight are place, widths, intensity and a flat background.
    """
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

    def __init__(self, truth, peaks, bad, wrong, n_frames, least=10.0):
        """Match found peaks to true ones, the nearest first.

        Parameters
        ----------
        truth : mapping of str to (n,) float64
        peaks : Peaks
        bad : (n_slow, n_fast) bool
            The pixel mask.
        wrong : (m, 2) int64
            Rows and columns of pixels that are wrong and not in the mask.
        least : float
            Significance of the peaks that are scored.
        """
        self.truth, self.peaks, self.bad, self.wrong = truth, peaks, bad, wrong
        self.size = np.array([bad.shape[1], bad.shape[0], n_frames])
        self.places = np.stack([truth[axis] for axis in "xyz"], axis=1)
        self.sigmas = np.stack([truth[f"sig{axis}"] for axis in "xyz"], axis=1)
        self.found = np.stack([peaks.x, peaks.y, peaks.z], axis=1)
        off = np.abs(self._told(self.found)[:, None] - self._told(self.places)) / (1 + self.sigmas)
        distance = np.where((off < 1).all(axis=2), off.max(axis=2), np.inf)
        self.is_true = np.isfinite(distance).any(axis=1)
        """(n_found,): somewhere near is a true peak."""
        self.nearest = np.full(len(self.places), -1)
        """(n_true,): the found peak that is nearest, -1 if there is none."""
        if len(peaks):
            near = np.isfinite(distance).any(axis=0)
            self.nearest[near] = distance.argmin(axis=0)[near]
        self.signal = counts_over_noise(truth)
        visible = (self.signal >= least) & (truth["intensity"] >= 20)
        self.scored = np.flatnonzero(self.clean & visible)
        hit = self.nearest[self.scored] >= 0
        self.missed = self.scored[~hit]
        self.pairs = np.stack([self.scored[hit], self.nearest[self.scored[hit]]], axis=1)

    def _told(self, places):
        """Return places with the middles of peaks cut by the first or last frame near that."""
        low, high = np.full(3, -np.inf), np.full(3, np.inf)
        low[2], high[2] = -OUTSIDE, self.size[2] - 1 + OUTSIDE
        return np.clip(places, low, high)

    @cached_property
    def clean(self):
        """(n_true,): nothing cuts it, no other peak comes near, and no wrong pixel."""
        truth = self.truth
        clean = (truth["recorded"] > 0.995 * truth["intensity"]) & (truth["saturated"] == 0)
        clean &= ~self.beyond_edges(1.5 * CORE).any(axis=1) & ~self.on_mask(1.5 * CORE)
        visible = truth["recorded"] > 5
        for i in np.flatnonzero(clean):
            clean[i] = (self.overlapping(i, 1.5 * CORE, 2.0) & visible).sum() <= 1
        x, y, _ = self.places.T
        for row, column in self.wrong:
            away = np.abs([x - column, y - row]) - 1.5 * CORE * self.sigmas.T[:2]
            clean &= away.max(axis=0) > 4
        return clean

    def overlapping(self, i, reach, margin=0.0):
        """Return True for the true peaks, itself included, that so many sigma of one overlap."""
        apart = np.abs(self.places - self.places[i]) - margin
        return (apart <= reach * (self.sigmas + self.sigmas[i])).all(axis=1)

    def beyond_edges(self, reach):
        """Return True where so many sigma of a true peak lie outside, (n_true, 3) by x, y, z."""
        half = reach * self.sigmas
        return (self.places - half < -0.5) | (self.places + half > self.size - 0.5)

    def on_mask(self, reach):
        """Return True for true peaks that have a masked pixel within so many sigma."""
        rows, columns = np.nonzero(self.bad)
        return np.array([
            (np.hypot((columns - x) / (reach * sx), (rows - y) / (reach * sy)) < 1).any()
            for (x, y, _), (sx, sy, _) in zip(self.places, self.sigmas, strict=True)
        ], bool)  # fmt: skip

    def false_near(self, where, reach):
        """Return how many false peaks are within so many pixels of some, (n_slow, n_fast) bool."""
        x, y, _ = self.found[~self.is_true].T
        rows, columns = np.nonzero(where)
        near = np.maximum(abs(columns - x[:, None]), abs(rows - y[:, None])) <= reach
        return int(near.any(axis=1).sum())

    def expected(self, flag):
        """Return the found peaks that are to have a flag, by the truth."""
        if flag == PeakFlag.GAP:
            true = self.on_mask(0.5 * CORE)
        elif flag == PeakFlag.EDGE:
            true = self.beyond_edges(0.75 * CORE)[:, :2].any(axis=1)
        elif flag == PeakFlag.ENDS:
            true = self.beyond_edges(0.75 * CORE)[:, 2]
        elif flag == PeakFlag.SATURATED:
            true = self.truth["saturated"] > 0
        else:
            known = self.nearest >= 0
            true = np.array([
                len(set(self.nearest[self.overlapping(i, 0.75 * CORE) & known])) > 1
                for i in range(len(known))
            ], bool)  # fmt: skip
        chosen = true & (self.nearest >= 0)
        return np.unique(self.nearest[chosen])

    @cached_property
    def columns(self):
        """By name, (n, 3) or (n,) of the scored peaks that were found: true and found values."""
        truth, peaks = self.truth, self.peaks
        i, j = self.pairs.T
        return {
            "error": self.found[j] - self.places[i],
            "told": np.stack([getattr(peaks, f"{axis}_error")[j] for axis in "xyz"], axis=1),
            "bound": np.array([
                bounds(*self.places[k], self.sigmas[k], truth["intensity"][k],
                       truth["background"][k]) for k in i
            ]).reshape(-1, 3),
            "sigma": self.sigmas[i],
            "intensity": peaks.intensity[j],
            "intensity_error": peaks.intensity_error[j],
            "true_intensity": truth["intensity"][i],
            "flags": peaks.flags[j],
        }  # fmt: skip


class Pool:
    """What some reports say together: one number, or one for each of x, y, z."""

    def __init__(self, reports):
        self.reports = list(reports)
        names = self.reports[0].columns
        self.columns = {
            name: np.concatenate([report.columns[name] for report in self.reports])
            for name in names
        }
        narrow = self.columns["sigma"] < SAMPLING
        self.floor = np.where(narrow, np.hypot(FLOOR, 1 / np.sqrt(12)), FLOOR)

    def _sum(self, count):
        return sum(count(report) for report in self.reports)

    @property
    def recall(self):
        scored = self._sum(lambda report: len(report.scored))
        return 1 - self._sum(lambda report: len(report.missed)) / scored

    @property
    def purity(self):
        return self._sum(lambda r: r.is_true.sum()) / self._sum(lambda r: len(r.peaks))

    @property
    def purity_of_whole(self):
        """Return the purity of the peaks without a flag."""
        true = self._sum(lambda r: (r.is_true & (r.peaks.flags == 0)).sum())
        return true / self._sum(lambda r: (r.peaks.flags == 0).sum())

    @property
    def rms(self):
        """Return errors of place in parts of 1.3 bounds and the floor."""
        tolerance = np.hypot(1.3 * self.columns["bound"], self.floor)
        return np.sqrt(np.mean((self.columns["error"] / tolerance) ** 2, axis=0))

    @property
    def median(self):
        return np.median(np.abs(self.columns["error"]), axis=0)

    @property
    def bias(self):
        """Return the mean error, the better known places counting more [pixels, frames]."""
        weight = 1 / np.hypot(self.columns["bound"], self.floor) ** 2
        return np.average(self.columns["error"], axis=0, weights=weight)

    @property
    def told(self):
        """Return errors in parts of those told, where they are more than a matter of sampling."""
        resolved = self.columns["sigma"] >= SAMPLING
        squares = (self.columns["error"] / self.columns["told"]) ** 2
        return np.sqrt(np.average(squares, axis=0, weights=resolved))

    @property
    def within_two(self):
        """Return the part of the intensities that are within two of their errors."""
        off = self.columns["intensity"] - self.columns["true_intensity"]
        return np.mean(np.abs(off) < 2 * self.columns["intensity_error"])

    @property
    def correlation(self):
        found, true = (np.log(self.columns[name]) for name in ("intensity", "true_intensity"))
        return np.corrcoef(found, true)[0, 1]

    def __str__(self):
        names = ("recall", "purity", "purity_of_whole", "rms", "median", "bias", "told",
                 "within_two", "correlation")  # fmt: skip
        values = ", ".join(f"{name} {np.round(getattr(self, name), 4)}" for name in names)
        return f"{len(self.columns['sigma'])} peaks: {values}"


def search(folder, scan, **options):
    """Simulate a scan, search it, and return a `Report`."""
    wrapper = simulate(MPI.COMM_SELF, folder, scan)
    params = FramesParams(mask=False, **options)
    run_frames(MPI.COMM_SELF, wrapper, ScanParams(), NormParams(), params, OutputParams())
    truth = read_true_peaks(scan_files(folder, scan).truth(), "f1")
    with open_file(wrapper) as file:
        peaks = read_peaks(file["f1"])
    pixels = true_pixels(scan, 0)
    wrong = np.concatenate([pixels.hot, pixels.dead[~pixels.dead_known]])
    return Report(truth, peaks, masked_pixels(scan, 0), wrong, scan.positions[0].n_frames)
