"""Killed at any point of its writing, a run is finished by the next, to the same bits."""

from pathlib import Path

import h5py
import pytest
from system.mpi import error_lines, run_mpi, run_nxmpi
from system.scans import (
    COMBINED,
    TRANSFORMS,
    VOLUMES,
    contents,
    differences,
    volumes,
)

OFTEN = ("--checkpoint", "1e-6", "--batch-frames", "1")
KILLER = Path(__file__).with_name("kill_at.py")
FILES = (
    "f1_transform.nxs", "f1_masked_transform.nxs", "transform.nxs", "masked_transform.nxs",
    "symm_transform.nxs", "total_pdf.nxs", "pdf.nxs",
)  # fmt: skip
WRAPPER = "triclinite_300K.nxs"
POINTS = [
    *(f"{kind}:{name}" for name in FILES for kind in ("before-replace", "after-replace")),
    *(f"before-fsync:{name}" for name in FILES),
    *(f"{kind}:symm_transform.nxs#2" for kind in ("before-replace", "after-replace")),
    *(f"{kind}:{WRAPPER}#{n}" for n in (1, 2, 3, 4, 5, 7)
      for kind in ("after-copy", "before-fsync", "before-replace", "after-replace")),
    *(f"{kind}:manifest.json#{n}" for n in (1, 2)
      for kind in ("before-fsync", "before-replace", "after-replace")),
    "before-fsync:0-0.bin", "after-fsync:0-0.bin", "before-fsync:1-0.bin",
]  # fmt: skip
FEW = (
    "before-replace:f1_transform.nxs", "after-replace:f1_masked_transform.nxs",
    f"before-replace:{WRAPPER}#1",
)  # fmt: skip


def assert_same(scan, wanted, *but):
    found, expected = volumes(scan), volumes(wanted)
    assert set(found) == set(expected)
    for name in expected:
        assert not differences(found[name], expected[name]), name
    assert differences(contents(scan.wrapper), contents(wanted.wrapper)) == [*but]
    assert scan.hidden() == []


def kill_and_resume(fresh, tmp_path, point, n):
    """Return the scan after a killed run and the next on another number of ranks, and its log."""
    scan = fresh.copy(tmp_path / "e")
    killed = run_mpi(n, KILLER, point, 0, "--", "reduce", *OFTEN, scan.wrapper)
    assert killed.returncode != 0, "it was not killed"
    assert not error_lines(killed)
    for path in scan.root.rglob("*.nxs"):
        if not path.name.startswith("."):
            contents(path)  # whatever has its name is complete
    again = run_nxmpi({1: 3, 3: 2}[n], "reduce", *OFTEN, scan.wrapper)
    assert again.returncode == 0, again.stderr
    return scan, again.stderr


@pytest.mark.parametrize(
    ("point", "n"),
    [
        *((point, (3, 1)[i % 2]) for i, point in enumerate(FEW)),
        *(
            pytest.param(point, n, marks=pytest.mark.full)
            for point in POINTS
            for n in (1, 3)
            if (point, n) not in [(each, (3, 1)[i % 2]) for i, each in enumerate(FEW)]
        ),
    ],
)
def test_run_killed_while_it_writes_is_finished_to_the_same_bits(
    fresh, reduced, tmp_path, point, n
):
    scan, said = kill_and_resume(fresh, tmp_path, point, n)
    assert_same(scan, reduced)
    if point.startswith(("after-replace:manifest", "before-replace:f1", "before-fsync:f1")):
        assert "going on from a checkpoint of " in said


@pytest.mark.parametrize(
    ("point", "rank", "goes_on"),
    [
        ("after-fsync:0-2.bin", 2, False),
        pytest.param("before-fsync:1-1.bin", 1, True, marks=pytest.mark.full),
        pytest.param("before-exchange:bricks#2", 1, False, marks=pytest.mark.full),
        pytest.param("after-exchange:bricks#3", 2, True, marks=pytest.mark.full),
        ("before-round:f1_masked_transform.nxs", 2, True),
        pytest.param("after-round:f1_transform.nxs", 1, True, marks=pytest.mark.full),
    ],
)
def test_death_of_one_rank_ends_the_run_and_the_next_goes_on(
    fresh, reduced, tmp_path, point, rank, goes_on
):
    scan = fresh.copy(tmp_path / "e")
    killed = run_mpi(3, KILLER, point, rank, "--", "reduce", *OFTEN, scan.wrapper, timeout=60)
    assert killed.returncode != 0
    again = run_nxmpi(2, "reduce", *OFTEN, scan.wrapper)
    assert again.returncode == 0, again.stderr
    assert ("going on from a checkpoint" in again.stderr) == goes_on
    assert_same(scan, reduced)


