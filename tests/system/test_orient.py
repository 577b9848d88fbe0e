"""From frames to orientations by command, held against the simulation, and what is said."""

import csv
import hashlib
import io

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from system.mpi import error_lines, run_nxmpi
from system.scans import simulated

from nxmpi.crystal.indexing import nearest_equivalent
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.laue import lattice_rotations
from nxmpi.model import Lattice
from nxmpi.nexus.geometry import read_geometry, read_sample
from nxmpi.nexus.truth import read_truth
from nxmpi.simulate.truth import read_peaks

NAMES = ("f1", "f2", "f3")
SHAPE, N_FRAMES = (360, 400), 180
CRYSTALS = {
    "cubic": ((5.2, 5.2, 5.2, 90, 90, 90), "P m -3 m"),
    "tetragonal": ((5.2, 5.2, 7.1, 90, 90, 90), "I 4/m m m"),
    "hexagonal": ((5.8, 5.8, 7.4, 90, 90, 120), "P 6/m m m"),
    "monoclinic": ((6.1, 5.3, 6.8, 90, 103, 90), "P 1 21/c 1"),
    "triclinic": ((5.1, 6.3, 7.2, 83, 97, 105), "P -1"),
}


def searched(root, cell, symbol):
    """Return the scan file of a crystal without an orientation, its frames gone through."""
    args = ("--preset", "demo", "--no-orientation", "--cell", *cell, "--space-group", symbol)
    done = run_nxmpi(2, "simulate", root, *args, timeout=300)
    assert done.returncode == 0, done.stderr
    (wrapper,) = root.glob("*/*/*.nxs")
    done = run_nxmpi(2, "frames", wrapper, "--no-mask", timeout=300)
    assert done.returncode == 0, done.stderr
    return wrapper


def run(*args, n=0):
    return run_nxmpi(n, *args, timeout=300)


def geometry_of(wrapper, name):
    with h5py.File(wrapper) as file:
        sample = read_sample(file[name])
        return read_geometry(file[name], SHAPE, N_FRAMES, sample), sample.lattice


def truth_of(wrapper):
    (truth,) = wrapper.parent.glob("*/truth.h5")
    with h5py.File(truth) as file:
        return truth, read_truth(file, "crystal")


def assert_right(wrapper):
    """Hold orientation and cell to the truth; the distance was held there."""
    _, crystal = truth_of(wrapper)
    cell, U = crystal["unit_cell"], crystal["U"]
    lattice = Lattice(**dict(zip(Lattice.__slots__, cell.tolist(), strict=True)))
    B = reciprocal_matrix(lattice)
    with h5py.File(wrapper) as file:
        symbol = read_sample(file["f1"]).space_group
    for name in NAMES:
        geometry, refined = geometry_of(wrapper, name)
        near = nearest_equivalent(np.array(geometry.UB), U @ B, lattice_rotations(lattice, symbol))
        u, _, v = np.linalg.svd(near @ np.linalg.inv(U @ B))
        assert np.degrees(Rotation.from_matrix(u @ v).magnitude()) < 0.01
        found = np.array([getattr(refined, each) for each in Lattice.__slots__])
        assert (np.abs(found / cell - 1) < 5e-5).all()


