# ruff: noqa: E501 - messages stand as they are seen
"""The pass over the frames: the same for any number of ranks, skipped where complete, safe."""

import re
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from nexusformat.nexus import nxopen
from system.damages import assert_refused, change, corrupt, delete, locked_by_nxmpi, put
from system.mpi import error_lines, run_mpi, run_nxmpi
from system.scans import contents, differences, run_in_one_job, simulated

import nxmpi
from nxmpi.params import FramesParams

KILLER = Path(__file__).with_name("kill_at.py")
N_FRAMES, SHAPE = 40, (48, 64)
TASKS = ("nxmax", "nxfind", "nxprepare_mask")
BOXES = ("--mask-t1", 1, "--mask-h1", 3, "--mask-t2", 0.4, "--mask-h2", 7)
"""Of the 3-D mask, for a small detector."""
POSITIONS = ("f1", "f2")
WRAPPER = "triclinite_300K.nxs"
MASKS = ("f1_mask.nxs", "f2_mask.nxs")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Return a simulated scan with hot and dead pixels."""
    root = tmp_path_factory.mktemp("plain") / "e"
    faults = ("--hot-pixels", 3, "--dead-pixels", 4)
    return simulated(root, "--frames", N_FRAMES, *faults)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Return a scan of three unsigned frames, two of them stored together."""
    root = tmp_path_factory.mktemp("few") / "e"
    stored = ("--dtype", "uint16", "--compression", "gzip", "--chunk-frames", 2)
    return simulated(root, "--frames", 3, *stored)


@pytest.fixture(scope="module")
def by_one(plain, few, tmp_path_factory):
    """Return what came of one rank's going through these scans."""
    args = ["frames", *BOXES]
    cases = {"plain": (plain, None, args), "few": (few, None, args)}
    outcomes = run_cases(1, cases, tmp_path_factory.mktemp("one"))
    for _, (rank,), _, _ in outcomes.values():
        assert rank.returncode == 0, rank.stderr
    return outcomes


@pytest.fixture(scope="module")
def done(by_one):
    """Return a scan, its frames gone through by one rank."""
    return by_one["plain"][0]


def run_cases(n, cases, root):
    """Run a command on copies of scans, each changed before, all in one job.

    Parameters
    ----------
    cases : dict
        By name: the scan, its change or None, and the arguments without the scan file.

    Returns
    -------
    dict of (Scan, list of CompletedProcess, dict, dict)
        By name: the copy, the run on each rank, the files before and after.
    """
    scans, commands = {}, []
    for number, (name, (scan, damage, args)) in enumerate(cases.items()):
        scans[name] = copy = scan.copy(root / f"{n}-{number}")
        if damage:
            damage(copy)
        commands.append((root / f"said-{n}-{number}", [*args, copy.wrapper]))
    before = {name: scan.files() for name, scan in scans.items()}
    outcomes = run_in_one_job(n, commands)
    return {
        name: (scans[name], ranks, before[name], scans[name].files())
        for name, ranks in zip(cases, outcomes, strict=True)
    }


# --- what comes out


def test_what_is_found_opens_in_nexusformat(done):
    root = nxopen(done.wrapper)
    for name in POSITIONS:
        entry = root[name]
        peaks = entry["peaks"]
        assert peaks.nxclass == "NXreflections"
        lengths = {len(peaks[column]) for column in ("x", "y", "z", "intensity", "polar_angle")}
        assert len(lengths) == 1
        assert lengths.pop() > 20
        assert {"summed_data", "maximum_data", "summed_frames", "partial_frames", "transmission",
                "radial_sum"} == set(entry["frame_sums"].entries)  # fmt: skip
        for group in entry["frame_sums"].entries.values():
            assert group.plottable_data is group
            assert group.nxtitle.endswith(f"of {name}")
        assert entry["frame_sums/summed_data"].nxsignal.shape == SHAPE
        assert entry["frame_sums/transmission"].nxsignal.shape == (N_FRAMES,)
        mask = entry["data/data_mask"]
        assert mask.nxfilename == str(done.data / f"{name}_mask.nxs")
        assert mask.shape == (N_FRAMES, *SHAPE)
        assert mask.dtype == np.int8
        assert set(np.unique(mask.nxvalue)) == {0, 1}