def test_checkpoint_of_other_work_is_neither_used_nor_spoilt(fresh, reduced, tmp_path):
    scan = fresh.copy(tmp_path / "e")
    point, other = "after-replace:manifest.json", ("--norm", "70000")
    assert run_mpi(1, KILLER, point, 0, "--", "reduce", *OFTEN, scan.wrapper).returncode != 0
    point = "after-fsync:*-0.bin"
    killed = run_mpi(1, KILLER, point, 0, "--", "reduce", *OFTEN, *other, scan.wrapper)
    assert killed.returncode != 0
    assert "going on" not in killed.stderr
    again = run_nxmpi(0, "reduce", *OFTEN, scan.wrapper)
    assert again.returncode == 0, again.stderr
    assert "going on from a checkpoint of 1 frames" in again.stderr
    assert_same(scan, reduced)


# --- what is complete is left as it is


@pytest.fixture
def done(reduced, tmp_path):
    """Return a copy of a scan that is reduced."""
    return reduced.copy(tmp_path / "done")


def reduce(scan, *options, n=0):
    result = run_nxmpi(n, "reduce", *options, scan.wrapper)
    assert result.returncode == 0, result.stderr
    return result.stderr


def touched(scan, before):
    """Return the names of files that are others than before."""
    after = scan.files()
    assert set(after) == set(before)
    return {Path(name).name for name in after if after[name] != before[name]}


def test_second_run_leaves_everything_as_it_is_and_says_so(done):
    before = done.files()
    said = reduce(done, n=3)
    assert done.files() == before
    for text in ("f1: frames: complete", "f2: frames: complete",
                 "f1: transform is complete", "f2: transform is complete",
                 "nxcombine: complete", "nxmasked_combine: complete"):  # fmt: skip
        assert text in said


def test_checkpoint_left_by_a_run_killed_at_its_very_end_is_removed(done):
    folder = done.data / ".f1_transform.checkpoint"
    folder.mkdir()
    (folder / "0-0.bin").touch()
    reduce(done)
    assert done.hidden() == []


def test_overwrite_does_everything_again(done, reduced):
    before = done.files()
    said = reduce(done, "--overwrite")
    assert touched(done, before) == {*VOLUMES, "f1_mask.nxs", "f2_mask.nxs", WRAPPER}
    for task in ("nxmax", "nxfind", "nxprepare_mask", "nxtransform", "nxmasked_transform"):
        assert said.count(f"{task} (--overwrite)") == 2
    found, wanted = volumes(done), volumes(reduced)
    other = {name for name in wanted if differences(found[name], wanted[name])}
    assert other == {name for name in VOLUMES if "masked" in name}  # those of other masks
    assert done.hidden() == []


def test_from_transform_does_the_frames_not_again(done, reduced):
    before = done.files()
    said = reduce(done, "--from", "transform")
    assert touched(done, before) == {*VOLUMES, WRAPPER}
    assert "nxmax" not in said
    assert_same(done, reduced)


def test_from_combine_does_the_transforms_not_again(done, reduced):
    before = done.files()
    reduce(done, "--from", "combine")
    assert touched(done, before) == {*COMBINED, WRAPPER}
    assert_same(done, reduced)


def test_only_transform_does_the_combined_volume_not_again(done, reduced):
    before = done.files()
    reduce(done, "--only", "transform")
    assert touched(done, before) == {*TRANSFORMS, WRAPPER}
    assert_same(done, reduced, "/@default")


