"""Simulated experiments: what they are made of, against oracles of another kind."""

from dataclasses import replace

import h5py
import hdf5plugin  # noqa: F401 - registers the filters
import numpy as np
import pytest
from mpi4py import MPI

from nxmpi.crystal.detector import pixel_positions
from nxmpi.crystal.factors import solid_angle
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.errors import CollectiveError, InputError
from nxmpi.model import HKLGrid, Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_geometry, read_sample
from nxmpi.nexus.stack import read_pixel_mask
from nxmpi.nexus.volume import read_grid
from nxmpi.nexus.weights import read_monitor, read_transmission
from nxmpi.simulate.bragg import Bragg
from nxmpi.simulate.diffuse import (
    Diffuse,
    diffuse_intensity,
    expand,
    laue_operators,
    voxel_mean,
)
from nxmpi.simulate.experiment import geometry
from nxmpi.simulate.factors import frame_factors, pixel_factors
from nxmpi.simulate.frames import build_tables, expected_frame, simulated_frame
from nxmpi.simulate.peaks import reflection_strengths, true_peaks
from nxmpi.simulate.presets import preset
from nxmpi.simulate.truth import read_diffuse, read_peaks
from nxmpi.simulate.write import simulate

TINY = preset("tiny")
TEXTURELESS = Diffuse(flat=7.0, air=0.0, amplitude=0.0, shells=())
NO_PEAKS = Bragg(strength=0.0)
CELLS = {
    "P -1": Lattice(a=5.1, b=6.3, c=7.2, alpha=83.0, beta=97.0, gamma=105.0),
    "P 1 21/c 1": Lattice(a=5.1, b=6.3, c=7.2, alpha=90.0, beta=97.0, gamma=90.0),
    "P 21 21 21": Lattice(a=5.1, b=6.3, c=7.2, alpha=90.0, beta=90.0, gamma=90.0),
    "I 41/a": Lattice(a=5.1, b=5.1, c=7.2, alpha=90.0, beta=90.0, gamma=90.0),
    "R -3 c :H": Lattice(a=5.1, b=5.1, c=13.0, alpha=90.0, beta=90.0, gamma=120.0),
    "P 6/m m m": Lattice(a=5.1, b=5.1, c=7.2, alpha=90.0, beta=90.0, gamma=120.0),
    "F d -3 m :2": Lattice(a=8.1, b=8.1, c=8.1, alpha=90.0, beta=90.0, gamma=90.0),
}


def tables(experiment, index=0):
    return build_tables(experiment, index, true_peaks(experiment, index))


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("step", [2.0, -2.0, 40.0], ids="step {}".format)
def test_every_true_peak_is_at_its_hkl(index, step):
    positions = tuple(replace(setting, step=step) for setting in TINY.positions)
    experiment = replace(TINY, positions=positions)
    peaks = true_peaks(experiment, index)
    place = geometry(experiment, index)
    assert len(peaks.x) > 20
    found = pixel_to_hkl(place, peaks.x + 0.5, peaks.y + 0.5, peaks.phi)
    np.testing.assert_allclose(found, peaks.hkl, atol=1e-9)
    phi = place.goniometer.phi[0] + (peaks.z + 0.5) * step
    np.testing.assert_allclose(phi, peaks.phi, atol=1e-9)
    assert (np.diff(peaks.z) >= 0).all()


def test_each_point_reflects_twice_in_a_full_turn():
    setting = replace(TINY.positions[1], n_frames=720, step=0.5)
    peaks = true_peaks(replace(TINY, positions=(setting,)), 0)
    inside = (peaks.z > -0.5) & (peaks.z < 719.5)
    turned = np.sort(peaks.z[inside])
    twice = true_peaks(replace(TINY, positions=(replace(setting, n_frames=1440),)), 0)
    inside = (twice.z > -0.5) & (twice.z < 1439.5)
    np.testing.assert_allclose(
        np.sort(twice.z[inside]), np.concatenate([turned, turned + 720]), atol=1e-8
    )


