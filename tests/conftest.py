"""Outcomes are collective, and the report comes from rank 0 alone."""

import logging
import os
import shutil
import signal
from pathlib import Path

import pytest

import nxmpi  # noqa: F401 - before scipy and numba: see nxmpi/__init__.py

from mpi4py import MPI  # isort: skip

WORLD = MPI.COMM_WORLD


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    """Let rank 0 alone write the report."""
    if WORLD.rank:
        config.pluginmanager.unregister(name="terminalreporter")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Give every rank the worst outcome, so that rank 0 reports failures anywhere."""
    report = yield
    if item.get_closest_marker("parallel"):  # set-up and tear-down too: a fixture can fail alone
        texts = WORLD.allgather(report.longreprtext if report.failed else None)
        failed = [rank for rank, text in enumerate(texts) if text is not None]
        if failed:
            report.outcome = "failed"
            report.longrepr = f"failed on ranks {failed}; rank {failed[0]}:\n{texts[failed[0]]}"
    return report


def _loggers():
    return [
        logging.getLogger(name) for name in [*logging.root.manager.loggerDict] if "nxmpi" in name
    ]


@pytest.fixture(autouse=True)
def _levels_of_logs():
    """Undo what commands set when they are called in this process."""
    before = {logger.name: logger.level for logger in _loggers()}
    yield
    for logger in _loggers():
        logger.setLevel(before.get(logger.name, logging.NOTSET))


@pytest.fixture
def comm():
    """Return the communicator of all ranks of this run."""
    return WORLD


@pytest.fixture
def shared_tmp_path(comm, tmp_path_factory):
    """Return one temporary folder that all ranks see."""
    return comm.bcast(tmp_path_factory.mktemp("shared") if comm.rank == 0 else None)


@pytest.fixture
def twin(comm, scan):
    """Return a copy of the scan EXPERIMENT/SAMPLE/LABEL/SCAN.nxs, in an experiment of its own."""
    root = scan.parents[2]
    other = root.with_name("twin")
    if comm.rank == 0:
        shutil.copytree(root, other)
    comm.barrier()  # the others are to see it
    return other / scan.relative_to(root)


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Return a function that puts commands of Slurm first on the path, and the file of calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    calls = tmp_path / "calls"

    def put(name, lines=""):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >>"{calls}"\n{lines}\n')
        (folder / name).chmod(0o755)

    return put, calls


@pytest.fixture
def heeding():
    """Take signals as a wish to stop during a test alone; return what forgets them."""
    from nxmpi.parallel.signals import HEEDED, heed_signals

    before = {number: signal.getsignal(number) for number in HEEDED}
    heed_signals()
    yield heed_signals
    heed_signals()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def lcysteine():
    """Return the folder of the real scan, which lies beside a checkout and not in it."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "lcysteine"
    if not folder.is_dir():
        pytest.skip(f"the real scan is not in {folder}")
    return folder
