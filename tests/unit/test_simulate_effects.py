"""What real measurements suffer from, simulated: against oracles of another kind."""

from dataclasses import replace

import h5py
import hdf5plugin  # noqa: F401 - registers the filters
import numpy as np
import pytest
from mpi4py import MPI

from nxmpi.crystal.goniometer import goniometer_matrix, rotation
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.reciprocal import hkl_to_pixel, reflecting_angles
from nxmpi.errors import InputError
from nxmpi.kernels.simulate import write_harmonics
from nxmpi.model import Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.stack import read_pixel_mask
from nxmpi.simulate.bragg import Bragg
from nxmpi.simulate.diffuse import Diffuse, diffuse_intensity, expand, voxel_mean
from nxmpi.simulate.experiment import geometry
from nxmpi.simulate.factors import bad_pixels
from nxmpi.simulate.frames import build_tables, expected_frame, simulated_frame
from nxmpi.simulate.halos import Halos, true_halos
from nxmpi.simulate.peaks import true_peaks
from nxmpi.simulate.pixels import Pixels, true_pixels
from nxmpi.simulate.presets import preset
from nxmpi.simulate.thermal import springs
from nxmpi.simulate.truth import read_diffuse, read_halos, read_peaks, read_pixels
from nxmpi.simulate.write import simulate

TINY = preset("tiny")
NOTHING = Diffuse(flat=0.0, air=0.0, amplitude=0.0, shells=())
CUBIC = Lattice(a=4.1, b=4.1, c=4.1, alpha=90.0, beta=90.0, gamma=90.0)
CELLS = {
    "P -1": Lattice(a=5.1, b=6.3, c=7.2, alpha=83.0, beta=97.0, gamma=105.0),
    "I 41/a": Lattice(a=5.1, b=5.1, c=7.2, alpha=90.0, beta=90.0, gamma=90.0),
    "R -3 c :H": Lattice(a=5.1, b=5.1, c=13.0, alpha=90.0, beta=90.0, gamma=120.0),
    "C 2/m": Lattice(a=9.1, b=6.3, c=7.2, alpha=90.0, beta=112.0, gamma=90.0),
    "F d -3 m :2": Lattice(a=8.1, b=8.1, c=8.1, alpha=90.0, beta=90.0, gamma=90.0),
}


def tables(experiment, index=0):
    return build_tables(experiment, index, true_peaks(experiment, index))


def expected(experiment, found):
    return np.array([expected_frame(found, n, experiment.wavelength) for n in range(
        len(found.scales))])  # fmt: skip


def without_gaps(n_frames, step, **changes):
    setting = replace(TINY.positions[0], row_gaps=(), column_gaps=(), attenuator=None,
                      n_frames=n_frames, step=step)  # fmt: skip
    return replace(TINY, positions=(setting,), monitor=False, **changes)


@pytest.mark.parametrize("spread", [None, ((0.7, 4.0), (0.7, 4.0), (0.7, 12.0))])
def test_second_moments_of_frames_are_the_true_widths(spread):
    bragg = Bragg(mosaic=0.6, sigma=(0.9, 0.7, 0.5), spread=spread)
    experiment = without_gaps(161, 0.25, diffuse=NOTHING, bragg=bragg)
    found, peaks = tables(experiment), true_peaks(experiment, 0)
    reach = 5 * np.stack([peaks.sigx, peaks.sigy, peaks.sigz])
    places, sizes = np.stack([peaks.x, peaks.y, peaks.z]), np.array([[63], [47], [160]])
    whole = np.flatnonzero(((places > reach) & (places < sizes - reach)).all(axis=0))
    assert len(whole) > 10
    for p in whole[:10]:
        alone = replace(found, peaks=found.peaks[p : p + 1])
        counts = expected(experiment, alone) / np.where(found.peak_weight > 0, found.peak_weight, 1)
        for axis, width in ((2, peaks.sigx), (1, peaks.sigy), (0, peaks.sigz)):
            profile = counts.sum(axis=tuple({0, 1, 2} - {axis}))
            index = np.arange(len(profile))
            mean = (profile * index).sum() / profile.sum()
            variance = (profile * (index - mean) ** 2).sum() / profile.sum()
            assert mean == pytest.approx((peaks.z, peaks.y, peaks.x)[axis][p], abs=1e-4)
            assert variance == pytest.approx(width[p] ** 2 + 1 / 12, rel=1e-3)  # and the pixel