def scaled_residuals(wrapper):
    """Return residuals of whole peaks in units of their own errors, outliers left out."""
    with h5py.File(wrapper) as file:
        scaled = []
        for name in NAMES:
            peaks = {key: values[()] for key, values in file[f"{name}/peaks"].items()}
            rows = [peaks[f"residual_{a}"] / peaks[f"{a}_errors"] for a in "xyz"]
            scaled.append(np.column_stack(rows)[(peaks["flags"] == 0) & (peaks["grain"] == 1)])
    every = np.concatenate(scaled)
    return every[np.abs(every).max(axis=1) < 5], len(every)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Return a scan that was reduced without an orientation in its file, and what was said."""
    root = tmp_path_factory.mktemp("hexagonal") / "experiment"
    wrapper = searched(root, *CRYSTALS["hexagonal"])
    done = run("reduce", wrapper, "--no-mask", n=2)
    assert done.returncode == 0, done.stderr
    return wrapper, done.stderr


def test_reduce_finds_the_orientation_that_the_transform_needs(scan):
    wrapper, said = scan
    assert said.index("orient: f1 (not done yet)") < said.index("nxtransform")
    assert "one orientation, with the angles of the file" in said
    assert_right(wrapper)
    with h5py.File(wrapper) as file:
        assert file["entry/transform/data"].shape == (161, 161, 161)


def test_residuals_are_as_large_as_the_errors_of_the_peaks(scan):
    scaled, n = scaled_residuals(scan[0])
    assert len(scaled) > 0.97 * n
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, atol=0.1)


def test_reduced_again_nothing_is_done(scan):
    wrapper, _ = scan
    before = hashlib.sha256(wrapper.read_bytes()).hexdigest()
    done = run("reduce", wrapper, "--no-mask")
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert f"{name}: frames: complete" in done.stderr
    assert "orient: complete" in done.stderr
    assert hashlib.sha256(wrapper.read_bytes()).hexdigest() == before


@pytest.mark.parametrize("name", NAMES)
def test_predicted_reflections_are_those_simulated(scan, name):
    wrapper, _ = scan
    done = run("predict", wrapper, "--entry", name)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    places = np.array([[float(row[key]) for key in ("x", "y", "frame")] for row in rows])
    truth, _ = truth_of(wrapper)
    true = read_peaks(truth, name)
    inside = np.stack([true["x"], true["y"], true["z"]], axis=1)
    use = (inside > 0).all(axis=1) & (inside < [399, 359, 179]).all(axis=1)
    use &= true["lorentz"] < 10  # a small turn moves the others far
    distance, _ = cKDTree(places).query(inside[use])
    assert np.median(distance) < 0.005
    assert distance.max() < 0.1
    assert {row["entry"] for row in rows} == {name}


def test_predictions_are_drawn_and_listed(scan, tmp_path):
    wrapper, _ = scan
    box = ("--h", 0, 2, "--k", 0, 2, "--l", 0, 0)
    done = run("predict", wrapper, *box, "--output", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    done = run("predict", wrapper, *box, "--output", tmp_path / "a.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert done.stdout == f"{tmp_path / 'a.csv'}: {len(rows)} reflections\n"
    assert {row["l"] for row in rows} == {"0"}
    assert not {("0", "0", "0")} & {(row["h"], row["k"], row["l"]) for row in rows}
    done = run("predict", wrapper, "--hkl", 0.5, 0, 1, "--hkl", 1, 1, 0)
    found = {tuple(row[i] for i in "hkl") for row in csv.DictReader(io.StringIO(done.stdout))}
    assert found == {("0.5", "0", "1"), ("1", "1", "0")}


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in CRYSTALS if name != "hexagonal"])
def test_all_systems_from_frames(tmp_path, name):
    wrapper = searched(tmp_path / "experiment", *CRYSTALS[name])
    done = run("orient", wrapper)
    assert done.returncode == 0, done.stderr
    assert_right(wrapper)
    scaled, n = scaled_residuals(wrapper)
    assert len(scaled) > 0.97 * n
    np.testing.assert_allclose(scaled.std(axis=0), 1.0, atol=0.1)
    done = run("orient", wrapper, "--find-cell")
    assert done.returncode == 0, done.stderr
    with h5py.File(wrapper) as file:
        assert file["f1/peaks"].attrs["indexed_fraction"] > 0.98
    done = run("orient", wrapper, "--cell", *CRYSTALS[name][0], "--free", "distance")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    true = dict(zip("abc", CRYSTALS[name][0][:3], strict=True)) | {"distance": 55.0}
    for key, value in true.items():
        if key in rows:  # a = b are told together
            numbers = [float(word) for word in rows[key] if word[0] in "0123456789"]
            assert abs(numbers[0] - value) < 3.5 * numbers[-1]


@pytest.fixture(scope="module")
def tiny(searched, tmp_path_factory):
    """Return a scan that no test may change."""
    return searched.copy(tmp_path_factory.mktemp("tiny") / "e").wrapper


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--free", "cell", "--hold", "cell"), "--free and --hold exclude each other: cell"),
        (("--hold", "orientation"), "orientation: expected to be free, found it held"),
        (("--min-indexed", "0"), "0.0 is not in the range"),
        (("--min-indexed", "1.2"), "1.2 is not in the range"),
        (("--grains", "0"), "0 is not in the range"),
        (("--lattice", "cX"), "'cX' is not one of"),
        (("--lattice", "cF"), "lattice: expected one of aP, found cF"),
        (("--cell", "5", "6", "7", "90", "90", "190"), "no cell has these"),
        (("--cell", "5", "-6", "7", "90", "90", "90"), "expected a positive number"),
        (("--entry", "f7"), "/f7: expected one of f1, f2"),
        (("--min-indexed", "1", "--cell", "9", "9", "9", "90", "90", "90"), "nothing was written"),
    ],
    ids=str,
)
def test_wrong_calls_are_refused_and_the_file_is_left(tiny, args, told):
    before = tiny.read_bytes()
    done = run("orient", tiny, *args)
    assert done.returncode != 0
    assert told in done.stderr
    assert len(error_lines(done)) == 1
    assert "Traceback" not in done.stderr
    assert tiny.read_bytes() == before


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--h", "0", "1"), "a range of hkl needs all of --h, --k and --l"),
        (("--hkl", "1", "0", "0", "--d-min", "1"), "expected a list or a range, found both"),
        (("--output", "list.txt"), "expected a name that ends in .csv or .png"),
        (("--entry", "f9"), "/f9: expected one of f1, f2"),
        (("--h", "0.2", "0.4", "--k", "0", "0", "--l", "0", "0"), "expected whole numbers in it"),
        (("--output", "no/such/folder/list.csv"), "no/such/folder/list.csv"),
    ],
    ids=str,
)
def test_wrong_calls_of_predict_are_refused(tiny, args, told):
    done = run("predict", tiny, *args)
    assert done.returncode != 0
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_frames_that_were_not_gone_through_are_told_of(tmp_path):
    scan = simulated(tmp_path / "experiment", "--no-orientation")
    done = run("orient", scan.wrapper, n=2)
    assert done.returncode == 1
    (line,) = error_lines(done)
    assert "/f1/peaks: expected a list of peaks (nxmpi frames finds them), found nothing" in line
    done = run("predict", scan.wrapper)
    assert "orientation matrix (nxmpi orient finds it)" in done.stderr
