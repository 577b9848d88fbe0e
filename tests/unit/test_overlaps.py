"""Agreement and scales of positions against volumes drawn by numpy, and sums against plain loops.

Positions are drawn with known scales and Poisson counts, each with a region and a norm of its own.
"""

import numpy as np
import pytest
from mpi4py import MPI

from nxmpi.errors import InputError
from nxmpi.kernels.overlaps import CUBE, INFORMATION, R, S, V
from nxmpi.model import HKLGrid
from nxmpi.stages.agreement import find_agreement, no_scales, refine_scales
from nxmpi.stages.bricks import WIDTH, Pillar
from nxmpi.stages.overlaps import gather_overlaps, map_shape, pairs_of, pillar_overlaps
from nxmpi.stages.scales import fit_scales

pytestmark = pytest.mark.parallel([1])

SHAPE = (40, 64, 70)
NAMES = ["f1", "f2", "f3"]
SCALES = np.array([1.0, 0.93, 1.08])
SEEDS = range(40)
GRID = HKLGrid(origin=(-3.5, -3.2, -2.0), step=(0.1, 0.1, 0.1), shape=SHAPE[::-1])


def sums(counts, norm):
    """Return the overlaps of a whole volume."""
    _, n_l, n_k, n_h = counts.shape
    parts = []
    for l in range(0, n_l, WIDTH):
        for k in range(0, n_k, WIDTH):
            where = np.s_[:, l : l + WIDTH, k : k + WIDTH]
            pillar = Pillar(l, k, 0, n_h)
            parts.append(
                pillar_overlaps(counts[where].copy(), norm[where].copy(), pillar, (n_l, n_k, n_h))
            )
    return gather_overlaps(MPI.COMM_SELF, parts, len(counts))


def places():
    return np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")


def truth():
    """Return an intensity that varies, and norms that overlap in part and vary as well."""
    l, k, h = places()
    intensity = 1 + 0.8 * np.sin(7 * l) * np.cos(5 * k + h)
    rng = np.random.default_rng(99)
    norm = [
        np.clip(1 + 0.9 * np.sin(3 * (l + p) + 2 * k - h * p) + 0.3 * p, 0, None)
        * (np.abs(k - 0.3 * p) < 0.9) * rng.uniform(0.6, 1.4, SHAPE)
        for p in range(3)
    ]  # fmt: skip
    return intensity, np.stack(norm)


def draw(seed, mean, scales=SCALES, factor=1.0):
    """Return counts and norm; ``factor`` is what no norm knows of, (3, ...) or 1."""
    intensity, norm = truth()
    rng = np.random.default_rng(seed)
    expected = scales[:, None, None, None] * norm * intensity * mean * factor
    return rng.poisson(expected).astype(float), norm


def agreement(counts, norm, scales=SCALES):
    scaled = norm * scales[:, None, None, None]
    return find_agreement(sums(counts, scaled), NAMES[: len(counts)], GRID, no_scales(len(counts)))


def with_bragg(seed, counts, norm, part=0.02):
    """Add strong counts to some voxels of the second position alone."""
    rng = np.random.default_rng(seed + 1000)
    chosen = (rng.random(SHAPE) < part) & (norm[1] > 0)
    counts[1][chosen] += rng.poisson(500 * counts.mean() + 50, chosen.sum())
    return counts, norm


def with_wrong_cubes(seed, counts, norm, part=0.02):
    """Take away half of what the second position counted in some cubes, as a wrong mask does."""
    rng = np.random.default_rng(seed + 2000)
    cubes = rng.random(map_shape(SHAPE)) < part
    for axis, n in enumerate(SHAPE):
        cubes = np.repeat(cubes, CUBE, axis=axis).take(range(n), axis=axis)
    counts[1][cubes] = rng.binomial(counts[1][cubes].astype(int), 0.5)
    return counts, norm


