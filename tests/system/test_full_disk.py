"""A disk that is really full: told in one line, and the next run goes on once there is room."""

import subprocess

import pytest
from system.mpi import error_lines, run_nxmpi
from system.scans import differences, volumes

LARGE = 2**28
"""Bytes of a disk with room for everything."""


class Disk:
    """A file system of its own in memory."""

    def __init__(self, folder):
        self.folder = folder
        self._mount(LARGE)

    def _mount(self, size, *options):
        options = ",".join([f"size={size}", *options])
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "nxmpi-test", self.folder],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")

    def leave(self, free):
        """Leave so many bytes free of all that is there."""
        used = sum(-(-path.stat().st_size // 4096) * 4096 for path in self.folder.rglob("*"))
        self._mount(used + free, "remount")

    def grow(self):
        self._mount(LARGE, "remount")


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", folder], capture_output=True, check=False)


@pytest.mark.parametrize(
    ("free", "options"),
    [
        (0, ("--root-writes",)),
        (65_536, ()),
        pytest.param(0, (), marks=pytest.mark.full),
        pytest.param(65_536, ("--root-writes",), marks=pytest.mark.full),
    ],
)
def test_volume_that_finds_no_room_is_told_and_made_later(fresh, transformed, disk, free, options):
    scan = fresh.copy(disk.folder / "e")
    before = scan.files()
    disk.leave(free)
    full = run_nxmpi(3, "transform", "--entry", "f1", *options, scan.wrapper)
    assert full.returncode == 1, full.stderr
    (line,) = error_lines(full)
    assert "cannot be written: " in line
    assert "No space left on device" in line
    after = scan.files()
    assert {name: after[name] for name in before} == before
    assert not list(scan.data.glob("*_transform.nxs"))

    disk.grow()
    again = run_nxmpi(2, "transform", "--entry", "f1", *options, scan.wrapper)
    assert again.returncode == 0, again.stderr
    found, wanted = volumes(scan), volumes(transformed)
    assert set(found) == set(wanted)
    for name in wanted:
        assert not differences(found[name], wanted[name]), name
    assert scan.hidden() == []
