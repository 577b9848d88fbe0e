"""Medians of boxes against SciPy's, and the same bits on any number of ranks."""

import numpy as np
import pytest
from pytest_mpi import parallel_assert
from scipy.ndimage import generic_filter

from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.model import HKLGrid
from nxmpi.parallel.slabs import even_slabs
from nxmpi.stages.karen import box_offsets, karen

RANKS = [1, 2, 3, 4, 7]
N = 13
GRID = HKLGrid(origin=(-0.6,) * 3, step=(0.1,) * 3, shape=(N,) * 3)


def symmetric(group):
    """Return random numbers with outliers and gaps, the same at all images of a voxel."""
    axis = np.arange(-6, 7)
    voxels = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)[..., ::-1]
    images = voxels.reshape(-1, 3) @ group.matrices.transpose(0, 2, 1)
    keys = ((images + 100) @ [1, 1000, 1000000]).min(axis=0)
    _, keys = np.unique(keys, return_inverse=True)
    rng = np.random.default_rng(3)
    table = rng.normal(10, 1, keys.max() + 1)
    table[rng.random(len(table)) < 0.05] += 100
    table[rng.random(len(table)) < 0.05] = np.nan
    return table[keys].reshape(N, N, N)


def by_scipy(volume, group, width):
    """Return the volume with outliers replaced, by the formula of the paper."""
    offsets = box_offsets(group, width)
    voxels = np.argwhere(np.ones((N, N, N), bool))[:, ::-1] - 6
    images = np.abs(voxels @ group.matrices.transpose(0, 2, 1))
    known = np.where((images <= 6).all(axis=(0, 2)).reshape(volume.shape), volume, np.nan)
    reach = np.abs(offsets).max()
    footprint = np.zeros((2 * reach + 1,) * 3, bool)
    footprint[tuple((offsets[:, ::-1] + reach).T)] = True

    def around(function):
        return generic_filter(known, function, footprint=footprint, mode="constant", cval=np.nan)

    def middle(sample):
        known = sample[~np.isnan(sample)]
        return np.median(known) if known.size else np.nan

    median = around(middle)
    deviation = around(lambda sample: middle(np.abs(sample - middle(sample))))
    outlier = np.abs(volume - median) > 3 * 1.4826 * deviation
    return np.where(outlier, median + 2.2 * deviation, volume), outlier


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("laue", ["-1", "6/mmm", "m-3m"])
def test_outliers_are_replaced_as_the_paper_says(comm, laue):
    group = voxel_group(laue_operators(laue), GRID)
    volume = symmetric(group)
    start, stop = even_slabs(N, comm.size)[comm.rank]
    found = karen(comm, volume[start:stop], group, 5)
    expected, outlier = by_scipy(volume, group, 5)
    assert 30 < outlier.sum() < 500
    parallel_assert(np.array_equal(found.values, expected[start:stop], equal_nan=True))
    parallel_assert(np.array_equal(found.punched, outlier[start:stop]))
    assert found.voxels == outlier.sum()


@pytest.mark.parallel([1])
@pytest.mark.parametrize("laue", ["-3m1", "6/mmm", "m-3m"])
def test_symmetry_is_kept_to_the_bit(comm, laue):
    group = voxel_group(laue_operators(laue), GRID)
    values = karen(comm, symmetric(group), group, 3).values
    voxels = np.argwhere(np.ones((N, N, N), bool))[:, ::-1] - 6
    for matrix in group.matrices:
        images = voxels @ matrix.T + 6
        inside = ((images >= 0) & (images < N)).all(axis=1)
        h, k, l = images[inside].T
        own = values.reshape(-1)[inside]
        assert np.array_equal(own, values[l, k, h], equal_nan=True)


@pytest.mark.parallel([1])
def test_the_box_alone_where_symmetry_keeps_it(comm):
    assert len(box_offsets(voxel_group(laue_operators("m-3m"), GRID), 3)) == 27
    assert len(box_offsets(voxel_group(laue_operators("6/mmm"), GRID), 3)) > 27
