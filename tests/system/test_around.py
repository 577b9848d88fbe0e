"""Backgrounds, slices, cuts and sums of scans, by the command itself."""

import csv

import h5py
import numpy as np
import pytest
from nexusformat.nexus import nxload
from system.mpi import error_lines, run_nxmpi
from system.scans import simulated

LETTERS = "bc"


@pytest.fixture(scope="module")
def scan(searched, tmp_path_factory):
    """Return a tiny scan, reduced, with two more simulated beside it."""
    first = searched.copy(tmp_path_factory.mktemp("around") / "experiment")
    for seed, letter in enumerate(LETTERS, 1):
        other = simulated(first.root.with_name(letter), "--seed", str(seed))
        other.data.rename(first.data.with_name(f"300K{letter}"))
        target = first.wrapper.with_name(f"triclinite_300K{letter}.nxs")
        other.wrapper.rename(target)
        with h5py.File(target, "r+") as file:
            for name in ("f1", "f2"):
                del file[name]["data/data"]
                file[name]["data/data"] = h5py.ExternalLink(
                    f"300K{letter}/{name}.h5", "/entry/data/data"
                )
    run(2, "reduce", first.wrapper)
    return first


def run(n, *args, **options):
    result = run_nxmpi(n, *args, **options)
    assert result.returncode == 0, result.stderr
    return result


def beside(scan, letter):
    return scan.wrapper.with_name(f"triclinite_300K{letter}.nxs")


def volume(scan):
    with h5py.File(scan.data / "transform.nxs") as file:
        return {name: values[()] for name, values in file["entry/data"].items()}