GRID = [x for axis in "hkl" for x in (f"--q{axis}", "-2", "0.5", "2")]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (GRID, "changed since: grid"),
        pytest.param(
            ["--norm", "70000"], "changed since: weight, factor_monitor", marks=pytest.mark.full
        ),
        (["--no-polarization"], "changed since: polarization"),
        pytest.param(
            ["--first", "3"], "changed since: weight, first_frame", marks=pytest.mark.full
        ),
        pytest.param(["--voxels", "lower-edge"], "changed since: voxels", marks=pytest.mark.full),
    ],
)  # fmt: skip
def test_changed_parameter_is_named_and_all_that_depends_on_it_is_done_again(done, options, named):
    before = done.files()
    said = reduce(done, *options)
    assert touched(done, before) == {*VOLUMES, WRAPPER}
    assert f"nxtransform ({named})" in said
    assert "nxcombine: changed since: f1, f2" in said
    before = done.files()
    reduce(done, *options)
    assert touched(done, before) == set()


def test_changed_raw_frames_are_named_and_only_what_depends_on_them_is_done_again(done):
    with h5py.File(done.data / "f2.h5", "r+") as file:
        file["entry/data/data"][4] += 1
    before = done.files()
    said = reduce(done)
    assert touched(done, before) == {
        "f2_transform.nxs", "f2_masked_transform.nxs", *COMBINED, WRAPPER,
    }  # fmt: skip
    assert "f1: frames: complete" in said
    assert "f2: nxmax (changed since: raw), nxfind (changed since: raw)" in said
    assert "f1: transform is complete" in said
    changed = "(changed since: raw, weight)"  # the sample's transmission with the frames
    assert f"f2: nxtransform {changed}, nxmasked_transform {changed}" in said
    assert "nxcombine: changed since: f2" in said


def test_changed_mask_is_named_for_the_masked_twin(done):
    with h5py.File(done.data / "f1_mask.nxs", "r+") as file:
        file["entry/mask"][4] = 1
    said = reduce(done)
    assert "f1: nxmasked_transform (changed since: mask)" in said
    assert "nxcombine: complete" in said
    assert "nxmasked_combine: changed since: f1" in said


def test_volume_that_was_deleted_is_made_again(done, reduced):
    (done.data / "f1_transform.nxs").unlink()
    assert "f1: nxtransform (f1_transform.nxs is gone)" in reduce(done)
    assert_same(done, reduced, "/@default")


# --- what another program made


def by_nxrefine(scan):
    """Make the transform of f1 look as NXRefine and CCTW leave it."""
    with h5py.File(scan.data / "f1_transform.nxs", "r+") as file:
        del file["entry/data"].attrs["fingerprint"]
    with scan.open() as file:
        process = file["f1/nxworkflow/nxtransform"]
        del process["version"], process["parameters"]
        process["version"] = "nxrefine v1.2"


def by_hand(scan):
    """Leave a transform of which the scan file knows nothing."""
    with h5py.File(scan.data / "f1_transform.nxs", "r+") as file:
        del file["entry/data"].attrs["fingerprint"]
    with scan.open() as file:
        del file["f1/nxworkflow/nxtransform"], file["f1/nxtransform"]


@pytest.mark.parametrize(
    ("change", "n", "other"),
    [(by_nxrefine, 3, []), (by_hand, 0, ["/f1/nxworkflow/nxtransform/sequence_index"])],
)
def test_result_of_another_program_is_replaced_only_when_asked_to(done, reduced, change, n, other):
    change(done)
    before = done.files()
    result = run_nxmpi(n, "reduce", *GRID, done.wrapper)
    assert result.returncode == 1
    assert error_lines(result) == [
        f"Error: {done.wrapper}:/f1: nxtransform was done by another program, and its result "
        "f1_transform.nxs is kept; --overwrite replaces it"
    ]
    assert done.files() == before
    reduce(done, "--from", "transform")
    assert_same(done, reduced, *other)


def test_transforms_of_another_program_are_combined(done, reduced):
    by_nxrefine(done)
    reduce(done, "--only", "combine")
    found, wanted = volumes(done)["transform.nxs"], volumes(reduced)["transform.nxs"]
    assert differences(found, wanted) == ["/entry/data@fingerprint"]
