"""Windows in |Q| of any cell, the same to the bit for equivalent voxels."""

import numpy as np
import pytest

from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.crystal.window import mixed_axes, window_on, window_plane
from nxmpi.errors import InputError
from nxmpi.model import HKLGrid, Lattice
from nxmpi.params import WindowParams

CELLS = {
    "-1": (5, 6, 7, 80, 95, 105), "2/m": (5, 6, 7, 90, 105, 90), "mmm": (5, 6, 7, 90, 90, 90),
    "4/mmm": (5, 5, 9, 90, 90, 90), "-3m1": (5, 5, 7, 90, 90, 120), "6/mmm": (5, 5, 8, 90, 90, 120),
    "R -3 m :R": (5, 5, 5, 62, 62, 62), "m-3m": (5, 5, 5, 90, 90, 90),
}  # fmt: skip
SHAPES = {
    "tukey": lambda r: np.where(r <= 0.5, 1.0, np.sin(np.pi * r) ** 2),
    "blackman": lambda r: 0.42 + 0.5 * np.cos(np.pi * r) + 0.08 * np.cos(2 * np.pi * r),
    "gaussian": lambda r: np.exp(-3.125 * r * r),
    "lanczos": lambda r: np.where(r == 0, 1.0, np.sin(np.pi * r) / np.where(r == 0, 1, np.pi * r)),
}


def setting(name, low=(-6, -6, -6), high=(6, 6, 6), step=(0.25, 0.25, 0.25), **axes):
    lattice = Lattice(**dict(zip(Lattice.__slots__, map(float, CELLS[name]), strict=True)))
    shape = tuple(b - a + 1 for a, b in zip(low, high, strict=True))
    origin = tuple(n * s for n, s in zip(low, step, strict=True))
    grid = HKLGrid(origin=origin, step=step, shape=shape, **axes)
    return voxel_group(laue_operators(name), grid), grid, lattice


def whole(window):
    planes = [window_plane(window, l) for l in range(window.low[2], window.high[2] + 1)]
    return np.array(planes)


def voxels(group):
    """Return (n_l, n_k, n_h, 3): h, k, l of voxels, counted from that of 0 0 0."""
    ranges = [np.arange(group.low[i], group.high[i] + 1) for i in (2, 1, 0)]
    return np.stack(np.meshgrid(*ranges, indexing="ij")[::-1], axis=-1)


def lengths(group, grid, lattice):
    """Return |Q| of every voxel [1/Å, with 2π]."""
    hkl = (voxels(group) * np.array(grid.step)) @ np.array(grid.axes)
    return 2 * np.pi * np.linalg.norm(hkl @ reciprocal_matrix(lattice).T, axis=-1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CELLS)
def test_windows_are_their_formulas_of_the_length_of_q(name, shape):
    group, grid, lattice = setting(name)
    r = lengths(group, grid, lattice) / 1.3
    found = whole(window_on(WindowParams(window=shape, q_max=1.3), group, grid, lattice))
    sure = abs(r - 1) > 1e-8
    wanted = np.where(r < 1, SHAPES[shape](r), 0.0)
    np.testing.assert_allclose(found[sure], wanted[sure], atol=1e-8)
    assert (found > 0).sum() > 20


@pytest.mark.parametrize("support", ["sphere", "ellipsoid"])
@pytest.mark.parametrize("name", CELLS)
def test_equivalent_voxels_have_the_same_bits(name, support):
    group, grid, lattice = setting(name)
    found = whole(window_on(WindowParams(support=support), group, grid, lattice))
    places = voxels(group)
    assert len(np.unique(found)) > 10
    for matrix in group.matrices:
        images = places @ matrix.T
        inside = ((images >= group.low) & (images <= group.high)).all(axis=-1)
        at = (images - group.low)[inside][:, ::-1]
        np.testing.assert_array_equal(found[tuple(at.T)], found[inside])
        assert not found[~inside].any()  # what the grid holds in part is windowed out


