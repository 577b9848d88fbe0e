"""What is called on login nodes, some of which have no MPI that starts."""

import re
import subprocess
import sys

import pytest
from system.mpi import run_nxmpi

WITHOUT_MPI = {"OMPI_MCA_pml": "nosuch"}
"""Open MPI finds no way to send messages, and ends the process in MPI_Init.

What it says of that differs: its daemon (ORTE) may fail to hand the message on.
"""


@pytest.fixture(scope="module")
def scan(untouched, tmp_path_factory):
    return untouched.copy(tmp_path_factory.mktemp("login") / "e")


def run(scan, *args, n=0):
    return run_nxmpi(n, *args, env=WITHOUT_MPI, cwd=scan.wrapper.parent)


@pytest.mark.parametrize(
    "args",
    [
        ("status", "SCAN"), ("plan", "SCAN", "--memory", "4G"), ("predict", "SCAN", "--d-min", "3"),
        ("unlock", "SCAN"), ("--help",), ("--version",),
    ],
    ids=" ".join,
)  # fmt: skip
def test_commands_of_one_process_do_without_mpi(scan, args):
    result = run(scan, *(scan.wrapper.name if word == "SCAN" else word for word in args))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


def test_their_refusals_too(scan):
    result = run(scan, "status", "nosuch.nxs")
    assert result.returncode == 1
    assert result.stderr.startswith("Error: ")
    assert "nosuch.nxs" in result.stderr
    assert "MPI" not in result.stderr


def test_what_nobody_expected_is_shown_whole():
    code = (
        "import mpi4py; mpi4py.rc.initialize = False; import click, nxmpi.cli.main as nxmpi;"
        "nxmpi.main(click.Command('x', callback=lambda: 1 / 0))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback")
    assert "Error: ZeroDivisionError: division by zero" in result.stderr


@pytest.mark.parametrize("args", [("check",), ("plan", "--calibrate"), ("frames", "SCAN")])
def test_work_on_frames_wants_mpi(scan, args):
    result = run(scan, *(scan.wrapper.name if word == "SCAN" else word for word in args))
    assert result.returncode != 0
    assert re.search("MPI|ORTE", result.stderr)
    assert "Error: " not in result.stderr
    assert result.stdout == ""


def test_more_processes_than_one_are_refused_still(scan):
    result = run_nxmpi(2, "status", scan.wrapper)
    assert result.returncode != 0
    assert "expected one process, found 2" in result.stderr
