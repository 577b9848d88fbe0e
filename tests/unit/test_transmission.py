"""The transmission from few and from many counts, and where its background is taken."""

import numpy as np
import pytest

from nxmpi.crystal.angles import far_edge_Q, pixel_Q
from nxmpi.crystal.detector import parse_orientation
from nxmpi.crystal.transmission import (
    WINDOW,
    annulus,
    background_blocks,
    block_pixels,
    transmission,
)
from nxmpi.errors import InputError
from nxmpi.model import Detector

N_FRAMES, N_BLOCKS = 400, 200
WAVELENGTH = 0.7


def detector(shape=(120, 160), yaw=0.0, center=(80.0, 60.0)):
    return Detector(
        shape=shape, pixel_size=1.0, distance=100.0, beam_center=center,
        orientation=parse_orientation("-y +z -x"), yaw=yaw,
    )  # fmt: skip


def truth():
    """Return a transmission that varies by a third, and a monitor that drifts and jitters."""
    phase = np.linspace(0, 2 * np.pi, N_FRAMES)
    jitter = np.random.default_rng(1).uniform(0.95, 1.05, N_FRAMES)
    return 0.8 + 0.2 * np.cos(phase), 1e5 * np.linspace(1.0, 0.8, N_FRAMES) * jitter


def background(counts_per_pixel, seed, removed_share=0.0):
    """Return Poisson sums of blocks of unlike size and brightness, without strong pixels."""
    rng = np.random.default_rng(seed)
    values, monitor = truth()
    pixels = rng.integers(20, 200, N_BLOCKS)
    brightness = rng.uniform(0.3, 3.0, N_BLOCKS)
    removed = rng.binomial(pixels, removed_share, (N_FRAMES, N_BLOCKS))
    expected = counts_per_pixel * np.outer(values * monitor / monitor.mean(), brightness)
    return rng.poisson(expected * (pixels - removed)), removed, pixels, monitor


@pytest.mark.parametrize("removed_share", [0.0, 0.05])
@pytest.mark.parametrize("counts_per_pixel", [0.02, 0.3, 20.0, 1e4])
def test_it_is_unbiased_from_few_counts_to_many(counts_per_pixel, removed_share):
    sums, removed, pixels, monitor = background(counts_per_pixel, 7, removed_share)
    found = transmission(sums, removed, pixels, monitor)
    values = truth()[0]
    ratio = found.raw / values
    ratio /= ratio.mean()
    error = 1 / np.sqrt(found.frame_sums)
    pull = (ratio - 1) / error
    assert pull.std() == pytest.approx(1, abs=0.15)
    dim, bright = values < 0.7, values > 0.9
    of_the_means = np.hypot(*(error[part].mean() / np.sqrt(part.sum()) for part in (dim, bright)))
    assert abs(ratio[dim].mean() - ratio[bright].mean()) < 3 * of_the_means
    of_medians = 1.25 * error.mean() / np.sqrt(WINDOW)
    curve = 0.2 * (np.pi * WINDOW / N_FRAMES) ** 2  # what a median makes of the cosine's ends
    np.testing.assert_allclose(
        found.values, values / np.median(values), atol=5 * of_medians + curve
    )
    np.testing.assert_array_equal(np.median(found.values), 1)


