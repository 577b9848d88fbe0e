"""Laplace's operator on voxels of any lattice, against derivatives of polynomials."""

import numpy as np
import pytest

from nxmpi.crystal.laplacian import laplace_stencil, selling
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.crystal.metric import mean_metric
from nxmpi.model import HKLGrid, Lattice

CELLS = {
    "-1": (5, 6, 7, 63, 77, 85), "2/m": (5, 6, 7, 90, 125, 90), "mmm": (5, 16, 7, 90, 90, 90),
    "4/mmm": (5, 5, 9, 90, 90, 90), "R -3 m :R": (6, 6, 6, 40, 40, 40),
    "-31m": (5, 5, 9, 90, 90, 120), "6/m": (5, 5, 9, 90, 90, 120), "m-3m": (6, 6, 6, 90, 90, 90),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_forms_are_sums_of_squares_of_few_integer_vectors(seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3)) * rng.uniform(0.1, 10, 3)
    vectors, weights = selling(root @ root.T)
    assert len(weights) <= 6
    assert (weights > 0).all()
    found = np.einsum("n,ni,nj", weights, vectors, vectors)
    np.testing.assert_allclose(found, root @ root.T, atol=1e-12 * np.trace(root @ root.T))


@pytest.mark.parametrize("laue", CELLS)
def test_it_is_exact_for_cubic_polynomials_and_symmetric(laue):
    lattice = Lattice(**dict(zip(Lattice.__slots__, map(float, CELLS[laue]), strict=True)))
    grid = HKLGrid(origin=(-1.0,) * 3, step=(0.1,) * 3, shape=(21,) * 3)
    group = voxel_group(laue_operators(laue), grid)
    metric = mean_metric(group, grid, lattice)
    vectors, weights = laplace_stencil(metric, group)
    links = {tuple(s * e): w for e, w in zip(vectors, weights, strict=True) for s in (1, -1)}
    for matrix in group.matrices:
        images = {tuple(matrix @ e): w for e, w in links.items()}
        assert images == pytest.approx(links, rel=1e-12)
    rng = np.random.default_rng(1)
    cubic, square, slope = rng.normal(size=(3, 3, 3)), rng.normal(size=(3, 3)), rng.normal(size=3)
    to_q = np.linalg.cholesky(metric)

    def function(voxels):
        q = voxels @ to_q
        third = np.einsum("ijk,...i,...j,...k", cubic, q, q, q)
        return third + np.einsum("ij,...i,...j", square, q, q) + q @ slope

    voxels = rng.integers(-9, 10, (50, 3))
    found = sum(w * (function(voxels + e) - function(voxels)) for e, w in links.items())
    traces = (np.einsum(f"{each}->m", cubic) for each in ("iim", "imi", "mii"))
    expected = 2 * np.trace(square) + 2 * voxels @ to_q @ sum(traces)
    scale = sum(links.values()) * np.abs(function(voxels)).max()
    np.testing.assert_allclose(found, expected, atol=1e-13 * scale)