@pytest.mark.parametrize("symbol", CELLS)
def test_equivalent_points_have_equal_intensities(symbol):
    shells = (((1, 0, 0), -0.01), ((1, 1, 0), 0.005), ((0.5, 0.5, 0.5), -0.01), ((1, 2, 0), 0.004))
    diffuse = Diffuse(shells=shells, tds=0.3)
    experiment = replace(TINY, lattice=CELLS[symbol], space_group=symbol, diffuse=diffuse)
    parameters, UB = expand(diffuse, symbol, CELLS[symbol]), np.array(geometry(experiment, 0).UB)
    rng = np.random.default_rng(1)
    hkl, whole = rng.uniform(-4, 4, (20, 3)), rng.integers(-6, 7, (20, 3)).astype(float)
    Q = 2 * np.pi * np.linalg.norm(hkl @ UB.T, axis=1)
    intensity, strength = diffuse_intensity(parameters, hkl, Q), None
    assert intensity.min() >= 0
    assert len(np.unique(intensity)) == 20
    strength = reflection_strengths(experiment, whole)
    for operator in laue_operators(symbol):
        image = hkl @ operator
        Q = 2 * np.pi * np.linalg.norm(image @ UB.T, axis=1)
        np.testing.assert_allclose(diffuse_intensity(parameters, image, Q), intensity, rtol=1e-12)
        np.testing.assert_allclose(
            reflection_strengths(experiment, whole @ operator), strength, rtol=1e-9
        )


def test_strengths_are_distributed_as_wilson_says():
    experiment = replace(TINY, bragg=Bragg(strength=3.0, B=0.0))
    hkl = np.stack(np.meshgrid(*[np.arange(-20, 21)] * 2, np.arange(1, 9)), -1).reshape(-1, 3)
    strength = reflection_strengths(experiment, hkl.astype(float))
    n = len(hkl)
    assert strength.mean() == pytest.approx(3.0, abs=4 * 3.0 / np.sqrt(n))
    assert (strength < 3 * np.log(2)).mean() == pytest.approx(0.5, abs=2 / np.sqrt(n))


@pytest.mark.parametrize("shells", [(), TINY.diffuse.shells, (((0.5, 0.5, 0), -0.1),)])
@pytest.mark.parametrize("tds", [0.0, 0.3])
@pytest.mark.parametrize("index", [0, 1])
def test_expected_counts_are_the_formula_times_the_factors(index, tds, shells):
    diffuse = replace(TINY.diffuse, shells=shells, tds=tds)
    experiment = replace(TINY, bragg=NO_PEAKS, diffuse=diffuse, transmission_drift=0.2)
    place, frame = geometry(experiment, index), 7
    n_slow, n_fast = place.detector.shape
    x, y = (v.ravel() + 0.5 for v in np.meshgrid(np.arange(n_fast), np.arange(n_slow)))
    phi = np.full(x.size, place.goniometer.phi[0] + (frame + 0.5) * place.goniometer.step)
    hkl = pixel_to_hkl(place, x, y, phi)
    Q = 2 * np.pi * np.linalg.norm(hkl @ np.array(place.UB).T, axis=1)
    intensity = diffuse_intensity(expand(experiment.diffuse, "P -1", experiment.lattice), hkl, Q)
    polarization, angle = pixel_factors(experiment, index)
    factors = frame_factors(experiment, index)
    scale = factors.monitor[frame] / experiment.norm * factors.attenuator[frame]
    scale *= factors.filter[frame] * factors.transmission[frame]
    found = tables(experiment, index)
    wanted = intensity.reshape(n_slow, n_fast) * polarization * angle * scale
    wanted[found.bad] = 0
    np.testing.assert_allclose(
        expected_frame(found, frame, experiment.wavelength), wanted, rtol=1e-10, atol=1e-12
    )


