# ruff: noqa: E501 - messages stand as they are seen
"""What a beamline gives: files that are missing, broken, locked or odd, disks that are full.

Each ends on all ranks with one line that says where, what was found and what was expected;
nothing is written, nothing is lost, nothing is left behind.
"""

import json
import os
import re
import signal
import socket
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from system.damages import (
    assert_refused,
    change,
    corrupt,
    delete,
    locked_by_nxmpi,
    put,
    truncate,
)
from system.mpi import error_lines, finish, run_mpi, run_nxmpi, start_mpi
from system.scans import (
    VOLUMES,
    contents,
    differences,
    run_in_one_job,
    simulated,
    volumes,
)

DETECTOR = "f2/instrument/detector"
LIMITED = """
import resource, shutil, sys
from collections import namedtuple
from nxmpi.cli.main import main
from mpi4py import MPI
what, size, ranks = sys.argv[1], int(sys.argv[2]), sys.argv[3].split(",")
if str(MPI.COMM_WORLD.rank) in ranks and what == "files":
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
elif what == "disk":
    shutil.disk_usage = lambda path: namedtuple("usage", "total used free")(size, 0, size)
sys.argv = ["nxmpi", *sys.argv[4:]]
main()
"""
"""nxmpi with files of a limited size on some ranks, or with a disk that seems small."""
AGAIN = ("--from", "transform")
"""Do again all that comes after the frames."""


# --- what is done to a scan, and what the line must say


def flat_frames(scan):
    with h5py.File(scan.data / "f2.h5", "r+") as file:
        frames = file["entry/data/data"][0]
        del file["entry/data/data"]
        file["entry/data/data"] = frames


def float_frames(scan):
    with h5py.File(scan.data / "f2.h5", "r+") as file:
        frames = file["entry/data/data"][()]
        del file["entry/data/data"]
        file["entry/data/data"] = frames.astype(np.float32)


def unknown_filter(scan):
    with h5py.File(scan.data / "f2.h5", "r+") as file:
        shape = file["entry/data/data"].shape
        del file["entry/data/data"]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, *shape[1:]))
        plist.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1,))
        space = h5py.h5s.create_simple(shape)
        h5py.h5d.create(file.id, b"entry/data/data", h5py.h5t.NATIVE_INT32, space, plist)


def folder_is_a_file(scan):
    scan.data.rename(scan.root / "elsewhere")
    scan.data.write_text("in the way")
    with scan.open() as wrapper:
        for name in ("f1", "f2"):
            for path, file in (("data/data", f"{name}.h5"), ("data/data_mask", f"{name}_mask.nxs")):
                target = wrapper[name].get(path, getlink=True).path
                del wrapper[name][path]
                wrapper[name][path] = h5py.ExternalLink(str(scan.root / "elsewhere" / file), target)


def locked_by_nxrefine(pid, host):
    """Return a damage: nexusformat's lock."""

    def damage(scan):
        scan.wrapper.with_name(f"{scan.wrapper.name}.lock").write_text(f"{pid}@{host}")

    return damage


def settings(text):
    """Return a damage: the file of settings says something odd."""

    def damage(scan):
        (scan.root / "tasks" / "settings.ini").write_text(text)

    return damage


