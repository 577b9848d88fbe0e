"""Sums over blocks of a grid, against NumPy, on any number of ranks."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.errors import CollectiveError, InputError
from nxmpi.kernels.blocks import NEAR
from nxmpi.model import HKLGrid, Position
from nxmpi.parallel.packed import unpack_mask
from nxmpi.params import TransformParams
from nxmpi.simulate.experiment import geometry
from nxmpi.simulate.presets import preset
from nxmpi.stages.blocks import block_edge, expect_blocks
from nxmpi.stages.tables import bcast_tables, build_tables

RANKS = [1, 2, 3, 4, 7]
GRID = HKLGrid(origin=(-2.0, -3.0, -3.0), step=(0.06, 0.08, 0.07), shape=(67, 75, 86))
N_FRAMES = 11
FIRST, LAST = 1, 9
DEAD = 77


class Frames:
    """Frames in memory."""

    chunk_frames = 1

    def __init__(self, data, excluded, bad=()):
        self.data, self.excluded, self.bad = data, excluded, bad
        self.dtype, self.masked = data.dtype, excluded is not None

    def read(self, frames):
        if -1 in self.bad and 4 in frames:
            raise InputError("frame 4 is unreadable")
        bad = np.intersect1d(frames, self.bad)
        good = np.setdiff1d(frames, bad)
        excluded = self.excluded[good] if self.masked else np.empty((0, 0), np.int8)
        return self.data[good], excluded, bad


@pytest.fixture
def case():
    """Return a position, its frames with pixels without a count, and their mask."""
    setting = replace(
        preset("tiny").positions[0], n_frames=N_FRAMES, step=1.0, sample_offset=(0.02, -0.03, 0.05)
    )
    model = geometry(replace(preset("tiny"), positions=(setting,)), 0)
    rng = np.random.default_rng(5)
    shape = model.detector.shape
    n_pixels = shape[0] * shape[1]
    data = rng.poisson(0.5, (N_FRAMES, n_pixels)).astype(np.uint32)
    data[:, DEAD] = 2**32 - 1
    data[3, [5, 99]] = 2**32 - 1
    data[8, 5] = 2**32 - 1
    bad = rng.random(shape) < 0.05
    bad.ravel()[[5, 99, DEAD]] = False
    weight = rng.uniform(0.5, 1.0, N_FRAMES)
    weight[:FIRST] = weight[LAST + 1 :] = 0.0
    position = Position(
        name="f1", geometry=model, sample=None, n_frames=N_FRAMES, first_frame=FIRST,
        last_frame=LAST, bad=bad, weight=weight,
    )  # fmt: skip
    return position, data, (rng.random(data.shape) < 0.3).astype(np.int8)


def pixels_of(position, data):
    """Yield used frames, where their pixels are on the grid [voxels], and which are good."""
    n_slow, n_fast = position.geometry.detector.shape
    y, x = (index.ravel() + 0.5 for index in np.indices((n_slow, n_fast)))
    goniometer = position.geometry.goniometer
    for frame in range(FIRST, LAST + 1):
        phi = np.full(x.size, goniometer.phi[frame] + goniometer.step / 2)
        place = (pixel_to_hkl(position.geometry, x, y, phi) - GRID.origin) / GRID.step + 0.5
        yield frame, place, ~position.bad.ravel() & (data[frame] != 2**32 - 1)


def zeros(edge):
    n_blocks = [-(-n // edge) for n in GRID.array_shape]
    return np.zeros((2, *n_blocks)), np.zeros((2, *n_blocks))


def by_numpy(position, data, excluded, edge, skipped=()):
    """Return sums over blocks of counts and norm, of all pixels and of those kept."""
    counts, norm = zeros(edge)
    for frame, place, good in pixels_of(position, data):
        if frame in skipped:
            continue
        inside = ((place >= 0) & (place < GRID.shape)).all(axis=1)
        for twin, use in enumerate((good & inside, good & inside & (excluded[frame] == 0))):
            h, k, l = (place[use].astype(int) // edge).T
            np.add.at(counts[twin], (l, k, h), data[frame, use])
            np.add.at(norm[twin], (l, k, h), position.weight[frame])
    return counts, norm


def near_by_numpy(position, data, excluded, edge):
    """Return sums over pixels in the blocks that their corners, if slightly larger, would be in."""
    counts, norm = zeros(edge)
    for frame, place, good in pixels_of(position, data):
        for pixel in np.flatnonzero(good):
            corners = place[pixel] + NEAR * (2 * np.indices((2, 2, 2)).reshape(3, 8).T - 1)
            blocks = {
                tuple(corner.astype(int) // edge) if (corner >= 0).all()
                and (corner < GRID.shape).all() else None
                for corner in corners
            }  # fmt: skip
            if len(blocks) == 1:
                continue
            for twin in range(1 if excluded[frame, pixel] else 2):
                for h, k, l in blocks - {None}:
                    counts[twin, l, k, h] += data[frame, pixel]
                    norm[twin, l, k, h] += position.weight[frame]
    return counts, norm


def expect(comm, position, reader, batch_frames=2):
    shape = position.geometry.detector.shape
    tables = None
    if comm.rank == 0:
        tables = build_tables(position, np.ones(shape), GRID, TransformParams())
    tables = bcast_tables(comm, tables)
    used = np.flatnonzero(position.weight > 0)
    return expect_blocks(comm, tables, reader, used, batch_frames, lambda: False), tables.unit


def lost_in(expected, frame):
    return np.flatnonzero(unpack_mask(expected.lost[frame], 200)).tolist()


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("skipped", [(), (2, 7)])
def test_sums_are_those_of_numpy(case, skipped):
    comm = MPI.COMM_WORLD
    position, data, excluded = case
    found, unit = expect(comm, position, Frames(data, excluded, skipped))
    counts, norm = by_numpy(position, data, excluded, found.edge, skipped)
    parallel_assert(found.bad_frames == list(skipped))
    parallel_assert(found.edge == 32)
    parallel_assert(found.dead.tolist() == [DEAD])
    parallel_assert(found.n_lost == 3)
    if comm.rank == 0:
        np.testing.assert_array_equal(found.sums.counts, counts)
        np.testing.assert_allclose(found.sums.norm * unit, norm, rtol=1e-7)
        assert (counts[0] > counts[1]).any()
        assert {n: lost_in(found, n) for n in found.lost} == {3: [5, 77, 99], 8: [5, 77]}


@pytest.mark.parallel([1, 3])
def test_frames_with_the_same_gaps_share_their_mask(case):
    comm = MPI.COMM_WORLD
    position, data, _ = case
    gaps = np.arange(data.shape[1]) % 10 == 0
    data[:, gaps] = 2**32 - 1
    data[FIRST] = 0  # one frame has counts there
    found, _ = expect(comm, position, Frames(data, None))
    good = ~position.bad.ravel()
    if comm.rank == 0:
        assert found.dead.size == 0
        assert found.n_lost == (data[FIRST + 1 : LAST + 1, good] == 2**32 - 1).sum()
        assert sorted(found.lost) == [*range(FIRST + 1, LAST + 1)]
        alike = [id(found.lost[n]) for n in found.lost if n not in (3, 8)]
        assert len(set(alike)) <= comm.size


@pytest.mark.parallel([1, 3])
def test_pixels_near_boundaries_are_those_that_a_small_shift_moves(case):
    comm = MPI.COMM_WORLD
    position, data, excluded = case
    found, unit = expect(comm, position, Frames(data, excluded))
    counts, norm = near_by_numpy(position, data, excluded, found.edge)
    if comm.rank == 0:
        assert counts[0].sum() > 0
        assert (counts[0] > counts[1]).any()
        np.testing.assert_array_equal(found.near.counts, counts)
        np.testing.assert_allclose(found.near.norm * unit, norm, rtol=1e-7)


@pytest.mark.parallel(RANKS)
def test_failure_of_one_is_that_of_all(case):
    position, data, excluded = case
    with pytest.raises(CollectiveError, match="frame 4 is unreadable"):
        expect(MPI.COMM_WORLD, position, Frames(data, excluded, (-1,)))


@pytest.mark.parallel(RANKS)
def test_wish_of_one_stops_all(case):
    comm = MPI.COMM_WORLD
    position, data, _ = case
    tables = None
    if comm.rank == 0:
        shape = position.geometry.detector.shape
        tables = build_tables(position, np.ones(shape), GRID, TransformParams())
    tables = bcast_tables(comm, tables)
    last = comm.size - 1
    found = expect_blocks(
        comm, tables, Frames(data, None), np.arange(FIRST, LAST + 1), 2, lambda: comm.rank == last
    )
    parallel_assert(found is None)


@pytest.mark.parallel(1)
@pytest.mark.parametrize(
    ("shape", "edge"), [((51, 51, 61), 32), ((2048, 1, 1), 32), ((2049, 9, 9), 64)]
)
def test_blocks_are_few_and_of_whole_chunks(shape, edge):
    assert block_edge(shape) == edge
