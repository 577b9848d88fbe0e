"""nxmpi plan, held against what steps really sent, took and wrote."""

import json
import math
import os
import re
import shlex

import h5py
import pytest
from system.mpi import error_lines, run_nxmpi

STEPS = ("frames", "orient", "transform", "combine", "symmetrize", "pdf")
TASKS = {
    "frames": ("nxmax",), "transform": ("nxtransform",),
    "combine": ("nxcombine", "nxmasked_combine"),
    "symmetrize": ("nxsymmetrize", "nxmasked_symmetrize"), "pdf": ("nxpdf", "nxmasked_pdf"),
}  # fmt: skip


def planned(scan, *args, env=None):
    """Return the numbers of each step; no file is touched."""
    before = scan.files()
    result = run_nxmpi(0, "plan", scan.wrapper, "--json", *args, env=env)
    assert result.returncode == 0, result.stderr
    assert scan.files() == before
    found = json.loads(result.stdout)
    return {each["step"]: each for each in found["steps"]}


def counted(scan, step, positions=("f1", "f2")):
    """Return the bytes that the records of a step say were sent."""
    total, where = 0, positions if step in ("frames", "transform") else ("entry",)
    with h5py.File(scan.wrapper) as file:
        for entry in where:
            for task in TASKS[step]:
                note = file[f"{entry}/nxworkflow/{task}/note/data"][()].decode()
                total += int(re.search(r"(\d+) bytes sent", note)[1])
    return total


@pytest.mark.parametrize("n", [pytest.param(2, marks=pytest.mark.full), 3])
def test_bytes_between_ranks_are_those_counted(searched, tmp_path, n):
    scan = searched.copy(tmp_path / "e")
    # the whole chain: the mask is one that nobody knows before
    whole = planned(scan, "--ranks", n, "--from", "frames")
    assert not whole["transform"]["sent_is_exact"]
    steps = planned(scan, "--ranks", n, "--from", "transform")
    assert tuple(whole) == STEPS
    assert tuple(steps) == STEPS[2:]
    result = run_nxmpi(n, "reduce", scan.wrapper, "--from", "frames")
    assert result.returncode == 0, result.stderr
    assert counted(scan, "frames") == whole["frames"]["sent"] > 0
    for step in ("transform", "symmetrize", "pdf"):
        assert steps[step]["sent_is_exact"]
        assert counted(scan, step) == steps[step]["sent"] > 0, step
    assert counted(scan, "combine") == steps["combine"]["sent"] == 0
    assert planned(scan, "--ranks", n) == {}  # all is complete


def test_bytes_of_the_position_that_is_left(searched, tmp_path):
    scan = searched.copy(tmp_path / "e")
    assert run_nxmpi(2, "transform", scan.wrapper, "--entry", "f1").returncode == 0
    steps = planned(scan, "--ranks", "3", "--to", "transform")
    assert run_nxmpi(3, "reduce", scan.wrapper, "--to", "transform").returncode == 0
    assert steps["transform"]["sent_is_exact"]
    assert counted(scan, "transform", ["f2"]) == steps["transform"]["sent"] > 0


@pytest.mark.full
@pytest.mark.parametrize(
    "options",
    [
        ("--hits", "--batch-frames", "3", "--spacing", "0.3", "--precision", "double"),
        ("--keep-mean", "--fill", "none", "--no-mask", "--split", "1", "1", "1"),
        ("--split", "1", "2", "2", "--to", "symmetrize"),
    ],
    ids=" ".join,
)
def test_bytes_with_other_options(searched, tmp_path, options):
    scan = searched.copy(tmp_path / "e")
    steps = planned(scan, "--ranks", "3", "--from", "transform", *options)
    result = run_nxmpi(3, "reduce", scan.wrapper, "--from", "transform", *options)
    assert result.returncode == 0, result.stderr
    tasks = counted_regular if "--no-mask" in options else counted
    for step in {"transform", "symmetrize", "pdf"} & set(steps):
        assert tasks(scan, step) == steps[step]["sent"], step
    assert "transform" in steps


@pytest.mark.full
def test_bytes_with_a_background(searched, tmp_path):
    scan, other = searched.copy(tmp_path / "e"), searched.copy(tmp_path / "b")
    assert run_nxmpi(2, "transform", other.wrapper).returncode == 0
    options = ("--from", "transform", "--to", "symmetrize", "--background", other.wrapper)
    steps = planned(scan, "--ranks", "3", *options)
    result = run_nxmpi(3, "reduce", scan.wrapper, *options)
    assert result.returncode == 0, result.stderr
    assert steps["symmetrize"]["sent_is_exact"]
    assert counted(scan, "symmetrize") == steps["symmetrize"]["sent"]


def counted_regular(scan, step):
    with h5py.File(scan.wrapper) as file:
        entries = ("f1", "f2") if step == "transform" else ("entry",)
        notes = [file[f"{e}/nxworkflow/{TASKS[step][0]}/note/data"][()].decode() for e in entries]
    return sum(int(re.search(r"(\d+) bytes sent", note)[1]) for note in notes)


