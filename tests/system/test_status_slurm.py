"""nxmpi status while jobs of a real Slurm wait, run, fail and end."""

import json

import h5py
import pytest
from system.slurm import JOBS

STEPS = ("frames", "orient", "transform", "combine", "symmetrize", "pdf")


@pytest.fixture
def scan(searched, tmp_path):
    return searched.copy(tmp_path / "e")


def told(slurm, scan):
    result = slurm.nxmpi("status", scan.wrapper, "--json")
    (one,) = json.loads(result.stdout)
    return one["steps"]


def submit(slurm, scan, *args):
    """Submit what is left to do; return the numbers of jobs by step."""
    slurm.nxmpi("submit", scan.wrapper, *args, env={"NXMPI_JOBS": str(JOBS)})
    record = json.loads(scan.wrapper.with_name(f"{scan.wrapper.stem}.jobs.json").read_text())
    return {job["step"]: job["job"] for job in record["jobs"]}


def test_a_chain_from_waiting_to_done(slurm, scan):
    blockers = [
        slurm.sbatch("--exclusive", "--wrap", "sleep 600 & wait", "-o", "/dev/null")
        for _ in range(2)
    ]
    jobs = submit(slurm, scan)
    steps = told(slurm, scan)
    assert steps["transform"]["state"] == "queued"
    assert {f"{jobs['transform']}_{n}" for n in (1, 2)} == {*steps["transform"]["jobs"]}
    assert (steps["combine"]["state"], steps["combine"]["detail"]) == (
        "queued", f"job {jobs['combine']} (Dependency)",
    )  # fmt: skip
    slurm.run("scancel", *blockers)

    def runs():
        now = told(slurm, scan)["transform"]
        return now if now["state"] in ("running", "done") else None

    step = slurm.until(runs)
    if step["state"] == "running":
        assert " on n" in step["detail"]
    slurm.finish(*jobs.values(), limit=150)
    assert [step["state"] for step in told(slurm, scan).values()] == ["done"] * 6


def test_a_step_that_fails_and_those_behind_it(slurm, scan):
    jobs = submit(slurm, scan)
    with h5py.File(scan.wrapper, "r+") as file:  # after what submit looks at
        del file["f2/instrument/detector/distance"]
    slurm.finish(*jobs.values(), limit=150)
    steps = told(slurm, scan)
    assert steps["transform"]["state"] == "failed"
    detail = steps["transform"]["detail"]
    assert f"job {jobs['transform']}_2: " in detail
    assert "distance" in detail
    assert detail.endswith("failed, status 1")
    assert steps["combine"]["state"] == "failed"
    assert steps["combine"]["detail"].startswith(f"job {jobs['combine']}: cancelled")