def test_a_slice_and_a_cut_are_parts_of_the_volume(scan, tmp_path):
    made = run(3, "slice", scan.wrapper, "--plane", "h k 0.4", cwd=tmp_path)
    assert made.stdout.split() == ["triclinite_300K_h_k_0.4.nxs", "triclinite_300K_h_k_0.4.png"]
    data = nxload(tmp_path / "triclinite_300K_h_k_0.4.nxs").entry.data
    whole = volume(scan)
    l = int(np.argmin(np.abs(whole["Ql"] - 0.4)))
    np.testing.assert_array_equal(data.nxsignal.nxvalue.astype("f4"), whole["v"][l])
    np.testing.assert_array_equal(data.nxerrors.nxvalue.astype("f4"), whole["v_errors"][l])
    np.testing.assert_array_equal(data["norm"].nxvalue.astype("f4"), whole["n"][l])
    assert [axis.nxname for axis in data.nxaxes] == ["Qk", "Qh"]
    assert np.isfinite(data.nxsignal.nxvalue).sum() > 100
    assert (tmp_path / "triclinite_300K_h_k_0.4.png").read_bytes()[:4] == b"\x89PNG"

    made = run(2, "cut", scan.wrapper, "--box", -3, 3, 0, 0, 0.4, 0.4, "--along", "h",
               "--output", tmp_path / "row")  # fmt: skip
    assert [line.rpartition("/")[2] for line in made.stdout.split()] == [
        "row.nxs", "row.csv", "row.png",
    ]  # fmt: skip
    with (tmp_path / "row.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    k = int(np.argmin(np.abs(whole["Qk"])))
    found = [float(row["intensity"]) for row in rows]
    np.testing.assert_allclose(found, whole["v"][l, k], rtol=1e-6)
    row = nxload(tmp_path / "row.nxs").entry.data
    np.testing.assert_allclose(row.nxerrors.nxvalue, whole["v_errors"][l, k], rtol=1e-6)

    run(0, "cut", scan.wrapper, "--line", "-3 0 0.4", "3 0 0.4", "--width", "0.01", "--output",
        tmp_path / "line.csv")  # fmt: skip
    with (tmp_path / "line.csv").open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    np.testing.assert_allclose([float(row["intensity"]) for row in rows], found, rtol=1e-6)


def test_a_background_is_subtracted_by_combine_and_reduce(scan, tmp_path):
    scan = scan.copy(tmp_path / "copy")
    background = beside(scan, "b")
    run(2, "transform", background, "--no-transmission")
    before = volume(scan)
    transform = scan.data / "f1_transform.nxs"
    changed = transform.stat().st_mtime_ns
    options = ("--background", background, "--background-scale", "0.5")
    made = run(3, "combine", scan.wrapper, *options)
    assert "background: 0.5 times triclinite_300Kb.nxs" in made.stderr
    assert "factors of the norm differ: transmission" in made.stderr
    after = volume(scan)
    both = after["n"] > 0
    level = after["background_counts"][both] / after["background_norm"][both]
    np.testing.assert_allclose(after["v"][both], before["v"][both] - 0.5 * level, atol=2e-4)
    assert both.sum() > 1000
    again = run(2, "reduce", scan.wrapper, *options)
    assert "nxcombine: complete" in again.stderr
    with h5py.File(scan.data / "symm_transform.nxs") as file:
        averaged = file["entry/data/data"][()]
        assert (file["entry/data/counts_variance"][()] > 0).any()
    weights = after["n"][both].astype(float)
    averages, own = ((values[both] * weights).sum() for values in (averaged, after["v"]))
    np.testing.assert_allclose(averages, own, rtol=1e-3)
    assert "nxpdf" in again.stderr
    run(2, "reduce", scan.wrapper)
    np.testing.assert_array_equal(volume(scan)["v"], before["v"])
    assert transform.stat().st_mtime_ns == changed
    wrong = run_nxmpi(2, "combine", scan.wrapper, "--background-scale", "2")
    assert wrong.returncode == 2
    assert "--background-scale needs --background" in wrong.stderr
    absent = run_nxmpi(2, "combine", scan.wrapper, "--background", scan.data / "none.nxs")
    assert absent.returncode == 1
    assert len(error_lines(absent)) == 1


def test_a_sum_is_reduced_like_any_scan(scan, tmp_path):
    scan = scan.copy(tmp_path / "copy")
    scans = [scan.wrapper, *(beside(scan, letter) for letter in LETTERS)]
    target = beside(scan, "sum")
    run(3, "sum", *scans, "--output", target)
    for path in scans:
        run(2, "transform", path, "--no-transmission")
    run(2, "reduce", target, "--no-transmission")
    for name in ("f1", "f2"):
        counts, norm = 0, 0
        for path in scans:
            folder = path.with_name(path.stem.removeprefix("triclinite_"))
            with h5py.File(folder / f"{name}_transform.nxs") as file:
                counts = counts + file["entry/data/v"][()]
                norm = norm + file["entry/data/n"][()]
        with h5py.File(scan.data.with_name("300Ksum") / f"{name}_transform.nxs") as file:
            np.testing.assert_array_equal(file["entry/data/v"][()], counts)
            np.testing.assert_allclose(file["entry/data/n"][()], norm, rtol=1e-6, atol=1e-8)
        assert counts.sum() > 1e5
    root = nxload(target)
    assert root["entry/transform"].nxsignal.shape == (41, 41, 31)
    assert "sum of 3 scans" in str(root["f1/nxworkflow/nxsum/note/data"])
    with h5py.File(scans[2], "r+") as file:
        file["f2/instrument/detector/distance"][...] *= 1.2
    wrong = run_nxmpi(2, "sum", *scans, "--output", beside(scan, "other"))
    assert wrong.returncode == 1
    assert "300Kc.nxs:/f2: expected pixels within 0.5" in error_lines(wrong)[0]
    assert "detector distance 61 and 73.2" in error_lines(wrong)[0]


@pytest.mark.parametrize("command", ["slice", "cut", "sum", "combine"])
def test_help_ends_with_an_example(command):
    made = run(0, command, "--help")
    assert f"nxmpi {command} sample_300K.nxs" in made.stdout
