"""Averages over Laue groups, against a slow sum over the distinct voxels of each orbit."""

import numpy as np
import pytest
from pytest_mpi import parallel_assert

from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.model import HKLGrid
from nxmpi.stages.symmetrize import Planes, Symmetrized, owned_planes, symmetrize

RANKS = [1, 2, 3, 4, 7]
GROUPS = (
    "-1", "2/m", "P 1 1 2/m", "P 2/m 1 1", "C 1 2/c 1", "mmm", "4/m", "4/mmm", "-3", "-3m1", "-31m",
    "R -3 m :H", "R -3 :R", "R -3 m :R", "6/m", "6/mmm", "m-3", "m-3m", "F d -3 m",
)  # fmt: skip
UNEVEN = ("-1", "2/m", "mmm", "4/mmm", "-31m", "6/mmm")


def grid_of(shape, low):
    step = (0.5, 0.5, 0.5)
    return HKLGrid(origin=tuple(0.5 * n for n in low), step=step, shape=shape)


def volume(shape, seed):
    """Return counts and norm, [l, k, h], of which many are nothing."""
    rng = np.random.default_rng(seed)
    norm = rng.integers(0, 3, shape[::-1]) * rng.integers(0, 2**40, shape[::-1])
    return np.where(norm > 0, rng.poisson(3.0, shape[::-1]), 0), norm


def planes_of(counts, norm, group, size, rank):
    """Return a rank's planes of a volume."""
    a, b = owned_planes(group, size, rank)
    parts = [np.zeros((2, b - a, *counts.shape[1:]), np.int64) for _ in range(2)]
    for l in range(max(-b + 1, group.low[2]), min(b - 1, group.high[2]) + 1):
        if a <= abs(l) < b:
            for part, values in zip(parts, (counts, norm), strict=True):
                part[int(l < 0), abs(l) - a] = values[l - group.low[2]]
    return Planes(a, *parts)


def slow(counts, norm, group):
    """Return counts, norm and images of each voxel's orbit, voxel by voxel."""
    result = [np.zeros(counts.shape, np.int64) for _ in range(3)]
    for place in np.ndindex(counts.shape):
        orbit = {tuple(image) for image in group.matrices @ (place[::-1] + group.low)}
        for image in orbit:
            if (image >= group.low).all() and (image <= group.high).all():
                own = tuple((image - group.low)[::-1])
                for total, value in zip(
                    result, (counts[own], norm[own], norm[own] > 0), strict=True
                ):
                    total[place] += value
    return result


def assert_equal_to(found, first, wanted, group):
    for l in range(group.low[2], group.high[2] + 1):
        if first <= abs(l) < first + found.counts.shape[1]:
            for values, true in zip(found, wanted, strict=True):
                own = values[int(l < 0), abs(l) - first]
                np.testing.assert_array_equal(own, true[l - group.low[2]])


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", GROUPS)
def test_sums_are_those_over_the_distinct_voxels_of_each_orbit(comm, name):
    shape = (9, 9, 9)
    group = voxel_group(laue_operators(name), grid_of(shape, (-4, -4, -4)))
    counts, norm = volume(shape, 1)
    planes = planes_of(counts, norm, group, comm.size, comm.rank)
    found = symmetrize(comm, planes, group)
    assert_equal_to(found, planes.first, slow(counts, norm, group), group)
    parallel_assert(sum(comm.allgather(int(found.images.sum()))) > 100)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", UNEVEN)
def test_grids_that_reach_farther_on_one_side(comm, name):
    shape, low = (7, 8, 6), (-2, -5, -1)
    group = voxel_group(laue_operators(name), grid_of(shape, low))
    counts, norm = volume(shape, 2)
    planes = planes_of(counts, norm, group, comm.size, comm.rank)
    found = symmetrize(comm, planes, group)
    assert_equal_to(found, planes.first, slow(counts, norm, group), group)
    parallel_assert(sum(comm.allgather(int(found.images.sum()))) > 50)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", ["-3m1", "6/mmm", "m-3", "m-3m", "R -3 m :R"])
def test_planes_are_sent_in_rounds(comm, name, monkeypatch):
    shape = (11, 11, 11)
    group = voxel_group(laue_operators(name), grid_of(shape, (-5, -5, -5)))
    counts, norm = volume(shape, 3)
    planes = planes_of(counts, norm, group, comm.size, comm.rank)
    whole = symmetrize(comm, planes, group)
    monkeypatch.setattr("nxmpi.stages.symmetrize.ROUND", 1)
    rounds = symmetrize(comm, planes, group)
    parallel_assert(
        all(np.array_equal(a, b) for a, b in zip(whole, rounds, strict=True)),
        participating=True,
    )


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", GROUPS)
def test_averages_are_symmetric_to_the_bit_and_stay_as_they_are(comm, name):
    assert_symmetric(comm, name, 11)


@pytest.mark.full
@pytest.mark.parallel([2, 3])
@pytest.mark.parametrize("name", GROUPS)
def test_large_averages_are_sums_over_images_and_symmetric_to_the_bit(comm, name):
    assert_symmetric(comm, name, 101)


def assert_symmetric(comm, name, n):
    """Compare with the images of one operator after another; voxels of every operator's images."""
    shape, reach = (n, n, n), n // 2
    group = voxel_group(laue_operators(name), grid_of(shape, (-reach,) * 3))
    counts, norm = volume(shape, 4)
    planes = planes_of(counts, norm, group, comm.size, comm.rank)
    found = symmetrize(comm, planes, group)
    again = symmetrize(comm, Planes(planes.first, found.counts, found.norm), group)
    wanted = [np.zeros(shape, np.int64) for _ in range(3)]
    fixed, inside = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    l, k, h = np.indices(shape, np.int16) - np.int16(reach)
    for matrix in group.matrices:
        image = [a * h + b * k + c * l for a, b, c in matrix.astype(np.int16)]
        fixed += (image[0] == h) & (image[1] == k) & (image[2] == l)
        within = np.all([np.abs(axis) <= reach for axis in image], axis=0)
        where = tuple(np.where(within, axis, 0) + reach for axis in reversed(image))
        inside += within
        for total, values in zip(wanted, (counts, norm, norm > 0), strict=True):
            total += np.where(within, values[where], 0)
    wanted = [total // fixed for total in wanted]
    assert_equal_to(found, planes.first, wanted, group)
    inside //= fixed
    assert_equal_to(
        Symmetrized(again.counts, again.norm, again.images), planes.first,
        [wanted[0] * inside, wanted[1] * inside, np.where(wanted[2] > 0, inside, 0)], group,
    )  # fmt: skip
    parallel_assert(sum(comm.allgather(int(found.images.max(initial=0)))) > 0)
