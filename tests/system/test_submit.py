"""Chains of jobs that `nxmpi submit` makes, through a real Slurm."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import h5py
import pytest
from system.mpi import error_lines
from system.scans import assert_same, contents, simulated, volumes
from system.slurm import running_slurm

HERE = Path(__file__).parent
STEPS = ("frames", "orient", "transform", "combine", "symmetrize", "pdf")
LATER = "--extra=--begin=now+1hour"


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Return a simulated scan without orientation."""
    return simulated(tmp_path_factory.mktemp("raw") / "e", "--no-orientation", frames=False)


@pytest.fixture(scope="module")
def reduced(raw, tmp_path_factory, slurm):
    """Return the same scan, reduced by one rank without Slurm."""
    scan = raw.copy(tmp_path_factory.mktemp("reduced") / "e")
    slurm.nxmpi("reduce", scan.wrapper)
    return scan


@pytest.fixture(scope="module")
def oriented(reduced, tmp_path_factory):
    """Return the same scan with frames and orientations complete, and nothing else."""
    scan = reduced.copy(tmp_path_factory.mktemp("oriented") / "e")
    for name in volumes(scan):
        (scan.data / name).unlink()
    return scan


def record(scan):
    """Return the jobs of a scan as they were recorded."""
    path = scan.wrapper.with_suffix(".jobs.json")
    return json.loads(path.read_text())["jobs"] if path.exists() else []


def logs(scan):
    """Return what all jobs of a scan wrote."""
    return "\n".join(path.read_text() for path in scan.root.rglob("*.log"))


def in_place_of_nxmpi(folder, script, *args):
    """Return an environment in which jobs run a script of the tests for ``nxmpi``.

    Each start of a job has a folder of its own, which is ``@`` among the arguments.
    """
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    words = " ".join(str(arg) for arg in args).replace("@", '"$told"')
    (bin_folder / "nxmpi").write_text(
        f'#!/bin/sh\ntold={folder}/told-${{SLURM_RESTART_COUNT:-0}}\nmkdir -p "$told"\n'
        f'exec python {HERE / script} {words} -- "$@"\n'
    )
    (bin_folder / "nxmpi").chmod(0o755)
    return {"PATH": f"{bin_folder}:{Path(os.sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("nodes", "ranks", "mpi"),
    [
        (2, 1, "pmix"),
        pytest.param(1, 2, "mpiexec", marks=pytest.mark.full),
        pytest.param(1, 2, "pmix", marks=pytest.mark.full),
        pytest.param(2, 1, "mpiexec", marks=pytest.mark.full),
    ],
)
def test_chain_gives_what_one_rank_gives(slurm, raw, reduced, tmp_path, nodes, ranks, mpi):
    scan = raw.copy(tmp_path / "e")
    asked = ("--nodes", nodes, "--ranks-per-node", ranks, "--mpi", mpi)
    told = slurm.nxmpi("submit", scan.wrapper, *asked)
    jobs = record(scan)
    assert [job["step"] for job in jobs] == [*STEPS[:3], "transform", *STEPS[3:]]
    assert [(job["position"], job["task"]) for job in jobs[2:4]] == [("f1", 1), ("f2", 2)]
    assert len(told.stdout.splitlines()) == len(jobs)
    states = slurm.finish(*{job["job"] for job in jobs}, limit=180)
    assert set(states) == {"COMPLETED"}, logs(scan)
    # the 3-D mask of the frames is another file, so fingerprints differ
    assert_same(scan, reduced, but=("@fingerprint",))
    for job in jobs:
        text = Path(job["log"]).read_text()
        n = nodes * ranks if job["step"] != "orient" else ranks
        assert n == 1 or f"[0/{n}] " in text
        assert f"triclinite_300K-{job['step']}-" in job["log"]
    said = slurm.nxmpi("logs", scan.wrapper, "transform", "--entry", "f2").stdout
    assert "transform of f2" in said
    assert "transform of f1" not in said
    again = slurm.nxmpi("submit", scan.wrapper)
    assert again.stdout == f"{scan.wrapper}: complete\n"
    assert record(scan) == jobs