def test_bits_are_the_same_on_a_lattice_that_has_not_quite_the_symmetry():
    group, grid, _ = setting("6/mmm")
    lattice = Lattice(a=5.0, b=5.002, c=8.0, alpha=90.01, beta=90.0, gamma=119.99)
    found = whole(window_on(WindowParams(), group, grid, lattice))
    places = voxels(group)
    for matrix in group.matrices:
        at = places @ matrix.T - group.low
        inside = ((at >= 0) & (at < 13)).all(axis=-1)
        np.testing.assert_array_equal(found[tuple(at[inside][:, ::-1].T)], found[inside])


@pytest.mark.parametrize("name", CELLS)
def test_the_sphere_touches_the_nearest_face(name):
    group, grid, lattice = setting(name, low=(-6, -6, -6), high=(6, 6, 6))
    window = window_on(WindowParams(), group, grid, lattice)
    far = np.linspace(-4, 4, 401)
    a, b = np.meshgrid(far, far)
    nearest = min(
        2 * np.pi * np.linalg.norm(
            np.stack([np.full_like(a, 1.5), a, b], axis=-1)[..., np.argsort(order)]
            @ reciprocal_matrix(lattice).T, axis=-1,
        ).min()
        for order in ((0, 1, 2), (1, 0, 2), (2, 0, 1))
    )  # fmt: skip
    assert window.q_max[0] <= nearest * (1 + 1e-12)
    assert window.q_max[0] == pytest.approx(nearest, rel=1e-3)
    np.testing.assert_array_equal(window.q_max, window.q_max[0])


@pytest.mark.parametrize("name", CELLS)
def test_the_ellipsoid_touches_each_face(name):
    low, high = (-6, -6, -6), (6, 6, 6)
    if name in ("-1", "2/m", "mmm"):
        low, high = (-6, -9, -4), (7, 5, 4)
    group, grid, lattice = setting(name, low, high)
    window = window_on(WindowParams(support="ellipsoid"), group, grid, lattice)
    metric = window.metric * window.unit
    faces = np.minimum(-np.array(low), high)
    np.testing.assert_allclose(np.sqrt(np.diag(np.linalg.inv(metric))), faces, rtol=1e-8)
    B = reciprocal_matrix(lattice)
    G = B.T @ B
    cosines = metric / np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    np.testing.assert_allclose(
        cosines, G / np.sqrt(np.outer(np.diag(G), np.diag(G))), atol=1e-8
    )  # the angles of the lattice


def test_axes_that_the_group_mixes_have_one_scale():
    group, grid, lattice = setting("4/mmm", low=(-6, -5, -3), high=(6, 8, 3))
    window = window_on(WindowParams(support="ellipsoid"), group, grid, lattice)
    assert window.q_max[0] == window.q_max[1] == pytest.approx(2 * np.pi / 5 * 1.25)
    assert window.q_max[2] == pytest.approx(2 * np.pi / 9 * 0.75)
    np.testing.assert_array_equal(
        mixed_axes(group), [[True, True, False], [True, True, False], [False, False, True]]
    )
    diagonal = ((1.0, 1.0, 0.0), (1.0, -1.0, 0.0), (0.0, 0.0, 1.0))
    group, grid, lattice = setting("mmm", axes=diagonal)
    found = whole(window_on(WindowParams(q_max=2.0), group, grid, lattice))
    r = lengths(group, grid, lattice) / 2.0
    np.testing.assert_allclose(found, np.where(r < 1, SHAPES["tukey"](r), 0.0), atol=1e-8)


def test_no_window_is_1_and_needs_no_zero_inside():
    group, grid, lattice = setting("-1", low=(0, -2, -2))
    none = window_on(WindowParams(window="none"), group, grid, lattice)
    np.testing.assert_array_equal(whole(none), np.ones((9, 9, 7)))
    with pytest.raises(InputError, match=r"found voxels \[0, -2, -2\] to \[6, 6, 6\]"):
        window_on(WindowParams(), group, grid, lattice)
    assert whole(window_on(WindowParams(q_max=0.5), group, grid, lattice)).any()
