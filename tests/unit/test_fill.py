"""Filled holes against an independent solution of all unknown voxels of the volume at once."""

from itertools import product

import numpy as np
import pytest
from mpi4py import MPI
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from nxmpi.crystal.holes import find_holes
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.errors import CollectiveError
from nxmpi.model import HKLGrid, Lattice
from nxmpi.params import PunchParams
from nxmpi.stages import holes as clusters
from nxmpi.stages.fill import punch_and_fill

COMM = MPI.COMM_SELF
CELLS = {
    "-1": (5.0, 6.0, 7.0, 83.0, 97.0, 105.0), "P 1 2/m 1": (5, 6, 7, 90, 110, 90),
    "mmm": (5, 6, 7, 90, 90, 90), "4/m": (5, 5, 7, 90, 90, 90), "-3m1": (5, 5, 7, 90, 90, 120),
    "R -3 :R": (6, 6, 6, 75, 75, 75), "6/mmm": (5, 5, 7, 90, 90, 120),
    "m-3m": (6, 6, 6, 90, 90, 90),
}  # fmt: skip
"""Of each crystal system, and of the rhombohedral one in both its settings."""
FEW = ("P 1 2/m 1", "-3m1", "m-3m")
EACH = [laue if laue in FEW else pytest.param(laue, marks=pytest.mark.full) for laue in CELLS]
STEP = 0.2


def lattice_of(laue):
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return Lattice(**dict(zip(names, map(float, CELLS[laue]), strict=True)))


def grid_of(n, step=STEP):
    first = -(n // 2) * step
    return HKLGrid(origin=(first,) * 3, step=(step,) * 3, shape=(n,) * 3)


def metric_of(laue, grid):
    """Return the metric of voxels, by the textbook's formula for the direct cell."""
    a, b, c, *angles = CELLS[laue]
    alpha, beta, gamma = np.cos(np.radians(angles))
    direct = np.array([
        [a * a, a * b * gamma, a * c * beta], [a * b * gamma, b * b, b * c * alpha],
        [a * c * beta, b * c * alpha, c * c],
    ])  # fmt: skip
    step = np.array(grid.step)
    return 4 * np.pi**2 * np.linalg.inv(direct) * np.outer(step, step)


def places(grid):
    """Return the voxels from that of 0 0 0, [l, k, h] and along h, k, l."""
    low = np.rint(np.array(grid.origin) / grid.step).astype(int)
    h, k, l = (np.arange(a, a + n) for a, n in zip(low, grid.shape, strict=True))
    return np.stack(np.broadcast_arrays(h, k[:, None], l[:, None, None]), axis=-1)


def symmetric(laue, grid, seed=0):
    """Return random numbers that are the same, to the bit, at all images of a voxel."""
    voxels = places(grid).reshape(-1, 3)
    images = voxels @ voxel_group(laue_operators(laue), grid).matrices.transpose(0, 2, 1)
    keys = ((images + 100) @ [1, 1000, 1000000]).min(axis=0)
    table = np.random.default_rng(seed).normal(5, 1, keys.max() + 1)
    return table[keys].reshape(grid.array_shape)


def fill(laue, volume, params, grid):
    group = voxel_group(laue_operators(laue), grid)
    holes = find_holes(group, grid, lattice_of(laue), "P 1", params)
    return punch_and_fill(COMM, volume, 0, holes, params)


def punched_by_hand(laue, grid, radius):
    """Return the voxels nearer to a reflection than a radius."""
    voxels, metric = places(grid), metric_of(laue, grid)
    punched = np.zeros(grid.array_shape, bool)
    reach = range(-5, 6)
    for hkl in product(reach, repeat=3):
        delta = voxels - np.array(hkl) / grid.step
        squares = np.einsum("...i,ij,...j", delta, metric, delta)
        punched |= squares <= radius**2 * (1 + 1e-9)
    return punched


def solved_at_once(volume, unknown, links, epsilon=0.0, power=1):
    """Return the solution of (epsilon² - ∇²)^power u = 0 in unknown voxels of a volume.

    Parameters
    ----------
    links : list of (vector along h, k, l; weight)
    """
    exists = unknown | np.isfinite(volume)
    number = np.full(volume.shape, -1)
    number[exists] = np.arange(exists.sum())
    n_l, n_k, n_h = volume.shape
    rows, columns, values = [], [], []
    for (l, k, h), i in np.ndenumerate(number):
        if i < 0:
            continue
        rows.append(i)
        columns.append(i)
        values.append(epsilon**2)
        for (dh, dk, dl), weight in links:
            for sign in (1, -1):
                a, b, c = l + sign * dl, k + sign * dk, h + sign * dh
                if 0 <= a < n_l and 0 <= b < n_k and 0 <= c < n_h and number[a, b, c] >= 0:
                    rows += [i, i]
                    columns += [i, number[a, b, c]]
                    values += [weight, -weight]
    matrix = coo_array((values, (rows, columns))).tocsr()
    whole = matrix
    for _ in range(power - 1):
        whole = whole @ matrix
    inside = number[unknown]
    known = number[exists & ~unknown]
    right = -whole[inside][:, known] @ volume[exists & ~unknown]
    result = volume.copy()
    result[unknown] = spsolve(whole[inside][:, inside].tocsc(), right)
    return result


def orthogonal_links(laue, grid):
    """Return the links of the usual seven-point Laplacian."""
    metric = metric_of(laue, grid)
    assert np.allclose(metric, np.diag(np.diag(metric)))
    return [(tuple(row), 1 / metric[i, i]) for i, row in enumerate(np.eye(3, dtype=int))]


@pytest.mark.parametrize("laue", EACH)
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.full) for n in (1, 2))])
def test_harmonic_functions_are_restored(laue, seed):
    """Of second order in Å⁻¹, the mean over the group; that of m-3m is a constant."""
    grid = grid_of(41, step=0.1)
    form = np.random.default_rng(seed).normal(size=(3, 3))
    form += form.T
    form -= np.eye(3) * np.trace(form) / 3  # its Laplacian is zero
    root = np.linalg.cholesky(metric_of(laue, grid))
    function = np.zeros(grid.array_shape)
    matrices = voxel_group(laue_operators(laue), grid).matrices
    for matrix in matrices:
        q = places(grid) @ (matrix.T @ root)
        function += np.einsum("...i,ij,...j", q, form, q) / len(matrices)
    function += 3
    params = PunchParams(radius=0.4)
    found = fill(laue, function, params, grid)
    assert np.array_equal(found.punched, punched_by_hand(laue, grid, params.radius))
    whole = np.s_[5:-5, 5:-5, 5:-5]  # holes that the border does not cut
    off = np.abs(found.values - function)
    assert found.punched[whole].any()
    assert off[whole].max() < 1e-10 * np.abs(function).max()


