"""One line for the user and an end within seconds, whoever fails and whoever waits."""

import time

import pytest
from system.mpi import error_lines, run_mpi

PROGRAM = """
import sys, time
from pathlib import Path
from mpi4py import MPI
from nxmpi.errors import CollectiveError
from nxmpi.parallel.collective import or_abort
comm, how = MPI.COMM_WORLD, sys.argv[1]
failing = {"all": range(comm.size), "last": [comm.size - 1], "root": [0], "late": range(comm.size)}
try:
    with or_abort(comm, Path("f1_transform.nxs")):
        if comm.rank in failing[how]:
            if how == "late":
                time.sleep(0.2 * (comm.size - comm.rank))
            raise OSError(f"cannot write\\n  by rank {comm.rank}")
        if sys.argv[2] == "busy":
            time.sleep(60)
        comm.Barrier()
except CollectiveError as error:
    sys.exit(f"Error: {error}")
"""


@pytest.mark.parametrize(
    ("n", "how", "others"),
    [
        (1, "all", "waiting"),
        (3, "all", "waiting"),
        (3, "last", "waiting"),
        (3, "last", "busy"),
        (3, "root", "waiting"),
        (3, "late", "waiting"),
        (7, "all", "waiting"),
        (7, "late", "waiting"),
    ],
)
def test_failure_is_told_once_and_ends_the_job(n, how, others):
    started = time.monotonic()
    result = run_mpi(n, "-c", PROGRAM, how, others, timeout=40)
    assert result.returncode != 0
    lines = error_lines(result)
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: f1_transform.nxs: OSError: cannot write; by rank ")
    assert time.monotonic() - started < 15