HERE = socket.gethostname()
DAMAGES = {
    "scan file missing": (lambda scan: scan.wrapper.unlink(), [], "{wrapper}: expected a file, found none"),
    "scan file of text": (
        lambda scan: scan.wrapper.write_text("not HDF5"), [],
        "{wrapper}: expected an HDF5 file, found nothing that HDF5 can open",
    ),
    "scan file truncated": (truncate("triclinite_300K.nxs"), [], "{wrapper}: expected an HDF5 file, found *truncated file"),
    "no positions": (
        lambda scan: [delete(name)(scan) for name in ("f1", "f2")], [],
        "{wrapper}:/: expected entries of detector positions, such as f1, found entry",
    ),
    "raw frames missing": (
        lambda scan: (scan.data / "f2.h5").unlink(), [],
        "{wrapper}:/f2/data/data: expected raw frames, found a link to {data}/f2.h5:/entry/data/data, which does not exist",
    ),
    "raw frames truncated": (
        truncate("300K/f2.h5"), [],
        "{wrapper}:/f2/data/data: expected raw frames, found a link to {data}/f2.h5:/entry/data/data, which cannot be read",
    ),
    "raw frames without link": (delete("f2/data/data"), [], "{wrapper}:/f2/data/data: expected raw frames, found nothing"),
    "raw frames flat": (
        flat_frames, [],
        "{wrapper}:/f2/data/data: expected 3 dimensions (frame, y, x), found 2: shape (48, 64)",
    ),
    "raw frames of floats": (float_frames, [], "{wrapper}:/f2/data/data: expected integer counts, found float32"),
    "pixel mask of another shape": (
        put(f"{DETECTOR}/pixel_mask", np.zeros((48, 63), np.int8)), [],
        f"{{wrapper}}:/{DETECTOR}/pixel_mask: expected the shape of the frames, (48, 64), found (48, 63)",
    ),
    "3-D mask missing": (
        lambda scan: (scan.data / "f2_mask.nxs").unlink(), [],
        "{wrapper}:/f2/data/data_mask: expected * found a link to {data}/f2_mask.nxs:/entry/mask, which does not exist",
    ),
    "no wavelength": (
        delete("f2/instrument/monochromator/wavelength"), [],
        "{wrapper}:/f2/instrument/monochromator/wavelength: expected the wavelength in Å, found nothing",
    ),
    "no distance": (delete(f"{DETECTOR}/distance"), [], f"{{wrapper}}:/{DETECTOR}/distance: expected the distance in mm, found nothing"),
    "no beam centre": (
        delete(f"{DETECTOR}/beam_center_y"), [],
        f"{{wrapper}}:/{DETECTOR}/beam_center_y: expected the beam centre in pixels, found nothing",
    ),
    "no angle phi": (
        delete("f2/instrument/goniometer/phi"), [],
        "{wrapper}:/f2/instrument/goniometer/phi: expected the rotation angle phi, found nothing",
    ),
    "no cell": (
        delete("entry/sample/unitcell_beta"), [],
        "{wrapper}:*/sample: expected a unit cell, found 5 of its six parameters",
    ),
    "impossible cell": (
        put("entry/sample/unitcell_beta", 10.0), [],
        "{wrapper}:*/sample: expected a unit cell, found unit cell angles 83.0, 10.0, 105.0: no cell has these",
    ),
    "no orientation": (
        delete(f"{DETECTOR}/orientation_matrix"), AGAIN,
        f"{{wrapper}}:/{DETECTOR}/orientation_matrix: expected an orientation matrix (nxmpi orient finds it), found nothing",
    ),
    "singular orientation": (
        put(f"{DETECTOR}/orientation_matrix", np.ones((3, 3))), [],
        f"{{wrapper}}:/{DETECTOR}/orientation_matrix: expected an invertible matrix, found [[1.0, 1.0, 1.0]",
    ),
    "pixel size zero": (
        put(f"{DETECTOR}/pixel_size", 0.0), [],
        f"{{wrapper}}:/{DETECTOR}/pixel_size: expected the pixel size in mm, above 0, found 0",
    ),
    "pixel size negative": (
        put(f"{DETECTOR}/pixel_size", -0.172), [],
        f"{{wrapper}}:/{DETECTOR}/pixel_size: expected the pixel size in mm, above 0, found -0.172",
    ),
    "no monitor": (
        delete("f2/monitor1"), [],
        "{wrapper}:/f2/monitor1: expected a monitor of the incident flux (--no-monitor goes on without), found none",
    ),
    "monitor short": (
        put("f2/monitor1/data", np.ones(10)), [],
        "{wrapper}:/f2/monitor1: expected 11 values, one a frame, found 10",
    ),
    "monitor zero": (
        change("f2/monitor1/data", slice(4, 6), 0.0), [],
        "{wrapper}:/f2/monitor1: expected positive values in all frames used, found 0 in frame 4 (2 such frames)",
    ),
    "monitor NaN": (
        change("f2/monitor1/data", 7, np.nan), [],
        "{wrapper}:/f2/monitor1: expected positive values in all frames used, found nan in frame 7 (1 such frames)",
    ),
    "settings of no number": (settings("[nxreduce]\nnorm = much\n"), [], "{root}/tasks/settings.ini: norm: expected a number, found 'much'"),
    "settings of no format": (settings("norm = 1\n"), [], "{root}/tasks/settings.ini: expected settings as INI: "),
    "frame unreadable": (
        corrupt("f1.h5", "entry/data/data", 6), ["--batch-frames", "2"],
        "{data}/f1.h5:/entry/data/data: expected frame 6 to be readable, found: * (--skip-bad-frames goes on without it)",
    ),
    "frame of the mask unreadable": (
        corrupt("f1_mask.nxs", "entry/mask", 8), ["--from", "transform"],
        "{data}/f1_mask.nxs:/entry/mask: expected frame 8 to be readable, found: * (--skip-bad-frames goes on without it)",
    ),
    "filter not installed": (
        unknown_filter, [],
        "{data}/f2.h5:/entry/data/data: expected a compression filter that is installed, found filter 31999 *, which is not",
    ),
    "grid without step": (
        None, ["--qh", -1, 0, 1, "--qk", -1, 0.1, 1, "--ql", -1, 0.1, 1],
        "grid: expected start, a step above 0 and a stop not below start along each axis, found -1 0 1",
    ),
    "grid reversed": (
        None, ["--qh", 1, 0.1, -1, "--qk", -1, 0.1, 1, "--ql", -1, 0.1, 1],
        "grid: expected start, a step above 0 and a stop not below start along each axis, found 1 0.1 -1",
    ),
    "grid for more memory": (
        None, ["--from", "transform", "--memory", "1M", *(x for axis in "hkl" for x in (f"--q{axis}", -8, 0.001, 8))],
        "{wrapper}:/f1: expected a grid that fits the memory, found a grid of 16001 x 16001 x 16001 voxels",
    ),
    "folder is a file": (folder_is_a_file, [], "{data}: expected a folder for the results, found a file"),
    "open in NXRefine": (
        locked_by_nxrefine(os.getpid(), HERE), [],
        f"{{wrapper}}: locked by {os.getpid()}@{HERE} ({{wrapper}}.lock); wait until it is closed there",
    ),
    "open in NXRefine elsewhere": (
        locked_by_nxrefine(4711, "beamline"), [],
        "{wrapper}: locked by 4711@beamline ({wrapper}.lock); wait until it is closed there, or, if nobody uses it any more, `nxmpi unlock ",
    ),
    "computed elsewhere": (
        locked_by_nxmpi("f1", "transform", host="node7", job="4711"), ["--from", "transform"],
        "{wrapper}: f1 transform is being computed by process * on node7 (job 4711) since *; wait for it, or, if it has ended, `nxmpi unlock ",
    ),
    "combined elsewhere": (
        locked_by_nxmpi("entry", "combine", host="node7"), ["--only", "combine"],
        "{wrapper}: entry combine is being computed by process * on node7 since ",
    ),
}  # fmt: skip
ONE_STEP = (["--from"], ["--only"])
ON_ONE_RANK = ("scan file missing", "no monitor", "frame unreadable", "open in NXRefine")


