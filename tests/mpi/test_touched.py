"""Bricks counted beforehand, against those that a transform sends."""

import math

import numpy as np
import pytest
from mpi.test_transform import GRID, Frames, NoStore, own_frames, position_of, random_frames
from mpi.test_transform import tables_of as tables_of_position
from pytest_mpi import parallel_assert

from nxmpi.parallel.timing import Timer
from nxmpi.parallel.window import node_of
from nxmpi.params import TransformParams
from nxmpi.stages.cost import bytes_sent
from nxmpi.stages.touched import count_touched
from nxmpi.stages.transform import Workspace, transform

N_FRAMES = 50


def reader_of(large=False):
    data = random_frames(N_FRAMES)
    rng = np.random.default_rng(1)
    if large:  # does not fit one integer of a voxel
        data[rng.random(data.shape) < 0.01] = 2**24
    return Frames(data, (rng.random(data.shape) < 0.3).astype(np.int8))


@pytest.mark.parallel([1, 2, 3, 4, 7])
@pytest.mark.parametrize("large", [False, True], ids=["small counts", "large counts"])
@pytest.mark.parametrize(
    "options", [{}, {"hits": True}, {"batch_frames": 7}, {"split": (2, 1, 2)}], ids=str
)
@pytest.mark.parametrize("together", [True, False], ids=["a node", "alone"])
def test_what_is_sent_is_what_was_counted(comm, large, options, together):
    params = TransformParams(**options)
    split = {"split": params.split}
    tables = tables_of_position(position_of(N_FRAMES), GRID, **split)
    space = Workspace(store=NoStore(), timer=Timer(), node_of=node_of if together else own_frames)
    result = transform(comm, tables, reader_of(large), params, space)
    parts = [part.sent for part in (result.kept, result.excluded, *result.hits)]
    sent = sum(comm.allgather(sum(part.bytes for part in parts)))
    held = max(comm.allgather(sum(part.bricks for part in parts)))
    found = count_touched(
        tables, comm.size, comm.size if together else 1, params, reader_of(large), math.inf
    )
    parallel_assert(found.is_exact)
    parallel_assert(bytes_sent(found.total.sent, found.total.integers) == sent)
    parallel_assert(found.most.sent == held)
    parallel_assert(comm.size == 1 or sent > 10_000)
    parallel_assert((found.most.wide > 0) == large)


@pytest.mark.parallel([1])
@pytest.mark.parametrize(("size", "of_node"), [(1, 1), (2, 1), (2, 2), (12, 3)])
def test_a_part_tells_of_the_whole(comm, size, of_node):
    tables = tables_of_position(position_of(N_FRAMES), GRID)
    params, n_pixels = TransformParams(batch_frames=2), N_FRAMES * tables.pixels.size
    whole, part = (
        count_touched(tables, size, of_node, params, reader_of(), most)
        for most in (math.inf, 0.6 * n_pixels)
    )
    assert whole.is_exact
    assert not part.is_exact
    for name in ("narrow", "sent", "integers"):
        one, other = getattr(whole.total, name), getattr(part.total, name)
        assert abs(other - one) <= 0.25 * one, name