@pytest.mark.parametrize("mean", [0.02, 0.1, 1.0, 50.0])
@pytest.mark.parametrize("spoiled", [None, with_bragg], ids=["clean", "Bragg at one position"])
def test_refined_scales_are_the_true_ones_within_their_errors(mean, spoiled):
    pulls = []
    for seed in SEEDS:
        counts, norm = draw(seed, mean)
        if spoiled:
            counts, norm = spoiled(seed, counts, norm)
        found = refine_scales(sums(counts, norm), NAMES, SHAPE)
        assert (found.values[0], found.errors[0]) == (1.0, 0.0)
        assert (found.errors[1:] < 0.06 / np.sqrt(mean / 0.02)).all()
        pulls.append((found.values[1:] - SCALES[1:]) / found.errors[1:])
    pulls = np.array(pulls)
    # of 40 values the mean is known to 0.16 and the width to 11 %; errors are the largest of three
    assert (np.abs(pulls.mean(axis=0)) < 0.5).all()
    assert (pulls.std(axis=0) > 0.7).all()
    assert (pulls.std(axis=0) < 1.3).all()
    assert np.abs(pulls).max() < 4


@pytest.mark.parametrize("mean", [1.0, 50.0])
def test_wrong_cubes_shift_scales_by_less_than_their_errors(mean):
    pulls, plain = [], []
    for seed in SEEDS:
        counts, norm = with_wrong_cubes(seed, *draw(seed, mean))
        found = refine_scales(sums(counts, norm), NAMES, SHAPE)
        pulls.append((found.values[1:] - SCALES[1:]) / found.errors[1:])
        plain.append(ratio_of_sums(sums(counts, norm)))
    assert np.mean(plain) < SCALES[1] * 0.995
    assert (np.abs(np.mean(pulls, axis=0)) < 0.5).all()
    assert np.abs(pulls).max() < 4


def ratio_of_sums(overlaps):
    total = overlaps.pairs[:, 0].sum(axis=0)
    return total[S] / total[R]


def test_scatter_beyond_noise_makes_the_error_larger_and_is_told():
    pulls, scatters = [], []
    for seed in SEEDS:
        rng = np.random.default_rng(seed + 3000)
        uneven = np.exp(rng.normal(0, 0.05, (3, *map_shape(SHAPE))))
        for axis, n in enumerate(SHAPE, 1):
            uneven = np.repeat(uneven, CUBE, axis=axis).take(range(n), axis=axis)
        counts, norm = draw(seed, 50.0, factor=uneven)
        found = refine_scales(sums(counts, norm), NAMES, SHAPE)
        pulls.append((found.values[1:] - SCALES[1:]) / found.errors[1:])
        scatters.append(found.scatter)
    assert np.mean(scatters) == pytest.approx(0.05 * np.sqrt(2), rel=0.15)
    assert (np.abs(np.mean(pulls, axis=0)) < 0.5).all()
    assert (np.std(pulls, axis=0) > 0.7).all()
    assert (np.std(pulls, axis=0) < 1.3).all()


@pytest.mark.parametrize("scale", [0.2, 5.0])
def test_scales_far_from_1_are_found_too(scale):
    scales = np.array([1.0, scale, 1 / scale])
    counts, norm = draw(0, 1.0, scales)
    found = refine_scales(sums(counts, norm), NAMES, SHAPE)
    assert (np.abs(found.values - scales) <= 3.5 * found.errors).all()
    assert (found.errors < 0.02 * scales).all()


@pytest.mark.parametrize("mean", [0.02, 0.1, 1.0, 50.0])
def test_chi2_is_1_within_its_error_where_positions_agree(mean):
    deviations = []
    for seed in SEEDS:
        counts, norm = draw(seed, mean)
        found = agreement(*with_bragg(seed, counts, norm))
        deviations.append((found.chi2 - 1) / found.chi2_error)
    assert abs(np.mean(deviations)) < 0.5
    assert 0.7 < np.std(deviations) < 1.3
    assert found.disagreeing < 0.01


def test_pairs_that_agree_are_told_to():
    found = agreement(*draw(1, 20.0), scales=np.ones(3))
    wanted = SCALES[:, None] / SCALES
    for p, q in pairs_of(3):
        assert abs(found.ratio[p, q] - wanted[p, q]) < 3.5 * found.ratio_errors[p, q]
        assert found.ratio[q, p] == pytest.approx(1 / found.ratio[p, q])
        assert found.scatter[p, q] < 0.01
    assert (np.isnan(np.diag(found.ratio))).all()
    norm = truth()[1]
    both = (norm[0] >= 0.1 * norm.max(axis=0)) & (norm[1] >= 0.1 * norm.max(axis=0))
    assert found.voxels[0, 1] == found.voxels[1, 0] == (both & (norm[0] > 0) & (norm[1] > 0)).sum()