def test_a_table_says_whose_rates_it_uses(searched, tmp_path):
    env = {"XDG_CONFIG_HOME": str(tmp_path), "NXMPI_RATES": None}
    result = run_nxmpi(0, "plan", searched.wrapper, "--ranks", "4", "--nodes", "2", env=env)
    assert result.returncode == 0, result.stderr
    assert "4 ranks on 2 nodes" in result.stdout
    assert "rates: built in: " in result.stdout
    assert "pdf" in result.stdout
    path = tmp_path / "nxmpi" / "rates.json"
    path.parent.mkdir()
    path.write_text('{"frames": 1}')
    result = run_nxmpi(0, "plan", searched.wrapper, env=env)
    assert result.returncode == 1
    assert f"{path}: expected rates as nxmpi plan --calibrate writes them" in result.stderr


def test_a_run_that_cannot_fit_is_warned_of(searched):
    args = ("plan", searched.wrapper, "--ranks", "4", "--memory", "300M")
    result = run_nxmpi(0, *args)
    assert result.returncode == 0, result.stderr
    assert "Warning: symmetrize: expected " in result.stderr
    assert "GB of memory a node to be there, found 314.6 MB" in result.stderr
    result = run_nxmpi(2, *args, "--strict")
    assert result.returncode == 1
    (line,) = error_lines(result)
    assert f"Error: {searched.wrapper}: transform: expected " in line
    enough = run_nxmpi(0, "plan", searched.wrapper, "--ranks", "4", "--memory", "8G", "--strict")
    assert enough.returncode == 0, enough.stderr


def test_before_there_is_a_cell_or_an_orientation(untouched, tmp_path):
    scan = untouched.copy(tmp_path / "e")
    with scan.open() as file:
        for name in ("f1", "f2"):
            del file[f"{name}/instrument/detector/orientation_matrix"]
    steps = planned(scan, "--ranks", "2")
    assert tuple(steps) == STEPS
    assert "orientation guessed" in steps["transform"]["note"]
    assert not steps["transform"]["sent_is_exact"]


def test_what_makes_no_sense_is_one_line(searched, tmp_path):
    result = run_nxmpi(0, "plan", searched.wrapper, "--ranks", "2", "--nodes", "3")
    assert result.returncode == 2
    assert "--nodes: expected at most as many as ranks, 2" in result.stderr
    result = run_nxmpi(2, "plan", tmp_path / "none.nxs")
    assert result.returncode == 1
    (line,) = error_lines(result)
    assert "expected a file, found none" in line


def test_rates_are_not_measured_where_there_is_no_folder(tmp_path):
    env = {"NXMPI_RATES": str(tmp_path / "rates.json")}
    result = run_nxmpi(2, "plan", "--calibrate", tmp_path / "no" / "scan.nxs", env=env)
    assert result.returncode == 1
    (line,) = error_lines(result)
    assert f"{tmp_path}/no" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.full
def test_rates_of_this_machine(searched, tmp_path):
    folder, path = tmp_path / "data", tmp_path / "kept" / "rates.json"
    folder.mkdir()
    env = {"NXMPI_RATES": str(path)}
    result = run_nxmpi(2, "plan", "--calibrate", folder, env=env, timeout=900)
    assert result.returncode == 0, result.stderr
    assert list(folder.iterdir()) == []
    rates = json.loads(path.read_text())
    assert set(rates["base"]) == set(STEPS)
    assert all(100 * 2**20 < each < 2**30 for each in rates["base"].values())
    for name in ("frames", "transform", "combine", "symmetrize", "fourier"):
        assert 1e4 < rates[name] < 1e10, name
    assert 0 < rates["ratio"] <= 1
    told = run_nxmpi(0, "plan", searched.wrapper, "--ranks", "2", env=env)
    assert f"rates: this machine's, from {path}: " in told.stdout.replace("\n", "")


def test_jobs_ask_for_what_their_step_needs_with_its_own_ranks_and_nodes(searched, tmp_path):
    site = tmp_path / "site.toml"
    site.write_text(
        "ranks_per_node = 2\n[transform]\nranks_per_node = 16\nnodes = 2\n"
        '[pdf]\npartition = "small"\n'
    )
    sinfo = tmp_path / "sinfo"
    sinfo.write_text("#!/bin/sh\nprintf 'main*|900000|infinite\\nsmall|300+|10:00\\n'\n")
    sinfo.chmod(0o755)
    env = {"NXMPI_SITE": str(site), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    result = run_nxmpi(0, "submit", searched.wrapper, "--dry-run", "--plan", env=env)
    assert result.returncode == 0, result.stderr
    asked = {}
    for line in result.stdout.splitlines():
        words = shlex.split(line.partition("=$(")[2].rstrip(")"))
        step = next((word for word in words if word.endswith(".sbatch")), "/").split("/")[-1]
        asked[step.removesuffix(".sbatch")] = dict(
            word.removeprefix("--").split("=", 1)
            for word in words
            if word.startswith("--") and "=" in word
        )
    few = planned(searched, "--ranks", "2", "--memory", "900000M")
    many = planned(searched, "--ranks", "32", "--nodes", "2", "--memory", "900000M")
    for step, expected in (("combine", few), ("symmetrize", few), ("transform", many)):
        wanted = math.ceil(1.25 * expected[step]["memory_node"] / 2**20)
        assert asked[step]["mem"] == f"{wanted}M", step
        minutes = math.ceil(2 * expected[step]["seconds"] / 60) + 15
        assert asked[step]["time"] == f"{minutes}", step
    assert many["transform"]["memory_node"] > 4 * few["transform"]["memory_node"]
    least = math.ceil(few["pdf"]["least_node"] / 2**20)
    assert asked["pdf"]["mem"] == f"{max(least, 300)}M"
    assert asked["pdf"]["time"] == "10"