def test_everything_is_recorded(done):
    with h5py.File(done.wrapper) as file:
        for name in POSITIONS:
            records = file[name]["nxworkflow"]
            assert set(records) == set(TASKS)
            for place, task in enumerate(TASKS, 1):
                record = records[task]
                assert record["version"].asstr()[()] == f"nxmpi v{nxmpi.__version__}"
                assert record["sequence_index"][()] == place
                assert record["note/data"].asstr()[()].startswith(f"{name}: {N_FRAMES} frames, ")
                assert file[name][task] == record  # where older programs look
            strong = records["nxfind/parameters/sigma_strong"][()]
            assert strong == FramesParams().sigma_strong
            assert records["nxprepare_mask/parameters/horizontal_size2"][()] == 7


def test_hot_pixels_are_found_and_their_peaks_dropped(done):
    with h5py.File(done.data / "truth.h5") as truth, h5py.File(done.wrapper) as file:
        for name in POSITIONS:
            hot = np.zeros(SHAPE, bool)
            hot[tuple(truth[name]["pixels/hot"][()].T)] = True
            found = file[name]["instrument/detector/hot_pixel_mask"][()] != 0
            np.testing.assert_array_equal(found, hot)
            x, y = (np.rint(file[name]["peaks"][axis][()]).astype(int) for axis in "xy")
            assert not hot[y, x].any()


# --- any number of ranks


@pytest.fixture(scope="module")
def well(plain, done, tmp_path_factory):
    """Return what came of runs that end well, on 3 ranks."""
    cases = {
        "together": (plain, None, ["frames", *BOXES]),
        "by the root": (plain, None, ["frames", *BOXES, "--root-writes"]),
        "reduce": (plain, None, ["reduce", *BOXES]),
        "reduce only": (plain, None, ["reduce", "--only", "frames", *BOXES]),
        "again": (done, None, ["frames", *BOXES]),
        "all again": (done, None, ["frames", *BOXES, "--overwrite"]),
        "stronger": (done, None, ["frames", *BOXES, "--sigma-strong", 40]),
        "larger box": (done, None, ["frames", *BOXES, "--mask-h2", 9, "--entry", "f1"]),
        "other flux": (done, None, ["frames", *BOXES, "--norm", 12345, "--entry", "f1"]),
        "mask gone": (done, gone, ["frames", *BOXES]),
        "peaks gone": (done, forgotten, ["frames", *BOXES]),
        "other program": (done, by_nxrefine, ["frames"]),
        "other program's mask": (done, unrecorded_masks, ["frames", *BOXES, "--mask-h2", 9]),
        "no mask": (plain, None, ["frames", "--no-mask"]),
        "no peaks": (plain, None, ["frames", *BOXES, "--no-peaks"]),
        "no sums": (plain, None, ["frames", *BOXES, "--no-sums"]),
        "nothing": (plain, None, ["frames", "--no-mask", "--no-peaks", "--no-sums"]),
        "one position": (plain, None, ["frames", *BOXES, "--entry", "f2"]),
        "used": (plain, None, ["frames", *BOXES, "--first", 3, "--last", 35]),
        "bad frame": (
            plain, corrupt("f1.h5", "entry/data/data", 20), ["frames", *BOXES, "--skip-bad-frames"],
        ),
        "no monitor": (plain, delete("f2/monitor1"), ["frames", *BOXES, "--no-monitor"]),
    }  # fmt: skip
    outcomes = run_cases(3, cases, tmp_path_factory.mktemp("well"))
    for name, (scan, ranks, _, _) in outcomes.items():
        assert [rank.returncode for rank in ranks] == [0, 0, 0], (name, ranks[0].stderr)
        assert scan.hidden() == []
    return outcomes


