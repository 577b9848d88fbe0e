"""What is planned of scans that are partly done, or of which little is known yet."""

import json
import math
import os
import re
import shlex
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import pytest
from click.testing import CliRunner
from unit.plain_scan import CELL_NAMES, N_FRAMES, SHAPE, write_scan
from unit.plain_scan import replace as put

from nxmpi.cli.plan import plan
from nxmpi.cli.reduce import chosen, reduce
from nxmpi.cli.status import status
from nxmpi.cli.submit import submit
from nxmpi.errors import AnotherProgramError, InputError
from nxmpi.nexus.schema import REGULAR, ScanFiles
from nxmpi.pipeline import delta_pdf
from nxmpi.pipeline.due import steps_due
from nxmpi.pipeline.pdf import run_pdf
from nxmpi.pipeline.plan import plan_scan
from nxmpi.pipeline.rates import BUILT_IN
from nxmpi.pipeline.reduce import STEPS, run_reduce
from nxmpi.pipeline.requests import STOPPING, TIMES, requests_of
from nxmpi.pipeline.status import scan_states
from nxmpi.pipeline.step_cost import Layout
from nxmpi.pipeline.wrapper import publish_results
from nxmpi.simulate.presets import preset
from nxmpi.simulate.write import simulate

from mpi4py import MPI  # isort: skip

ALONE = Layout(2)
BEFORE_PDF, LATER = STEPS[:5], STEPS[2:]
SETTINGS = Path(__file__).parents[1] / "data" / "cctw" / "triclinic" / "f1_transform.pars"


def choices_of(*words):
    """Return what options of nxmpi reduce say."""
    options = dict(reduce.make_context("nxmpi reduce", ["scan.nxs", *words]).params)
    return chosen(MPI.COMM_SELF, options)


def planned(path, *words, steps=STEPS, redo=False):
    """Return what each step takes, by step."""
    costs = plan_scan(path, choices_of(*words), steps, ALONE, redo=redo)
    return {each.step: each for each in costs}


def requested(path, *words, redo=False, apart=False):
    layouts = dict.fromkeys(STEPS, ALONE)
    return requests_of(path, choices_of(*words), STEPS, layouts, redo=redo, apart=apart)


def asked_for(path, *words):
    """Return what each job of nxmpi submit --plan would ask for, by step, and what is warned of."""
    args = [str(path), "--dry-run", "--plan", "--ranks-per-node", "2", *words]
    env = {"NXMPI_SITE": str(path.with_name("site.toml"))}
    result = CliRunner().invoke(submit, args, obj=MPI.COMM_SELF, env=env, catch_exceptions=False)
    jobs = {}
    for line in result.stdout.splitlines():
        words = shlex.split(line.partition("=$(")[2].rstrip(")"))
        for script in (word for word in words if word.endswith(".sbatch")):
            step = script.rpartition("/")[2].removesuffix(".sbatch")
            jobs[step] = {word.partition("=")[0]: word.partition("=")[2] for word in words}
    return jobs, result.stderr


@pytest.fixture
def path(tmp_path):
    return write_scan(tmp_path)


def test_nothing_is_asked_for_of_steps_that_wait_for_a_cell(path):
    assert {*requested(path).steps} == {"frames", *LATER}  # orientation by another program
    assert requested(path).warnings == []
    with h5py.File(path, "r+") as file:
        for name in CELL_NAMES:
            del file[f"entry/sample/unitcell_{name}"]
        del file["f1/instrument/detector/orientation_matrix"]
    costs = plan_scan(path, choices_of(), STEPS, ALONE)
    assert [each.step for each in costs if each.is_known] == ["frames", "orient"]
    requests, _, warnings = requested(path)
    assert {*requests} == {"frames", "orient"}
    assert requests["frames"].minutes > STOPPING
    (warning,) = warnings
    assert warning.startswith("transform, combine, symmetrize, pdf: not known without a cell: ")
    jobs, told = asked_for(path, "--time", "30")
    assert tuple(jobs) == STEPS
    assert [step for step in STEPS if "--mem" in jobs[step]] == ["frames", "orient"]
    assert {job["--time"] for job in jobs.values()} == {"30"}
    assert told == f"Warning: {path}: {warning}\n"
    strict = CliRunner().invoke(plan, [str(path), "--strict"], obj=MPI.COMM_SELF)
    assert f"{path}: transform, combine, symmetrize, pdf: not known" in str(strict.exception)
    CliRunner().invoke(plan, [str(path)], obj=MPI.COMM_SELF, catch_exceptions=False)