def test_dry_run_prints_a_script_that_submits_the_same(slurm, oriented, tmp_path):
    scan = oriented.copy(tmp_path / "e")
    before = scan.files()
    asked = (scan.wrapper, "--time", "5", LATER, "--options", "--refine-scale --to symmetrize")
    printed = slurm.nxmpi("submit", *asked, "--dry-run").stdout
    assert scan.files() == before
    assert "combine.sbatch" in printed
    assert printed.count("--refine-scale") == 1
    assert "frames" not in printed
    assert "pdf" not in printed
    described = []
    for submitted in (
        lambda: slurm.run("bash", "-c", printed),
        lambda: slurm.nxmpi("submit", *asked),
    ):
        known = {fields["JobId"] for fields in slurm.jobs()}
        submitted()
        new = [fields for fields in slurm.jobs() if fields["JobId"] not in known]
        described.append(
            [
                tuple(fields[name] for name in ("JobName", "TimeLimit", "NumNodes", "Command"))
                for fields in new
            ]
        )
        slurm.run("scancel", *(fields["JobId"] for fields in new))
    assert described[0] == described[1]
    assert [name.rpartition("-")[2] for name, *_ in described[0]] == [
        "transform", "combine", "symmetrize",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--partition", "nowhere"], "sbatch: .*[Ii]nvalid partition"),
        (["--partition", "project", "--account", "other", "--time", "5"], "Invalid account"),
        (["--nodes", "3"], "More processors requested than permitted|Node count"),
    ],
)  # fmt: skip
def test_what_slurm_refuses_is_told_and_nothing_is_submitted(
    slurm, oriented, tmp_path, asked, told
):
    scan = oriented.copy(tmp_path / "e")
    known = {fields["JobId"] for fields in slurm.jobs()}
    refused = slurm.nxmpi("submit", scan.wrapper, *asked, check=False)
    assert refused.returncode == 1
    (line,) = error_lines(refused)
    assert line.startswith(f"Error: {scan.wrapper}: transform: sbatch: ")
    assert pytest.approx(1) == len(__import__("re").findall(told, line)), line
    assert line.endswith("; nothing was submitted")
    assert record(scan) == []
    assert {fields["JobId"] for fields in slurm.jobs()} == known
    assert scan.hidden() == []


def test_step_that_is_refused_takes_those_before_it_along(slurm, oriented, tmp_path):
    scan = oriented.copy(tmp_path / "e")
    site = tmp_path / "site.toml"
    site.write_text('[symmetrize]\npartition = "nowhere"\n')
    refused = slurm.nxmpi("submit", scan.wrapper, check=False, env={"NXMPI_SITE": str(site)})
    assert f"{scan.wrapper}: symmetrize: sbatch: " in refused.stderr
    mine = [fields for fields in slurm.jobs() if str(scan.wrapper) in fields["Command"]]
    mine = [fields for fields in slurm.jobs() if str(tmp_path) in fields["StdOut"]]
    assert {fields["JobState"] for fields in mine} == {"CANCELLED"}
    assert not (scan.data / "logs").exists() or not [*(scan.data / "logs").iterdir()]
    assert record(scan) == []


def test_second_submission_is_refused_until_the_first_is_cancelled(slurm, oriented, tmp_path):
    scan = oriented.copy(tmp_path / "e")
    slurm.nxmpi("submit", scan.wrapper, LATER)
    jobs = record(scan)
    refused = slurm.nxmpi("submit", scan.wrapper, check=False)
    assert refused.returncode == 1
    (line,) = error_lines(refused)
    for job in jobs:
        task = "" if job["task"] is None else f"_{job['task']}"
        assert f"{job['step']} {job['job']}{task} (PENDING)" in line
    assert record(scan) == jobs
    cancelled = slurm.nxmpi("cancel", scan.wrapper).stdout
    assert cancelled.count(" cancelled, was PENDING") == len(jobs)
    assert set(slurm.finish(*{job["job"] for job in jobs})) == {"CANCELLED"}
    assert "no jobs in the queue" in slurm.nxmpi("cancel", scan.wrapper).stdout
    slurm.nxmpi("submit", scan.wrapper, LATER)
    assert {job["job"] for job in record(scan)}.isdisjoint(job["job"] for job in jobs)
    slurm.nxmpi("cancel", scan.wrapper)


@pytest.fixture
def three(oriented, tmp_path):
    """Return three scans in one folder, of the same raw frames, the second of which has none."""
    scan = oriented.copy(tmp_path / "e")
    wrappers = [scan.wrapper]
    for name in ("310K", "320K"):
        wrappers.append(scan.folder / f"triclinite_{name}.nxs")
        shutil.copy(scan.wrapper, wrappers[-1])
        shutil.copytree(scan.data, scan.folder / name)
    with h5py.File(scan.folder / "310K" / "f1.h5", "r+") as file:
        del file["entry/data/data"]
        file["entry/data/data"] = h5py.ExternalLink("nowhere.h5", "/data")
    for name in ("310K", "320K"):
        with h5py.File(scan.folder / f"triclinite_{name}.nxs", "r+") as file:
            for entry in ("f1", "f2"):
                del file[f"{entry}/data/data"]
                link = h5py.ExternalLink(f"{name}/{entry}.h5", "/entry/data/data")
                file[f"{entry}/data/data"] = link
    return scan, wrappers
