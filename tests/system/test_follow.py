"""Frames and slices while another process writes the frames."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from nexusformat.nexus import nxload
from system.mpi import clean_environment, error_lines, finish, run_nxmpi, start_mpi
from system.scans import contents, simulated

WRITER = Path(__file__).with_name("write_slowly.py")
N = 40
"""Frames: several batches, and work for several ranks."""


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    root = tmp_path_factory.mktemp("original") / "experiment"
    return simulated(root, "--frames", str(N))


@pytest.fixture
def scan(original, tmp_path):
    """Return a scan without frames, which lie elsewhere as yet."""
    scan = original.copy(tmp_path / "experiment")
    scan.data.rename(tmp_path / "measured")
    scan.data.mkdir()
    return scan


def write(scan, name, way, *, pause=0.03, n=N):
    return subprocess.Popen(
        [sys.executable, WRITER, scan.root.parent / "measured" / f"{name}.h5",
         scan.data / f"{name}.h5", way, str(pause), str(n)],
        env=clean_environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait(writer):
    _, errors = writer.communicate(timeout=60)
    assert writer.returncode == 0, errors


def start(scan, n, command, *options):
    """Start a command, and return it and its log once it waits for frames."""
    log = scan.root.parent / "log"
    with log.open("w") as file:
        process = start_mpi(
            n, "-m", "nxmpi", command, scan.wrapper, "--follow", *options, stderr=file
        )
    deadline = time.monotonic() + 60
    while "following" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process, log


def end(process, log):
    assert finish(process, 100).returncode == 0, log.read_text()


def results(scan):
    """Return what the pass over the frames found of the first position."""
    with h5py.File(scan.wrapper) as file:
        found = {}
        for name in ("frame_sums", "peaks"):
            for key, values in file["f1"][name].items():
                if isinstance(values, h5py.Dataset):
                    found[f"{name}/{key}"] = np.asarray(values[()]).tobytes()
        parameters = file["f1/nxworkflow/nxmax/parameters"]
        found |= {key: parameters[key][()] for key in parameters if key != "raw"}
    return found | {"mask": contents(scan.data / "f1_mask.nxs")["/entry/mask"]}


@pytest.mark.parametrize(
    ("n", "way"),
    [(3, "swmr"), *(pytest.param(*each, marks=pytest.mark.full)
                    for each in ((1, "swmr"), (2, "several"), (2, "reopen")))],
)  # fmt: skip
def test_the_pass_over_the_frames_keeps_up_with_the_writer(scan, n, way):
    process, log = start(scan, n, "frames", "--entry", "f1")
    wait(write(scan, "f1", way))
    end(process, log)
    found = results(scan)
    assert len(found) > 20
    again = run_nxmpi(2, "frames", scan.wrapper, "--entry", "f1")
    assert "f1: frames: complete" in again.stderr  # the finished file is what was recorded
    again = run_nxmpi(2, "frames", scan.wrapper, "--entry", "f1", "--overwrite")
    assert again.returncode == 0, again.stderr
    assert results(scan) == found


@pytest.mark.parametrize("way", ["swmr", pytest.param("several", marks=pytest.mark.full)])
def test_a_slice_of_two_positions_one_after_another(scan, tmp_path, way):
    with scan.open() as file:
        for name in ("f1", "f2"):  # a scan as it begins has no grid
            del file[name]["transform"]
    output = tmp_path / "slice.nxs"
    options = [
        "--plane", "h k 0", "--qh", "-3", "0.2", "3", "--qk", "-4", "0.2", "4",
        "--thickness", "0.2", "--output", output,
    ]  # fmt: skip
    process, log = start(scan, 3, "slice", *options)
    for name in ("f1", "f2"):
        wait(write(scan, name, way, pause=0.02))
    end(process, log)
    found = nxload(output).entry.data
    again = run_nxmpi(1, "slice", scan.wrapper, *options)
    assert again.returncode == 0, again.stderr
    wanted = nxload(output).entry.data
    for name in ("intensity", "intensity_errors", "counts", "norm"):
        assert found[name].nxvalue.tobytes() == wanted[name].nxvalue.tobytes()
    assert np.nansum(wanted["counts"].nxvalue) > 1000


@pytest.mark.parametrize("n", [pytest.param(1, marks=pytest.mark.full), 3])
def test_missing_frames_are_told_after_the_time_limit(scan, n):
    wait(write(scan, "f1", "swmr", pause=0.01, n=7))
    before = time.monotonic()
    result = run_nxmpi(
        n, "frames", scan.wrapper, "--entry", "f1", "--follow", "--follow-timeout", "2"
    )
    assert result.returncode == 1
    (line,) = error_lines(result)
    assert "expected 40 frames, found 7 after 2 s without a new one; missing are 7 to 39" in line
    assert time.monotonic() - before < 60
    result = run_nxmpi(
        n, "slice", scan.wrapper, "--plane", "h k 0", "--entry", "f2", "--follow",
        "--follow-timeout", "1",
    )  # fmt: skip
    assert result.returncode == 1
    assert "f2.h5:/entry/data/data: expected frames to be written, found none" in result.stderr


def test_failure_of_one_rank_is_told_while_others_wait(scan):
    process, log = start(scan, 2, "frames", "--entry", "f1")
    wait(write(scan, "f1", "bad", pause=0.01, n=20))
    assert finish(process, 40).returncode == 1, log.read_text()  # without 60 s of waiting
    assert "expected frame 3 to be readable" in log.read_text()


@pytest.mark.parametrize("n_frames", [0, 20])
def test_wish_to_stop_is_heard_while_frames_are_waited_for(scan, n_frames):
    process, log = start(scan, 2, "frames", "--entry", "f1")
    if n_frames:
        wait(write(scan, "f1", "swmr", pause=0.01, n=n_frames))
    process.send_signal(signal.SIGUSR1)
    assert finish(process, 40).returncode == 75, log.read_text()
    assert "stopped by SIGUSR1" in log.read_text()
    assert not [name for name in scan.hidden() if name.endswith(".lock")]


def test_frames_must_be_announced(scan):
    with scan.open() as file:
        del file["f1/data/frame_number"]
    result = run_nxmpi(2, "frames", scan.wrapper, "--entry", "f1", "--follow")
    assert result.returncode == 1
    assert "expected the numbers of all frames" in error_lines(result)[0]
