"""Kernels alone: `python -m pytest benchmarks`. Rates are in extra_info of the report."""

import numpy as np
import pytest
from stage import SHAPE, make_position

from nxmpi.kernels.bricks import pack, packed_sizes
from nxmpi.model import HKLGrid
from nxmpi.stages.bricks import Bricks
from nxmpi.stages.tables import build_tables
from nxmpi.stages.transform import _Binner

GRID = HKLGrid(origin=(-10.0,) * 3, step=(0.02,) * 3, shape=(1001,) * 3)


@pytest.fixture(scope="module")
def case():
    """Return frames, their numbers, a binner and empty volumes."""
    position = make_position(8)
    tables = build_tables(position, np.ones(SHAPE), GRID, "centred")
    n_pixels = SHAPE[0] * SHAPE[1]
    frames = np.random.default_rng(1).poisson(2.0, (8, n_pixels)).astype(np.int32)
    parts = (Bricks(GRID.array_shape), Bricks(GRID.array_shape))
    return frames, np.arange(8), _Binner(tables), parts


def test_binning(benchmark, case):
    frames, numbers, binner, (kept, excluded) = case
    nothing = np.empty((0, 0), np.int8)
    benchmark(binner.bin, numbers, frames, nothing, (kept, excluded))
    benchmark.extra_info["Mpixel"] = frames.size / 1e6
    assert kept.n_bricks > 0
    assert excluded.n_bricks == 0


def test_packing(benchmark, case):
    frames, numbers, binner, (kept, excluded) = case
    binner.bin(numbers, frames, np.empty((0, 0), np.int8), (kept, excluded))
    some = kept.touched()
    sizes = packed_sizes(some, kept.volume)
    words = np.empty(int(sizes.sum()), np.int64)
    benchmark(pack, some, kept.volume, words)
    benchmark.extra_info["Mvoxel"] = float((sizes.sum() - 66 * some.size) / 2e6)
    assert words[0] == some[0]
