"""NXRefine itself, in an environment of its own, finds what nxmpi did and means the same by it."""

import hashlib
import json
import subprocess
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from system.mpi import clean_environment, run_nxmpi
from system.scans import simulated

from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.nexus.geometry import read_geometry, read_sample

READER = Path(__file__).with_name("nxrefine_reader.py")
POSITIONS = ("f1", "f2")
SETTINGS = {
    "f1": {"goniometer/theta": 1.7, "goniometer/omega": -11.0},
    "f2": {
        "goniometer/xs": 0.31, "goniometer/ys": -0.17, "goniometer/zs": 0.23,
        "detector/yaw": -12.5, "detector/pitch": 4.0, "detector/roll": -3.0,
    },
}  # fmt: skip
"""What the simulation has not, in the instrument of either position."""
SMALL_BOXES = ("--mask-t1", 1, "--mask-h1", 3, "--mask-t2", 0.4, "--mask-h2", 7)
"""Of the 3-D mask, for a small detector."""
FRAMES_TASKS = ("nxmax", "nxfind", "nxprepare_mask")
TASKS = (*FRAMES_TASKS, "nxtransform", "nxmasked_transform")


@pytest.fixture(scope="module")
def scan(untouched, tmp_path_factory):
    """Return a tiny scan with no angle or offset zero, not reduced."""
    scan = untouched.copy(tmp_path_factory.mktemp("nxrefine") / "e")
    with scan.open() as wrapper:
        for name, values in SETTINGS.items():
            for path, value in values.items():
                wrapper[f"{name}/instrument/{path}"][...] = value
    return scan


@pytest.fixture(scope="module")
def points():
    """Return places on the detector, from the outer corner of pixel 0, and frames."""
    rng = np.random.default_rng(3)
    x, y, frame = rng.uniform(0, 64, 20), rng.uniform(0, 48, 20), rng.integers(0, 11, 20)
    return np.stack([x, y, frame], axis=-1)


