"""Holes filled by any number of ranks: the same bits as by one."""

import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.crystal.holes import find_holes
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.model import HKLGrid, Lattice
from nxmpi.parallel.slabs import even_slabs
from nxmpi.params import PunchParams
from nxmpi.stages import fill_rounds
from nxmpi.stages.fill import punch_and_fill

RANKS = [1, 2, 3, 4, 7]
N = 29
GRIDS = {
    "whole": HKLGrid(origin=(-1.4,) * 3, step=(0.1,) * 3, shape=(N,) * 3),
    "uneven": HKLGrid(origin=(-0.4, -1.0, -1.9), step=(0.1,) * 3, shape=(N, N, N)),
}
CELLS = {
    "P 1 2/m 1": (5, 6, 7, 90, 110, 90), "-3m1": (5, 5, 7, 90, 90, 120),
    "6/mmm": (5, 5, 7, 90, 90, 120), "m-3m": (6, 6, 6, 90, 90, 90),
}  # fmt: skip


def lattice_of(laue):
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return Lattice(**dict(zip(names, map(float, CELLS[laue]), strict=True)))


def symmetric(group):
    """Return random numbers with gaps, the same at all images of a voxel, [l, k, h]."""
    h, k, l = (np.arange(a, b + 1) for a, b in zip(group.low, group.high, strict=True))
    voxels = np.stack(np.broadcast_arrays(h, k[:, None], l[:, None, None]), axis=-1)
    images = voxels.reshape(-1, 3) @ group.matrices.transpose(0, 2, 1)
    keys = ((images + 100) @ [1, 1000, 1000000]).min(axis=0)
    _, keys = np.unique(keys, return_inverse=True)
    rng = np.random.default_rng(3)
    table = rng.normal(10, 1, keys.max() + 1)
    table[rng.random(len(table)) < 0.02] = np.nan
    return table[keys].reshape(voxels.shape[:3]).astype(np.float32)


def same_as_one(comm, laue, grid, params, wanted=None):
    group = voxel_group(laue_operators(laue), grid)
    holes = find_holes(group, grid, lattice_of(laue), "P 1", params)
    volume = symmetric(group)
    expected = punch_and_fill(MPI.COMM_SELF, volume, 0, holes, params, wanted)
    start, stop = even_slabs(N, comm.size)[comm.rank]
    part = None if wanted is None else wanted[start:stop]
    found = punch_and_fill(comm, volume[start:stop].copy(), start, holes, params, part)
    parallel_assert(found.report == expected.report)
    parallel_assert(found.values.tobytes() == expected.values[start:stop].tobytes())
    parallel_assert(np.array_equal(found.punched, expected.punched[start:stop]))
    return expected


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("laue", CELLS)
@pytest.mark.parametrize("fill", ["laplace", "matern", "linear", "none"])
def test_the_same_bits_on_any_number_of_ranks(comm, laue, fill, monkeypatch):
    monkeypatch.setattr(fill_rounds, "ROUND", 40_000)  # some rounds
    params = PunchParams(radius=0.35, fill=fill, power=2 if fill == "matern" else 1)
    found = same_as_one(comm, laue, GRIDS["whole"], params)
    assert found.report.holes > 20
    assert found.report.missing > 0 or fill == "none"


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("laue", ["P 1 2/m 1", "6/mmm"])
def test_grids_that_hold_some_images_only(comm, laue):
    found = same_as_one(comm, laue, GRIDS["uneven"], PunchParams(radius=0.4))
    assert found.report.cut > 0


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("laue", ["P 1 2/m 1", "6/mmm"])
def test_missing_voxels_too(comm, laue):
    params = PunchParams(radius=0.35, missing="fill")
    found = same_as_one(comm, laue, GRIDS["whole"], params, np.ones((N, N, N), bool))
    assert found.report.together > 100


@pytest.mark.parallel(RANKS)
def test_a_volume_without_holes_and_one_that_was_not_measured(comm):
    grid = GRIDS["whole"]
    group = voxel_group(laue_operators("m-3m"), grid)
    start, stop = even_slabs(N, comm.size)[comm.rank]
    empty = np.full((stop - start, N, N), np.nan, np.float32)
    for reflections in ("none", "allowed"):
        params = PunchParams(radius=0.3, reflections=reflections)
        holes = find_holes(group, grid, lattice_of("m-3m"), "P 1", params)
        found = punch_and_fill(comm, empty, start, holes, params)
        parallel_assert(bool(np.isnan(found.values).all()))
        assert found.report.failed == found.report.holes
        assert (found.report.holes == 0) == (reflections == "none")