def test_counts_of_all_frames_are_those_of_the_peaks():
    experiment = replace(TINY, diffuse=replace(TEXTURELESS, flat=0.0))
    peaks, found = true_peaks(experiment, 0), tables(experiment)
    total = sum(expected_frame(found, frame, experiment.wavelength).sum() for frame in range(11))
    assert total > 1000
    assert total == pytest.approx(peaks.recorded.sum(), rel=1e-9)


def test_a_peak_far_from_edges_and_gaps_is_recorded_in_full():
    setting = TINY.positions[0]
    experiment = replace(
        TINY, positions=(replace(setting, row_gaps=(), column_gaps=(), attenuator=None),)
    )
    peaks = true_peaks(experiment, 0)
    inside = (abs(peaks.x - 31.5) < 25) & (abs(peaks.y - 23.5) < 17) & (abs(peaks.z - 5) < 2)
    assert inside.sum() > 3
    # factors vary over a peak: the mean over the Gaussian differs from that at the centre
    np.testing.assert_allclose(peaks.recorded[inside], peaks.intensity[inside], rtol=5e-3)


def test_peaks_have_the_same_volume_in_reciprocal_space_wherever_they_reflect():
    # sum over pixels and frames of counts / w times the volume of each is structure alone
    experiment = replace(TINY, diffuse=replace(TEXTURELESS, flat=0.0), monitor=False)
    place = geometry(experiment, 1)
    peaks = true_peaks(experiment, 1)
    chosen = np.flatnonzero(peaks.lorentz < 14)
    x, y, phi = peaks.x[chosen] + 0.5, peaks.y[chosen] + 0.5, peaks.phi[chosen]
    d = 1e-3
    edges = [
        pixel_to_hkl(place, x + dx, y + dy, phi + dp)
        - pixel_to_hkl(place, x - dx, y - dy, phi - dp)
        for dx, dy, dp in np.eye(3) * d
    ]
    edges = np.array(edges) / (2 * d)
    volume = abs(np.linalg.det(np.swapaxes(edges, 0, 1))) * abs(place.goniometer.step)
    seen = solid_angle(place.detector, pixel_positions(place.detector, x, y))
    integral = peaks.strength[chosen] / seen * volume
    ratio = integral / reflection_strengths(experiment, peaks.hkl[chosen])
    assert len(chosen) > 20
    np.testing.assert_allclose(ratio / ratio.mean(), 1, atol=1e-5)  # derivatives by differences


def test_noise_is_of_poisson():
    experiment = replace(TINY, diffuse=TEXTURELESS, bragg=NO_PEAKS)
    found = tables(experiment)
    good = ~found.bad
    residuals = []
    for frame in range(11):
        expected = expected_frame(found, frame, experiment.wavelength)[good]
        counts = simulated_frame(experiment, 0, found, frame)[good]
        residuals.append((counts - expected) / np.sqrt(expected))
    z = np.concatenate(residuals)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert z.var() == pytest.approx(1, abs=4 * np.sqrt(2.5 / z.size))


def test_noise_differs_between_frames_positions_and_seeds():
    experiment = replace(TINY, diffuse=TEXTURELESS, bragg=NO_PEAKS)
    found = tables(experiment)
    same = replace(found, scales=np.ones(11))
    first = simulated_frame(experiment, 0, same, 0)
    assert np.array_equal(first, simulated_frame(experiment, 0, same, 0))
    assert not np.array_equal(first, simulated_frame(experiment, 0, same, 1))
    assert not np.array_equal(first, simulated_frame(experiment, 1, same, 0))
    assert not np.array_equal(first, simulated_frame(replace(experiment, seed=1), 0, same, 0))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_masked_and_overflowing_pixels_stay_apart(dtype):
    experiment = replace(
        TINY, dtype=dtype, diffuse=replace(TEXTURELESS, flat=2000.0), bragg=NO_PEAKS
    )
    found = tables(experiment)
    frame = simulated_frame(experiment, 0, found, 0)
    limit = np.iinfo(dtype).max
    sentinel = limit if dtype.startswith("u") else -1
    assert frame.dtype == dtype
    assert (frame[found.bad] == sentinel).all()
    assert (frame[~found.bad] != sentinel).all()
    if dtype.endswith("int8"):
        assert (frame[~found.bad] == (limit - 1 if dtype == "uint8" else limit)).all()


