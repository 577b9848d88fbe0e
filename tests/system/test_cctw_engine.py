"""CCTW in charge of the transform: real processes, some made to fail.

The program is nxcctw, or one that tells of its runs and can be told to fail.
"""

import json
import os
import re
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from processes import wait_until_gone
from system.damages import corrupt
from system.mpi import error_lines, finish, run_nxmpi, start_mpi
from system.scans import differences, volumes

import nxmpi

FULL = pytest.mark.full
REFERENCE = Path(__file__).parents[1] / "data" / "cctw"


def read(path, name):
    with h5py.File(path) as file:
        return file[f"entry/data/{name}"][()].astype(float)


def runs_of(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.parametrize(
    ("crystal", "n", "entry"),
    [("triclinic", 2, "f2"), pytest.param("orthorhombic", 3, "f1", marks=FULL)],
)
def test_sums_are_those_that_cctw_made(nxcctw, tmp_path, crystal, n, entry):
    for path in (REFERENCE / crystal).glob("*"):
        if "transform" not in path.name:
            shutil.copy(path, tmp_path)
    settings = ("--settings", REFERENCE / crystal / f"{entry}_transform.pars")
    result = run_nxmpi(
        n, "transform", tmp_path / "wrapper.nxs", *settings, "--entry", entry,
        "--voxels", "lower-edge", "--engine", "cctw", "--cctw", nxcctw,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for prefix in ("", "masked_"):
        name = f"{entry}_{prefix}transform.nxs"
        made, reference = tmp_path / "wrapper" / name, REFERENCE / crystal / name
        np.testing.assert_array_equal(read(made, "v"), read(reference, "v"))
        np.testing.assert_allclose(read(made, "n"), read(reference, "n"), rtol=1e-6)


ARGS = ("--no-polarization", "--no-solid-angle")


def by_cctw(n, program, scan, *args, how="good", **env):
    return run_nxmpi(
        n, "transform", "--engine", "cctw", "--cctw", program, *args, scan.wrapper,
        env={"FAKE_CCTW": how, **env},
    )  # fmt: skip


@pytest.mark.parametrize(
    "n", [2, pytest.param(1, marks=FULL), pytest.param(5, marks=FULL)]
)  # fmt: skip
def test_centred_voxels_are_those_of_the_native_engine(nxcctw, fresh, transformed, tmp_path, n):
    scan = fresh.copy(tmp_path / "e")
    result = by_cctw(n, nxcctw, scan, "--entry", "f1")
    assert result.returncode == 0, result.stderr
    for prefix in ("", "masked_"):
        made, reference = (each.data / f"f1_{prefix}transform.nxs" for each in (scan, transformed))
        counts, norm = read(reference, "v"), read(reference, "n")
        assert counts.sum() > 1e4
        moved = np.flatnonzero(read(made, "v") != counts)
        assert moved.size <= 2  # a pixel at a boundary, by rounding
        close = np.isclose(read(made, "n"), norm, rtol=1e-6)
        assert (~close).sum() <= 2
    assert scan.hidden() == []
    with h5py.File(scan.wrapper) as file:
        record = file["f1/nxworkflow/nxtransform"]
        assert record["parameters/engine"][()] == f"nxcctw {nxmpi.__version__}".encode()
        note = record["note/data"][()].decode()
        assert "--normalization 0" in note
        assert "parameters.ubMat = " in note
        assert "#/entry/data: 11 frames, " in note
    again = by_cctw(1, nxcctw, scan, "--entry", "f1")
    assert again.returncode == 0
    assert "transform is complete" in again.stderr
    other = run_nxmpi(0, "transform", "--entry", "f1", scan.wrapper)
    assert "f1_transform.nxs is of other inputs" in other.stderr


@FULL
def test_ranks_give_the_same_bits(nxcctw, fresh, tmp_path):
    made = []
    for n in (1, 3):
        scan = fresh.copy(tmp_path / f"e{n}")
        assert by_cctw(n, nxcctw, scan, *ARGS).returncode == 0
        made.append(volumes(scan))
    for name in made[0]:
        assert not differences(made[0][name], made[1][name]), name


def test_positions_run_at_the_same_time_with_the_factors_that_the_program_knows(
    program, fresh, tmp_path
):
    scan = fresh.copy(tmp_path / "e")
    log = tmp_path / "log"
    result = by_cctw(2, program, scan, "--no-mask", how="slow", FAKE_CCTW_LOG=str(log))
    assert result.returncode == 0, result.stderr
    first, second = runs_of(log)
    assert abs(first[1] - second[1]) < 3.0  # each takes 3.6 s at least
    assert first[2] != second[2]
    assert not any(Path(folder).exists() for folder in (first[2], second[2]))
    assert "f1: cctw 0.2.3 knows no factors of pixels: without polarization" in result.stderr
    with h5py.File(scan.wrapper) as file:
        record = file["f1/nxworkflow/nxtransform"]
        assert record["parameters/engine"][()] == b"cctw 0.2.3"
        assert "Transform complete" in record["note/data"][()].decode()
        parameters = record["parameters"]
        assert parameters["polarization"][()] == parameters["solid_angle"][()] == b"off"
        assert "factor_polarization" not in parameters


@FULL
@pytest.mark.parametrize("which", ["program", "nxcctw"])
def test_pixel_factors_are_given_to_a_later_one(request, fresh, tmp_path, which):
    made = []
    for name in ("native", "cctw"):
        scan = fresh.copy(tmp_path / name)
        args = (1, "transform", "--entry", "f1", "--no-mask", scan.wrapper)
        if name == "cctw":
            args = (*args, "--engine", "cctw", "--cctw", request.getfixturevalue(which))
        result = run_nxmpi(*args, env={"FAKE_CCTW_VERSION": "1.0"})
        assert result.returncode == 0, result.stderr
        made.append(read(scan.data / "f1_transform.nxs", "n"))
    assert (~np.isclose(*made, rtol=1e-6)).sum() <= 2


@contextmanager
def changed_frames(scan):
    """Give the frames of f1, (n_frames, n_slow, n_fast) int32, to be changed."""
    path = scan.data / "f1.h5"
    with h5py.File(path) as file:
        data = file["entry/data/data"][()].astype(np.int32)
    yield data
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "entry/data/data", data=data, chunks=(1, *data.shape[1:]), compression="gzip"
        )


@pytest.mark.parametrize("which", ["program", pytest.param("nxcctw", marks=FULL)])
def test_values_that_are_no_counts_and_frames_left_out_are_not_added(
    request, fresh, tmp_path, which
):
    made = []
    for name in ("native", "cctw"):
        scan = fresh.copy(tmp_path / name)
        with changed_frames(scan) as data:
            data[:, 7, 9] = -1
            data[3, 20:22, 5] = -2
            data[4, 20, 5] = -2
        for frame in (0, 6):
            corrupt("f1.h5", "entry/data/data", frame)(scan)
        args = (
            1, "transform", "--entry", "f1", *ARGS, "--first", "2", "--skip-bad-frames",
            scan.wrapper,
        )  # fmt: skip
        if name == "cctw":
            args = (*args, "--engine", "cctw", "--cctw", request.getfixturevalue(which))
        result = run_nxmpi(*args)
        assert result.returncode == 0, result.stderr
        made.append([
            read(scan.data / f"f1_{p}transform.nxs", d) for p in ("", "masked_") for d in "vn"
        ])  # fmt: skip
    assert "1 pixels without a count in any frame, and 3 in some are masked" in result.stderr
    for ours, theirs in zip(*made, strict=True):
        assert ours.sum() > 0
        assert (~np.isclose(ours, theirs, rtol=1e-6)).sum() <= 2


FAILURES = {
    "killed": r"status 137",
    "exit1": r"mask is smaller than the frame",
    "hanging": r"silent for",
    "deaf": r"silent for",
    "unreadable": r"Error reading chunk 7",
    "nothing": r"found no file",
    "zeros": r"found zero everywhere",
    "no counts": r"in v, found zero everywhere",
    "half": r"/entry/data/n: expected a volume",
    "truncated": r"expected an HDF5 file",
    "shape": r"expected shape",
    "negative": r"expected sums of 0 or more",
    "lost": r"of \d+ blocks",
    "bright": r"in v .* of \d+ blocks",
}


OFTEN = ("killed", "hanging", "truncated", "bright")


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=[] if how in OFTEN else FULL) for how in FAILURES]
)
def test_failure_keeps_what_is_there(program, transformed, tmp_path, how):
    scan = transformed.copy(tmp_path / "e")
    if how == "bright":
        with changed_frames(scan) as data:
            data[6, 30, 31] = 2_000_000
    before, log = scan.files(), tmp_path / "log"
    result = by_cctw(
        2, program, scan, *ARGS, "--overwrite", "--entry", "f1", "--cctw-silence", "0.05",
        how=how, FAKE_CCTW_LOG=str(log),
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    (line,) = error_lines(result)
    assert "f1/transform" in line
    assert re.search(FAILURES[how], line), line
    assert scan.files() == before
    assert all(wait_until_gone(run[0]) for run in runs_of(log))


@FULL
def test_noise_does_no_harm(program, fresh, tmp_path):
    scan = fresh.copy(tmp_path / "e")
    result = by_cctw(1, program, scan, *ARGS, "--no-mask", "--entry", "f1", how="noise")
    assert result.returncode == 0, result.stderr


@FULL
def test_time_limit(program, fresh, tmp_path):
    scan = fresh.copy(tmp_path / "e")
    before = scan.files()
    result = by_cctw(
        1, program, scan, *ARGS, "--entry", "f1", "--cctw-timeout", "0.03", how="slow"
    )  # fmt: skip
    assert result.returncode == 1
    assert "still at work after 0.03 minutes" in error_lines(result)[0]
    assert scan.files() == before


@pytest.mark.parametrize(("who", "name"), [(2, "SIGUSR1"), pytest.param(0, "SIGTERM", marks=FULL)])
def test_wish_to_stop_reaches_all_programs(program, fresh, tmp_path, who, name):
    scan = fresh.copy(tmp_path / "e")
    before, log = scan.files(), tmp_path / "log"
    run = start_mpi(
        3, Path(__file__).with_name("tell_frames.py"), tmp_path, 0, "--",
        "transform", "--engine", "cctw", "--cctw", program, *ARGS, scan.wrapper,
        env={"FAKE_CCTW": "hanging", "FAKE_CCTW_LOG": str(log)},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (log.exists() and len(runs_of(log)) == 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(int((tmp_path / f"{who}.pid").read_text()), getattr(signal, name))
    result = finish(run)
    assert result.returncode == 75, result.stderr
    assert result.stderr.count(f"stopped by {name}: run the same command again") == 1
    assert all(wait_until_gone(pid) for pid, *_ in runs_of(log))
    assert scan.files() == before


def test_killed_job_leaves_no_program_and_a_folder_that_the_next_removes(program, fresh, tmp_path):
    scan = fresh.copy(tmp_path / "e")
    log = tmp_path / "log"
    run = start_mpi(
        2, Path(__file__).with_name("tell_frames.py"), tmp_path, 0, "--",
        "transform", "--engine", "cctw", "--cctw", program, *ARGS, scan.wrapper,
        env={"FAKE_CCTW": "deaf", "FAKE_CCTW_LOG": str(log)},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (log.exists() and len(runs_of(log)) == 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1.0)
    os.kill(int((tmp_path / "0.pid").read_text()), signal.SIGKILL)
    assert finish(run).returncode != 0
    assert all(wait_until_gone(pid) for pid, *_ in runs_of(log))
    assert any("_transform." in name for name in scan.hidden())
    result = by_cctw(2, program, scan, *ARGS, "--no-mask")
    assert result.returncode == 0, result.stderr
    assert scan.hidden() == []


def without_good_pixels(scan, *names):
    with scan.open() as wrapper:
        for name in names:
            mask = wrapper[name]["instrument/detector/pixel_mask"]
            mask[...] = np.ones(mask.shape)


@pytest.mark.parametrize(
    ("n", "bad", "good"),
    [
        (1, ["f1"], "f2"),
        (2, ["f1", "f2"], None),
        pytest.param(2, ["f2"], "f1", marks=FULL),
    ],
)
def test_positions_that_fail_are_all_named_and_the_others_are_done(
    program, fresh, tmp_path, n, bad, good
):
    scan = fresh.copy(tmp_path / "e")
    without_good_pixels(scan, *bad)
    result = by_cctw(n, program, scan, *ARGS, "--no-mask")
    assert result.returncode == 1
    (line,) = error_lines(result)
    for name in bad:
        assert line.count(f"{name}: expected good pixels") == 1
        assert not (scan.data / f"{name}_transform.nxs").exists()
    if good:
        assert f"{good}:" not in line
        assert read(scan.data / f"{good}_transform.nxs", "v").sum() > 0
    assert scan.hidden() == []


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--cctw", "no-such-program"), "expected the program CCTW"),
        pytest.param(("--split", "2", "1", "1"), "expected none with the engine", marks=FULL),
        pytest.param(("--hits",), "expected none with the engine cctw", marks=FULL),
    ],
)
def test_what_cannot_be_is_found_before(fresh, tmp_path, args, text):
    scan = fresh.copy(tmp_path / "e")
    before = scan.files()
    result = run_nxmpi(2, "transform", "--engine", "cctw", *args, scan.wrapper)
    assert result.returncode != 0
    assert text in result.stderr
    assert scan.files() == before


def test_too_little_memory_is_found_before_the_program_starts(program, fresh, tmp_path):
    scan = fresh.copy(tmp_path / "e")
    before = scan.files()
    result = by_cctw(1, program, scan, *ARGS, "--entry", "f1", "--memory", "20K")
    assert result.returncode == 1
    assert re.search(r"/f1: expected [\d.]+ [kM]B of memory at least .* found [\d.]+ (kB|bytes)",
                     error_lines(result)[0])  # fmt: skip
    assert scan.files() == before


def test_real_program(fresh, tmp_path):
    if shutil.which("cctw") is None:
        pytest.skip("cctw is not on PATH")
    scan, native = fresh.copy(tmp_path / "e"), fresh.copy(tmp_path / "native")
    for args in (("--engine", "cctw", scan.wrapper), (native.wrapper,)):
        result = run_nxmpi(2, "transform", *ARGS, *args)
        assert result.returncode == 0, result.stderr
    for position in ("f1", "f2"):
        for prefix in ("", "masked_"):
            file = f"{position}_{prefix}transform.nxs"
            assert (read(scan.data / file, "v") != read(native.data / file, "v")).sum() <= 2
            norms = read(scan.data / file, "n"), read(native.data / file, "n")
            assert (~np.isclose(*norms, rtol=1e-5)).sum() <= 2
