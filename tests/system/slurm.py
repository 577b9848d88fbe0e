"""A real Slurm of virtual nodes on this machine, for the time of a test run."""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from system.mpi import clean_environment

SCRIPTS = Path(__file__).parents[1] / "slurm"
JOBS = Path(__file__).parents[2] / "jobs"
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
SETTINGS = {
    # ranks on several virtual nodes are on one machine and must not find that out
    "OMPI_MCA_btl": "self,tcp",
    "OMPI_MCA_pml": "ob1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OMPI_MCA_hwloc_base_binding_policy": "none",
    "NUMBA_CACHE_DIR": "",  # the usual place, where kernels are compiled already
    "NXMPI_SITE": "/dev/null",
}
FINAL = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "DEADLINE", "OUT_OF_MEMORY")


class Slurm:
    """Commands of a running Slurm."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = clean_environment(
            SETTINGS
            | {
                "SLURM_CONF": str(folder / "slurm.conf"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            }
        )

    def run(self, *args, check=True, env=None, **options):
        """Run a command to its end; return it, with text."""
        environment = self.environment | (env or {})
        result = subprocess.run(
            [*map(str, args)], env=environment, capture_output=True, text=True, timeout=60,
            check=False, **options,
        )  # fmt: skip
        assert not check or result.returncode == 0, f"{args}: {result.stdout}{result.stderr}"
        return result

    def nxmpi(self, *args, check=True, env=None):
        """Run an nxmpi command, on one rank."""
        return self.run(sys.executable, "-m", "nxmpi", *args, check=check, env=env)

    def sbatch(self, *args, env=None):
        """Submit a job; return its id."""
        return self.run("sbatch", "--parsable", *args, env=env).stdout.strip()

    def jobs(self):
        """Return the fields of all jobs that Slurm knows, as scontrol names them."""
        lines = self.run("scontrol", "show", "job", "--oneliner").stdout.splitlines()
        return [
            dict(word.partition("=")[::2] for word in line.split() if "=" in word)
            for line in lines
            if "JobId=" in line
        ]

    def job(self, job, task=None):
        """Return the fields of one job, or of one task of an array."""
        for fields in self.jobs():
            if task is not None and fields.get("ArrayJobId") == str(job):
                if fields["ArrayTaskId"] == str(task):
                    return fields
            elif fields["JobId"] == str(job):
                return fields
        raise KeyError(job)

    def state(self, job, task=None):
        """Return the state of a job."""
        return self.job(job, task)["JobState"]

    def until(self, what, limit=60.0):
        """Wait until a function returns something true; return that."""
        deadline = time.monotonic() + limit
        while not (found := what()):
            if time.monotonic() > deadline:
                raise TimeoutError(self.run("scontrol", "show", "job", check=False).stdout)
            time.sleep(0.2)
        return found

    def finish(self, *jobs, limit=90.0):
        """Wait until jobs, arrays with all their tasks, have ended; return their states."""

        def states():
            wanted = {str(job) for job in jobs}
            found = [
                fields["JobState"]
                for fields in self.jobs()
                if wanted & {fields["JobId"], fields.get("ArrayJobId")}
            ]
            return found if all(state in FINAL for state in found) else []

        return self.until(states, limit)


@contextmanager
def running_slurm(nodes=2, cpus=2):
    """Start a Slurm in a new folder; stop it, jobs and all, however this process ends."""
    folder = Path(tempfile.mkdtemp(prefix="nxs")) / "s"
    # its input ends when this process does, be it by a signal that nothing can be done about
    guard = subprocess.Popen(
        ["sh", "-c", 'cat >/dev/null; "$0" "$1"; rmdir "${1%/*}"', SCRIPTS / "stop", folder],
        stdin=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        started = subprocess.run(
            [SCRIPTS / "start", folder, str(nodes), str(cpus)], capture_output=True, text=True,
            timeout=60, env=clean_environment(), check=False,
        )  # fmt: skip
        assert started.returncode == 0, started.stderr
        yield Slurm(folder)
    finally:
        guard.stdin.close()
        guard.wait(60)