@pytest.fixture(scope="module")
def outcomes(reduced, tmp_path_factory):
    """Return what came of each damage: the run on each rank, and the files before and after."""
    root = tmp_path_factory.mktemp("damaged")
    found = {}
    for n, names in ((3, list(DAMAGES)), (1, ON_ONE_RANK)):
        scans, commands = {}, []
        for number, name in enumerate(names):
            damage, args, _ = DAMAGES[name]
            scans[name] = scan = reduced.copy(root / f"{n}-{number}")
            if damage:
                damage(scan)
            args = [*args] if args[:1] in ONE_STEP else ["--overwrite", *args]
            commands.append((root / f"said-{n}-{number}", ["reduce", scan.wrapper, *args]))
        before = {name: scan.files() for name, scan in scans.items()}
        for name, ranks in zip(names, run_in_one_job(n, commands), strict=True):
            found[name, n] = (scans[name], ranks, before[name], scans[name].files())
    return found


@pytest.mark.parametrize(
    ("name", "n"), [*((name, 3) for name in DAMAGES), *((name, 1) for name in ON_ONE_RANK)]
)
def test_bad_input_is_told_in_one_line_and_changes_nothing(outcomes, name, n):
    scan, ranks, before, after = outcomes[name, n]
    assert len(ranks) == n
    assert_refused(scan, ranks, DAMAGES[name][2])
    assert after == before


