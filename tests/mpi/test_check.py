"""What `nxmpi check` finds, and its trial of writing together."""

import importlib

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from pytest_mpi.parallel_assert import parallel_assert

from nxmpi.cli.check import check
from nxmpi.errors import CollectiveError
from nxmpi.parallel import libraries, trial
from nxmpi.parallel.launch import launched_size
from nxmpi.parallel.trial import write_trial
from nxmpi.pipeline.installation import inspect

RANKS = pytest.mark.parallel([1, 2, 3, 7])


@RANKS
def test_this_installation_is_complete_and_the_same_on_all_ranks(comm):
    installation = inspect(comm)
    assert installation.problems == ()
    assert comm.bcast(installation.rows) == installation.rows
    rows = dict(installation.rows)
    assert rows["ranks"] == str(comm.size)
    assert rows["h5py"] == h5py.__version__
    assert rows["numpy"] == np.__version__
    assert rows["filters"] == "gzip, bitshuffle, lz4, zstd, blosc"
    written = "by parallel HDF5" if h5py.get_config().mpi else "through the root"
    assert rows["files are written"] == written


@RANKS
@pytest.mark.parametrize("root_writes", [False, True], ids=["as usual", "through the root"])
def test_trial_is_written_read_back_and_removed(comm, shared_tmp_path, root_writes):
    seconds = write_trial(comm, shared_tmp_path, root_writes=root_writes)
    parallel_assert(seconds > 0)
    parallel_assert(comm.allreduce(len(list(shared_tmp_path.iterdir()))) == 0)


@RANKS
def test_a_value_that_reads_back_wrong_is_found(comm, shared_tmp_path, monkeypatch):
    written = trial._values
    calls = []

    def spoilt(first, last):
        values = written(first, last)
        if not calls and comm.rank == comm.size - 1:  # what is written, not what is expected
            values[-1, -1, -1] += 1
        calls.append(first)
        return values

    monkeypatch.setattr(trial, "_values", spoilt)
    with pytest.raises(CollectiveError, match=f"what rank {comm.size - 1} wrote"):
        write_trial(comm, shared_tmp_path)
    comm.barrier()  # the root removes the file
    assert list(shared_tmp_path.iterdir()) == []


@RANKS
def test_a_folder_missing_on_one_rank_is_an_error_on_all(comm, shared_tmp_path):
    folder = shared_tmp_path / "missing" if comm.rank == comm.size - 1 else shared_tmp_path
    with pytest.raises(CollectiveError, match="missing: expected a folder"):
        write_trial(comm, folder)


@RANKS
def test_a_package_missing_on_one_rank_is_named(comm, monkeypatch):
    real = importlib.import_module

    def without(name, package=None):
        if name == "pyFAI" and comm.rank == comm.size - 1:
            raise ImportError("No module named 'pyFAI'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    problems = inspect(comm).problems
    (line,) = [problem for problem in problems if "cannot be imported" in problem]
    assert line.startswith("pyFAI cannot be imported")
    assert line.endswith(f"[rank {comm.size - 1}]") == (comm.size > 1)
    differ = [problem for problem in problems if "not the same everywhere" in problem]
    assert len(differ) == (comm.size > 1)


@RANKS
def test_a_missing_filter_is_named(comm, monkeypatch):
    monkeypatch.setitem(libraries.FILTERS, "imaginary", 31999)
    assert inspect(comm).problems == ("HDF5 has no imaginary filter",)


@pytest.mark.parallel([1])
def test_a_launcher_of_another_mpi_is_noticed(comm, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    (problem,) = inspect(comm).problems
    assert "started 4 processes" in problem


@pytest.mark.parallel([1])
@pytest.mark.parametrize(
    ("environment", "size"),
    [({}, 1), ({"PMI_SIZE": "3"}, 3), ({"SLURM_STEP_NUM_TASKS": "8"}, 8),
     ({"SLURM_NTASKS": "8"}, 1), ({"PMI_SIZE": ""}, 1)],
)  # fmt: skip
def test_launchers_tell_their_size(environment, size):
    assert launched_size(environment) == size


@RANKS
def test_the_command_shows_a_table_on_the_root_and_ends_well(comm, shared_tmp_path):
    result = CliRunner().invoke(check, ["--directory", str(shared_tmp_path)], obj=comm)
    parallel_assert(result.exit_code == 0, str(result.exception))
    assert ("mpi4py" in result.output) == (comm.rank == 0)
    assert "10 MB written and read back" in result.output


@RANKS
def test_the_command_fails_on_all_ranks_when_something_is_missing(
    comm, shared_tmp_path, monkeypatch
):
    monkeypatch.setitem(libraries.FILTERS, "imaginary", 31999)
    arguments = ["--directory", str(shared_tmp_path)]
    result = CliRunner().invoke(check, arguments, obj=comm)
    assert isinstance(result.exception, CollectiveError)
    assert str(result.exception) == "HDF5 has no imaginary filter"
