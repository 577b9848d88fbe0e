"""nxmpi status: told from files that stay as they are, and from Slurm."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time

import h5py
import pytest
from system.mpi import error_lines, finish, run_nxmpi, start_mpi

from nxmpi.parallel.owner import Owner
from nxmpi.slurm.record import Job, add_jobs

STEPS = ("frames", "orient", "transform", "combine", "symmetrize", "pdf")


def told(scan, *args, env=None):
    """Return the state, and all else, of each step; no file is touched."""
    before = scan.files()
    result = run_nxmpi(0, "status", scan.wrapper, "--json", *args, env=env)
    assert result.returncode == 0, result.stderr
    assert scan.files() == before
    (one,) = json.loads(result.stdout)
    assert one["scan"] == str(scan.wrapper)
    assert tuple(one["steps"]) == STEPS
    return one["steps"]


def states(scan, *args, env=None):
    return [step["state"] for step in told(scan, *args, env=env).values()]


def test_a_scan_that_nobody_touched(untouched):
    steps = told(untouched)
    # its orientation is there, as NXRefine would have left it
    assert [steps[name]["state"] for name in STEPS] == ["to do", "done", *["to do"] * 4]


def test_a_scan_that_is_complete(reduced):
    assert states(reduced) == ["done"] * 6


def test_other_options_make_it_out_of_date_from_there_on(reduced):
    steps = told(reduced, "--options", "--no-polarization")
    assert [steps[name]["state"] for name in STEPS] == ["done"] * 2 + ["out of date"] * 4
    assert "changed since: polarization" in steps["transform"]["detail"]
    assert steps["pdf"]["detail"] == "after transform"


def test_a_file_that_is_gone(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    (scan.data / "transform.nxs").unlink()
    steps = told(scan)
    assert steps["combine"]["state"] == "out of date"
    assert steps["combine"]["detail"] == "nxcombine: transform.nxs is gone"
    assert steps["transform"]["state"] == "done"
    assert steps["symmetrize"]["state"] == "to do"


def test_one_position_of_two(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    with scan.open() as file:
        for name in ("nxtransform", "nxmasked_transform"):
            del file[f"f2/{name}"], file[f"f2/nxworkflow/{name}"]
    for name in ("f2_transform.nxs", "f2_masked_transform.nxs"):
        (scan.data / name).unlink()
    steps = told(scan)
    assert (steps["transform"]["state"], steps["transform"]["detail"]) == ("partly done", "f2")
    assert [steps[name]["state"] for name in ("combine", "symmetrize")] == ["to do", "out of date"]


def test_a_step_that_runs_is_told_with_its_process_and_checkpoint(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    scan.lock("f1", "transform").write_bytes(Owner.here().content())
    folder = scan.data / ".f1_transform.checkpoint"
    folder.mkdir()
    manifest = {"state": {"frames": [0, 1, 2], "bad_frames": []}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    step = told(scan)["transform"]
    assert step["state"] == "running"
    assert f"f1 3 of 11 frames saved by process {os.getpid()} on " in step["detail"]
    assert step["progress"] == pytest.approx(3 / 11)
    said = tmp_path / "said"
    with said.open("w") as stdout:
        process = start_mpi(
            0, "-m", "nxmpi", "status", scan.wrapper, "--watch", "0.2", stdout=stdout,
            env={"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "140"},  # as on a terminal
        )  # fmt: skip
    deadline = time.monotonic() + 60
    while "running 27 %" not in said.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "running 27 %" in said.read_text()
    assert process.poll() is None
    scan.lock("f1", "transform").unlink()
    result = finish(process)
    assert result.returncode == 0, result.stderr


def test_a_lock_of_a_process_that_has_ended_runs_nothing(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    child = subprocess.run([sys.executable, "-c", OWNED], capture_output=True, check=True)
    scan.lock("f1", "transform").write_bytes(child.stdout)
    assert states(scan) == ["done"] * 6


OWNED = "import sys; from nxmpi.parallel.owner import Owner; \
sys.stdout.buffer.write(Owner.here().content())"

FAKE = """#!/bin/sh
case "$*" in
{cases}
*) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1;;
esac
"""


@pytest.fixture
def recorded(reduced, tmp_path):
    """Return a scan of which the transforms and what follows are gone, and jobs recorded."""
    scan = reduced.copy(tmp_path / "e")
    for path in scan.data.glob("*transform.nxs"):
        path.unlink()
    with scan.open() as file:
        for entry, tasks in (
            ("f1", ("nxtransform", "nxmasked_transform")),
            ("f2", ("nxtransform", "nxmasked_transform")),
            ("entry", ("nxcombine", "nxmasked_combine", "nxsymmetrize", "nxmasked_symmetrize")),
        ):
            for task in tasks:
                del file[f"{entry}/{task}"], file[f"{entry}/nxworkflow/{task}"]
    jobs = [
        Job(
            step=step, job=number, task=task, position=position, name=f"s-{step}",
            log=str(tmp_path / f"{number}{'' if task is None else f'_{task}'}.log"),
            submitted="2026-01-01T00:00:00+00:00",
        )
        for step, number, task, position in (
            ("transform", 41, 1, "f1"), ("transform", 41, 2, "f2"), ("combine", 42, None, None),
            ("symmetrize", 43, None, None),
        )
    ]  # fmt: skip
    add_jobs(scan.wrapper, jobs)
    return scan


def slurm_that_says(folder, **cases):
    """Return an environment in which commands of Slurm print what is given."""
    folder.mkdir()
    for name in ("squeue", "scontrol", "sacct"):
        lines = [f"{pattern}) echo '{text}';;" for pattern, text in cases.get(name, [])]
        path = folder / name
        path.write_text(FAKE.format(cases="\n".join(lines)))
        path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_jobs_that_run_and_wait(recorded, tmp_path):
    (tmp_path / "41_1.log").write_text(
        "12:00:00 [0/4] transform: 3 of 12 frames, 2.0/s, 4 s left\n"
        "12:00:10 [0/4] transform: 6 of 12 frames, 2.0/s, 3 s left\n"
    )
    queue = (
        "41_1|50|41|RUNNING|n[1-2]|1:04|None|u|s-transform\x1f(null)\n"
        "42|42|42|PENDING||0:00|Dependency|u|s-combine\x1f(null)\n"
        "43|43|43|RUNNING|n1|0:10|None|u|of somebody else\x1f(null)"
    )
    env = slurm_that_says(tmp_path / "bin", squeue=[("*--states=all*", ""), ("*", queue)])
    steps = told(recorded, env=env)
    assert steps["transform"]["state"] == "running"
    assert steps["transform"]["detail"] == "f1 6 of 12 frames job 41_1 on n[1-2], 1:04"
    assert steps["transform"]["progress"] == 0.5
    assert steps["transform"]["jobs"] == ["41_1"]
    assert (steps["combine"]["state"], steps["combine"]["detail"]) == (
        "queued", "job 42 (Dependency)",
    )  # fmt: skip
    assert steps["symmetrize"]["state"] == "to do"


def test_a_job_that_failed_is_told_with_what_it_said(recorded, tmp_path):
    (tmp_path / "41_2.log").write_text("Error: f2.h5: expected a file, found none\n")
    ended = "41_2|FAILED|256|NonZeroExitCode|n2|\n42|CANCELLED|0|Dependency||"
    env = slurm_that_says(tmp_path / "bin", squeue=[("*--states=all*", ended), ("*", "")])
    steps = told(recorded, env=env)
    assert steps["transform"]["state"] == "failed"
    assert steps["transform"]["detail"] == (
        "job 41_2: f2.h5: expected a file, found none, failed, status 1"
    )
    assert steps["combine"]["state"] == "failed"
    assert steps["combine"]["detail"] == "job 42: cancelled, Dependency"
    result = run_nxmpi(0, "status", recorded.wrapper, env=env)
    assert "transform: failed: job 41_2: f2.h5: expected a file" in result.stdout


def test_a_job_that_slurm_forgot_is_told_by_its_log(recorded, tmp_path):
    (tmp_path / "41_1.log").write_text("Error: no space left\n")
    env = slurm_that_says(tmp_path / "bin", squeue=[("*", "")])
    step = told(recorded, env=env)["transform"]
    assert (step["state"], step["detail"]) == ("failed", "job 41_1: no space left")


def test_a_job_that_went_on_in_place_of_another_and_failed_is_told(recorded, tmp_path):
    (tmp_path / "41_1.log").write_text(
        "job 60 goes on in place of this one\n...\njob 61 goes on in place of this one\n"
        "Error: no space left\n"
    )
    ended = "41_1|COMPLETED|0|None|n1|\n61_1|FAILED|256|NonZeroExitCode|n2|"
    env = slurm_that_says(tmp_path / "bin", squeue=[("*--states=all*", ended), ("*", "")])
    step = told(recorded, env=env)["transform"]
    assert (step["state"], step["detail"]) == (
        "failed", "job 61_1: no space left, failed, status 1",
    )  # fmt: skip


def test_a_lock_that_may_be_left_hides_no_failure_and_does_not_run(recorded, tmp_path):
    owner = dataclasses.replace(Owner.here(), host="node17", job="41", cluster="c")
    recorded.lock("f1", "transform").write_bytes(owner.content())
    recorded.lock("entry", "symmetrize").write_bytes(owner.content())
    (tmp_path / "41_1.log").write_text("Error: no space left\n")
    steps = told(recorded, env=slurm_that_says(tmp_path / "bin", squeue=[("*--states*", "")]))
    assert steps["transform"]["state"] == "failed"
    step = steps["symmetrize"]
    assert step["state"] == "locked"
    assert " on node17 (job 41) since " in step["detail"]
    assert step["detail"].endswith(", of which it is not known here whether it still runs")


def replace_program(path, text):
    """Put another program in the place of one that somebody may be running, at once."""
    new = path.with_name("new")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(path)


@pytest.mark.full
def test_watching_goes_on_while_slurm_does_not_answer(recorded, tmp_path):
    queue = "42|42|42|PENDING||0:00|Dependency|u|s-combine\x1f(null)"
    env = slurm_that_says(tmp_path / "bin", squeue=[("*--states=all*", ""), ("*", queue)])
    told(recorded, env=env)
    squeue = tmp_path / "bin" / "squeue"
    answers = squeue.read_text()
    down = "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact' >&2\nexit 1\n"
    replace_program(squeue, down)
    args = ("-m", "nxmpi", "status", recorded.wrapper, "--watch", "0.2")
    for first in (down, answers):  # it does not answer at all, or no more
        replace_program(squeue, first)
        process = start_mpi(0, *args, env=env)
        time.sleep(5)
        replace_program(squeue, down)
        time.sleep(1)
        assert process.poll() is None
        replace_program(squeue, "#!/bin/sh\n")
        result = finish(process)
        assert result.returncode == 0, result.stderr
    result = run_nxmpi(0, "status", recorded.wrapper, "--json", env=env)
    assert result.stderr == ""
    replace_program(squeue, down)
    result = run_nxmpi(0, "status", recorded.wrapper, "--json", env=env)
    assert "Slurm does not answer: squeue: slurm_load_jobs error: Unable" in result.stderr


def test_an_experiment_with_a_file_that_cannot_be_read(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    other = scan.folder / "triclinite_400K.nxs"
    other.write_text("nothing")
    shutil.copy(scan.wrapper, scan.folder / "copied.nxs")  # its name is none of a scan
    for path in (scan.root, scan.root / "triclinite", scan.folder):
        result = run_nxmpi(0, "status", path)
        assert result.returncode == 0, result.stderr
        assert "triclinite_300K" in result.stdout
        assert "cannot be read" in result.stdout
        assert "copied" not in result.stdout
    assert f"{other}: expected an HDF5 file" in result.stdout.replace("\n", "")


def test_a_file_that_cannot_be_read_ends_with_status_1_if_it_is_named(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    other = scan.folder / "triclinite_400K.nxs"
    other.write_text("nothing")
    for options in ((), ("--json",)):
        result = run_nxmpi(0, "status", scan.wrapper, other, *options)
        assert result.returncode == 1
        assert "expected an HDF5 file" in result.stdout
    (line,) = error_lines(run_nxmpi(0, "submit", scan.wrapper, other, "--dry-run"))
    assert "expected an HDF5 file" in line


def test_what_lies_beside_scans_and_has_no_positions_is_left_out(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    parent, cut = scan.folder / "triclinite_scans.nxs", scan.folder / "triclinite_hk0.nxs"
    for path in (parent, cut):
        with h5py.File(path, "w") as file:
            file.create_group("entry")
    for paths in ((scan.folder,), (scan.wrapper, parent, cut)):
        result = run_nxmpi(0, "status", *paths, "--json")
        assert result.returncode == 0
        assert [each["scan"] for each in json.loads(result.stdout)] == [str(scan.wrapper)]
    result = run_nxmpi(0, "submit", scan.wrapper, parent, cut, "--dry-run")
    assert result.returncode == 0
    left_out = "left out, without detector positions: triclinite_scans.nxs, triclinite_hk0.nxs"
    assert left_out in result.stderr.splitlines()
    for command in (("status", "--json"), ("submit", "--dry-run")):
        result = run_nxmpi(0, *command, cut)
        assert result.returncode == 1
        assert "expected entries of detector positions" in result.stdout + result.stderr


def test_options_that_reduce_does_not_have_are_wrong_usage_of_the_command(reduced):
    for command, more in (("status", ()), ("submit", ("--dry-run",))):
        for text, told in (
            ("--radius", "Option '--radius' requires an argument"),
            ("--radios 3", "No such option '--radios'"),
            ("--from pdf --to frames", "--from pdf comes after --to frames"),
            ("'", "No closing quotation"),
        ):
            result = run_nxmpi(0, command, reduced.wrapper, *more, "--options", text)
            assert result.returncode == 2
            assert f" {command} [OPTIONS]" in result.stderr
            assert f"Error: --options {text!r}: {told}" in result.stderr


def test_frames_that_are_gone_cannot_be_transformed(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    (scan.data / "f2.h5").unlink()
    steps = told(scan)
    for name in ("frames", "transform"):
        assert steps[name]["state"] == "cannot be done"
        assert "f2/data/data: expected raw frames, found a link to" in steps[name]["detail"]


def test_a_folder_without_scans(tmp_path):
    result = run_nxmpi(0, "status", tmp_path)
    assert result.returncode == 1
    (line,) = error_lines(result)
    assert "expected scan files SAMPLE/LABEL/SAMPLE_SCAN.nxs, found none" in line
    result = run_nxmpi(0, "status", tmp_path / "none")
    assert result.returncode == 1
    assert "expected a folder or a scan file, found none" in error_lines(result)[0]
