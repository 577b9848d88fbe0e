"""Splitting of pixels, hits, dead time and grids along other axes, beside plain NumPy."""

import numpy as np
import pytest
from mpi.test_transform import (
    Frames,
    dense,
    excluded_of,
    position_of,
    random_frames,
    run,
    same,
    together,
    twin,
)
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.model import HKLGrid
from nxmpi.stages import transform as stage

RANKS = [1, 2, 3, 4, 7]


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("masked", [False, True])
def test_split_pixels_are_those_of_each_part_by_itself(comm, masked):
    position, data = position_of(5, moving=masked), random_frames(5)
    excluded = excluded_of(data) if masked else None
    result = run(comm, position, Frames(data, excluded), split=(2, 1, 3), hits=True, batch_frames=2)
    parallel_assert(result.views == 6)
    for i, name in enumerate(("kept", "excluded") if masked else ("kept",)):
        wanted = np.sum(
            [
                twin(position, data, excluded=excluded, wanted=i, part=(x, 0.0, phi))
                for x in (-0.25, 0.25)
                for phi in (1 / 6, 1 / 2, 5 / 6)
            ],
            axis=0,
        )
        counts, norm = together(comm, (getattr(result, name),), result.unit)
        hits = together(comm, (result.hits[i],), 1.0)[1]
        parallel_assert(np.array_equal(counts, wanted[0]))  # each count six times
        parallel_assert(np.array_equal(hits, wanted[2]))
        parallel_assert(np.allclose(norm, wanted[1] / 6, rtol=1e-6, atol=1e-12))


@pytest.mark.parallel([1, 2])
def test_split_pixels_are_the_same_through_any_box(comm, monkeypatch):
    position, reader = position_of(5), Frames(random_frames(5))
    alone = run(MPI.COMM_SELF, position, reader, split=(3, 2, 2))
    monkeypatch.setattr(stage, "LARGEST_BOX", 1)
    result = run(comm, position, reader, split=(3, 2, 2))
    found = together(comm, (result.kept,), result.unit)
    parallel_assert(same(found, dense((alone.kept,), alone.unit)))


@pytest.mark.parallel(RANKS)
def test_hits_are_the_pixels_of_each_voxel(comm):
    position, data = position_of(11), random_frames(11)
    result = run(comm, position, Frames(data), hits=True)
    counts, _, hits = twin(position, data)
    parallel_assert(np.array_equal(together(comm, result.hits[:1], 1.0)[1], hits))
    parallel_assert(np.array_equal(together(comm, (result.kept,), result.unit)[0], counts))


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("box", [2**18, 1])
def test_dead_time_takes_from_the_norm_of_each_pixel_and_frame(comm, monkeypatch, box):
    monkeypatch.setattr(stage, "LARGEST_BOX", box)
    position, data = position_of(11), random_frames(11)
    blocked = 0.2  # a pixel of more than 4 counts cannot be
    result = run(comm, position, Frames(data), blocked=blocked, hits=True)
    possible = np.where(data * blocked < 1, data, -1)
    parallel_assert((possible != data).any())
    counts, norm, _ = twin(position, possible, blocked=blocked)
    found = together(comm, (result.kept,), result.unit)
    parallel_assert(np.array_equal(found[0], counts))
    parallel_assert(np.allclose(found[1], norm, rtol=1e-6, atol=1e-12))


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("moving", [False, True])
def test_grid_along_any_axes_is_that_of_plain_numpy(comm, moving):
    """Axes that are oblique, of other lengths and left-handed."""
    axes = ((1.0, 1.0, 0.0), (0.5, -0.5, 0.2), (0.0, 0.3, 2.0))
    grid = HKLGrid(
        origin=(-1.3, -2.1, -0.9), step=(0.05, 0.11, 0.03), shape=(53, 41, 60), axes=axes
    )
    position, data = position_of(11, moving), random_frames(11)
    result = run(comm, position, Frames(data), grid)
    counts, norm, _ = twin(position, data, grid)
    found = together(comm, (result.kept,), result.unit, grid)
    parallel_assert(counts.sum() > 1000)
    parallel_assert(np.array_equal(found[0], counts))
    parallel_assert(np.allclose(found[1], norm, rtol=1e-6, atol=1e-12))


class Asked(Frames):
    """Frames that remember which of them were asked for."""

    asked = ()

    def read(self, frames):
        self.asked = (*self.asked, *frames.tolist())
        return super().read(frames)


@pytest.mark.parallel([1, 2])
def test_only_frames_that_reach_a_small_grid_are_read(comm):
    position, data = position_of(60), random_frames(60)
    data[20, 44 * 64 + 60] = 7
    middle = np.array([position.geometry.goniometer.phi[20] + 1.0])
    seen = pixel_to_hkl(position.geometry, np.array([60.5]), np.array([44.5]), middle)[0]
    small = HKLGrid(origin=tuple(seen - 0.02), step=(0.002,) * 3, shape=(20,) * 3)
    reader = Asked(data)
    result = run(comm, position, reader, small)
    counts, _, hits = twin(position, data, small)
    parallel_assert(hits.sum() > 0)
    parallel_assert(np.array_equal(together(comm, (result.kept,), result.unit, small)[0], counts))
    parallel_assert(0 < sum(len(n) for n in comm.allgather(reader.asked)) < 40)