def cubes_of(where):
    """Return which cubes lie inside of a region."""
    n_l, n_k, n_h = map_shape(SHAPE)
    inside = np.zeros((n_l, n_k, n_h), bool)
    for l, k, h in np.ndindex(n_l, n_k, n_h):
        block = where[l * 8 : l * 8 + 8, k * 8 : k * 8 + 8, h * 8 : h * 8 + 8]
        inside[l, k, h] = block.all()
    return inside


def test_a_shadow_that_no_mask_covers_shows_where_it_is():
    shadow = np.zeros(SHAPE, bool)
    shadow[8:24, 24:40, 16:40] = True
    factor = np.ones((3, *SHAPE))
    factor[1][shadow] = 0.3
    found = agreement(*draw(2, 20.0, factor=factor))
    seen = np.isfinite(found.maps["chi2"])
    inside = cubes_of(shadow) & seen
    outside = seen & ~inside
    assert found.chi2 - 1 > 20 * found.chi2_error
    assert inside.sum() > 5
    assert np.median(found.maps["chi2"][inside]) > 2
    assert np.median(found.maps["chi2"][outside]) == pytest.approx(1, abs=0.05)
    assert np.median(found.maps["ratio_f2"][inside]) < 0.5
    assert np.median(found.maps["ratio_f2"][outside]) == pytest.approx(1, abs=0.02)


def test_a_wrong_transmission_shows_as_scatter_and_as_ratios_that_drift():
    _, _, h = places()
    factor = np.ones((3, *SHAPE))
    factor[2] = 1 + 0.15 * h
    found = agreement(*draw(3, 2.0, factor=factor))
    assert found.scatter[0, 2] > 0.04
    assert found.scatter[1, 2] > 0.04
    assert found.scatter[0, 1] < 0.02
    drift = found.maps["ratio_f3"]
    assert np.nanmedian(drift[..., 0]) < 0.95
    assert np.nanmedian(drift[..., -2]) > 1.05


def test_a_wrong_orientation_shows_in_bright_voxels():
    l, k, h = places()
    _, norm = truth()
    rng = np.random.default_rng(4)

    def peaks(shift):
        near = [np.cos(np.pi * 8 * axis) for axis in (l, k, h + shift)]
        return 1 + 400 * np.exp(12 * (sum(near) - 3))

    found = []
    for shift in (0.0, 0.03):
        expected = np.stack([peaks(0), peaks(shift), peaks(0)]) * norm
        found.append(agreement(rng.poisson(expected).astype(float), norm, np.ones(3)))
    straight, turned = found
    assert straight.bright[0, 1] < 0.05
    assert turned.bright[0, 1] > 0.3
    assert turned.bright[0, 2] < 0.05
    seen = straight.maps["bright_difference"], turned.maps["bright_difference"]
    assert np.nanmedian(seen[0]) < 0.05
    assert np.nanmedian(seen[1]) > 0.2


def test_position_without_overlap_is_named():
    counts, norm = draw(5, 1.0)
    norm[2, :, :32] = 0
    norm[:2, :, 32:] = 0
    with pytest.raises(InputError, match="no overlap that connects f3 with f1: a scale cannot"):
        refine_scales(sums(counts * (norm > 0), norm), NAMES, SHAPE)
    found = agreement(counts * (norm > 0), norm)
    assert np.isnan(found.ratio[0, 2])
    assert found.voxels[0, 2] == 0
    assert np.isfinite(found.ratio[0, 1])


def test_a_chain_of_overlaps_is_enough():
    counts, norm = draw(6, 5.0)
    norm[0, :, 40:] = 0  # f1 and f3 meet nowhere, f2 meets both
    norm[2, :, :40] = 0
    found = refine_scales(sums(counts * (norm > 0), norm), NAMES, SHAPE)
    assert (np.abs(found.values - SCALES) <= 3.5 * found.errors).all()