# --- what looks bad and is not


@pytest.fixture(scope="module")
def accepted(fresh, tmp_path_factory):
    """Return scans with harmless oddities, reduced, and what the runs said."""
    root = tmp_path_factory.mktemp("accepted")
    cases = {
        "plain": (None, []),
        "no monitor": (delete("f2/monitor1"), ["--no-monitor"]),
        "monitor there": (None, ["--no-monitor"]),
        "zeros not used": (
            change("f2/monitor1/data", [0, 1, 10], 0.0), ["--first", 2, "--last", 9],
        ),
        "used": (None, ["--first", 2, "--last", 9]),
        "frame unreadable": (
            corrupt("f2.h5", "entry/data/data", 6), ["--skip-bad-frames"],
        ),
        "other byte order": (foreign_byte_order, []),
        "no 3-D mask": (None, ["--no-mask"]),
    }  # fmt: skip
    scans, commands = {}, []
    for number, (name, (damage, args)) in enumerate(cases.items()):
        scans[name] = fresh.copy(root / f"{number}")
        if damage:
            damage(scans[name])
        commands.append((root / f"said-{number}", ["reduce", scans[name].wrapper, *args]))
    outcomes = run_in_one_job(3, commands)
    for name, ranks in zip(cases, outcomes, strict=True):
        assert [rank.returncode for rank in ranks] == [0, 0, 0], (name, ranks[0].stderr)
    return {
        name: (scans[name], ranks[0].stderr) for name, ranks in zip(cases, outcomes, strict=True)
    }


def foreign_byte_order(scan):
    with h5py.File(scan.data / "f2.h5", "r+") as file:
        frames = file["entry/data/data"][()]
        del file["entry/data/data"]
        file.create_dataset("entry/data/data", data=frames.astype(">i4"), chunks=(1, 48, 64))


def values(scan, name="f2_transform.nxs"):
    with h5py.File(scan.data / name) as file:
        return file["entry/data/v"][()], file["entry/data/n"][()]


def same_values(one, other, name="f2_transform.nxs"):
    return all(
        np.array_equal(a, b, equal_nan=True)
        for a, b in zip(values(one, name), values(other, name), strict=True)
    )


def test_scan_without_monitor_is_reduced_when_asked_to(accepted):
    scan, _ = accepted["no monitor"]
    assert same_values(scan, accepted["monitor there"][0])
    assert not same_values(scan, accepted["plain"][0])
    with h5py.File(scan.wrapper) as file:
        assert "factor_monitor" not in file["f2/nxworkflow/nxtransform/parameters"]


def test_monitor_may_be_zero_in_frames_that_are_not_used(accepted):
    scan, _ = accepted["zeros not used"]
    assert same_values(scan, accepted["used"][0])
    assert values(scan)[0].sum() > 0


