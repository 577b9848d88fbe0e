"""Weights of frames and pixels, read from a scan file."""

import shutil

import h5py
import numpy as np
import pytest
from scipy.signal import savgol_filter
from unit.plain_scan import write_scan

from nxmpi.crystal.monitor import smooth_monitor
from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus.weights import read_factor, read_monitor
from nxmpi.params import FramesParams, NormParams, OutputParams, ScanParams
from nxmpi.pipeline.frames import run_frames
from nxmpi.pipeline.scan import read_scan, read_scan_to_bin

from mpi4py import MPI  # isort: skip

FRAMES = FramesParams(peaks=False, mask=False)

SHAPE = (3, 4)


@pytest.fixture
def entry(tmp_path):
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        yield file.create_group("f1/instrument/detector").parent.parent


def test_pixels_that_cctw_leaves_out_have_no_weight(entry):
    assert read_factor(entry, SHAPE) is None
    entry["instrument/detector/polarization"] = np.array(
        [[1.0, 0.5, 0.25, 2.0], [-1.0, 0.0, np.nan, 1.0], [1.0, 1.0, 1.0, -np.inf]]
    )
    np.testing.assert_array_equal(
        read_factor(entry, SHAPE), [[1.0, 0.5, 0.25, 2.0], [0, 0, 0, 1.0], [1.0, 1.0, 1.0, 0]]
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((4, 3)), r"the shape of a frame, \(3, 4\), found \(4, 3\)"),
        (np.full(SHAPE, np.inf), "weights that are finite, found infinity"),
    ],
    ids=["turned", "infinite"],
)
def test_weights_that_cannot_be_are_told(entry, values, message):
    entry["instrument/detector/polarization"] = values
    with pytest.raises(
        SchemaError, match=rf"scan\.nxs:/f1/instrument/detector/polarization: expected {message}"
    ):
        read_factor(entry, SHAPE)


# --- monitors


def monitored(entry, values):
    entry["monitor1/data"] = values
    entry["monitor1"].attrs["signal"] = "data"
    return values


@pytest.mark.parametrize("n", [600, 3000])
@pytest.mark.parametrize("outside", [0.0, np.nan, 1e9])
def test_frames_that_are_not_used_do_not_leak_into_a_monitor(entry, n, outside):
    used = slice(10, n - 20)
    values = np.random.default_rng(1).normal(1000, 10, n)
    values[: used.start] = values[used.stop :] = outside
    monitored(entry, values)
    found, _ = read_monitor(entry, None, used, n, raw=False)
    np.testing.assert_array_equal(found[used], smooth_monitor(values[used]))
    np.testing.assert_allclose(found[used], 1000, rtol=0.03)


def test_a_monitor_of_all_frames_is_smoothed_as_nxrefine_does(entry):
    values = monitored(entry, np.random.default_rng(2).normal(1000, 10, 1500))
    found, where = read_monitor(entry, None, slice(0, 1500), 1500, raw=False)
    assert where == "/f1/monitor1"
    values[0], values[-1] = values[1], values[-2]
    np.testing.assert_allclose(found, savgol_filter(values, 501, 2))


# --- the flux of a transmission


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """Return a scan whose frames were gone through, by a flux that doubles meanwhile."""
    path = write_scan(tmp_path_factory.mktemp("passed"))
    with h5py.File(path, "r+") as file:
        file["f1/monitor1/data"][4:] *= 2.0
        file["f1/monitor2/data"] = file["f1/monitor1/data"][()]
        file["f1/instrument/attenuator/attenuator_transmission"] = 0.5
    run_frames(MPI.COMM_SELF, path, ScanParams(), NormParams(), FRAMES, OutputParams())
    return path


@pytest.mark.parametrize(
    ("params", "norm"),
    [
        ({}, {}),
        ({"norm": 1000.0}, {}),
        ({"first_frame": 1, "last_frame": 7}, {}),
        ({}, {"raw_monitor": True}),
        ({"monitor": "monitor2"}, {"transmission": False}),
    ],
)
def test_a_transmission_is_used_with_the_flux_that_it_is_of(passed, params, norm):
    found = read_scan_to_bin(passed, ScanParams(**params), NormParams(**norm))
    assert ("transmission" in found.measured[0].norm.frames) == norm.get("transmission", True)


@pytest.mark.parametrize(
    ("params", "norm", "message"),
    [
        ({}, {"monitor": False}, "that for .*monitor1.*, not for /f1/instrument/attenuator"),
        ({"monitor": "monitor2"}, {}, "that for .*monitor1.*, not for .*monitor2"),
        ({}, {"attenuator": False}, "that for .*attenuator.*, not for /f1/monitor1"),
    ],
)
def test_a_transmission_of_another_flux_is_refused(passed, params, norm, message):
    params, norm = ScanParams(**params), NormParams(**norm)
    with pytest.raises(InputError, match=f"/f1: expected the sample's transmission.*{message}"):
        read_scan_to_bin(passed, params, norm)
    assert read_scan(passed, params, norm).measured[0].norm.doubt  # to be found anew, as plans say


def test_a_transmission_is_not_used_once_the_monitor_has_changed(passed, tmp_path):
    folder = tmp_path / "label"
    shutil.copytree(passed.parent, folder)
    path = folder / passed.name
    with h5py.File(path, "r+") as file:
        file["f1/monitor1/data"][5] *= 1.01
    with pytest.raises(InputError, match=r"that for other values of .*monitor1"):
        read_scan_to_bin(path, ScanParams(), NormParams())
