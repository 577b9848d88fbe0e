"""Which voxels are punched, against distances of every voxel from every reflection."""

from itertools import product

import numpy as np
import pytest
from mpi4py import MPI

from nxmpi.crystal.holes import find_holes
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.crystal.symmetry import is_allowed
from nxmpi.errors import InputError
from nxmpi.model import HKLGrid, Lattice
from nxmpi.params import PunchParams
from nxmpi.stages.fill import punch_and_fill


def cubic_grid(n, step, **axes):
    return HKLGrid(origin=(-(n // 2) * step,) * 3, step=(step,) * 3, shape=(n,) * 3, **axes)


def lattice_of(*values):
    return Lattice(**dict(zip(Lattice.__slots__, map(float, values), strict=True)))


CASES = {
    "hexagonal, of many kinds": (
        "6/mmm", "P 63/m m c", lattice_of(5, 5, 7, 90, 90, 120), cubic_grid(21, 0.2),
        PunchParams(
            radius=0.2, growth=0.05, satellites=((1 / 3, 1 / 3, 0.0),), satellite_radius=0.15,
            central_radius=0.5, listed=((1.0, 0.0, 0.0, 0.6), (0.5, 0.5, 0.5)),
        ),
    ),
    "one that is outside and reaches in": (
        "-1", "P -1", lattice_of(5, 6, 7, 83, 97, 105),
        HKLGrid(origin=(-1.95, -0.9, -1.5), step=(0.15,) * 3, shape=(22, 17, 19)),
        PunchParams(radius=0.31, listed=((3.2, 0.0, 0.0, 1.2),)),
    ),
    "between voxels, along other axes": (
        "2/m", "C 1 2/c 1", lattice_of(5, 6, 7, 90, 110, 90),
        cubic_grid(25, 0.15, axes=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 2.0))),
        PunchParams(
            radius=0.3, reflections="integers", satellites=((0.21, 0.13, 0.07),),
            satellite_radius=0.2,
        ),
    ),
    "listed ones alone": (
        "m-3m", "F d -3 m", lattice_of(6, 6, 6, 90, 90, 90), cubic_grid(31, 0.14),
        PunchParams(
            radius=0.3, reflections="none", satellites=((0.3, 0.1, 0.0),),
            listed=((1.0, 1.0, 1.0, 0.4), (2.0, 2.0, 0.0)),
        ),
    ),
}  # fmt: skip


def by_hand(case):
    """Return the punched voxels, and the number of reflections with any."""
    laue, space_group, lattice, grid, params = case
    B, operators = 2 * np.pi * reciprocal_matrix(lattice), laue_operators(laue)
    h, k, l = (a + d * np.arange(n) for a, d, n in zip(*grid_parts(grid), strict=True))
    places = np.stack(np.broadcast_arrays(h, k[:, None], l[:, None, None]), axis=-1)
    Q = places @ np.array(grid.axes) @ B.T
    holes = {}

    def add(hkl, radius, rank):
        key = tuple((np.round(hkl, 6) + 0.0).tolist())
        holes[key] = max(holes.get(key, (-1, 0.0)), (rank, radius))

    def grown(hkl, radius):
        return radius + params.growth * np.linalg.norm(B @ hkl)

    parents = []
    if params.reflections != "none":
        parents = np.array(list(product(range(-9, 10), repeat=3)), float)
        parents = parents[(parents != 0).any(axis=1)]
        if params.reflections == "allowed":
            parents = parents[is_allowed(space_group, parents)]
        for hkl in parents:
            add(hkl, grown(hkl, params.radius), 0)
        parents = [*parents, np.zeros(3)]
        add(np.zeros(3), params.central_radius or params.radius, 1)
    for h, k, l, *own in params.listed:
        for image in operators @ np.array([h, k, l]):
            add(image, own[0] if own else grown(image, params.radius), 2 if own else 0)
            parents.append(image)
    for q, parent in product(params.satellites, parents):
        for image in parent + operators @ np.array(q):
            add(image, grown(image, params.satellite_radius or params.radius), 0)
    punched, n = np.zeros(grid.array_shape, bool), 0
    for hkl, (_, radius) in holes.items():
        near = ((Q - B @ hkl) ** 2).sum(axis=-1) <= radius**2 * (1 + 1e-9)
        punched |= near
        n += near.any()
    return punched, n


def grid_parts(grid):
    return grid.origin, grid.step, grid.shape


@pytest.mark.parametrize("name", CASES)
def test_voxels_within_the_radius_of_any_reflection_are_punched(name):
    laue, space_group, lattice, grid, params = CASES[name]
    group = voxel_group(laue_operators(laue), grid)
    holes = find_holes(group, grid, lattice, space_group, params)
    found = punch_and_fill(MPI.COMM_SELF, np.ones(grid.array_shape), 0, holes, params)
    punched, n = by_hand(CASES[name])
    assert np.array_equal(found.punched, punched)
    assert found.report.holes == n > 0
    assert found.report.voxels == punched.sum()


def test_a_radius_that_nobody_gave_is_refused():
    grid = cubic_grid(5, 0.5)
    group = voxel_group(laue_operators("-1"), grid)
    with pytest.raises(InputError, match="expected a radius"):
        find_holes(group, grid, lattice_of(5, 6, 7, 80, 95, 105), "P -1", PunchParams())