@pytest.mark.parametrize("laue", CELLS)
def test_constant_volumes_stay_constant(laue):
    grid = grid_of(33)
    for params in (
        PunchParams(radius=0.35), PunchParams(radius=0.35, fill="matern", power=2),
        PunchParams(radius=0.35, fill="linear"),
    ):  # fmt: skip
        found = fill(laue, np.full(grid.array_shape, 7.25), params, grid)
        assert found.punched.any()
        assert np.abs(found.values - 7.25).max() < 1e-10


@pytest.mark.parametrize(
    ("laue", "params"),
    [
        ("mmm", PunchParams(radius=0.33)),
        ("mmm", PunchParams(radius=0.66)),  # they touch each other along c*
        ("4/m", PunchParams(radius=0.33, fill="matern", power=2, epsilon=1.5)),
        ("m-3m", PunchParams(radius=0.4, fill="matern", epsilon=3.0)),
    ],
)
def test_filled_values_are_those_of_the_whole_volume_solved_at_once(laue, params):
    grid = grid_of(19)
    volume = symmetric(laue, grid)
    volume[symmetric(laue, grid, 1) > 6.2] = np.nan  # a tenth was not measured
    found = fill(laue, volume, params, grid)
    unknown = punched_by_hand(laue, grid, params.radius)
    assert np.array_equal(found.punched, unknown)
    assert found.report.missing > 0
    assert found.report.cut > 0
    links = orthogonal_links(laue, grid)
    expected = solved_at_once(volume, unknown, links, params.epsilon, params.power)
    assert np.array_equal(np.isnan(found.values), np.isnan(expected))
    assert np.nanmax(np.abs(found.values - expected)) < 1e-9


