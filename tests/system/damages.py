"""What can happen to a scan before it is reduced, and how that has to be told."""

import json
import os

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
from system.mpi import error_lines

from nxmpi.parallel.owner import Owner


def delete(path):
    """Return a damage: something is missing in the scan file."""

    def damage(scan):
        with scan.open() as file:
            del file[path]

    return damage


def put(path, value):
    """Return a damage: something in the scan file has another value."""

    def damage(scan):
        with scan.open() as file:
            del file[path]
            file[path] = value

    return damage


def change(path, where, value):
    """Return a damage: some elements of an array in the scan file."""

    def damage(scan):
        with scan.open() as file:
            file[path][where] = value

    return damage


def truncate(name):
    """Return a damage: a file ends too early."""

    def damage(scan):
        os.truncate(scan.folder / name, (scan.folder / name).stat().st_size // 2)

    return damage


def corrupt(name, path, frame):
    """Return a damage: the stored bytes of one frame are overwritten in the file."""

    def damage(scan):
        with h5py.File(scan.data / name) as file:
            stored = file[path].id.get_chunk_info_by_coord((frame, 0, 0))
        with (scan.data / name).open("r+b") as file:
            file.seek(stored.byte_offset)
            file.write(b"\xff" * stored.size)

    return damage


def locked_by_nxmpi(*subject, **changes):
    """Return a damage: a lock of a run that is, or may be, alive."""

    def damage(scan):
        owner = json.loads(Owner.here().content())
        scan.lock(*subject).write_text(json.dumps(owner | changes))

    return damage


def assert_refused(scan, ranks, expected, status=1):
    """Make sure that a run ended with one line, from rank 0, and this status on all ranks.

    Parameters
    ----------
    ranks : list of CompletedProcess
        One a rank.
    expected : str
        Beginning of the line, with {wrapper}, {data} and {root} of the scan; parts of it with ``*``
        for anything between them.
    """
    assert [rank.returncode for rank in ranks] == [status] * len(ranks), ranks[0].stderr
    lines = [error_lines(rank) for rank in ranks]
    assert [len(each) for each in lines] == [1, *[0] * (len(ranks) - 1)]
    assert all("Traceback" not in rank.stderr for rank in ranks)
    expected = expected.format(wrapper=scan.wrapper, data=scan.data, root=scan.root)
    line = lines[0][0].removeprefix("Error: ")
    assert line.startswith(expected.split("*")[0])
    rest = line
    for part in filter(None, expected.split("*")):
        assert part in rest, line
        rest = rest.partition(part)[2]
