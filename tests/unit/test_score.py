"""The score test of a peak, against the same in plain linear algebra."""

import numpy as np
import pytest
from scipy.special import ndtr

from nxmpi.kernels.profile import BACKGROUND, INTENSITY, REACH, N
from nxmpi.kernels.score import score

SHAPE = (16, 15, 15)
LEVEL = 100.0


def begin(sigmas=(1.0, 1.2, 0.8)):
    values = np.zeros(N)
    values[:3] = 7.2, 6.9, 8.1
    values[3:6] = np.log(sigmas)
    values[INTENSITY], values[BACKGROUND] = 100.0, LEVEL
    return values


def counts(intensity, seed=0, masked=0.0):
    rng = np.random.default_rng(seed)
    values = begin()
    expected = np.full(SHAPE, LEVEL) + intensity * gaussian(values)
    box = rng.poisson(expected).astype(np.int32)
    box[rng.random(SHAPE) < masked] = -1
    return box


def gaussian(values):
    parts = []
    for axis, n in zip((2, 1, 0), SHAPE, strict=True):
        edges = (np.arange(n + 1) - 0.5 - values[axis]) / np.exp(values[3 + axis])
        parts.append(np.diff(ndtr(edges)))
    return np.einsum("i,j,k", *parts)


def significance(box, values, region):
    """Return the step of the intensity over its error, and the other steps."""
    u = [(2 * np.arange(n) + 1) / n - 1 for n in SHAPE]
    w, v, u = np.meshgrid(*u, indexing="ij")
    shapes = np.stack([gaussian(values), np.ones(SHAPE), u, v, w, u * u, v * v, w * w])
    (x0, x1), (y0, y1), (z0, z1) = region
    here = (slice(z0, z1), slice(y0, y1), slice(x0, x1))
    good = box[here] >= 0
    shapes, n = shapes[:, *here][:, good], box[here][good]
    prior = np.diag([0, 0, *np.full(6, values[BACKGROUND] ** -2)])
    information = shapes @ shapes.T / values[BACKGROUND] + prior
    step = np.linalg.solve(information, shapes @ (n / values[BACKGROUND] - 1))
    return step / np.sqrt(np.linalg.inv(information)[0, 0]), step


@pytest.mark.parametrize("masked", [0.0, 0.1])
@pytest.mark.parametrize("intensity", [0, 100, 1000, 20_000])
def test_score_is_that_of_linear_algebra(intensity, masked):
    box, values, region = counts(intensity, masked=masked), begin(), np.empty((3, 2), np.int32)
    found = score(box, values.copy(), region, np.empty((3, 3, max(SHAPE))))
    assert (region[:, 1] - region[:, 0] >= 2 * REACH * 0.8).all()
    expected, _ = significance(box, values, region)
    assert found == pytest.approx(expected[0], rel=1e-6)


def test_score_of_noise_is_normal():
    scores = [
        score(counts(0, seed), begin(), np.empty((3, 2), np.int32), np.empty((3, 3, 16)))
        for seed in range(400)
    ]
    assert abs(np.mean(scores)) < 4 / np.sqrt(400)
    assert 0.85 < np.std(scores) < 1.15


def test_faint_peaks_begin_with_the_background_of_the_test():
    for intensity, is_faint in ((300, True), (2000, False)):
        box, values, region = counts(intensity, seed=1), begin(), np.empty((3, 2), np.int32)
        score(box, values, region, np.empty((3, 3, max(SHAPE))))
        _, step = significance(box, begin(), region)
        assert (values[INTENSITY] == pytest.approx(step[0], rel=1e-6)) == is_faint
        background = values[BACKGROUND + 1 :]
        assert np.allclose(background, step[2:] if is_faint else 0, rtol=1e-5, atol=1e-9)
