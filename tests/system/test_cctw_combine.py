"""CCTW in charge of adding positions: real processes, some made to fail.

The program is nxcctw, or one that can be told to fail; what is expected is NumPy's sum of the
transforms.
"""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from system.mpi import error_lines, finish, run_nxmpi, start_mpi
from system.scans import contents

import nxmpi

MAPS = "/entry/agreement"
PREFIXES = ("", "masked_")


@pytest.fixture(scope="module")
def transformed(fresh, tmp_path_factory):
    """Return a simulated scan with 3-D masks, all of it transformed natively."""
    return fresh.after(tmp_path_factory.mktemp("transformed") / "e", "transform")


@pytest.fixture(scope="module")
def native(transformed, tmp_path_factory):
    """Return the same scan, combined without CCTW."""
    return transformed.after(tmp_path_factory.mktemp("native") / "e", "combine")


def by_cctw(n, program, scan, *args, how="good"):
    return run_nxmpi(
        n, "combine", "--engine", "cctw", "--cctw", program, *args, scan.wrapper,
        env={"FAKE_CCTW": how},
    )  # fmt: skip


def read(path, *names):
    with h5py.File(path) as file:
        return [file[f"entry/data/{name}"][()].astype(float) for name in names]


def sums_of(scan, prefix):
    """Return counts and norm of both positions together."""
    both = [read(scan.data / f"{name}_{prefix}transform.nxs", "v", "n") for name in ("f1", "f2")]
    return [one + other for one, other in zip(*both, strict=True)]


def assert_combined(scan, native):
    for prefix in PREFIXES:
        counts, norm = sums_of(scan, prefix)
        seen = norm > 0
        assert counts.sum() > 1e4
        intensity, weight, errors = read(scan.data / f"{prefix}transform.nxs", "v", "n", "v_errors")
        np.testing.assert_allclose(weight, norm, rtol=1e-6)
        np.testing.assert_allclose(intensity[seen], counts[seen] / norm[seen], rtol=1e-6)
        expected = np.sqrt(np.maximum(counts[seen], 1)) / norm[seen]
        np.testing.assert_allclose(errors[seen], expected, rtol=1e-6)
        assert np.isnan(intensity[~seen]).all()
        found, wanted = (contents(each.data / f"{prefix}transform.nxs") for each in (scan, native))
        assert set(found) == set(wanted)
        maps = [name for name in wanted if name.startswith(MAPS) and "@" not in name]
        assert maps
        assert all(found[name] == wanted[name] for name in maps)
    assert scan.hidden() == []


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.full)])
def test_sums_are_those_of_the_transforms(nxcctw, transformed, native, tmp_path, n):
    scan = transformed.copy(tmp_path / "e")
    result = by_cctw(n, nxcctw, scan)
    assert result.returncode == 0, result.stderr
    assert_combined(scan, native)
    with h5py.File(scan.wrapper) as file:
        record = file["entry/nxworkflow/nxmasked_combine"]
        assert record["parameters/engine"][()] == f"nxcctw {nxmpi.__version__}".encode()
        note = record["note/data"][()].decode()
        assert "nxcctw merge 'position_1.nxs#/entry/data'" in note
        assert "output.nxs#/entry/data: 2 volumes" in note
    before = scan.files()
    again = by_cctw(0, nxcctw, scan)
    assert again.returncode == 0
    assert "nxcombine: complete" in again.stderr
    assert scan.files() == before


FAILURES = {
    "killed": r"status 137",
    "exit1": r"status 1;",
    "hanging": r"silent for",
    "nothing": r"found no file",
    "zeros": r"expected [vn] to be \S+, found 0 at l \d+, k \d+, h \d+",
    "half": r"/entry/data/n: expected a volume",
    "truncated": r"expected an HDF5 file",
    "shape": r"expected shape",
    "norm": r"expected n to be \S+, found \S+ at l",
    "lost": r"expected [vn] to be \S+, found 0 at l",
}


@pytest.mark.parametrize(
    "how",
    [each if each == "zeros" else pytest.param(each, marks=pytest.mark.full) for each in FAILURES],
)
def test_failure_keeps_what_is_there(program, native, tmp_path, how):
    scan = native.copy(tmp_path / "e")
    before = scan.files()
    result = by_cctw(2, program, scan, "--cctw-silence", "0.05", how=how)
    assert result.returncode == 1, result.stderr
    (line,) = error_lines(result)
    assert f"{scan.wrapper}:/entry/transform: " in line
    assert re.search(FAILURES[how], line), line
    assert scan.files() == before