def test_frame_that_cannot_be_read_is_left_out_when_asked_to_and_recorded(accepted):
    scan, said = accepted["frame unreadable"]
    assert "f2: left out frames that cannot be read: [6]" in said
    with h5py.File(scan.wrapper) as file:
        note = file["f2/nxworkflow/nxtransform/note/data"][()].decode()
        assert "f2: 10 frames" in note
        assert note.endswith("Frames that could not be read: [6]")
        assert "could not be read" not in file["f1/nxworkflow/nxtransform/note/data"][()].decode()
    (counts, norm), (all_counts, all_norm) = values(scan), values(accepted["plain"][0])
    assert 0 < counts.sum() < all_counts.sum()
    with h5py.File(scan.data / "f2_transform.nxs") as file, \
            h5py.File(accepted["plain"][0].data / "f2_transform.nxs") as whole:  # fmt: skip
        path = "entry/norm_factors/transmission"  # in units of its median over the frames there are
        larger = np.nanmax(file[path][()] / whole[path][()])
    assert larger < 1.2
    assert (norm <= all_norm * larger * (1 + 1e-6)).all()
    assert norm.sum() < all_norm.sum() * larger
    assert same_values(scan, accepted["plain"][0], "f1_transform.nxs")


def test_frames_of_another_byte_order_are_the_same_frames(accepted):
    assert same_values(accepted["other byte order"][0], accepted["plain"][0])


def test_masked_twin_is_made_where_there_is_a_mask_and_not_otherwise(accepted):
    assert "masked_transform.nxs" in volumes(accepted["plain"][0])
    assert "masked_transform.nxs" not in volumes(accepted["no 3-D mask"][0])
    assert same_values(accepted["no 3-D mask"][0], accepted["plain"][0])


def test_nothing_hidden_is_left_by_runs_that_end_well(accepted):
    assert not [name for name, (scan, _) in accepted.items() if scan.hidden()]


@pytest.mark.full
def test_more_ranks_than_frames_give_what_one_rank_gives(tmp_path):
    few = simulated(tmp_path / "few", "--frames", 2)
    (few.root / "tasks" / "settings.ini").unlink()
    one = few.copy(tmp_path / "one")
    for n, scan in ((4, few), (0, one)):
        result = run_nxmpi(n, "reduce", scan.wrapper)
        assert result.returncode == 0, result.stderr
    found, wanted = volumes(few), volumes(one)
    assert len(wanted) == 12
    for name in wanted:  # of their masks, the masked ones keep the time of change
        other = differences(found[name], wanted[name])
        assert ("masked" in name) == bool(other)
        assert all(place.endswith("@fingerprint") for place in other)
    other = ("combine/parameters/f1", "combine/parameters/f2", "pdf/parameters/volume",
             "symmetrize/parameters/volume")  # fmt: skip
    other = [f"/entry/nxworkflow/nxmasked_{place}" for place in other]
    assert differences(contents(few.wrapper), contents(one.wrapper)) == other


# --- disks that are full


@pytest.mark.parametrize(
    ("n", "size", "ranks", "options", "said"),
    [
        (3, 20_000, "0,1,2", [], "cannot be written: File too large"),
        (3, 100_000, "0,1,2", [], "cannot be written: "),
        (3, 100_000, "0", [], "cannot be written: "),
        (3, 5_000, "2", [], "cannot be written: expected to be allowed"),
        (3, 100_000, "0", ["--root-writes"], "cannot be written: File too large"),
        (0, 100_000, "0", [], "cannot be written: "),
        (0, 100_000, "0", ["--root-writes"], "cannot be written: File too large"),
    ],
)
def test_full_disk_is_told_in_one_line_and_old_results_stay(
    reduced, tmp_path, n, size, ranks, options, said
):
    scan = reduced.copy(tmp_path / "e")
    before = scan.files()
    result = run_mpi(
        n, "-c", LIMITED, "files", size, ranks, "reduce", *AGAIN, *options, scan.wrapper
    )
    assert result.returncode == 1, result.stderr
    (line,) = error_lines(result)
    # where one rank alone is short of room, either of two files that are written may show it first
    name = rf"\.f1_{'transform' if ranks == '0,1,2' else '(masked_)?transform'}\.nxs\.tmp"
    assert re.match(rf"Error: {re.escape(str(scan.data))}/{name}: {re.escape(said)}", line)
    assert scan.files() == before


