"""What a program that adds volumes can take, and sums that are right or not."""

import h5py
import hdf5plugin
import numpy as np
import pytest

from nxmpi.cctw.merge import first_wrong, link_volumes, require_mergeable
from nxmpi.errors import InputError

SHAPE = (4, 5, 6)


@pytest.fixture
def sums():
    rng = np.random.default_rng(5)
    return rng.poisson(4.0, SHAPE).astype(float), rng.uniform(0.5, 2.0, SHAPE)


def write(path, shape=SHAPE, **storage):
    with h5py.File(path, "w") as file:
        for name in "vn":
            file.create_dataset(f"entry/data/{name}", data=np.ones(shape), **storage)
    return path


def test_single_precision_is_right(sums):
    counts, norm = sums
    counts[0, 0, 0] = 2**24 + 1  # which no single has
    found = [values.astype("f4").astype(float) for values in sums]
    assert found[0][0, 0, 0] != counts[0, 0, 0]
    assert first_wrong((found[0], found[1]), (counts, norm), whole=True) is None


@pytest.mark.parametrize(
    ("which", "value", "text"),
    [
        (0, 1001.0, "expected v to be 1000, found 1001"),
        (0, 1000.0001, "expected v to be 1000, found 1000.0001"),
        (0, np.nan, "expected v to be 1000, found nan"),
        (1, 2.00001, "expected n to be 2, found 2.00001"),
        (1, np.inf, "expected n to be 2, found inf"),
    ],
)
def test_first_wrong_voxel_is_told(sums, which, value, text):
    sums[0][1, 2, 3], sums[1][1, 2, 3] = 1000.0, 2.0
    found = [values.copy() for values in sums]
    found[which][1, 2, 3] = value
    found[0][3, 0, 0] = found[1][1, 2, 4] = -1.0  # later ones
    assert first_wrong((found[0], found[1]), sums, whole=True) == ((1, 2, 3), text)


def test_parts_of_counts_need_not_be_exact(sums):
    found = sums[0] / 3 * (1 + 1e-7), sums[1]
    expected = sums[0] / 3, sums[1]
    assert first_wrong(found, expected, whole=False) is None
    assert first_wrong(found, expected, whole=True) is not None


@pytest.mark.parametrize(
    ("storage", "found"),
    [
        ({}, r"found \(4, 5, 6\) in chunks of None"),
        ({"chunks": (2, 2, 2)}, r"found \(4, 5, 6\) in chunks of \(2, 2, 2\)"),
        ({"shape": (4, 5, 7), "chunks": (4, 4, 4)}, r"found \(4, 5, 7\)"),
    ],
)
def test_volumes_that_would_become_zeros_are_refused(tmp_path, storage, found):
    first = write(tmp_path / "f1.nxs", chunks=(4, 4, 4))
    require_mergeable([first, first], SHAPE)
    with pytest.raises(InputError, match=rf"f2\.nxs:/entry/data/v: expected .*{found}"):
        require_mergeable([first, write(tmp_path / "f2.nxs", **storage)], SHAPE)


def test_first_one_without_chunks_is_refused_too(tmp_path):
    with pytest.raises(InputError, match="in chunks of any shape, found"):
        require_mergeable([write(tmp_path / "f1.nxs")], SHAPE)


def test_filters_that_no_plugin_brings_are_refused(tmp_path, monkeypatch):
    storage = dict(hdf5plugin.Bitshuffle(cname="lz4"))
    path = write(tmp_path / "f1.nxs", chunks=(4, 4, 4), **storage)
    require_mergeable([path], SHAPE)
    monkeypatch.setattr("hdf5plugin.FILTERS", {"blosc": 32001})
    with pytest.raises(InputError, match=r"f1\.nxs:/entry/data/v: .* found number 32008"):
        require_mergeable([path], SHAPE)


def test_names_for_the_program_are_plain(tmp_path):
    odd, folder = write(tmp_path / "a?b%20#.nxs", chunks=(4, 4, 4)), tmp_path / "scratch"
    folder.mkdir()
    (name,) = link_volumes(folder, [odd])
    assert name == "position_1.nxs#/entry/data"
    assert (folder / "position_1.nxs").resolve() == odd.resolve()
