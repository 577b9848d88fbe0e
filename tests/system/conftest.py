"""What the tests of several modules share."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from system.scans import VOLUMES, add_masks, simulated, volumes
from system.slurm import NEEDED, running_slurm

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def nxrefine():
    """Return the Python that has NXRefine."""
    environment = CHECKOUT / ".venv-nxrefine"
    python = Path(os.environ.get("NXREFINE_PYTHON", environment / "bin" / "python"))
    if not python.exists():
        missing = f"no {python}: make its environment, or name one with NXREFINE_PYTHON"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return python


@pytest.fixture(scope="session")
def nxcctw(tmp_path_factory):
    """Return the program nxcctw of this checkout, installed or not."""
    path = tmp_path_factory.mktemp("bin") / "nxcctw"
    path.write_text(
        f"#!{sys.executable}\nimport sys\n\nsys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from nxmpi.cli.start import main_of_nxcctw\n\nmain_of_nxcctw()\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """Return a program like CCTW 0.2.3, which can be told to fail and tells of its runs."""
    path = tmp_path_factory.mktemp("program") / "cctw"
    path.write_text(
        f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_cctw.py")} "$@"\n'
    )
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def slurm():
    """Start a real Slurm of two nodes with two cores each; stop it at the end."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [program for program in NEEDED if shutil.which(program, path=path) is None]
    if missing:
        pytest.skip(f"no Slurm to test with: {', '.join(missing)} not found")
    with running_slurm() as running:
        yield running


@pytest.fixture(scope="session")
def untouched(tmp_path_factory):
    """Return a simulated scan; to be copied, as those below."""
    return simulated(tmp_path_factory.mktemp("untouched") / "e")


@pytest.fixture(scope="session")
def searched(untouched, tmp_path_factory):
    """Return the same scan, its frames gone through."""
    return untouched.after(tmp_path_factory.mktemp("searched") / "e", "frames")


@pytest.fixture(scope="session")
def fresh(searched, tmp_path_factory):
    """Return the same scan with other 3-D masks."""
    scan = searched.copy(tmp_path_factory.mktemp("fresh") / "e")
    add_masks(scan)
    return scan


@pytest.fixture(scope="session")
def reduced(fresh, tmp_path_factory):
    """Return the same scan, reduced by one rank without a checkpoint."""
    scan = fresh.after(tmp_path_factory.mktemp("reduced") / "e", "reduce")
    assert set(volumes(scan)) == set(VOLUMES)
    return scan


@pytest.fixture(scope="session")
def transformed(fresh, tmp_path_factory):
    """Return the scan with those masks, its first position transformed by one rank."""
    root = tmp_path_factory.mktemp("transformed") / "e"
    return fresh.after(root, "transform", "--entry", "f1")