@pytest.mark.parametrize("mean", [0.0, 1e-5, 1e-4, 1e-3])
def test_hardly_any_counts_give_numbers_or_none_but_no_failure(mean):
    for seed in range(5):
        counts, norm = draw(seed, mean)
        found = agreement(counts, norm)
        assert np.isfinite(found.chi2) == (counts.sum(axis=0)[(norm > 0).sum(axis=0) > 1].sum() > 0)
        known = np.isfinite(found.ratio)
        assert (found.ratio_errors[known] > 0.03).all()


def test_one_position_has_nothing_to_compare_with_and_the_scale_1():
    counts, norm = draw(9, 1.0)
    overlaps = sums(counts[:1], norm[:1])
    scales = refine_scales(overlaps, NAMES[:1], SHAPE)
    assert (scales.values, scales.errors) == (1.0, 0.0)
    found = find_agreement(overlaps, NAMES[:1], GRID, scales)
    assert np.isnan(found.chi2)
    assert np.isnan(found.maps["chi2"]).all()


def test_sums_are_those_of_plain_numpy():
    counts, norm = draw(7, 3.0)
    norm[norm < 0.05] = 0
    counts[norm == 0] = 0
    found = sums(counts, norm)
    reached = (norm > 0) & (norm >= 0.1 * norm.max(axis=0))
    c, w = counts * reached, norm * reached
    several = reached.sum(axis=0) > 1
    with np.errstate(invalid="ignore", divide="ignore"):
        intensity = np.where(several, c.sum(axis=0) / w.sum(axis=0), np.nan)
        share = w / w.sum(axis=0)
        expected = c.sum(axis=0) * share
        chi2 = np.where(reached & (c.sum(axis=0) > 0), (c - expected) ** 2 / expected, 0).sum(
            axis=0
        )
    bright = np.zeros(SHAPE, bool)
    for corner in np.ndindex(2, 2, 3):
        where = tuple(slice(i * 32, i * 32 + 32) for i in corner)
        limit = np.nanquantile(intensity[where], 0.95, method="lower")
        bright[where] = intensity[where] > limit
    bright &= c.sum(axis=0) >= 5
    kept = several & ~bright & (c.sum(axis=0) > 0)
    ndof = np.where(kept, reached.sum(axis=0) - 1, 0)
    shape = map_shape(SHAPE)
    for column, values in ((0, np.where(kept, chi2, 0)), (1, ndof)):
        dense = np.zeros(shape)
        dense.reshape(-1)[found.places] = found.cubes[:, column]
        np.testing.assert_allclose(dense, by_cubes(values), rtol=1e-12)
    for i, (p, q) in enumerate(pairs_of(3)):
        both = kept & reached[p] & reached[q]
        with np.errstate(invalid="ignore", divide="ignore"):
            r, s = c[p] * w[q] / (w[p] + w[q]), c[q] * w[p] / (w[p] + w[q])
            v = (c[p] + c[q]) * w[p] * w[q] / (w[p] + w[q]) ** 2
        for column, values in ((R, r), (S, s), (V, v)):
            wanted = by_cubes(np.where(both, values, 0)).ravel()[found.places]
            np.testing.assert_allclose(found.pairs[:, i, column], wanted, rtol=1e-11, atol=1e-12)
        information = (c.sum(axis=0) * share[p] * share[q])[both].sum()
        assert found.totals[:, i, INFORMATION].sum() == pytest.approx(information, rel=1e-12)


def by_cubes(values):
    padded = np.pad(values, [(0, -n % CUBE) for n in SHAPE])
    n_l, n_k, n_h = (n // CUBE for n in padded.shape)
    return padded.reshape(n_l, CUBE, n_k, CUBE, n_h, CUBE).sum(axis=(1, 3, 5))


def test_variance_of_the_ratio_from_counting_is_that_of_greenland_and_robins():
    counts, norm = draw(8, 1.0, np.ones(3))
    found = sums(counts[:2], norm[:2])
    pair = found.pairs.sum(axis=0)[0]
    fit = fit_scales(
        found.pairs, np.zeros(len(found.places), np.int64),
        found.totals[..., INFORMATION].sum(axis=0), 2,
    )  # fmt: skip
    wanted = np.sqrt(pair[V] / (pair[R] * pair[S]))
    assert fit.errors[1] / fit.values[1] == pytest.approx(wanted, rel=0.1)
    assert fit.values[1] == pytest.approx(pair[S] / pair[R], abs=0.5 * fit.errors[1])