def test_widths_are_spread_between_the_ends_and_independent():
    spread = ((0.6, 4.0), (0.7, 3.0), (0.4, 12.0))
    experiment = without_gaps(720, 0.5, bragg=Bragg(spread=spread))
    peaks = true_peaks(experiment, 0)
    logs = []
    for (low, high), width in zip(spread, (peaks.sigx, peaks.sigy, peaks.sigz), strict=True):
        assert width.min() >= low
        assert width.max() <= high
        logs.append(np.log(width / low) / np.log(high / low))
    n = len(peaks.x)
    assert n > 300
    np.testing.assert_allclose(np.mean(logs, axis=1), 0.5, atol=4 / np.sqrt(12 * n))
    assert abs(np.corrcoef(logs) - np.eye(3)).max() < 4 / np.sqrt(n)


def test_mosaic_widths_are_the_shifts_of_turned_crystals():
    experiment = without_gaps(11, 2.0, bragg=Bragg(mosaic=0.3, sigma=(1e-6, 1e-6, 1e-6)))
    setting = replace(experiment.positions[0], sample_offset=(0.0, 0.0, 0.0))
    experiment = replace(experiment, positions=(setting,))
    place, peaks, d = geometry(experiment, 0), true_peaks(experiment, 0), 1e-4
    UB = np.array(place.UB)
    for p in np.flatnonzero(peaks.lorentz < 10)[:20]:
        hkl, phi = peaks.hkl[p : p + 1], peaks.phi[p]
        R = goniometer_matrix(place.goniometer, phi)
        angles = []
        for axis in range(3):
            turned = replace(place, UB=R.T @ rotation(axis, d) @ R @ UB)
            both = reflecting_angles(turned, hkl)[0]
            angles.append(min(((both - phi + 180) % 360 - 180) / d, key=abs))
            if axis == 0:  # about the beam: the point still reflects, at the same angle
                x, y = hkl_to_pixel(turned, hkl, np.array([phi]))
        assert peaks.sigz[p] == pytest.approx(0.3 * np.linalg.norm(angles) / 2.0, rel=2e-3)
        cos_theta = np.sqrt(1 - (np.linalg.norm(UB @ hkl[0]) * place.wavelength / 2) ** 2)
        shift = np.array([x[0] - 0.5 - peaks.x[p], y[0] - 0.5 - peaks.y[p]]) / d * 0.3
        sigma = np.array([peaks.sigx[p], peaks.sigy[p]])
        np.testing.assert_allclose(sigma * cos_theta, abs(shift), rtol=0.03, atol=0.02)


def test_no_mosaic_leaves_the_widths_of_the_instrument():
    peaks = true_peaks(TINY, 0)
    for width, sigma in zip((peaks.sigx, peaks.sigy, peaks.sigz), TINY.bragg.sigma, strict=True):
        assert (width == sigma).all()


@pytest.mark.parametrize("symbol", CELLS)
def test_q_is_the_distance_to_the_nearest_bragg_peak_and_repeats(symbol):
    lattice = CELLS[symbol]
    vectors, stiffness = springs(lattice, symbol)
    rng = np.random.default_rng(3)
    centring = {"P": [], "I": [(1, 1, 1)], "C": [(1, 1, 0)], "F": [(1, 1, 0), (0, 1, 1)],
                "R": [(-1, 1, 1)]}[symbol[0]]  # fmt: skip
    divisor = 3 if symbol[0] == "R" else 2
    hkl = rng.integers(-8, 9, (200, 3)).astype(float)
    allowed = np.ones(200, bool)
    for vector in centring:
        allowed &= hkl @ np.array(vector) % divisor == 0
    q2 = 2 * (1 - np.cos(2 * np.pi * hkl @ vectors.T)) @ stiffness
    np.testing.assert_allclose(q2[allowed], 0, atol=1e-9)
    assert q2[~allowed].min(initial=1.0) > 0.1
    near = hkl[allowed] + rng.normal(0, 1e-3, (allowed.sum(), 3))
    q2 = 2 * (1 - np.cos(2 * np.pi * near @ vectors.T)) @ stiffness
    offset = 2 * np.pi * (near - hkl[allowed]) @ reciprocal_matrix(lattice).T
    np.testing.assert_allclose(q2, (offset**2).sum(axis=1), rtol=1e-3)


def test_thermal_scattering_is_largest_at_bragg_peaks_and_grows_with_Q():
    diffuse = replace(NOTHING, tds=0.1, tds_width=0.2, falloff=0.0)
    parameters = expand(diffuse, "P m -3 m", CUBIC)
    hkl = np.array([[1.0, 0, 0], [1.1, 0, 0], [1.5, 0, 0], [2.0, 0, 0]])
    Q = 2 * np.pi * hkl[:, 0] / 4.1
    found = diffuse_intensity(parameters, hkl, Q)
    assert found[0] == pytest.approx(0.1 * (Q[0] / 0.2) ** 2)
    assert found[3] == pytest.approx(4 * found[0])
    assert found[2] == pytest.approx(0.1 * Q[2] ** 2 / ((2 / 4.1) ** 2 + 0.2**2))
    assert found[0] > found[1] > found[2]
    UB = np.eye(3) / 4.1
    mean = voxel_mean(parameters, UB, hkl, (0.02, 0.02, 0.02))
    np.testing.assert_allclose(mean, found, rtol=0.02)


