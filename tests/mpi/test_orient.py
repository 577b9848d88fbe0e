"""Orientations do not depend on the number of ranks, and failures are of all together."""

import h5py
import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert
from unit.peaks_scan import Crystal, geometry_of, peaks_of, random_rotation, write_scan

from nxmpi.errors import CollectiveError
from nxmpi.params import OrientParams, OutputParams
from nxmpi.pipeline.orient import run_orient

RANKS = [1, 2, 3, 4, 7]
CRYSTAL = Crystal(
    cell=(7.1, 5.3, 6.2, 90.0, 103.0, 90.0), space_group="P 1 21/c 1", U=random_rotation(2),
    n_peaks=70, n_false=30,
)  # fmt: skip
PARAMS = OrientParams(min_indexed=0.4)


def write(comm, root, **values):
    """Write a scan, on the root, and return its path on all ranks."""
    path = None
    if comm.rank == 0:
        peaks = [peaks_of(CRYSTAL, i)[0] for i in range(3)]
        path = write_scan(root, CRYSTAL, peaks, **values)
    return comm.bcast(path)


def written(path):
    """Return what orienting leaves in a file."""
    found = {}
    with h5py.File(path) as file:
        for name in ("f1", "f2", "f3"):
            for group in ("peaks", "instrument/detector", "instrument/goniometer", "sample"):
                for data in file[name][group].values():
                    found[f"{name}/{data.name}"] = np.asarray(data[()]).tobytes()
            found[f"{name}/note"] = file[f"{name}/nxworkflow/nxrefine/note/data"][()]
    return found


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("cell", [True, False], ids=["known cell", "no cell"])
def test_the_same_bits_on_any_number_of_ranks(comm, shared_tmp_path, cell):
    one = write(comm, shared_tmp_path / "one", cell=cell)
    every = write(comm, shared_tmp_path / "every", cell=cell)
    if comm.rank == 0:
        run_orient(MPI.COMM_SELF, one, PARAMS, OutputParams())
    lines = run_orient(comm, every, PARAMS, OutputParams())
    parallel_assert(len(set(comm.allgather("\n".join(lines)))) == 1)
    if comm.rank == 0:
        differing = [k for k, v in written(one).items() if written(every)[k] != v]
        found = h5py.File(every)["f1/instrument/detector/ub_matrix"][()]
        wanted = np.abs(np.linalg.det(np.array(geometry_of(CRYSTAL, 0).UB)))
        np.testing.assert_allclose(np.abs(np.linalg.det(found)), wanted, rtol=1e-4)
    parallel_assert(comm.rank > 0 or not differing, participating=True)


@pytest.mark.parallel(RANKS)
def test_refusal_is_of_all_ranks_and_leaves_the_file(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path / "e", phi_sign=-1)
    before = path.read_bytes()
    with pytest.raises(CollectiveError, match="with phi turning the other way"):
        run_orient(comm, path, PARAMS, OutputParams())
    parallel_assert(path.read_bytes() == before)


@pytest.mark.parallel([3])
def test_missing_peaks_are_told_of_on_all_ranks(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path / "e")
    if comm.rank == 0:
        with h5py.File(path, "r+") as file:
            del file["f2/peaks"]
    comm.barrier()  # the others are to see it
    with pytest.raises(CollectiveError, match=r"/f2/peaks: expected a list of peaks"):
        run_orient(comm, path, PARAMS, OutputParams())