def test_first_voxel_that_is_wrong_is_named(program, native, tmp_path):
    scan = native.copy(tmp_path / "e")
    before = scan.files()
    counts, _ = sums_of(scan, "")
    l, k, h = np.argwhere(counts > 0)[100]  # the program adds one count there
    c = int(counts[l, k, h])
    result = by_cctw(2, program, scan, how="one more")
    assert result.returncode == 1, result.stderr
    (line,) = error_lines(result)
    assert f"expected v to be {c}, found {c + 1} at l {l}, k {k}, h {h}" in line
    assert scan.files() == before


def test_scales_are_refused(native, tmp_path):
    scan = native.copy(tmp_path / "e")
    before = scan.files()
    result = by_cctw(0, "no-such-program", scan, "--refine-scale")
    assert result.returncode == 2
    assert "refine-scale: expected none with the engine cctw" in result.stderr
    assert scan.files() == before


@pytest.mark.full
def test_volumes_without_chunks_are_refused_before(program, native, tmp_path):
    scan = native.copy(tmp_path / "e")
    counts, norm = read(scan.data / "f2_transform.nxs", "v", "n")
    with h5py.File(scan.data / "f2_transform.nxs", "r+") as file:
        for name, values in (("v", counts), ("n", norm)):
            del file[f"entry/data/{name}"]
            file[f"entry/data/{name}"] = values
    before = scan.files()
    result = by_cctw(2, program, scan, "--overwrite")
    assert result.returncode == 1
    (line,) = error_lines(result)
    assert re.search(r"f2_transform.nxs:/entry/data/v: expected a volume of .*chunks of None", line)
    assert scan.files() == before


@pytest.mark.full
def test_background_is_subtracted_as_natively(nxcctw, transformed, tmp_path):
    made = []
    for name in ("native", "cctw"):
        scan, can = transformed.copy(tmp_path / name), transformed.copy(tmp_path / f"can_{name}")
        args = ("combine", "--background", can.wrapper, "--background-scale", "0.3", scan.wrapper)
        if name == "cctw":
            args = (*args, "--engine", "cctw", "--cctw", nxcctw)
        result = run_nxmpi(2, *args)
        assert result.returncode == 0, result.stderr
        names = ("v", "n", "v_errors", "counts", "background_counts", "background_norm")
        made.append(read(scan.data / "transform.nxs", *names))
    for ours, theirs in zip(*made, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * np.nanmax(theirs))


@pytest.mark.full
def test_reduce_hands_the_engine_on(nxcctw, transformed, tmp_path):
    scan = transformed.copy(tmp_path / "e")
    result = run_nxmpi(
        2, "reduce", "--from", "transform", "--to", "combine", "--engine", "cctw", "--cctw", nxcctw,
        scan.wrapper,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    with h5py.File(scan.wrapper) as file:
        for record in (file["f1/nxworkflow/nxtransform"], file["entry/nxworkflow/nxcombine"]):
            assert record["parameters/engine"][()] == f"nxcctw {nxmpi.__version__}".encode()


@pytest.mark.full
@pytest.mark.parametrize("who", [0, 1])
def test_wish_to_stop_reaches_the_program(program, native, tmp_path, who):
    scan = native.copy(tmp_path / "e")
    before = scan.files()
    run = start_mpi(
        2, Path(__file__).with_name("tell_frames.py"), tmp_path, 0, "--",
        "combine", "--engine", "cctw", "--cctw", program, scan.wrapper,
        env={"FAKE_CCTW": "hanging", "FAKE_CCTW_LOG": str(tmp_path / "log")},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (tmp_path / "log").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(int((tmp_path / f"{who}.pid").read_text()), signal.SIGTERM)
    result = finish(run)
    assert result.returncode == 75, result.stderr
    assert scan.files() == before


def test_real_program(native, transformed, tmp_path):
    cctw = shutil.which("cctw")
    if cctw is None:
        pytest.skip("cctw is not on PATH")
    scan = transformed.copy(tmp_path / "e")
    result = by_cctw(2, cctw, scan)
    assert result.returncode == 0, result.stderr
    assert_combined(scan, native)
