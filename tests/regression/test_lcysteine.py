"""A real crystal: orientation and geometry are those that another program found."""

import json

import h5py
import numpy as np
import pytest
from scipy import ndimage

from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.nexus.frames import StackReader
from nxmpi.nexus.geometry import read_geometry, read_sample
from nxmpi.nexus.stack import find_stack, read_pixel_mask

ENTRIES = ("f1", "f2", "f3", "f4")


@pytest.fixture(scope="module")
def reference(lcysteine):
    return json.loads((lcysteine / "reference.json").read_text())["entries"]


@pytest.fixture(scope="module", params=ENTRIES)
def sweep(request, lcysteine):
    """Return the name of a sweep, its geometry, and its frames with bad pixels set to 0."""
    with h5py.File(lcysteine / "lcysteine" / "i19" / "lcysteine_100K.nxs") as wrapper:
        entry = wrapper[request.param]
        stack = find_stack(entry)
        n_frames, *shape = stack.shape
        geometry = read_geometry(entry, tuple(shape), n_frames, read_sample(entry))
        bad = read_pixel_mask(entry, tuple(shape))
    reader = StackReader(stack, None, skip_bad_frames=False)
    frames, _, _ = reader.read(np.arange(n_frames))
    reader.close()
    return request.param, geometry, np.where(bad, 0, frames.reshape(stack.shape))


def strong_spots(frames):
    """Return x, y, z of connected regions above 4 counts that hold more than 60."""
    labels, n = ndimage.label(frames > 4)
    where = np.nonzero(labels)
    label, counts = labels[where], frames[where]
    total = np.bincount(label, counts, n + 1)
    strong = total > 60
    z, y, x = (np.bincount(label, counts * axis, n + 1)[strong] / total[strong] for axis in where)
    return x, y, z


def test_strong_spots_of_a_real_crystal_have_whole_indices(sweep, reference):
    name, geometry, frames = sweep
    x, y, z = strong_spots(frames)
    assert len(x) < 2 * reference[name]["naive_spots"]
    goniometer = geometry.goniometer
    phi = goniometer.phi[0] + (z + 0.5) * goniometer.step
    hkl = pixel_to_hkl(geometry, x + 0.5, y + 0.5, phi)
    indexed = (np.abs(hkl - np.round(hkl)) < 0.15).all(axis=1)
    assert indexed.sum() >= reference[name]["naive_indexed"]
    assert indexed.mean() > 0.9  # of random points, 0.027


def test_orientation_of_a_real_crystal_is_that_of_the_other_program(sweep, reference):
    name, geometry, _ = sweep
    np.testing.assert_allclose(np.array(geometry.UB), reference[name]["UB"], atol=1e-6)