def test_mean_over_a_voxel_is_that_of_many_points():
    parameters, UB = expand(TINY.diffuse, "P -1", TINY.lattice), np.array(geometry(TINY, 0).UB)
    centres, step = np.array([[0.3, -1.2, 2.1], [1.0, 2.0, -0.5]]), (0.2, 0.2, 0.2)
    n = 20
    offsets = ((np.arange(n) + 0.5) / n - 0.5) * 0.2
    grid = np.stack(np.meshgrid(offsets, offsets, offsets), -1).reshape(-1, 3)
    for centre, mean in zip(centres, voxel_mean(parameters, UB, centres, step), strict=True):
        points = centre + grid
        Q = 2 * np.pi * np.linalg.norm(points @ UB.T, axis=1)
        assert mean == pytest.approx(diffuse_intensity(parameters, points, Q).mean(), rel=1e-3)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    experiment = replace(TINY, grid=HKLGrid(origin=(-2, -3, -1), step=(0.1, 0.2, 0.5),
                                            shape=(41, 31, 5)))  # fmt: skip
    folder = tmp_path_factory.mktemp("simulated") / "experiment"
    return experiment, simulate(MPI.COMM_SELF, folder, experiment)


def test_readers_find_what_was_simulated(scan):
    experiment, path = scan
    with h5py.File(path) as file:
        for index, setting in enumerate(experiment.positions):
            entry = file[f"f{index + 1}"]
            place = read_geometry(entry, setting.detector.shape, 11, read_sample(entry))
            wanted = geometry(experiment, index)
            np.testing.assert_allclose(place.UB, wanted.UB, atol=1e-12)
            offset = place.goniometer.sample_offset
            np.testing.assert_allclose(offset, wanted.goniometer.sample_offset, atol=1e-12)
            goniometer = replace(place.goniometer, sample_offset=wanted.goniometer.sample_offset)
            assert replace(place, UB=wanted.UB, goniometer=goniometer) == wanted
            assert read_sample(entry).space_group == "P -1"
            assert read_pixel_mask(entry, (48, 64)).sum() == 2 * 64 + 2 * 46
            assert read_grid(entry[schema.REGULAR.group]) == experiment.grid
            factors, used = frame_factors(experiment, index), slice(0, 11)
            monitor, _ = read_monitor(entry, None, used, 11, raw=False)
            assert np.array_equal(monitor, factors.monitor)  # replaced ends included
            for name, values in (
                (schema.ATTENUATOR, factors.attenuator), (schema.FILTER, factors.filter)
            ):  # fmt: skip
                found = read_transmission(entry, name, used, 11)
                assert found is None or np.array_equal(found, values)
            raw = entry[schema.RAW]
            assert raw.shape == (11, 48, 64)
            assert raw.dtype == np.int32
        assert entry.get(schema.RAW, getlink=True).filename == "300K/f2.h5"
        assert schema.FILTER in file["f2"]
        assert schema.ATTENUATOR in file["f1"]


def test_truth_can_be_read_back(scan):
    experiment, path = scan
    truth = schema.ScanFiles(path).truth()
    parameters, UB = read_diffuse(truth)
    wanted = expand(experiment.diffuse, experiment.space_group, experiment.lattice)
    assert np.array_equal(UB, geometry(experiment, 0).UB)
    assert np.array_equal(parameters.levels, wanted.levels)
    assert np.array_equal(parameters.vectors, wanted.vectors)
    peaks, columns = true_peaks(experiment, 1), read_peaks(truth, "f2")
    assert np.array_equal(columns["x"], peaks.x)
    assert np.array_equal(columns["h"], peaks.hkl[:, 0])
    with h5py.File(truth) as file:
        assert "transmission" in file.attrs["factors"]
        assert "alphas_j cos" in file["diffuse"].attrs["formula"]


