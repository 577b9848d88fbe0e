"""Volumes that are what they must be, and others that are not."""

import h5py
import numpy as np
import pytest

from nxmpi.cctw.result import Sums, columns_of, read_column, require_agreement, require_volume
from nxmpi.errors import NxmpiError

SHAPE = (40, 33, 70)
EDGE = 32


@pytest.fixture
def volume():
    rng = np.random.default_rng(3)
    counts = rng.poisson(3.0, SHAPE).astype("f4")
    norm = np.where(counts > 0, rng.uniform(0.5, 1.5, SHAPE), 0).astype("f4")
    counts[32:, 32:] = norm[32:, 32:] = 0
    return counts, norm


def true_sums(values):
    """Return sums over blocks by a plain loop."""
    n = [-(-size // EDGE) for size in SHAPE]
    sums = np.zeros(n)
    for at in np.ndindex(*n):
        part = tuple(slice(i * EDGE, (i + 1) * EDGE) for i in at)
        sums[at] = values[part].astype(float).sum()
    return sums


def check(path, volume, expected, near=(0.0, 0.0)):
    with h5py.File(path, "w") as file:
        for name, values in zip("vn", volume, strict=True):
            file[f"entry/data/{name}"] = values
    require_volume(path, "entry/data", SHAPE)
    with h5py.File(path) as file:
        sets = [file[f"entry/data/{name}"] for name in "vn"]
        columns = [read_column(sets, start, EDGE, 32) for start in columns_of(SHAPE, EDGE)]
    sums = [true_sums(values) for values in expected]
    sums = [Sums(total, np.full_like(total, n)) for total, n in zip(sums, near, strict=True)]
    return columns, require_agreement(columns, *sums, EDGE)


def test_good_volume_passes(volume, tmp_path):
    columns, inexact = check(tmp_path / "o.nxs", volume, volume)
    assert not inexact
    used = sorted(place for column in columns for place in column.used)
    assert used == [(0, 0), (0, 32), (32, 0)]  # nothing is at (32, 32)


@pytest.mark.parametrize("sign", [1, -1])
def test_pixel_in_the_next_block_by_rounding_passes(volume, tmp_path, sign):
    volume[0][0, 0, 31] += 40
    moved = [values.copy() for values in volume]
    for values, atom in zip(moved, (40, 30.0), strict=True):
        values[0, 0, 31] += sign * atom
    check(tmp_path / "o.nxs", volume, moved, near=(40, 30.0))
    with pytest.raises(NxmpiError, match="in 1 of 12 blocks"):
        check(tmp_path / "o.nxs", volume, moved, near=(10, 30.0))


def test_bright_pixel_excuses_nothing_elsewhere(volume, tmp_path):
    volume[0][5, 5, 5] = 2.0**23
    wrong = (volume[0].copy(), volume[1])
    wrong[0][:, :, ::2] = 0
    wrong[0][5, 5, 5] = 2.0**23
    with pytest.raises(NxmpiError, match=r"in v .* in \d+ of 12 blocks"):
        check(tmp_path / "o.nxs", wrong, volume)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_block_that_is_off_is_named(volume, tmp_path, which, factor):
    wrong = [values.copy() for values in volume]
    wrong[which][:32, :32, 32:64] *= factor
    with pytest.raises(NxmpiError, match=r"from l 0, k 0, h 32, .* in 1 of 12 blocks"):
        check(tmp_path / "o.nxs", wrong, volume)


def test_counts_that_single_precision_lost_are_told(volume, tmp_path):
    volume[0][3, 3, 3], volume[1][3, 3, 3] = 2.0**24, 1.0
    true = volume[0].astype(float)
    true[3, 3, 3] *= 1.5
    assert check(tmp_path / "o.nxs", volume, (true, volume[1]))[1]
    true[3, 3, 50] += 1e6  # not in the block of that voxel
    with pytest.raises(NxmpiError, match="h 32"):
        check(tmp_path / "o.nxs", volume, (true, volume[1]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_what_no_sum_can_be(volume, tmp_path, value):
    wrong = (volume[0].copy(), volume[1])
    wrong[0][33, 5, 7] = value
    with pytest.raises(NxmpiError, match="in v at l 33, k 5, h 7"):
        check(tmp_path / "o.nxs", wrong, volume)


def test_counts_without_norm(volume, tmp_path):
    counts, norm = volume
    norm = norm.copy()
    norm[tuple(np.argwhere(counts > 0)[0])] = 0
    with pytest.raises(NxmpiError, match="a norm where counts are"):
        check(tmp_path / "o.nxs", (counts, norm), volume)