def test_full_disk_for_the_scan_file_leaves_old_results(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    with scan.open() as file:
        file["notes"] = np.zeros(100_000)
    before = scan.files()
    result = run_mpi(0, "-c", LIMITED, "files", 700_000, "0", "reduce", "--overwrite", scan.wrapper)
    assert result.returncode == 1, result.stderr
    (line,) = error_lines(result)
    assert "File too large" in line
    assert f".{scan.wrapper.name}.tmp" in line
    after = scan.files()
    assert {name: after[name] for name in before} == before
    assert all(".checkpoint/" in name for name in set(after) - set(before))


def test_checkpoints_that_find_no_room_do_not_stop_the_run(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    often = ["--checkpoint", "1e-6", "--batch-frames", "2", "--root-writes"]
    result = run_mpi(3, "-c", LIMITED, "files", 5_000, "2", "reduce", *AGAIN, *often, scan.wrapper)
    assert result.returncode == 0, result.stderr
    warnings = [line for line in result.stderr.splitlines() if "no checkpoint was written" in line]
    assert warnings
    assert all("File too large" in line and "[0/3]" in line for line in warnings)
    assert volumes(scan) == volumes(reduced)
    assert scan.hidden() == []


def test_grid_that_neither_memory_nor_disk_hold_is_refused(reduced, tmp_path):
    scan = reduced.copy(tmp_path / "e")
    before = scan.files()
    grid = [x for axis in "hkl" for x in (f"--q{axis}", -3, 0.02, 3)]
    result = run_mpi(
        3, "-c", LIMITED, "disk", 2**20, "0", "reduce", "--memory", "3M", *grid, scan.wrapper
    )
    assert result.returncode == 1
    (line,) = error_lines(result)
    assert line.startswith(f"Error: {scan.wrapper}:/f1: expected room for ")
    assert " free (for a grid of 301 x 301 x 301 voxels, more than 3 times " in line
    assert scan.files() == before


# --- two runs at a time


def test_second_run_is_refused_while_a_first_one_works_and_the_first_goes_on(fresh, tmp_path):
    scan = fresh.copy(tmp_path / "e")
    first = start_mpi(
        2, Path(__file__).with_name("kill_at.py"), "before-replace:f1_transform.nxs", 0, "--stop",
        "--", "reduce", scan.wrapper,
    )  # fmt: skip
    pid = wait_until_stopped(scan.lock("f1", "transform"))
    try:
        before = scan.files()
        second = run_nxmpi(3, "reduce", scan.wrapper, env={"NX_LOCK": "1"})
        assert second.returncode == 1
        (line,) = error_lines(second)
        assert line.startswith(
            f"Error: {scan.wrapper}: f1 transform is being computed by process {pid} on {HERE} "
        )
        assert line.endswith("wait for it, or end that process")
        assert scan.files() == before
    finally:
        os.kill(pid, signal.SIGCONT)
        result = finish(first)
    assert result.returncode == 0, result.stderr
    assert scan.hidden() == []
    assert set(volumes(scan)) == set(VOLUMES)


def wait_until_stopped(lock):
    """Return the process that a lock names once it is stopped."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if lock.exists():
            pid = json.loads(lock.read_text())["pid"]
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                return pid
        time.sleep(0.05)
    raise AssertionError("the first run never came to its point")
