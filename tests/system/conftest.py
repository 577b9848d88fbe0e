"""What the tests of several modules share."""

import os
import shutil

import pytest
from system.slurm import NEEDED, running_slurm


@pytest.fixture(scope="session")
def slurm():
    """Start a real Slurm of two nodes with two cores each; stop it at the end."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    missing = [program for program in NEEDED if shutil.which(program, path=path) is None]
    if missing:
        pytest.skip(f"no Slurm to test with: {', '.join(missing)} not found")
    with running_slurm() as running:
        yield running
