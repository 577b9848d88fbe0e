"""A flat scatterer, measured at two tilted positions with every effect, gives one flat volume.

What the detector counts is worked out here from what happens to the photons, not from the
program's formulas: solid angles by spherical triangles, paths in the sensor by its two planes.
"""

import shutil
from dataclasses import replace as replaced

import h5py
import numpy as np
import pytest
from mpi4py import MPI
from unit.plain_scan import CELL, DETECTOR, N_FRAMES, SHAPE, replace, write_scan

from nxmpi.crystal.detector import parse_orientation, pixel_positions
from nxmpi.errors import CollectiveError
from nxmpi.model import Detector
from nxmpi.nexus import schema
from nxmpi.params import (
    CombineParams,
    NormParams,
    OutputParams,
    ScanParams,
    TransformParams,
)
from nxmpi.pipeline.combine import run_combine
from nxmpi.pipeline.transform import run_transform

TILTED = {
    "f1": {**DETECTOR, "yaw": 14.0, "pitch": -11.0, "distance": 41.0},
    "f2": {**DETECTOR, "yaw": -9.0, "pitch": 17.0, "distance": 61.0, "beam_center_x": 2.0},
}
INTENSITY = 3e6
"""Counts of a pixel at factors of 1 [counts]."""
MU_T, MU, FRACTION, NORM = 1.3, 0.004, 0.8, 70000.0
DEAD_TIME, FRAME_TIME = 150.0, 1.7
"""[ns], [s]"""
EVERYTHING = NormParams(
    raw_monitor=True, efficiency=MU_T, air=MU, flat_field="response", dead_time=DEAD_TIME
)
GRID = ((-4.0, 0.4, 4.0), (-5.0, 0.4, 5.0), (-6.0, 0.4, 6.0))
LEFT_OUT = {
    "monitor": False, "attenuator": False, "filter": False, "transmission": False,
    "polarization": False, "solid_angle": False, "efficiency": None, "air": None,
    "flat_field": None, "dead_time": None,
}  # fmt: skip


def detector_of(name):
    values = TILTED[name]
    return Detector(
        shape=SHAPE, pixel_size=values["pixel_size"], distance=values["distance"],
        beam_center=(values["beam_center_x"], values["beam_center_y"]),
        orientation=parse_orientation("-y +z -x"),
        **{tilt: values[tilt] for tilt in ("yaw", "pitch", "roll")},
    )  # fmt: skip


def triangle(a, b, c):
    """Return the solid angle of triangles (Van Oosterom & Strackee, 1983) [sr]."""
    a, b, c = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b, c))
    volume = np.abs(np.sum(a * np.cross(b, c), axis=-1))
    cosines = sum(np.sum(p * q, axis=-1) for p, q in ((a, b), (b, c), (c, a)))
    return 2 * np.arctan2(volume, 1 + cosines)