def gone(scan):
    (scan.data / "f1_mask.nxs").unlink()


def forgotten(scan):
    """Take results out of the scan file, not the records of them."""
    with scan.open() as file:
        del file["f1/peaks"], file["f1/frame_sums"], file["f1/data/data_mask"]


def by_nxrefine(scan):
    """Make the results look as NXRefine leaves them."""
    with scan.open() as file:
        for name in POSITIONS:
            for task in TASKS:
                del file[name]["nxworkflow"][task]["version"]
    for name in MASKS:
        with h5py.File(scan.data / name, "r+") as file:
            del file["entry/mask"].attrs["fingerprint"]


def unrecorded_masks(scan):
    """Leave masks of which the scan file knows no more than where they are."""
    by_nxrefine(scan)
    with scan.open() as file:
        for name in POSITIONS:
            del file[name]["nxworkflow/nxprepare_mask"], file[name]["nxprepare_mask"]


def found(scan, masks=MASKS):
    """Return all that the pass left in files, and what it did not change."""
    parts = (
        "peaks", "frame_sums", "summed_data", "summed_frames", "radial_sum", "instrument", "data",
        *TASKS, *(f"nxworkflow/{task}" for task in TASKS),
    )  # fmt: skip
    of_pass = tuple(f"/{name}/{part}" for name in POSITIONS for part in parts)
    told = {key: value for key, value in contents(scan.wrapper).items() if key.startswith(of_pass)}
    return told | {
        f"{name}:{k}": v for name in masks for k, v in contents(scan.data / name).items()
    }


def touched(before, after):
    return {Path(name).name for name in {*before, *after} if before.get(name) != after.get(name)}


@pytest.mark.parametrize("name", ["together", "by the root", "reduce", "reduce only", "all again"])
def test_result_does_not_depend_on_ranks_and_ways_of_writing(done, well, name):
    assert differences(found(well[name][0]), found(done)) == []


def test_reduce_masks_and_transforms_by_the_masks_it_made(well):
    scan, ranks, _, _ = well["reduce"]
    steps = [line for line in ranks[0].stderr.splitlines() if " of f1: " in line]
    assert ["frames" in steps[0], "transform" in steps[-1]] == [True, True]
    with (
        h5py.File(scan.data / "f1_transform.nxs") as every,
        h5py.File(scan.data / "f1_masked_transform.nxs") as kept,
    ):
        assert 0 < kept["entry/data/n"][()].sum() < every["entry/data/n"][()].sum()


def test_more_ranks_than_frames_find_what_one_finds(few, by_one, tmp_path):
    many, one = few.copy(tmp_path / "many"), by_one["few"][0]
    result = run_nxmpi(7, "frames", *BOXES, many.wrapper)
    assert result.returncode == 0, result.stderr
    with h5py.File(one.wrapper) as file:
        assert len(file["f1/peaks/x"]) > 2
    assert differences(found(many), found(one)) == []


# --- what is complete


def test_second_run_leaves_everything_as_it_is_and_says_so(well):
    _, ranks, before, after = well["again"]
    assert after == before
    assert [f"{name}: frames: complete" in ranks[0].stderr for name in POSITIONS] == [True] * 2


