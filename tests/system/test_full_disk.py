"""A disk that is really full: told in one line, and the next run goes on once there is room."""

import subprocess
from contextlib import suppress

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

    def fill(self):
        """Leave nothing free: not even what folders seem to take."""
        self.leave(0)
        with (self.folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))

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


@pytest.mark.parametrize("free", [300_000, 420_000])
def test_real_space_that_finds_no_room_leaves_old_results(reduced, disk, free):
    scan = reduced.copy(disk.folder / "e")
    before = scan.files()
    disk.leave(free)
    full = run_nxmpi(0, "pdf", "--overwrite", scan.wrapper)
    assert told_once(full).endswith("cannot be written: No space left on device")
    assert scan.files() == before
    assert scan.hidden() == []


@pytest.mark.parametrize("free", [0, 20_480])
@pytest.mark.parametrize(
    ("command", "file", "options"),
    [
        ("slice", "triclinite_300K.nxs", ("--plane", "h k 0", "--output", "{new}.nxs")),
        ("cut", "300K/symm_transform.nxs",
         ("--box", "-4", "4", "-4", "4", "0", "0", "--along", "h", "--along", "k",
          "--output", "{new}.nxs")),
        ("export", "300K/symm_transform.nxs", ("--format", "yell", "--output", "{new}.h5")),
    ],
)  # fmt: skip
def test_small_file_that_finds_no_room_is_told(reduced, disk, command, file, options, free):
    (disk.folder / "other").write_bytes(bytes(4096))  # a size of 0 would mean none
    disk.leave(free)
    options = [option.format(new=disk.folder / "new") for option in options]
    full = run_nxmpi(0, command, reduced.folder / file, *options)
    assert "cannot be written: No space left on device" in told_once(full)
    assert [path.name for path in disk.folder.iterdir()] == ["other"]


@pytest.mark.parametrize("free", [0, 40_960, 204_800])
def test_simulation_that_finds_no_room_is_told(disk, free):
    (disk.folder / "other").write_bytes(bytes(4096))
    disk.leave(free)
    full = run_nxmpi(0, "simulate", "--preset", "tiny", disk.folder / "e")
    assert told_once(full).endswith("cannot be written: No space left on device")
    assert not [path for path in disk.folder.rglob(".*") if path.is_file()]


def test_lock_that_finds_no_room_is_told(fresh, disk):
    scan = fresh.copy(disk.folder / "e")
    disk.fill()
    full = run_nxmpi(0, "transform", "--entry", "f1", scan.wrapper)
    told = f"{scan.folder}: expected a folder to make a lock in, found: No space left on device"
    assert told_once(full) == f"Error: {told}"
    assert scan.hidden() == []


def told_once(result):
    """Return the only line about a failure."""
    assert result.returncode == 1, result.stderr
    (line,) = error_lines(result)
    assert "Traceback" not in result.stderr
    return line