def test_a_settings_file_leaves_frames_and_orient_out_everywhere(path):
    words = ("--settings", str(SETTINGS), "--entry", "f1")
    choices = choices_of(*words)
    assert tuple(steps_due(path, choices)) == LATER
    assert tuple(steps_due(path, choices, redo=True)) == LATER
    assert tuple(each.step for each in scan_states(path, choices)) == LATER
    assert tuple(each.step for each in plan_scan(path, choices, STEPS, ALONE)) == LATER
    jobs, _ = asked_for(path, "--options", shlex.join(words))
    assert tuple(jobs) == LATER
    args = [str(path), "--options", shlex.join(words)]
    shown = CliRunner().invoke(status, args, obj=MPI.COMM_SELF, catch_exceptions=False).stdout
    (row,) = (line.split("│")[1:-1] for line in shown.splitlines() if path.stem in line)
    assert [cell.strip() for cell in row] == [path.stem, "", "", *["to do"] * 4]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Return a scan of three positions, different ones, complete but for real space."""
    path = write_scan(tmp_path_factory.mktemp("three"))
    with h5py.File(path, "r+") as file:
        for name, angle in (("f2", -70.0), ("f3", -50.0)):
            file.copy("f1", name, expand_external=False)
            put(file, f"{name}/instrument/goniometer/chi", angle)
    run_reduce(MPI.COMM_SELF, path, choices_of(), BEFORE_PDF, redo=False)
    return path


def copied(path, folder):
    """Return a copy of a scan with its experiment."""
    root = path.parents[2]
    shutil.copytree(root, folder / "copy")
    return folder / "copy" / path.relative_to(root)


def forget(path, entry, *tasks):
    """Take away what is recorded of tasks."""
    with h5py.File(path, "r+") as file:
        for task in tasks:
            del file[f"{entry}/nxworkflow/{task}"], file[f"{entry}/{task}"]


NUMBERS = ("files", "written", "kept", "masks", "sent", "work")
"""Of a step that goes by positions: what is added up."""


def test_a_task_for_a_position_asks_for_the_largest_of_them(three, tmp_path, monkeypatch):
    path, slow = tmp_path / "rates.json", 0.1
    path.write_text(json.dumps(asdict(replace(BUILT_IN, transform=slow))))
    monkeypatch.setenv("NXMPI_RATES", str(path))
    one, all_three = (
        math.ceil(TIMES * n * N_FRAMES * math.prod(SHAPE) / slow / ALONE.ranks / 60) + STOPPING
        for n in (1, 3)
    )
    whole, alone = (
        requested(three, redo=True, apart=apart).steps["transform"] for apart in (False, True)
    )
    assert one <= alone.minutes <= one + 1
    assert all_three <= whole.minutes <= all_three + 1
    assert alone.mebibytes == whole.mebibytes
    for words, minutes in (((), alone.minutes), (("--together",), whole.minutes)):
        jobs, _ = asked_for(three, "--options", "--from transform", *words)
        assert jobs["transform"]["--time"] == str(minutes)


def test_a_run_that_cannot_fit_is_warned_of_before_it_is_submitted(path, tmp_path, monkeypatch):
    sinfo = tmp_path / "sinfo"
    sinfo.write_text("#!/bin/sh\necho 'main*|50|infinite'\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    _, told = asked_for(path, "--options", "--to transform")
    lines = told.splitlines()
    for line, step in zip(lines, ("frames", "transform"), strict=False):
        assert line.startswith(f"Warning: {path}: {step}: expected ")
        assert "MB of memory a node to be there, found 52.4 MB" in line
    (disk,) = lines[2:]
    told = rf"Warning: {path.with_name('300K')}: expected [1-9][\d.]* kB of disk, found 1 byte free"
    assert re.fullmatch(told, disk)


def numbers(*costs):
    return {name: sum(getattr(each, name) for each in costs) for name in NUMBERS}


def test_what_is_complete_is_not_counted(three, tmp_path):
    assert tuple(planned(three)) == ("pdf",)
    again = planned(three, redo=True)
    assert tuple(again) == STEPS
    path = copied(three, tmp_path)
    for step in ("frames", "transform"):
        alone = [planned(path, "--entry", f"f{n}", redo=True)[step] for n in (1, 2, 3)]
        assert numbers(*alone) == numbers(again[step])
        assert alone[2].work > 0
    forget(path, "f3", "nxtransform", "nxmasked_transform")
    left = planned(path)
    assert tuple(left) == STEPS[2:]
    assert numbers(left["transform"]) == numbers(alone[2])
    assert left["transform"].is_exact
    assert {step: left[step] for step in STEPS[3:]} == {step: again[step] for step in STEPS[3:]}
    forget(path, "f2", "nxmax")
    left = planned(path)
    assert numbers(left["frames"]) == numbers(planned(path, "--entry", "f2", redo=True)["frames"])
    assert left["transform"].work == alone[1].work + alone[2].work
    assert left["transform"].files == alone[1].files + alone[2].files


def test_a_volume_that_is_complete_is_not_counted(three, tmp_path):
    again = planned(three, redo=True)
    path = copied(three, tmp_path)
    forget(path, "entry", "nxmasked_symmetrize")
    left = planned(path)
    assert tuple(left) == ("symmetrize", "pdf")
    half = left["symmetrize"]
    assert numbers(half, half) == numbers(again["symmetrize"])
    assert left["pdf"] == again["pdf"]


def test_room_for_files_that_are_replaced(tmp_path, monkeypatch):
    path = simulate(MPI.COMM_SELF, tmp_path / "e", preset("tiny"))
    choices = choices_of("--compression", "none")
    run_reduce(MPI.COMM_SELF, path, choices, BEFORE_PDF, redo=False)
    cost, folder, sizes = planned(path)["pdf"], ScanFiles(path).folder, []

    def taken():
        return sum(each.stat().st_size for each in folder.iterdir())

    def publish(*args):
        sizes.append(taken())
        publish_results(*args)

    monkeypatch.setattr(delta_pdf, "publish_results", publish)
    before = taken()
    run_pdf(MPI.COMM_SELF, path, choices.pdf, choices.output)
    # of small volumes most is the border of their chunks
    most, kept = max(sizes) - before, taken() - before
    assert 1.3 < most / kept < cost.written / cost.kept


DAMAGES = {
    "nothing": ((), {"pdf": ("f1", "f2", "f3")}),
    "frames": (("f2", "nxmax"), {"frames": ("f2",), **dict.fromkeys(LATER, ("f1", "f2", "f3"))}),
    "transform": (
        ("f3", "nxmasked_transform"),
        {"transform": ("f3",), **dict.fromkeys(STEPS[3:], ("f1", "f2", "f3"))},
    ),
    "combine": (("entry", "nxcombine"), dict.fromkeys(STEPS[3:], ("f1", "f2", "f3"))),
}


@pytest.mark.parametrize(("damage", "expected"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_submitted_planned_and_told_of_are_the_same_steps(
    three, tmp_path, damage, expected
):
    path = copied(three, tmp_path)
    if damage:
        forget(path, *damage)
    choices = choices_of()
    assert steps_due(path, choices) == expected
    told = [each.step for each in scan_states(path, choices) if each.state != "done"]
    assert told == [*planned(path)] == [*expected]


def test_looking_for_what_is_due_changes_nothing(three, tmp_path):
    path = copied(three, tmp_path)
    kept = ScanFiles(path).checkpoint("f1", "transform") / "part"
    kept.parent.mkdir()
    kept.touch()
    before = sorted(path.parents[2].rglob("*"))
    steps_due(path, choices_of())
    assert sorted(path.parents[2].rglob("*")) == before


def test_what_cannot_be_done_is_an_error_for_a_submission_and_told_by_status(path):
    with h5py.File(path, "r+") as file:
        del file["f1/data/data"]
    with pytest.raises(InputError, match="data/data"):
        steps_due(path, choices_of())
    first = scan_states(path, choices_of())[0]
    assert (first.state, "data/data" in first.reason) == ("cannot be done", True)


def test_a_result_of_another_program_stops_a_submission_and_is_done_for_status(three, tmp_path):
    path = copied(three, tmp_path)
    with h5py.File(ScanFiles(path).combined(REGULAR), "r+") as file:
        del file["entry/data"].attrs["fingerprint"]
    with pytest.raises(AnotherProgramError, match="nxcombine was done by another program"):
        steps_due(path, choices_of())
    (told,) = (each for each in scan_states(path, choices_of()) if each.step == "combine")
    assert (told.state, told.reason) == ("done", "by another program")