def ask(python, scan, points, home):
    (home / "nxserver").mkdir()
    environment = clean_environment({"HOME": str(home), "NX_SERVER": str(home), "PYTHONPATH": None})
    question = {"folder": str(scan.data), "points": dict.fromkeys(POSITIONS, points.tolist())}
    result = subprocess.run(
        [python, READER],
        input=json.dumps(question), env=environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def before(nxrefine, scan, points, tmp_path_factory):
    """Return what NXRefine finds in the scan before it is reduced."""
    return ask(nxrefine, scan, points, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def after(before, nxrefine, scan, points, tmp_path_factory):
    """Return what NXRefine finds in the reduced scan."""
    result = run_nxmpi(2, "reduce", *SMALL_BOXES, scan.wrapper)
    assert result.returncode == 0, result.stderr
    return ask(nxrefine, scan, points, tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("name", POSITIONS)
def test_steps_are_complete_when_they_are_done(before, after, name):
    for found, done in ((before[name], False), (after[name], True)):
        assert found["complete"] == dict.fromkeys(TASKS, done)
        assert found["to_do"] == dict.fromkeys(TASKS, not done)


def test_combination_is_complete_when_it_is_made(before, after):
    tasks = {*TASKS, "nxcombine", "nxmasked_combine"}
    assert before["entry"]["complete"] == dict.fromkeys(tasks, False)
    assert after["entry"]["complete"] == dict.fromkeys(tasks, True)
    assert after["entry"]["entries"] == list(POSITIONS)


@pytest.mark.parametrize("name", POSITIONS)
def test_peaks_are_those_in_the_scan(after, scan, name):
    found = after[name]
    with h5py.File(scan.wrapper) as file:
        peaks = {key: values[()] for key, values in file[name]["peaks"].items()}
    assert peaks["x"].size > 10
    for key, values in found["peaks"].items():
        np.testing.assert_array_equal(values, peaks[key])
    for key in ("polar_angle", "azimuthal_angle"):
        np.testing.assert_array_equal(found[key], peaks[key])


@pytest.mark.parametrize("name", POSITIONS)
def test_sums_and_mask_are_those_of_the_frames(after, scan, name):
    found = after[name]
    with h5py.File(scan.wrapper) as file:
        bad = file[name]["instrument/detector/pixel_mask"][()] != 0
    with h5py.File(scan.data / f"{name}.h5") as file:
        counts = np.where(bad, 0, file["entry/data/data"][()])
    with h5py.File(scan.data / f"{name}_mask.nxs") as file:
        mask = file["entry/mask"][()]
    assert found["summed_data"] == counts.sum()
    assert found["summed_frames"] == counts.sum(axis=(1, 2)).tolist()
    assert all(0 < part < all_ for part, all_ in zip(
        found["partial_frames"], found["summed_frames"], strict=True
    ))  # fmt: skip
    assert found["maximum"] == counts.max()
    assert found["used"] == [0, 10]
    assert 0 < mask.sum() < mask.size
    path, key = found["mask"]
    assert Path(path) == scan.data / f"{name}_mask.nxs"
    assert key == hashlib.sha256(mask.tobytes()).hexdigest()


@pytest.mark.parametrize("group", ["transform", "masked_transform"])
@pytest.mark.parametrize("name", [*POSITIONS, "entry"])
def test_volumes_are_found_through_their_links(after, scan, name, group):
    found = after[name][group]
    path = scan.data / f"{'' if name == 'entry' else name + '_'}{group}.nxs"
    assert Path(found["file"]) == path
    assert found["shape"] == [41, 41, 31]
    with h5py.File(path) as file:
        values = file["entry/data/v"][()]
    assert np.nansum(values) > 0
    assert found["type"] == str(values.dtype)
    assert found["hash"] == hashlib.sha256(values.tobytes()).hexdigest()
    ends = [["Ql", -4.0, 4.0], ["Qk", -4.0, 4.0], ["Qh", -3.0, 3.0]]
    for axis, end in zip(found["axes"], ends, strict=True):
        assert axis[0] == end[0]
        assert axis[1:] == pytest.approx(end[1:])


@pytest.mark.parametrize("name", POSITIONS)
def test_parameters_are_found(after, name):
    assert after[name]["frames"] == [11, 48, 64]
    assert after[name]["monitor"] == "monitor1"


@pytest.mark.parametrize("name", POSITIONS)
def test_pixels_have_the_same_hkl(after, scan, points, name):
    with h5py.File(scan.wrapper) as wrapper:
        sample = read_sample(wrapper[name])
        geometry = read_geometry(wrapper[name], (48, 64), 11, sample)
    goniometer, detector = geometry.goniometer, geometry.detector
    angles = (goniometer.theta, goniometer.omega, goniometer.chi)
    tilts = (detector.yaw, detector.pitch, detector.roll)
    assert 0 not in (*angles, *tilts, *goniometer.sample_offset)
    x, y, frame = points.T
    phi = goniometer.phi[0] + (frame + 0.5) * goniometer.step
    hkl = pixel_to_hkl(geometry, x, y, phi)
    assert np.ptp(hkl, axis=0).min() > 1
    np.testing.assert_allclose(after[name]["hkl"], hkl, atol=1e-9)


@pytest.fixture(scope="module")
def oriented(nxrefine, points, tmp_path_factory):
    """Return a scan that was oriented with all of its geometry free, and NXRefine's hkl in it."""
    root = tmp_path_factory.mktemp("oriented")
    scan = simulated(root / "simulated", "--no-orientation").after(root / "searched", "frames")
    free = ("distance", "tilts", "theta", "phi0")
    scan = scan.after(root / "e", "orient", *(x for name in free for x in ("--free", name)))
    return scan, ask(nxrefine, scan, points, tmp_path_factory.mktemp("home"))


@pytest.mark.parametrize("name", POSITIONS)
def test_refined_geometry_gives_the_same_hkl(oriented, points, name):
    scan, found = oriented
    with h5py.File(scan.wrapper) as file:
        entry = file[name]
        sample = read_sample(entry)
        geometry = read_geometry(entry, (48, 64), 11, sample)
        assert (entry["peaks/grain"][()] == 1).mean() > 0.9
        assert file["f1/instrument/goniometer/phi"].attrs["step"] == 2.0
    x, y, frame = points.T
    phi = geometry.goniometer.phi[0] + (frame + 0.5) * geometry.goniometer.step
    wanted = pixel_to_hkl(geometry, x, y, phi)
    np.testing.assert_allclose(found[name]["hkl"], wanted, rtol=0, atol=1e-9)
    assert np.abs(wanted).max() > 1


@pytest.mark.parametrize("name", POSITIONS)
def test_refinement_is_complete_for_nxrefine(oriented, name):
    assert oriented[1][name]["refined"]
