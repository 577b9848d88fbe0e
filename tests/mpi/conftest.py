"""What the tests of several modules share."""

import pytest
from mpi.scans import add_masks

from nxmpi.simulate.presets import preset
from nxmpi.simulate.write import simulate


@pytest.fixture
def scan(comm, shared_tmp_path):
    """Return a scan with a 3-D mask for each position."""
    wrapper = simulate(comm, shared_tmp_path / "e", preset("tiny"))
    if comm.rank == 0:
        add_masks(wrapper)
    comm.barrier()  # the others are to see the masks
    return wrapper
