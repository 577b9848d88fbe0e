"""``nxmpi unlock`` removes what is certainly left behind, and says what it keeps."""

import json

import pytest
from system.mpi import error_lines, run_nxmpi

from nxmpi.parallel.owner import Owner


@pytest.fixture
def locked(tmp_path):
    """Return a scan with a lock of a process that has ended, and one of another host."""
    scan = tmp_path / "scan.nxs"
    scan.touch()
    owner = json.loads(Owner.here().content())
    for entry, changes in {"f1": {"start_time": 1}, "f2": {"host": "node7", "job": "4711"}}.items():
        lock = tmp_path / f".scan.nxs.{entry}.transform.lock"
        lock.write_text(json.dumps(owner | changes))
    return scan


@pytest.mark.parametrize("n", [0, pytest.param(3, marks=pytest.mark.full)])
def test_locks_of_other_hosts_are_kept_without_force(locked, n):
    result = run_nxmpi(n, "unlock", locked)
    assert result.returncode == 1
    first, second = result.stdout.splitlines()
    assert first.startswith(".scan.nxs.f1.transform.lock: f1 transform by process ")
    assert first.endswith("which has ended: removed")
    assert "on node7 (job 4711)" in second
    assert second.endswith("kept; --force removes it")
    assert [path.name for path in locked.parent.glob(".*")] == [".scan.nxs.f2.transform.lock"]

    result = run_nxmpi(n, "unlock", "--force", locked)
    assert result.returncode == 0, result.stderr
    assert list(locked.parent.glob(".*")) == []
    assert run_nxmpi(n, "unlock", locked).stdout == f"{locked}: not locked\n"


def test_file_that_is_not_there_may_be_locked(locked):
    locked.unlink()
    result = run_nxmpi(0, "unlock", "--force", locked)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 2
    assert list(locked.parent.glob(".*")) == []


def test_scan_that_is_missing_is_told_once(tmp_path):
    result = run_nxmpi(3, "unlock", tmp_path / "none.nxs")
    assert result.returncode != 0
    assert error_lines(result) == [f"Error: {tmp_path / 'none.nxs'}: no such file"]