@pytest.mark.parametrize("laue", EACH)
def test_filled_volumes_are_symmetric_to_the_bit(laue):
    grid = grid_of(23)
    volume = symmetric(laue, grid)
    volume[symmetric(laue, grid, 1) > 6.5] = np.nan
    params = PunchParams(
        radius=0.3, growth=0.02, satellites=((0.3, 0.1, 0.0),), satellite_radius=0.2
    )
    found = fill(laue, volume, params, grid)
    voxels = places(grid).reshape(-1, 3)
    for matrix in voxel_group(laue_operators(laue), grid).matrices:
        images = voxels @ matrix.T + 11
        inside = ((images >= 0) & (images < 23)).all(axis=1)
        h, k, l = images[inside].T
        for array in (found.values, found.punched):
            own = array.reshape(-1)[inside]
            assert np.array_equal(own, array[l, k, h], equal_nan=array.dtype.kind == "f")


def test_a_hole_with_nothing_around_is_empty_and_counted():
    grid = grid_of(19)
    volume = symmetric("mmm", grid)
    far = (np.abs(places(grid)) > 6).any(axis=-1)
    volume[far] = np.nan
    found = fill("mmm", volume, PunchParams(radius=0.2), grid)
    assert found.report.failed > 0
    empty = np.isnan(found.values) & found.punched
    assert empty.any()
    assert not (np.isnan(found.values) & ~far).any()


def test_none_leaves_zeros():
    grid = grid_of(19)
    volume = symmetric("mmm", grid)
    found = fill("mmm", volume, PunchParams(radius=0.3, fill="none"), grid)
    assert (found.values[found.punched] == 0).all()
    assert np.array_equal(found.values[~found.punched], volume[~found.punched])


def test_holes_that_fill_everything_are_refused(monkeypatch):
    monkeypatch.setattr(clusters, "LARGEST", 500)
    grid = grid_of(19)
    with pytest.raises(CollectiveError, match="smaller"):
        fill("mmm", symmetric("mmm", grid), PunchParams(radius=1.0), grid)


@pytest.mark.parametrize("laue", ["mmm", pytest.param("4/m", marks=pytest.mark.full), "m-3m"])
def test_missing_voxels_are_filled_by_the_same_equation(laue):
    grid = grid_of(19)
    volume = symmetric(laue, grid)
    volume[symmetric(laue, grid, 1) > 6.2] = np.nan
    distance = np.abs(places(grid)).max(axis=-1)
    volume[(distance > 3) & (distance < 6)] = np.nan  # a region with holes in and beside it
    params = PunchParams(radius=0.33, missing="fill")
    group = voxel_group(laue_operators(laue), grid)
    holes = find_holes(group, grid, lattice_of(laue), "P 1", params)
    found = punch_and_fill(COMM, volume, 0, holes, params, np.ones(volume.shape, bool))
    unknown = punched_by_hand(laue, grid, params.radius) | np.isnan(volume)
    expected = solved_at_once(volume, unknown, orthogonal_links(laue, grid))
    assert np.isfinite(found.values).all()
    assert np.abs(found.values - expected).max() < 1e-9
    assert found.report.together >= np.isnan(volume[~found.punched]).sum()


@pytest.mark.parametrize("laue", ["P 1 2/m 1", "-3m1", "6/mmm"])
def test_missing_voxels_are_filled_symmetrically_to_the_bit(laue):
    grid = grid_of(19)
    volume = symmetric(laue, grid)
    volume[symmetric(laue, grid, 1) > 6.0] = np.nan
    params = PunchParams(radius=0.3, missing="fill")
    group = voxel_group(laue_operators(laue), grid)
    holes = find_holes(group, grid, lattice_of(laue), "P 1", params)
    voxels = places(grid).reshape(-1, 3)
    images = np.abs(voxels @ group.matrices.transpose(0, 2, 1))
    whole = (images <= 9).all(axis=(0, 2)).reshape(volume.shape)
    found = punch_and_fill(COMM, volume, 0, holes, params, np.ones(volume.shape, bool)).values
    assert np.isfinite(found[whole]).all()
    for matrix in group.matrices:
        h, k, l = (voxels[whole.reshape(-1)] @ matrix.T + 9).T
        assert np.array_equal(found[whole], found[l, k, h])
