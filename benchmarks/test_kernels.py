"""Kernels alone: `python -m pytest benchmarks`. Rates are in extra_info of the report."""

import numpy as np
import pytest
from case import N_PIXELS, make_tables

from nxmpi.kernels.bricks import VOXELS
from nxmpi.kernels.packing import HEADER, pack
from nxmpi.stages.bricks import Bricks, touched
from nxmpi.stages.transform import Binner


@pytest.fixture(scope="module")
def case():
    """Return frames, their numbers, a binner and empty volumes."""
    tables = make_tables(8, 1001)
    frames = np.random.default_rng(1).poisson(2.0, (8, N_PIXELS)).astype(np.int32)
    parts = (Bricks((1001,) * 3), Bricks((1001,) * 3))
    return frames, np.arange(8), Binner(tables), parts


def test_binning(benchmark, case):
    frames, numbers, binner, (kept, excluded) = case
    nothing = np.empty((0, 0), np.int8)
    benchmark(binner.bin, numbers, frames, nothing, (kept, excluded))
    benchmark.extra_info["Mpixel"] = frames.size / 1e6
    assert kept.n_bytes > 0
    assert excluded.n_bytes == 0


def test_packing(benchmark, case):
    frames, numbers, binner, (kept, excluded) = case
    binner.bin(numbers, frames, np.empty((0, 0), np.int8), (kept, excluded))
    volume = kept.sums.narrow
    some = touched(volume)
    words = np.empty(some.size * (HEADER + VOXELS), np.int64)
    sizes = benchmark(pack, some, volume, False, words)
    benchmark.extra_info["Mvoxel"] = float((sizes.sum() - HEADER * some.size) / 1e6)
    assert words[0] == some[0]