@pytest.mark.parametrize(
    ("name", "said", "changed"),
    [
        ("stronger", "f1: nxfind (changed since: sigma_strong)", {WRAPPER}),
        (
            "larger box", "f1: nxprepare_mask (changed since: horizontal_size2)",
            {WRAPPER, "f1_mask.nxs"},
        ),
        ("other flux", "f1: nxmax (changed since: weight, factor_monitor)", {WRAPPER}),
        ("mask gone", "f1: nxprepare_mask (f1_mask.nxs is gone)", {WRAPPER, "f1_mask.nxs"}),
        (
            "all again", "f1: nxmax (--overwrite), nxfind (--overwrite), nxprepare_mask (--overwrite)",
            {WRAPPER, *MASKS},
        ),
    ],
)  # fmt: skip
def test_only_what_is_concerned_is_done_again(well, name, said, changed):
    _, ranks, before, after = well[name]
    lines = [line.partition("] ")[2] for line in ranks[0].stderr.splitlines()]
    assert said in lines
    assert touched(before, after) == changed


def test_fewer_peaks_are_found_where_more_is_asked_of_them(done, well):
    scan = well["stronger"][0]
    changed = differences(found(scan), found(done))
    assert {f"/{name}/peaks/x" for name in POSITIONS} <= set(changed)
    assert all("/peaks" in key or "nxfind/parameters/sigma" in key for key in changed)
    with h5py.File(scan.wrapper) as file, h5py.File(done.wrapper) as of_all:
        for name in POSITIONS:
            assert 0 < len(file[name]["peaks/x"]) < len(of_all[name]["peaks/x"])


def test_mask_that_was_gone_is_made_again_to_the_same_bits(done, well):
    assert differences(found(well["mask gone"][0]), found(done)) == []


def test_results_that_are_gone_from_the_scan_file_are_made_again(done, well):
    assert differences(found(well["peaks gone"][0]), found(done)) == []


@pytest.mark.parametrize("name", ["other program", "other program's mask"])
def test_what_another_program_did_is_kept(well, name):
    _, ranks, before, after = well[name]
    assert after == before
    for task in TASKS if name == "other program" else TASKS[2:]:
        said = f"/f1: {task} was done by another program and is kept (--overwrite)"
        assert said in ranks[0].stderr