def test_the_sums_are_what_all_pixels_would_count():
    sums, removed, pixels, monitor = background(5.0, 2, 0.3)
    whole = sums * (pixels / (pixels - removed))
    dim = np.argsort(sums.sum(0) / (pixels - removed).sum(0))[: N_BLOCKS - N_BLOCKS // 10]
    found = transmission(sums, removed, pixels, monitor)
    np.testing.assert_allclose(found.frame_sums, whole[:, dim].sum(axis=1))
    np.testing.assert_allclose(found.raw, found.frame_sums / monitor)
    np.testing.assert_allclose(found.median * found.values[200], np.median(found.raw[185:216]))


def test_bright_blocks_that_vary_are_left_out():
    sums, removed, pixels, monitor = background(5.0, 3)
    expected = transmission(sums, removed, pixels, monitor).values
    brightest = np.argsort(sums.sum(0) / pixels)[-N_BLOCKS // 10 :]
    sums[100:200, brightest] *= 50
    np.testing.assert_array_equal(transmission(sums, removed, pixels, monitor).values, expected)


def test_blocks_without_a_pixel_left_are_made_up_for():
    sums, removed, pixels, monitor = background(50.0, 4)
    expected = transmission(sums, removed, pixels, monitor)
    dim = np.argsort(sums.sum(0) / pixels)[:90]
    removed[50, dim], sums[50, dim] = pixels[dim], 0
    found = transmission(sums, removed, pixels, monitor)
    assert found.frame_sums[50] == pytest.approx(expected.frame_sums[50], rel=0.01)
    removed[:, dim[0]], sums[:, dim[0]] = pixels[dim[0]], 0
    assert np.isfinite(transmission(sums, removed, pixels, monitor).values).all()


def test_frames_that_are_not_used_get_their_neighbours_values():
    sums, removed, pixels, monitor = background(5.0, 5)
    used = np.ones(N_FRAMES, bool)
    used[:30] = used[-20:] = used[200] = False
    inner = transmission(sums[used], removed[used], pixels, monitor[used])
    sums[~used], monitor[~used] = 0, 0.0
    found = transmission(sums, removed, pixels, monitor, used)
    np.testing.assert_array_equal(found.values[used], inner.values)
    np.testing.assert_array_equal(found.raw[used], inner.raw)
    assert found.median == inner.median
    assert (found.values[:30] == inner.values[0]).all()
    assert (found.values[-20:] == inner.values[-1]).all()
    assert found.values[200] == pytest.approx((found.values[199] + found.values[201]) / 2)
    assert np.isnan(found.raw[~used]).all()
    assert not found.frame_sums[~used].any()


@pytest.mark.parametrize("n_frames", [1, 2, 3, 30, 31])
def test_scans_shorter_than_the_filter_work(n_frames):
    sums, removed, pixels, monitor = background(5.0, 6)
    found = transmission(sums[:n_frames], removed[:n_frames], pixels, monitor[:n_frames])
    assert found.values.shape == (n_frames,)
    assert np.median(found.values) == pytest.approx(1)


def test_a_frame_without_counts_is_named():
    sums, removed, pixels, monitor = background(5.0, 8)
    sums[[17, 40]] = 0
    with pytest.raises(InputError, match=r"none in frame 17 \(2 such frames\)"):
        transmission(sums, removed, pixels, monitor)
    with pytest.raises(InputError, match="frame to use"):
        transmission(sums, removed, pixels, monitor, np.zeros(N_FRAMES, bool))


@pytest.mark.parametrize("yaw", [0.0, -30.0])
def test_blocks_are_squares_within_the_annulus(yaw):
    place = detector(yaw=yaw)
    Q = pixel_Q(place, WAVELENGTH)
    bad = np.zeros(place.shape, bool)
    bad[:, 100:103] = bad[40] = True
    qmin, qmax = annulus(place, WAVELENGTH)
    blocks = background_blocks(place.shape, bad, Q, qmin, qmax, 300)
    np.testing.assert_array_equal(blocks >= 0, ~bad & (np.clip(Q, qmin, qmax) == Q))
    numbers = np.unique(blocks[blocks >= 0])
    np.testing.assert_array_equal(numbers, np.arange(numbers.size))
    assert 300 <= numbers.size < 450
    side = round(np.sqrt((blocks >= 0).sum() / 300))
    for number in numbers:
        y, x = np.nonzero(blocks == number)
        assert np.unique(y // side).size == np.unique(x // side).size == 1
    assert block_pixels(blocks).sum() == (blocks >= 0).sum()
    assert block_pixels(blocks).max() == side**2
    assert blocks.dtype == np.int32
    assert block_pixels(blocks).dtype == np.int64


def test_a_tilted_annulus_is_not_round_the_beam():
    flat, tilted = (pixel_Q(detector(yaw=yaw), WAVELENGTH)[60] for yaw in (0.0, -30.0))
    np.testing.assert_allclose(flat, flat[::-1])
    assert abs(tilted / tilted[::-1] - 1).max() > 0.2


def test_the_far_edge_is_where_the_beam_is_farthest_from_one():
    place = detector(center=(40.0, 50.0))  # 120 pixels of 1 mm to the right edge, at 100 mm
    theta = np.arctan(120 / 100) / 2
    assert far_edge_Q(place, WAVELENGTH) == pytest.approx(4 * np.pi * np.sin(theta) / WAVELENGTH)
    outside = detector(center=(-50.0, 60.0))
    theta = np.arctan(210 / 100) / 2
    assert far_edge_Q(outside, WAVELENGTH) == pytest.approx(4 * np.pi * np.sin(theta) / WAVELENGTH)


def test_without_a_geometry_all_good_pixels_serve():
    bad = np.zeros((30, 40), bool)
    bad[3] = True
    blocks = background_blocks((30, 40), bad, None, 0, 0)
    np.testing.assert_array_equal(blocks < 0, bad)
    assert blocks.max() + 1 == (~bad).sum()  # fewer pixels than blocks: each is its own
    with pytest.raises(InputError, match="all pixels are masked"):
        background_blocks((30, 40), np.ones((30, 40), bool), None, 0, 0)
    with pytest.raises(InputError, match="from 50 to 60"):
        background_blocks((30, 40), bad, np.ones((30, 40)), 50, 60)
