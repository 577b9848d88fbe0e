"""nxmpi logs."""

import pytest
from click.testing import CliRunner

from nxmpi.cli.logs import logs
from nxmpi.slurm.record import Job, add_jobs

pytestmark = pytest.mark.parallel([1])


def test_log_with_odd_bytes_is_printed(tmp_path):
    scan, log = tmp_path / "x_300K.nxs", tmp_path / "12.log"
    scan.touch()
    add_jobs(scan, [Job(step="pdf", job=12, name="n", log=str(log), submitted="")])
    log.write_bytes(b"node n1: \xff\xfe broken\nError: no space left\n")
    result = CliRunner().invoke(logs, [str(scan), "pdf"])
    assert result.exit_code == 0, result.exception
    assert result.stdout.startswith(f"==> job 12: {log}\nnode n1: ")
    assert result.stdout.endswith(" broken\nError: no space left\n\n")
    log.unlink()
    result = CliRunner().invoke(logs, [str(scan), "pdf"])
    assert result.stdout.endswith("\nnothing yet: it has not begun\n")
