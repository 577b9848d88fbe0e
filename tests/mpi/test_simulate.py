"""Simulated experiments do not depend on the number of ranks."""

from dataclasses import replace

import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.errors import CollectiveError
from nxmpi.nexus import schema
from nxmpi.simulate.bragg import Bragg
from nxmpi.simulate.halos import Halos
from nxmpi.simulate.pixels import Pixels
from nxmpi.simulate.presets import preset
from nxmpi.simulate.write import simulate

TINY = preset(
    "tiny",
    halos=Halos(threshold=20.0, radius=(4.0, 6.0)),
    pixels=Pixels(dead=5, hot=4, saturation=300),
    bragg=Bragg(spread=((0.6, 2.0), (0.6, 2.0), (0.4, 3.0))),
)
SMALL = replace(TINY.positions[0], detector=replace(TINY.positions[0].detector, shape=(48, 20)),
                column_gaps=((3, 5),))  # fmt: skip


@pytest.mark.parallel([1, 2, 3, 4, 7])
@pytest.mark.parametrize(
    ("n_frames", "chunk_frames", "compression"),
    [(11, 1, "bitshuffle-lz4"), (67, 5, "gzip"), (4, 4, "none"), (1, 1, "bitshuffle-lz4")],
)
def test_files_equal_those_of_one_rank_to_the_byte(
    comm, shared_tmp_path, n_frames, chunk_frames, compression
):
    settings = (replace(SMALL, n_frames=n_frames), replace(TINY.positions[1], n_frames=n_frames))
    experiment = replace(
        TINY, positions=settings, chunk_frames=chunk_frames, compression=compression
    )
    path = simulate(comm, shared_tmp_path / "together", experiment)
    if comm.rank == 0:
        alone = simulate(MPI.COMM_SELF, shared_tmp_path / "alone", experiment)
        files, wanted = schema.ScanFiles(path), schema.ScanFiles(alone)
        pairs = [
            (path, alone),
            (files.truth(), wanted.truth()),
            (files.settings, wanted.settings),
            (files.raw("f1"), wanted.raw("f1")),
            (files.raw("f2"), wanted.raw("f2")),
        ]
        differing = [one.name for one, other in pairs if one.read_bytes() != other.read_bytes()]
    parallel_assert(comm.rank > 0 or not differing, participating=True)


@pytest.mark.parallel([1, 3])
def test_a_directory_in_use_is_refused_on_all_ranks(comm, shared_tmp_path):
    simulate(comm, shared_tmp_path / "e", TINY)
    with pytest.raises(CollectiveError, match="exists already"):
        simulate(comm, shared_tmp_path / "e", TINY)
