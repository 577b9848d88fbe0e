"""Weights that CCTW is given, read from a scan file."""

import h5py
import numpy as np
import pytest

from nxmpi.errors import SchemaError
from nxmpi.nexus.weights import read_factor

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