LEFT_OUT = {
    "no sums": ("nxmax", ["frame_sums", "summed_data", "summed_frames", "radial_sum"]),
    "no peaks": ("nxfind", ["peaks"]),
    "no mask": ("nxprepare_mask", ["data/data_mask"]),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_not_wanted_is_left_out_and_the_rest_is_the_same(done, well, name):
    task, groups = LEFT_OUT[name]
    scan = well[name][0]
    with h5py.File(scan.wrapper) as file:
        for position in POSITIONS:
            assert set(file[position]["nxworkflow"]) == {*TASKS} - {task}
            assert [group for group in groups if group in file[position]] == []
    masks = [path.name for path in sorted(scan.data.glob("*_mask.nxs"))]
    assert masks == ([] if name == "no mask" else [*MASKS])
    there, wanted = found(scan, masks), found(done)
    other = {key for key in there if there[key] != wanted.get(key)}
    assert {key for key in other if not key.endswith("sequence_index")} == set()


def test_nothing_is_done_where_nothing_is_wanted(well):
    _, _, before, after = well["nothing"]
    assert after == before


def test_other_positions_are_left_alone(done, well):
    scan, _, before, after = well["one position"]
    assert touched(before, after) == {WRAPPER, "f2_mask.nxs"}
    there, wanted = contents(scan.wrapper), contents(done.wrapper)
    of_f2 = [key for key in differences(there, wanted) if not key.startswith("/f1")]
    assert of_f2 == []


# --- some of the frames


def raw_frames(scan, name):
    with h5py.File(scan.wrapper) as file:
        bad = file[name]["instrument/detector/pixel_mask"][()] != 0
    with h5py.File(scan.data / f"{name}.h5") as file:
        return np.where(bad, 0, file["entry/data/data"][()]), bad


def read(path, *names):
    with h5py.File(path) as file:
        return [file[name][()] for name in names]


def test_frames_that_are_not_used_are_masked_and_have_no_part_in_sums(done, well):
    scan = well["used"][0]
    for name in POSITIONS:
        counts, _ = raw_frames(scan, name)
        (mask,) = read(scan.data / f"{name}_mask.nxs", "entry/mask")
        (all_used,) = read(done.data / f"{name}_mask.nxs", "entry/mask")
        assert mask[:3].all()
        assert mask[36:].all()
        assert np.array_equal(mask[4:35], all_used[4:35])
        assert 0 < mask[3:36].sum() < mask[3:36].size
        by_pixel, by_frame, background, z, flags = read(
            scan.wrapper, f"{name}/frame_sums/summed_data/summed_data",
            f"{name}/frame_sums/summed_frames/summed_frames",
            f"{name}/frame_sums/partial_frames/partial_frames", f"{name}/peaks/z",
            f"{name}/peaks/flags",
        )  # fmt: skip
        assert np.array_equal(by_pixel, counts[3:36].sum(axis=0))
        assert np.array_equal(by_frame[3:36], counts[3:36].sum(axis=(1, 2)))
        for sums in (by_frame, background):
            assert not sums[:3].any()
            assert not sums[36:].any()
            assert (sums[3:36] > 0).all()
        assert z[flags == 0].min() > 3
        assert z[flags == 0].max() < 35
        assert 0 <= z.min() < z.max() <= 38  # of peaks that are cut, the middle may lie outside
        with h5py.File(scan.wrapper) as file:
            attributes = file[name]["data"].attrs
            assert [attributes["first"], attributes["last"]] == [3, 35]


def test_frame_that_cannot_be_read_is_left_out_when_asked_to_and_recorded(done, well):
    scan, _, _, _ = well["bad frame"]
    counts, _ = raw_frames(done, "f1")
    counts[20] = 0
    by_pixel, by_frame, transmission = read(
        scan.wrapper, "f1/frame_sums/summed_data/summed_data",
        "f1/frame_sums/summed_frames/summed_frames", "f1/frame_sums/transmission/transmission",
    )  # fmt: skip
    assert np.array_equal(by_pixel, counts.sum(axis=0))
    assert np.array_equal(by_frame, counts.sum(axis=(1, 2)))
    assert np.isfinite(transmission).all()
    (mask,) = read(scan.data / "f1_mask.nxs", "entry/mask")
    (whole,) = read(done.data / "f1_mask.nxs", "entry/mask")
    assert not mask[20].any()
    elsewhere = np.r_[0:19, 22:N_FRAMES]
    assert np.array_equal(mask[elsewhere], whole[elsewhere])
    notes = [
        note.decode()
        for note in read(
            scan.wrapper, *(f"{name}/nxworkflow/nxmax/note/data" for name in POSITIONS)
        )
    ]
    assert notes[0].endswith("\nFrames that could not be read: [20]")
    assert "could not be read" not in notes[1]


def test_scan_without_monitor_is_gone_through_when_asked_to(done, well):
    scan = well["no monitor"][0]
    changed = differences(found(scan), found(done))
    assert "/f2/frame_sums/transmission/transmission" in changed
    assert "/f2/nxworkflow/nxmax/parameters/factor_monitor" in changed
    assert not [key for key in changed if "peaks" in key or key.startswith(MASKS)]


# --- what cannot be used


def all_masked(scan):
    put("f1/instrument/detector/pixel_mask", np.ones(SHAPE, np.int8))(scan)


def empty_frame(scan):
    with h5py.File(scan.data / "f1.h5", "r+") as file:
        file["entry/data/data"][7] = 0


def unlinked_mask(scan):
    with h5py.File(scan.data / "f1_mask.nxs", "w") as file:
        file["entry/mask"] = np.zeros((N_FRAMES, *SHAPE), np.int8)


DAMAGES = {
    "link broken": (
        lambda scan: (scan.data / "f2.h5").unlink(), [],
        "{wrapper}:/f2/data/data: expected raw frames, found a link to {data}/f2.h5:/entry/data/data, which does not exist",
    ),
    "no link": (delete("f2/data/data"), [], "{wrapper}:/f2/data/data: expected raw frames, found nothing"),
    "frame unreadable": (
        corrupt("f1.h5", "entry/data/data", 20), [],
        "{data}/f1.h5:/entry/data/data: expected frame 20 to be readable, found: * (--skip-bad-frames goes on without it)",
    ),
    "no monitor": (
        delete("f2/monitor1"), [],
        "{wrapper}:/f2/monitor1: expected a monitor of the incident flux (--no-monitor goes on without), found none",
    ),
    "monitor zero": (
        change("f2/monitor1/data", slice(4, 6), 0.0), [],
        "{wrapper}:/f2/monitor1: expected positive values in all frames used, found 0 in frame 4 (2 such frames)",
    ),
    "no box of the mask": (None, ["--mask-h1", 0], "box of the mask: expected 1 to 999 pixels, found 0"),
    "mask of nothing": (None, ["--mask-t2", 1], "second threshold of the mask: expected 0 up to below 1, found 1.0"),
    "all pixels masked": (all_masked, [], "*transmission: no unmasked pixel has |Q| from 1.2"),
    "annulus empty": (None, ["--qmin", 50, "--qmax", 60], "*transmission: no unmasked pixel has |Q| from 50 to 60 1/Å"),
    "frame without counts": (empty_frame, [], "{data}/f1.h5:/entry/data/data: "),
    "frames reversed": (None, ["--first", 9, "--last", 3], "f1: expected first_frame from 0 to last_frame, found 9 to 3 of 40 frames"),
    "no such position": (None, ["--entry", "f7"], "{wrapper}:/f7: expected one of f1, f2"),
    "mask in the way": (unlinked_mask, [], "{wrapper}:/f1: nxprepare_mask was done by another program, and its result f1_mask.nxs is kept; --overwrite replaces it"),
    "computed elsewhere": (
        locked_by_nxmpi("f1", "frames", host="node7", job="4711"), [],
        "{wrapper}: f1 frames is being computed by process * on node7 (job 4711) since *; wait for it, or, if it has ended, `nxmpi unlock ",
    ),
}  # fmt: skip
MISUSED = {
    "gain": (["--gain", 0], "gain: expected a number above 0, found 0.0"),
    "sigma": (["--sigma-strong", -1], "sigma_strong: expected a number above 0, found -1.0"),
    "threshold of the mask": (
        ["--mask-t1", "some"],
        "--mask-t1: expected counts or a number of sigma such as 8sigma, found 'some'",
    ),
}


@pytest.fixture(scope="module")
def refused(plain, tmp_path_factory):
    """Return what came of each damage and of each misuse, on 3 ranks."""
    cases = {
        name: (plain, damage, ["frames", *args]) for name, (damage, args, _) in DAMAGES.items()
    }
    cases |= {name: (plain, None, ["frames", *args]) for name, (args, _) in MISUSED.items()}
    return run_cases(3, cases, tmp_path_factory.mktemp("refused"))


@pytest.mark.parametrize("name", DAMAGES)
def test_bad_input_is_told_in_one_line_and_changes_nothing(refused, name):
    scan, ranks, before, after = refused[name]
    assert_refused(scan, ranks, DAMAGES[name][2])
    # what ranks saved before they met it may stay
    assert {name: each for name, each in after.items() if ".checkpoint/" not in name} == before


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_is_told_in_one_line_and_changes_nothing(refused, name):
    scan, ranks, before, after = refused[name]
    assert_refused(scan, ranks, MISUSED[name][1], status=2)
    assert after == before


# --- killed


@pytest.mark.parametrize(
    ("point", "n", "rank", "next_n"),
    [
        ("before-batch:frames#2", 2, 0, 0),
        pytest.param("before-batch:frames", 3, 2, 1, marks=pytest.mark.full),
        ("after-replace:f1_mask.nxs", 0, 0, 2),
        pytest.param("before-replace:f1_mask.nxs", 2, 0, 0, marks=pytest.mark.full),
        pytest.param("before-replace:f2_mask.nxs", 3, 0, 0, marks=pytest.mark.full),
        pytest.param("after-replace:f2_mask.nxs", 3, 0, 0, marks=pytest.mark.full),
        pytest.param(f"before-replace:{WRAPPER}", 3, 0, 2, marks=pytest.mark.full),
        pytest.param(f"after-replace:{WRAPPER}", 3, 0, 2, marks=pytest.mark.full),
        pytest.param("before-fsync:f1_mask.nxs", 1, 0, 2, marks=pytest.mark.full),
    ],
)
def test_killed_run_leaves_the_scan_as_it_was_and_the_next_completes_it(
    plain, done, tmp_path, point, n, rank, next_n
):
    scan = plain.copy(tmp_path / "e")
    before = scan.files()
    killed = run_mpi(n, KILLER, point, rank, "--", "frames", *BOXES, scan.wrapper, timeout=60)
    assert killed.returncode != 0, "it was not killed"
    assert not error_lines(killed)
    if "batch" in point:
        after = scan.files()
        assert {name: after[name] for name in before} == before
        hidden = set(scan.hidden())
        assert all(hidden & set(Path(name).parts) for name in set(after) - set(before))
    again = run_nxmpi(next_n, "frames", *BOXES, scan.wrapper)
    assert again.returncode == 0, again.stderr
    assert differences(found(scan), found(done)) == []
    assert differences(contents(scan.wrapper), contents(done.wrapper)) == []
    assert scan.hidden() == []


@pytest.mark.parametrize(
    ("point", "n", "rank"),
    [
        ("before-batch:frames#2", 2, 0),
        pytest.param("before-batch:frames#2", 3, 1, marks=pytest.mark.full),
    ],
)
def test_killed_run_goes_on_from_what_was_saved(plain, done, tmp_path, point, n, rank):
    scan = plain.copy(tmp_path / "e")
    args = ("frames", *BOXES, scan.wrapper)
    killed = run_mpi(n, KILLER, point, rank, "--", *args, timeout=60)
    assert killed.returncode != 0, "it was not killed"
    again = run_nxmpi(n, *args)
    assert again.returncode == 0, again.stderr
    assert re.search(r"going on behind \d+ frames, as saved", again.stderr)
    assert differences(found(scan), found(done)) == []
    assert differences(contents(scan.wrapper), contents(done.wrapper)) == []
    assert scan.hidden() == []


# --- disks that are full


@pytest.mark.parametrize("options", [[], pytest.param(["--root-writes"], marks=pytest.mark.full)])
def test_full_disk_for_a_mask_is_told_in_one_line_and_changes_nothing(plain, tmp_path, options):
    scan = plain.copy(tmp_path / "e")
    before = scan.files()
    args = ("-m", "nxmpi", "frames", *BOXES, *options, scan.wrapper)
    result = run_mpi(3, *args, limit={"FSIZE": 5000})
    assert result.returncode == 1, result.stderr
    (line,) = error_lines(result)
    where = f"{scan.data}/.f1_mask.nxs.tmp"
    assert line.startswith(f"Error: {where}: cannot be written: File too large")
    assert scan.files() == before


def test_full_disk_for_the_scan_file_is_told_in_one_line_and_changes_nothing(plain, tmp_path):
    scan = plain.copy(tmp_path / "e")
    before = scan.files()
    size = scan.wrapper.stat().st_size + 20_000  # the copy of it has room, what is added has not
    args = ("-m", "nxmpi", "frames", *BOXES, scan.wrapper)
    result = run_mpi(1, *args, limit={"FSIZE": size})
    assert len(error_lines(result)) == 1
    assert scan.files() == before
    assert result.returncode == 1
