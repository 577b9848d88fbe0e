"""The same 3-D mask as NXRefine's `mask_volume` from the same frames, to the bit."""

from itertools import pairwise
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest

from nxmpi.stages.mask import (
    Room,
    changed_patches,
    find_gaps,
    find_thresholds,
    pack,
    write_mask,
)

REFERENCE = Path(__file__).parents[1] / "data" / "nxrefine_mask"


@pytest.fixture(scope="module")
def reference():
    """Return frames, pixel mask, parameters and NXRefine's mask."""
    with h5py.File(REFERENCE / "raw.h5") as file:
        data = file["entry/data/data"]
        frames, params = data[()], {name: data.attrs[name].item() for name in data.attrs}
        bad = file["entry/pixel_mask"][()] != 0
    with h5py.File(REFERENCE / "mask.h5") as file:
        return frames, bad, params, file["entry/mask"][()]


@pytest.mark.parametrize("dtype", ["int32", "uint32", "uint16", "int64"])
def test_mask_is_that_of_nxrefine(reference, dtype):
    frames, bad, params, expected = reference
    assert frames[:, ~bad].min() >= 0
    assert set(frames[:, bad].flat) == {-1}  # all ones in an unsigned type
    assert frames.max() < 2**16 - 1
    frames = frames.astype(dtype)
    gaps, thresholds = find_gaps(bad), find_thresholds(**params)
    assert len(gaps.columns) == len(gaps.rows) == 1
    room = Room(bad.shape, thresholds)
    patches = np.empty(bad.shape, np.uint8)
    packed = [
        pack(patches) if changed_patches(*pair, gaps, thresholds, room, patches) else None
        for pair in pairwise(frames)
    ]
    mask = np.full(frames.shape, -1, np.int8)
    for z in range(1, len(frames) - 1):
        write_mask(packed[z - 1], packed[z], mask[z])
    assert 0.01 < expected[1:-1].mean() < 0.99
    np.testing.assert_array_equal(mask[1:-1], expected[1:-1])