def pixel_effects(name):
    """Return what each effect leaves of the photons in a pixel, (n_slow, n_fast) each."""
    detector = detector_of(name)
    y, x = np.indices(SHAPE).astype(float)
    v = pixel_positions(detector, x + 0.5, y + 0.5)
    corners = [pixel_positions(detector, x + i, y + j) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
    angle = triangle(*corners[:3]) + triangle(corners[0], *corners[2:])
    k = v / np.linalg.norm(v, axis=-1, keepdims=True)
    normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    depth = np.sum((v + k) * normal, axis=-1) - np.sum(v * normal, axis=-1)  # of 1 mm of path
    along_y, along_z = 1 - k[..., 1] ** 2, 1 - k[..., 2] ** 2
    return {
        "polarization": (along_y * (1 + FRACTION) + along_z * (1 - FRACTION)) / 2,
        "solid_angle": angle / (DETECTOR["pixel_size"] / TILTED["f1"]["distance"]) ** 2,
        "efficiency": 1 - np.exp(-MU_T / np.abs(depth)),
        "air": np.exp(-MU * np.linalg.norm(v, axis=-1)),
        "flat_field": np.random.default_rng(len(name) + ord(name[1])).uniform(0.7, 1.3, SHAPE),
    }


def frame_effects(name):
    """Return what each effect leaves of the photons in a frame, (n_frames,) each."""
    rng = np.random.default_rng(ord(name[1]))
    monitor = rng.uniform(50000, 90000, N_FRAMES)
    monitor[0], monitor[-1] = monitor[1], monitor[-2]  # outer ones are taken from these
    return {
        "monitor": monitor / NORM,
        "attenuator": np.array(0.4 if name == "f1" else 0.9),
        "filter": np.where(np.arange(N_FRAMES) > 4, 0.6, 1.0),
        "transmission": rng.uniform(0.6, 1.4, N_FRAMES),
    }


def counted(name):
    """Return the frames of a flat scatterer, (n_frames, n_slow, n_fast)."""
    pixel = np.prod(list(pixel_effects(name).values()), axis=0)
    frame = np.prod(np.broadcast_arrays(*frame_effects(name).values()), axis=0)
    arriving = INTENSITY * frame[:, None, None] * pixel
    return np.rint(arriving / (1 + arriving * DEAD_TIME * 1e-9 / FRAME_TIME)).astype(np.int32)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return a scan of two positions with all that the corrections need."""
    path = write_scan(tmp_path_factory.mktemp("flat"))
    with h5py.File(path, "r+") as file:
        file.copy("f1", "f2")
        for name, values in TILTED.items():
            entry, frame = file[name], frame_effects(name)
            with h5py.File(path.parent / "300K" / f"{name}.h5", "w") as raw:
                raw["entry/data/data"] = counted(name)
            link = h5py.ExternalLink(f"300K/{name}.h5", "/entry/data/data")
            replace(entry, "data/data", link)
            for key in ("distance", "yaw", "pitch", "beam_center_x"):
                replace(entry, f"instrument/detector/{key}", values[key])
            replace(entry, "instrument/goniometer/phi", -10.0 if name == "f1" else 25.0, step=2.0)
            for key in ("xs", "ys", "zs"):
                replace(entry, f"instrument/goniometer/{key}", 0.0)
            replace(entry, "monitor1/data", frame["monitor"] * NORM)
            entry["instrument/attenuator/attenuator_transmission"] = frame["attenuator"]
            entry["instrument/filter/transmission"] = frame["filter"]
            entry["frame_sums/transmission"] = frame["transmission"]
            entry["instrument/detector/flatfield"] = pixel_effects(name)["flat_field"]
            entry["instrument/detector/frame_time"] = FRAME_TIME
    return path


@pytest.fixture
def path(measured, tmp_path):
    """Return a copy of it."""
    shutil.copytree(measured.parents[2], tmp_path / "e")
    return tmp_path / "e" / measured.relative_to(measured.parents[2])


def intensity(path, norm, **params):
    """Return the combined volume where it was measured."""
    scan = ScanParams(grid=GRID, norm=NORM, polarization=FRACTION)
    output = OutputParams(root_writes=True, compression="none")
    run_transform(MPI.COMM_SELF, path, scan, norm, TransformParams(**params), output)
    run_combine(MPI.COMM_SELF, path, CombineParams(), output)
    with h5py.File(schema.ScanFiles(path).combined(schema.REGULAR), "r") as file:
        values = file["entry/data/v"][()]
    return values[np.isfinite(values)]


def test_flat_scatterer_gives_a_flat_volume(path):
    found = intensity(path, EVERYTHING)
    assert found.size > 150
    np.testing.assert_allclose(found, INTENSITY, rtol=3e-4)  # solid angle of a small pixel


@pytest.mark.parametrize("factor", list(LEFT_OUT))
def test_volume_is_not_flat_without_one_of_the_factors(path, factor):
    found = intensity(path, replaced(EVERYTHING, **{factor: LEFT_OUT[factor]}))
    assert found.std() / found.mean() > 0.01


def test_flat_field_can_be_what_counts_are_multiplied_by(path):
    with h5py.File(path, "r+") as file:
        for name in TILTED:
            response = file[name]["instrument/detector/flatfield"][()]
            replace(file[name], "instrument/detector/flatfield", 1 / response)
    found = intensity(path, replaced(EVERYTHING, flat_field="correction"))
    np.testing.assert_allclose(found, INTENSITY, rtol=3e-4)


def test_each_factor_is_stored_with_the_result(path):
    intensity(path, EVERYTHING)
    for name in TILTED:
        wanted = {**frame_effects(name), **pixel_effects(name)}
        with h5py.File(schema.ScanFiles(path).transform(name, schema.REGULAR), "r") as file:
            factors = {key: values[()] for key, values in file["entry/norm_factors"].items()}
        assert factors.keys() == wanted.keys()
        for key, values in wanted.items():
            np.testing.assert_allclose(factors[key], np.broadcast_to(values, factors[key].shape),
                                       rtol=3e-4, err_msg=key)  # fmt: skip
        with h5py.File(path, "r") as file:
            told = file[name]["nxworkflow/nxtransform/parameters"]
            assert {f"factor_{key}" for key in [*wanted, "dead_time"]} <= set(told)


def test_hits_stand_beside_counts_and_norm(path):
    intensity(path, EVERYTHING, hits=True)
    with h5py.File(schema.ScanFiles(path).transform("f1", schema.REGULAR), "r") as file:
        data = {name: file["entry/data"][name][()] for name in ("n", "n_pixels")}
    assert data["n_pixels"].sum() == N_FRAMES * np.prod(SHAPE)
    assert ((data["n_pixels"] > 0) == (data["n"] > 0)).all()


@pytest.mark.parametrize("change", ["frame_time", "flatfield"])
def test_factor_asked_for_without_its_input_is_an_error(path, change):
    with h5py.File(path, "r+") as file:
        del file[f"f2/instrument/detector/{change}"]
    with pytest.raises(
        CollectiveError, match=rf"f2/instrument/detector/{change}: expected .*found"
    ):
        intensity(path, EVERYTHING)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("frame_time", 1e-7, "more than the dead time, 150 ns, found 1e-07 s"),
        ("flatfield", np.zeros(SHAPE), "numbers above 0 in all good pixels, found others in 168"),
        ("flatfield", np.ones((3, 4)), r"\(12, 14\) pixels, found shape \(3, 4\)"),
        ("flatfield_applied", 1, "counts that it has not been applied to, found that it has"),
    ],
)
def test_factor_with_input_that_makes_no_sense_is_an_error(path, field, value, said):
    with h5py.File(path, "r+") as file:
        replace(file["f1"], f"instrument/detector/{field}", value)
    with pytest.raises(CollectiveError, match=f"f1/instrument/detector/{field}: expected {said}"):
        intensity(path, EVERYTHING)


def test_axes_of_the_grid_are_kept_with_the_volume(path):
    """The grid of a volume along other axes is read back, and its cell is that of the axes."""
    axes = ((1.0, 1.0, 0.0), (1.0, -1.0, 0.0), (0.0, 0.0, 1.0))
    scan = ScanParams(grid=GRID, norm=NORM, axes=axes)
    output = OutputParams(root_writes=True)
    run_transform(MPI.COMM_SELF, path, scan, EVERYTHING, TransformParams(), output)
    run_combine(MPI.COMM_SELF, path, CombineParams(), output)
    with h5py.File(schema.ScanFiles(path).combined(schema.REGULAR), "r") as file:
        data = file["entry/data"]
        np.testing.assert_array_equal(data.attrs["grid_axes"], axes)
        assert data["Qh"].attrs["long_name"] == "[1 1 0] (r.l.u.)"
        a, b, c, alpha, beta, gamma = CELL
        cosines = np.cos(np.radians([alpha, beta, gamma]))
        metric = np.outer([a, b, c], [a, b, c])
        metric *= [[1, *cosines[[2, 1]]], [cosines[2], 1, cosines[0]], [*cosines[[1, 0]], 1]]
        lengths = np.sqrt(np.diag(np.array(axes) @ np.linalg.inv(metric) @ np.array(axes).T))
        found = [data[name].attrs["scaling_factor"] for name in ("Qh", "Qk", "Ql")]
        np.testing.assert_allclose(found, 2 * np.pi * lengths, rtol=1e-9)
    assert not run_transform(
        MPI.COMM_SELF, path, ScanParams(norm=NORM), EVERYTHING, TransformParams(), output
    )  # the grid that is there, with its axes