def test_harmonics_are_those_of_numpy():
    coordinate = np.random.default_rng(1).uniform(-30, 30, 500)
    coordinate[:4] = 0.0, 0.5, -0.25, 7.0
    cosines, sines = np.empty((4, 500)), np.empty((4, 500))
    write_harmonics(coordinate, 500, cosines, sines)
    angle = 2 * np.pi * np.arange(4)[:, None] * (coordinate - np.rint(coordinate))
    np.testing.assert_allclose(cosines, np.cos(angle), atol=1e-14)
    np.testing.assert_allclose(sines, np.sin(angle), atol=1e-14)


def test_halos_are_in_the_frames_of_the_truth_and_in_no_others():
    halos = Halos(threshold=30.0, fraction=0.02, radius=(5.0, 9.0))
    bragg = Bragg(strength=2000.0, spread=((0.6, 2.0), (0.6, 2.0), (0.2, 3.0)))
    plain = replace(TINY, bragg=bragg)
    experiment = replace(plain, halos=halos)
    found, peaks = tables(experiment), true_peaks(experiment, 0)
    truth = true_halos(experiment, 0, peaks)
    added = expected(experiment, found) - expected(plain, tables(plain))
    wanted = np.zeros_like(added)
    i, j = np.mgrid[:48, :64]
    n_halos = 0
    for p in np.flatnonzero(peaks.peak > 30):
        frames = np.flatnonzero(abs(np.arange(11) - peaks.z[p]) < max(2 * peaks.sigz[p], 0.5))
        if not len(frames):
            continue
        radius = truth.radius[n_halos]
        assert 5 <= radius <= 9
        assert truth.first_frame[n_halos] == frames[0]
        assert truth.last_frame[n_halos] == frames[-1]
        assert truth.counts_per_pixel[n_halos] == pytest.approx(0.02 * peaks.peak[p])
        disc = (i - peaks.y[p]) ** 2 + (j - peaks.x[p]) ** 2 <= radius**2
        wanted[frames[0] : frames[-1] + 1, disc] += 0.02 * peaks.peak[p]
        n_halos += 1
    assert n_halos == len(truth.x) > 3
    wanted[:, found.bad] = 0
    np.testing.assert_allclose(added, wanted, atol=1e-9)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    experiment = replace(
        TINY, pixels=Pixels(dead=12, hot=6, saturation=200), halos=Halos(threshold=30.0),
        diffuse=replace(TINY.diffuse, tds=0.1),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("simulated") / "experiment"
    return experiment, simulate(MPI.COMM_SELF, folder, experiment)


def test_dead_and_hot_pixels_are_those_of_the_truth(scan):
    experiment, path = scan
    truth = read_pixels(schema.ScanFiles(path).truth(), "f2")
    dead, hot = truth["dead"].astype(int), truth["hot"].astype(int)
    with h5py.File(path) as file:
        mask = read_pixel_mask(file["f2"], (48, 64))
        frames = file["f2"][schema.RAW][()]
    gaps = bad_pixels(experiment.positions[1])
    assert (frames[:, gaps] == -1).all()
    assert len(dead) == 12
    assert (frames[:, dead[:, 0], dead[:, 1]] == 0).all()
    known = truth["dead_known"] == 1
    assert known.sum() == 6
    assert mask[tuple(dead[known].T)].all()
    assert mask.sum() == gaps.sum() + 6
    others = frames.copy()
    others[:, dead[:, 0], dead[:, 1]] = 1
    assert (others[:, ~gaps].sum(axis=0) > 0).all()
    counts, rates = frames[:, hot[:, 0], hot[:, 1]], truth["hot_rates"]
    assert (rates >= 50).all()
    assert (rates <= 1000).all()
    for one, rate in zip(counts.T, rates, strict=True):
        if rate < 120:  # far from saturation
            assert one.mean() == pytest.approx(rate, abs=25)
        if rate > 300:
            assert (one == 200).all()


def test_counts_above_saturation_are_recorded_as_it(scan):
    _, path = scan
    truth = schema.ScanFiles(path).truth()
    peaks = read_peaks(truth, "f1")
    assert read_pixels(truth, "f1")["saturation"] == 200
    with h5py.File(path) as file:
        frames = file["f1"][schema.RAW][()]
    assert frames.max() == 200
    assert np.array_equal(peaks["saturated"] == 1, peaks["peak"] + peaks["background"] > 200)
    strong = np.flatnonzero(peaks["peak"] > 300)
    assert len(strong) > 3
    for p in strong:
        x, y, z = (round(peaks[name][p]) for name in "xyz")
        box = frames[max(z - 1, 0) : z + 2, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
        assert box.max() == 200


def test_truth_of_the_effects_can_be_read_back(scan):
    experiment, path = scan
    truth = schema.ScanFiles(path).truth()
    peaks = true_peaks(experiment, 0)
    halos = true_halos(experiment, 0, peaks)
    columns = read_halos(truth, "f1")
    assert len(halos.x) > 3
    for name in ("x", "y", "first_frame", "last_frame", "radius", "counts_per_pixel"):
        assert np.array_equal(columns[name], getattr(halos, name))
    parameters, _ = read_diffuse(truth)
    wanted = expand(experiment.diffuse, "P -1", experiment.lattice)
    assert np.array_equal(parameters.levels, wanted.levels)
    assert np.array_equal(parameters.coefficients, wanted.coefficients)


def test_peak_and_background_are_those_of_the_frames():
    # a peak in the middle of a pixel and a frame is seen there as its truth says
    experiment = without_gaps(11, 2.0)
    found, peaks = tables(experiment), true_peaks(experiment, 0)
    inside = (abs(peaks.x - 31.5) < 25) & (abs(peaks.y - 23.5) < 17) & (abs(peaks.z - 5) < 4)
    chosen = np.flatnonzero(inside)
    assert len(chosen) > 3
    none = replace(found, peaks=found.peaks[:0])
    for p in chosen:
        x, y, z = round(peaks.x[p]), round(peaks.y[p]), round(peaks.z[p])
        background = expected_frame(none, z, experiment.wavelength)
        alone = replace(found, peaks=found.peaks[p : p + 1])
        frames = expected(experiment, alone) - expected(experiment, none)
        assert frames.max() == pytest.approx(peaks.peak[p], rel=1e-9)
        assert frames.sum() == pytest.approx(peaks.recorded[p], rel=1e-9)
        assert background[y, x] == pytest.approx(peaks.background[p], rel=0.1)


def test_noise_free_saturation_and_hot_pixels_are_exact():
    pixels = Pixels(hot=3, hot_rates=(500.0, 500.0), saturation=400)
    experiment = without_gaps(2, 2.0, poisson=False, diffuse=NOTHING, bragg=Bragg(strength=0.0),
                              pixels=pixels)  # fmt: skip
    frame = simulated_frame(experiment, 0, tables(experiment), 0)
    assert sorted(frame[frame > 0]) == [400, 400, 400]


def test_positions_of_one_detector_have_the_same_faults():
    experiment = replace(TINY, pixels=Pixels(dead=7, hot=5))
    first, second = (true_pixels(experiment, index) for index in (0, 1))
    assert np.array_equal(first.dead, second.dead)
    assert np.array_equal(first.hot, second.hot)
    other = true_pixels(replace(experiment, seed=1), 0)
    assert not np.array_equal(first.dead, other.dead)


def test_pilatus2m_is_recorded_as_it_is_measured(tmp_path):
    whole = preset("pilatus2m")
    assert [setting.n_frames for setting in whole.positions] == [3650] * 3
    experiment = replace(whole, positions=(replace(whole.positions[0], n_frames=3),))
    path = simulate(MPI.COMM_SELF, tmp_path / "e", experiment)
    truth = schema.ScanFiles(path).truth()
    with h5py.File(path) as file:
        frames = file["f1"][schema.RAW][()]
        mask = read_pixel_mask(file["f1"], (1679, 1475))
    assert frames.shape == (3, 1679, 1475)
    gaps = bad_pixels(experiment.positions[0])
    assert (~gaps).sum() == 24 * 195 * 487
    assert mask.sum() == gaps.sum() + 20
    assert 1 < frames[:, ~gaps].mean() < 10
    peaks = read_peaks(truth, "f1")
    assert len(peaks["x"]) > 5
    assert 0.8 <= peaks["sigx"].min() <= peaks["sigx"].max() < 1.5
    assert 0.6 <= peaks["sigz"].min() <= peaks["sigz"].max() < 3


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        (Pixels, {"dead": -1}),
        (Pixels, {"known": 2.0}),
        (Pixels, {"hot_rates": (10.0, 1.0)}),
        (Pixels, {"saturation": 0}),
        (Halos, {"radius": (3.0, 1.0)}),
        (Halos, {"fraction": -1.0}),
        (Bragg, {"mosaic": -0.1}),
        (Bragg, {"spread": ((0.6, 4.0), (0.6, 4.0), (0.0, 12.0))}),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(what, changes):
    with pytest.raises(InputError):
        what(**changes)


def test_more_faults_than_pixels_are_refused():
    with pytest.raises(InputError, match="dead and hot pixels"):
        replace(TINY, pixels=Pixels(dead=2000, hot=2000))