def test_scan_opens_with_nexusformat(scan):
    nexus = pytest.importorskip("nexusformat.nexus")
    _, path = scan
    root = nexus.nxload(str(path))
    assert root["f1/data"].nxsignal.shape == (11, 48, 64)
    assert root["f2/data"].nxaxes[2].shape == (64,)
    assert float(root["f1/sample/unitcell_a"]) == 5.1
    assert root["f2/monitor1"].nxsignal.shape == (11,)


def test_omissions_are_omitted(tmp_path):
    experiment = replace(TINY, monitor=False, orientation=False, grid=None, compression="none")
    path = simulate(MPI.COMM_SELF, tmp_path, experiment)  # an empty directory is no obstacle
    with h5py.File(path) as file:
        assert schema.MONITORS[0] not in file["f1"]
        assert schema.ORIENTATION_MATRIX not in file["f1"][schema.DETECTOR]
        assert schema.REGULAR.group not in file["f1"]
        assert (frame_factors(experiment, 0).total == 0.5).all()


def test_an_existing_directory_is_kept_unless_told_otherwise(tmp_path):
    path = simulate(MPI.COMM_SELF, tmp_path / "e", TINY)
    made_from_it = schema.ScanFiles(path).transform("f1", schema.REGULAR)
    made_from_it.touch()
    with pytest.raises(CollectiveError, match="exists already"):
        simulate(MPI.COMM_SELF, tmp_path / "e", TINY)
    simulate(MPI.COMM_SELF, tmp_path / "e", TINY, overwrite=True)
    assert not made_from_it.exists()


def test_measured_data_are_never_overwritten(tmp_path):
    path = simulate(MPI.COMM_SELF, tmp_path / "e", TINY)
    files = schema.ScanFiles(path)
    files.truth().unlink()
    with pytest.raises(CollectiveError, match="holds no simulation"):
        simulate(MPI.COMM_SELF, tmp_path / "e", TINY, overwrite=True)
    assert files.raw("f1").exists()


def test_settings_of_another_experiment_are_never_overwritten(tmp_path):
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "settings.ini").write_text("[nxreduce]")
    with pytest.raises(CollectiveError, match="holds no simulation"):
        simulate(MPI.COMM_SELF, tmp_path, TINY, overwrite=True)
    assert (tmp_path / "tasks" / "settings.ini").read_text() == "[nxreduce]"


@pytest.mark.parametrize(
    "changes",
    [
        {"space_group": "P 4"},
        {"space_group": "nonsense"},
        {"U": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.1, 1.0))},
        {"U": ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))},
        {"positions": ()},
        {"chunk_frames": 0},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(changes):
    with pytest.raises(InputError):
        replace(TINY, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"shells": (((1, 0, 0), 0.6), ((0, 1, 0), -0.6))},
        {"shells": (((0, 0, 0), 0.6),)},
        {"shells": (((0.123, 0, 0), 0.6),)},
        {"flat": -1.0},
        {"air_width": 0.0},
        {"tds": -1.0},
        {"tds_width": 0.0},
    ],
    ids=str,
)
def test_a_formula_that_makes_no_sense_is_refused(changes):
    with pytest.raises(InputError, match="diffuse scattering"):
        Diffuse(**changes)


def test_any_orientation_and_cell_gives_a_consistent_UB():
    for symbol, lattice in CELLS.items():
        experiment = preset("tiny", lattice=lattice, space_group=symbol)
        U = np.array(geometry(experiment, 0).UB) @ np.linalg.inv(reciprocal_matrix(lattice))
        np.testing.assert_allclose(U, np.array(experiment.U), atol=1e-12)
        assert len(true_peaks(experiment, 0).x)
