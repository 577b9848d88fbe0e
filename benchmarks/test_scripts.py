"""The scripts beside each other, in little."""

import sys

import numpy as np
import pytest
from case import SHAPE, make_grid, make_position, write_frames
from case_pdf import write_case
from h5py import File
from launch import HERE, run, run_ranks
from orient import run_ours, simulated
from peers.cctw import settings_of, write_settings
from stage_orient import OFF, TURNED

from nxmpi.cctw.settings import geometry_and_grid
from nxmpi.crystal.reciprocal import frame_transforms

LITTLE = ("--frames", 4, "--grid", 101)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("frames")
    write_frames(path)
    return path


def test_transform_and_plain_loop_have_the_same_sums(folder):
    plain = run_limit("plain", folder)
    stage = run_ranks(
        2, "stage.py", folder, *LITTLE, "--batch", 3, "--from-file", "--masked", "--write", "gzip"
    )
    assert stage["key"] == plain["key"]
    assert stage["counts"] == plain["counts"] > 0
    assert stage["key_kept"] != stage["key"]
    assert stage["sent_MiB"] == stage["sent_formula_MiB"] > 0
    assert stage["written_MiB"] > 0


@pytest.mark.parametrize("memory", ["0", "50M"])
def test_memory_and_traffic_are_within_their_formulas(folder, memory):
    stage = run_ranks(
        2, "stage.py", folder, "--frames", 40, "--grid", 301, "--batch", 8, "--memory", memory
    )
    assert 0 < stage["beyond_MiB"] <= 1.25 * stage["formula_MiB"]
    assert 0 < stage["sent_MiB"] <= 1.1 * stage["sent_formula_MiB"]


@pytest.mark.parametrize("kind", ["index", "copy", "read"])
def test_limits_are_measured(folder, kind):
    assert run_limit(kind, folder)["Mpixel_per_cpu_s"] > 0


def run_limit(kind, folder):
    return run([sys.executable, HERE / "limits.py", kind, folder, *LITTLE])


def test_settings_for_cctw_are_the_same_geometry_and_voxels(tmp_path):
    position, grid = make_position(3), make_grid(1001)
    path = tmp_path / "cctw.pars"
    write_settings(path, settings_of(position, grid))
    geometry, found = geometry_and_grid(path, SHAPE, 3)
    assert found.shape == grid.shape
    expected = frame_transforms(position.geometry, grid, "centred")
    for ours, theirs in zip(expected, frame_transforms(geometry, found, "lower-edge"), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-9)
    for name in ("pixel_size", "distance", "beam_center", "orientation", "yaw", "pitch", "roll"):
        ours, theirs = (getattr(each.detector, name) for each in (position.geometry, geometry))
        np.testing.assert_allclose(theirs, ours, rtol=1e-12)


def test_simulated_peaks_are_oriented(tmp_path):
    scan = simulated(tmp_path, 240, 0, TURNED)
    ours = run_ours(scan)
    assert ours["errors"]["of all positions"] < 2e-4 < np.abs(OFF - 1).max()
    assert ours["used"] == 240
    assert all(seconds["cpu_s"] > 0 for seconds in ours["parts"].values())


def test_chain_to_real_space_is_that_of_plain_numpy(tmp_path):
    scan = write_case(tmp_path, 61)
    stage = run_ranks(2, "stage_pdf.py", scan)
    assert stage["parts"]["pdf"] > 0
    plain = run([sys.executable, HERE / "numpy_pdf.py", scan, 1])
    assert plain["time_s"] > 0
    found, expected = {}, {}
    with File(scan.parent / "300K" / "symm_transform.nxs") as file:
        found = {name: file[f"entry/data/{name}"][()] for name in ("data", "fill")}
    with File(scan.parent / "300K" / "numpy_symm.h5") as file:
        expected = {name: file[name][()] for name in ("data", "fill")}
    np.testing.assert_allclose(found["data"], expected["data"], rtol=1e-5)
    inner = (slice(3, -3),) * 3  # NumPy's leaves holes at the border
    np.testing.assert_allclose(found["fill"][inner], expected["fill"][inner], rtol=1e-4)
    with (
        File(scan.parent / "300K" / "total_pdf.nxs") as one,
        File(scan.parent / "300K" / "numpy_total_pdf.h5") as other,
    ):
        total, wanted = one["entry/pdf/pdf"][()], other["pdf"][()]
    assert np.abs(total - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_holes_are_filled():
    (row,) = run([sys.executable, HERE / "fill.py", "--edge", 3, "--groups", "mmm", "--json"])
    assert row["holes"] == 27
    assert row["cpu_s"] > 0


@pytest.mark.parametrize("group", ["mmm", "m-3m"])
def test_averages_are_those_of_plain_numpy(group):
    ours = run_ranks(2, "stage_symmetrize.py", group, "--grid", 41)
    plain = run([sys.executable, HERE / "stage_symmetrize.py", group, "--grid", 41, "--plain"])
    assert ours["counts"] == plain["counts"]
