"""Patches between frames, against Python's integers."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nxmpi.errors import InputError
from nxmpi.stages.mask import (
    Room,
    changed_patches,
    find_gaps,
    find_thresholds,
    pack,
    write_mask,
)

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")


def box(values, size):
    """Return exact sums over boxes, the nearest pixels outside."""
    pad = (size // 2, (size - 1) // 2)
    padded = np.pad(values.astype(object), (pad, pad), mode="edge")
    for _ in range(2):
        sums = np.cumsum(np.insert(padded, 0, 0, axis=0), axis=0)
        padded = (sums[size:] - sums[:-size]).T
    return padded


def fill(pixels, bad):
    """Fill first columns, then rows, from the nearest that are not bad all along."""
    for _ in range(2):
        pixels, bad = pixels.T, bad.T
        full = bad.all(axis=1)
        good = np.flatnonzero(~full)
        filled = pixels.copy()
        for row in np.flatnonzero(full):
            neighbours = [*good[good < row][-1:], *good[good > row][:1]]
            filled[row] = pixels[neighbours].any(axis=0)
        pixels = filled
    return pixels


def slow_patches(first, second, bad, t1, h1, t2, h2, in_sigmas=False):
    sums = np.abs(box(second.astype(object) - first.astype(object), h1))
    if in_sigmas:
        values = np.stack((first, second)).astype(object)
        unsigned = np.issubdtype(first.dtype, np.unsignedinteger)
        sentinel = np.iinfo(first.dtype).max if unsigned else -1
        counts = box(np.where((values < 0) | (values == sentinel), 0, values).sum(axis=0), h1)
        far = sums.astype(float) ** 2 >= t1**2 * np.maximum(counts.astype(float), 1)
    else:
        far = sums / h1**2 >= t1
    return box(fill(far.astype(bool), bad).astype(int), h2) / h2**2 > t2


def fast_patches(first, second, bad, t1, h1, t2, h2, in_sigmas=False):
    thresholds = find_thresholds(t1, h1, t2, h2, in_sigmas=in_sigmas)
    patches = np.full(bad.shape, 9, np.uint8)
    room = Room(bad.shape, thresholds)
    room.pixels[...] = 9
    found = changed_patches(first, second, find_gaps(bad), thresholds, room, patches)
    assert found == patches.any()
    return patches


def make_bad(rng, shape, gaps):
    """Return bad pixels, with gaps such as "row column edge-row"."""
    bad = rng.random(shape) < 0.05
    n_slow, n_fast = shape
    if "edge-row" in gaps:
        bad[: n_slow // 4] = bad[-1:] = True
    if "edge-column" in gaps:
        bad[:, : n_fast // 4] = bad[:, -1:] = True
    if "row" in gaps.split():
        bad[n_slow // 2 : n_slow // 2 + 3] = True
    if "column" in gaps.split():
        bad[:, n_fast // 3 : n_fast // 3 + 2] = bad[:, n_fast // 2] = True
    return bad


def make_pair(rng, shape, dtype, spread):
    """Return two frames with patches: counts, or values from all over their type."""
    info = np.iinfo(dtype)
    first, second = rng.poisson(3, (2, *shape)).astype(dtype)
    for _ in range(3):
        y, x = rng.integers(0, shape[0]), rng.integers(0, shape[1])
        target = (first, second)[rng.integers(2)]
        target[y : y + 12, x : x + 15] += np.array(4, dtype)
    if spread == "some extremes":
        for frame in (first, second):
            extreme = rng.random(shape) < 0.02
            frame[extreme] = rng.choice(np.array([info.min, info.max], dtype), extreme.sum())
    if spread == "all":
        first, second = rng.integers(info.min, info.max, (2, *shape), dtype, endpoint=True)
    return first, second


GAPS = ("", "row", "column", "row column", "edge-row", "edge-column", "edge-row edge-column row")


@pytest.mark.parametrize("gaps", GAPS)
def test_patches_with_gaps(gaps):
    rng = np.random.default_rng(1)
    for _ in range(5):
        shape = (45, 60)
        bad = make_bad(rng, shape, gaps)
        pair = make_pair(rng, shape, "int32", "counts")
        expected = slow_patches(*pair, bad, 2, 3, 0.6, 7)
        assert 0 < expected.mean() < 1
        np.testing.assert_array_equal(fast_patches(*pair, bad, 2, 3, 0.6, 7), expected)


@pytest.mark.parametrize("spread", ["counts", "some extremes", "all"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_patches_of_any_integer_type(dtype, spread):
    rng = np.random.default_rng(2)
    bad = make_bad(rng, (45, 60), "row column")
    pair = make_pair(rng, bad.shape, dtype, spread)
    t1 = 2 if spread == "counts" else np.iinfo(dtype).max / 250
    t2 = 0.95 if spread == "all" else 0.5
    expected = slow_patches(*pair, bad, t1, 5, t2, 4)
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(fast_patches(*pair, bad, t1, 5, t2, 4), expected)


@pytest.mark.parametrize("spread", ["counts", "some extremes"])
@pytest.mark.parametrize("dtype", ["uint16", "int32", "uint32"])
def test_patches_in_standard_deviations(dtype, spread):
    rng = np.random.default_rng(3)
    bad = make_bad(rng, (45, 60), "row column")
    pair = make_pair(rng, bad.shape, dtype, spread)
    expected = slow_patches(*pair, bad, 3.5, 5, 0.5, 6, in_sigmas=True)
    assert 0 < expected.mean() < 1
    found = fast_patches(*pair, bad, 3.5, 5, 0.5, 6, in_sigmas=True)
    np.testing.assert_array_equal(found, expected)


def test_longer_exposure_changes_nothing_in_standard_deviations():
    rng = np.random.default_rng(4)
    bad = np.zeros((60, 60), bool)
    for mean in (1, 100, 10000):
        pair = rng.poisson(mean, (2, *bad.shape)).astype(np.int32)
        assert not fast_patches(*pair, bad, 5, 11, 0.8, 21, in_sigmas=True).any()
        pair[1, 20:45, 20:45] += 2 * int(mean**0.5)
        assert fast_patches(*pair, bad, 5, 11, 0.8, 21, in_sigmas=True).any()
    assert fast_patches(*pair, bad, 2, 11, 0.8, 21).any()


@settings(deadline=None, max_examples=150)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 30),
    st.integers(1, 40),
    st.sampled_from([0.3, 1.0, 2.0, 2.5]),
    st.sampled_from([0.0, 0.2, 0.5, 0.6, 0.8]),
    st.sampled_from(GAPS),
    st.integers(0, 2**32),
)
@example((1, 1), 11, 51, 2.0, 0.8, "", 0)
@example((3, 40), 11, 51, 0.3, 0.2, "row column", 1)
def test_any_size(shape, h1, h2, t1, t2, gaps, seed):
    rng = np.random.default_rng(seed)
    bad = make_bad(rng, shape, gaps)
    pair = make_pair(rng, shape, "int32", "counts")
    expected = slow_patches(*pair, bad, t1, h1, t2, h2)
    np.testing.assert_array_equal(fast_patches(*pair, bad, t1, h1, t2, h2), expected)


def test_large_boxes_are_counted_in_wider_integers():
    rng = np.random.default_rng(5)
    bad = make_bad(rng, (70, 90), "row")
    pair = make_pair(rng, bad.shape, "uint16", "all")
    for h1, h2 in ((3, 257), (301, 5), (257, 256)):
        expected = slow_patches(*pair, bad, 1500, h1, 0.5, h2)
        np.testing.assert_array_equal(fast_patches(*pair, bad, 1500, h1, 0.5, h2), expected)


def test_difference_of_unsigned_counts_has_a_sign():
    bad = np.zeros((9, 9), bool)
    first, second = np.full((2, 9, 9), 5, np.uint16)
    second[2:7, 2:7] = 4
    assert not fast_patches(first, second, bad, 2, 3, 0.8, 3).any()
    assert fast_patches(first, second, bad, 1, 3, 0.12, 3).sum() == 9 + 4 * 3


def test_toggling_sentinel_of_64_bits_is_far_from_zero():
    bad = np.zeros((9, 9), bool)
    first, second = np.zeros((2, 9, 9), np.uint64)
    second[4, 4] = 2**64 - 1
    assert fast_patches(first, second, bad, 2, 3, 0.0, 1).sum() == 9
    assert fast_patches(first, second, bad, 2, 3, 0.0, 1, in_sigmas=True).sum() == 9


def test_large_counts_have_large_standard_deviations():
    bad = np.zeros((9, 9), bool)
    for dtype in ("int32", "uint32", "int64"):
        pair = np.full((2, 9, 9), 2**30, dtype)
        pair[1] += 1000
        assert not fast_patches(*pair, bad, 5, 5, 0.8, 3, in_sigmas=True).any()
        pair[1] += 2**20
        assert fast_patches(*pair, bad, 5, 5, 0.8, 3, in_sigmas=True).all()


def test_means_are_compared_as_decimal_numbers():
    assert find_thresholds(0.6, 5, 0.6, 5).difference == 15
    assert find_thresholds(0.6, 5, 0.6, 5).count == 15
    defaults = find_thresholds(2, 11, 0.8, 51)
    assert (defaults.difference, defaults.count) == (242, 2080)


def test_gap_over_the_whole_detector_has_nothing_to_be_filled_with():
    first, second = np.zeros((6, 6), int), np.full((6, 6), 9)
    assert not fast_patches(first, second, np.ones((6, 6), bool), 2, 3, 0.5, 3).any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"t1": 0},
        {"t1": -1},
        {"t1": np.nan},
        {"t1": np.inf},
        {"h1": 0},
        {"h2": 1000},
        {"t2": 1},
        {"t2": -0.1},
        {"t2": np.nan},
    ],
    ids=str,
)
def test_thresholds_without_meaning_are_refused(wrong):
    with pytest.raises(InputError, match="of the mask: expected"):
        find_thresholds(**({"t1": 2, "h1": 11, "t2": 0.8, "h2": 51} | wrong))


def test_frames_without_pixels_are_refused():
    with pytest.raises(InputError, match="found 0 x 5"):
        Room((0, 5), find_thresholds(2, 11, 0.8, 51))


def test_mask_is_the_patches_before_or_after():
    rng = np.random.default_rng(6)
    before, after = rng.integers(0, 2, (2, 7, 9), np.uint8)
    mask = np.full((7, 9), -1, np.int8)
    for packed, expected in (
        ((pack(before), pack(after)), before | after),
        ((pack(before), None), before),
        ((None, pack(after)), after),
        ((None, None), np.zeros_like(before)),
    ):
        write_mask(*packed, mask)
        np.testing.assert_array_equal(mask, expected)
    assert len(pack(np.zeros((1000, 1000), np.uint8))) < 2000
