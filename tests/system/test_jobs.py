"""The job scripts, submitted by hand to a real Slurm."""

import os
import subprocess

import pytest
from system.scans import assert_same
from system.slurm import JOBS, running_slurm


@pytest.fixture(scope="module")
def undisturbed(searched, tmp_path_factory, slurm):
    """Return a scan that one rank reduced without Slurm."""
    scan = searched.copy(tmp_path_factory.mktemp("undisturbed") / "e")
    slurm.nxmpi("reduce", scan.wrapper)
    return scan


def daemons(folder):
    """Return the process ids of a Slurm's daemons, which are all alive."""
    pids = [int(path.read_text()) for path in folder.glob("*.pid")]
    for pid in pids:
        os.kill(pid, 0)
    return pids


def test_two_slurms_run_side_by_side_and_leave_nothing(slurm, tmp_path):
    with running_slurm(nodes=1) as other:
        assert len(other.run("sinfo", "-h", "-N", "-p", "main").stdout.splitlines()) == 1
        assert len(slurm.run("sinfo", "-h", "-N", "-p", "main").stdout.splitlines()) == 2
        pids = daemons(other.folder)
        assert len(pids) == 3
        told = tmp_path / "pid"
        other.sbatch("--wrap", f"sleep 600 & echo $! >{told}; wait", "--output", "/dev/null")
        other.until(lambda: told.exists() and told.read_text())
        sleeper = int(told.read_text())
        os.kill(sleeper, 0)
    assert not other.folder.exists()
    for pid in (*pids, sleeper):
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
        )
        assert state.stdout.strip() in ("", "Z", "Zs"), pid
    daemons(slurm.folder)


@pytest.mark.full
@pytest.mark.parametrize("mpi", ["mpiexec", "pmix"])
@pytest.mark.parametrize(("nodes", "ranks"), [(1, 2), (2, 1)])
def test_reduce_script_gives_what_one_rank_gives(
    slurm, searched, undisturbed, tmp_path, nodes, ranks, mpi
):
    scan = searched.copy(tmp_path / "e")
    args = (f"--nodes={nodes}", f"--ntasks-per-node={ranks}", JOBS / "reduce.sbatch", scan.wrapper)
    job = slurm.run("sbatch", "--parsable", *args, cwd=tmp_path, env={"NXMPI_MPI": mpi})
    job = job.stdout.strip()
    states = slurm.finish(job)
    log = (tmp_path / f"nxmpi-reduce-{job}.log").read_text()
    assert states == ["COMPLETED"], log
    assert f"[0/{nodes * ranks}] " in log
    assert_same(scan, undisturbed)


def test_script_without_a_scan_says_so(slurm, tmp_path):
    job = slurm.run("sbatch", "--parsable", JOBS / "pdf.sbatch", cwd=tmp_path).stdout.strip()
    assert slurm.finish(job) == ["FAILED"]
    log = (tmp_path / f"nxmpi-pdf-{job}.log").read_text()
    assert log == "expected a scan file, found 0\n"
