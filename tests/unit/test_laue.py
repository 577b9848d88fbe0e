"""Laue groups as integer matrices, on hkl and on the voxels of grids."""

import logging
from pathlib import Path

import numpy as np
import pytest

from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.laue import (
    REPRESENTATIVES,
    coset_leaders,
    is_closed,
    keeps_lattice,
    laue_operators,
    voxel_group,
)
from nxmpi.errors import InputError
from nxmpi.model import HKLGrid, Lattice, Sample
from nxmpi.params import SymmetrizeParams
from nxmpi.pipeline.symmetrize_plan import operators_of

ORDERS = {
    "-1": 2, "2/m": 4, "mmm": 8, "4/m": 8, "4/mmm": 16, "-3": 6, "-3m": 12, "-3m1": 12, "-31m": 12,
    "6/m": 12, "6/mmm": 24, "m-3": 24, "m-3m": 48,
}  # fmt: skip
CELLS = {
    "C 1 2/c 1": (5, 6, 7, 90, 105, 90), "P 1 1 21/b": (5, 6, 7, 90, 90, 105),
    "I 41/a c d": (5, 5, 9, 90, 90, 90), "R -3 c :H": (5, 5, 14, 90, 90, 120),
    "R -3 m :R": (5, 5, 5, 62, 62, 62), "P 31 1 2": (5, 5, 7, 90, 90, 120),
    "P 63/m m c": (5, 5, 8, 90, 90, 120), "F d -3 m": (5, 5, 5, 90, 90, 90),
    "P 21 3": (5, 5, 5, 90, 90, 90), "P -1": (5, 6, 7, 80, 95, 105),
}  # fmt: skip


def grid_of(origin=(-2.0, -2.0, -2.0), step=(0.5, 0.5, 0.5), shape=(9, 9, 9), **axes):
    return HKLGrid(origin=origin, step=step, shape=shape, **axes)


@pytest.mark.parametrize("name", ORDERS)
def test_classes_are_groups_of_their_order_with_inversion(name):
    matrices = laue_operators(name)
    assert len(matrices) == ORDERS[name]
    assert is_closed(matrices)
    assert (matrices[0] == np.eye(3)).all()
    assert any((one == -np.eye(3)).all() for one in matrices)
    assert set(ORDERS) == set(REPRESENTATIVES)


@pytest.mark.parametrize("name", CELLS)
def test_operators_leave_lengths_of_scattering_vectors_as_they_are(name):
    names = Lattice.__slots__
    lattice = Lattice(**dict(zip(names, map(float, CELLS[name]), strict=True)))
    B = reciprocal_matrix(lattice)
    metric = B.T @ B
    for matrix in laue_operators(name):
        np.testing.assert_allclose(matrix.T @ metric @ matrix, metric, atol=1e-12)


def test_settings_of_trigonal_crystals_differ():
    one, other = ({m.tobytes() for m in laue_operators(name)} for name in ("-3m1", "-31m"))
    assert one != other
    assert {m.tobytes() for m in laue_operators("P 3 1 2")} == other
    assert {m.tobytes() for m in laue_operators("R 3 2 :H")} == one


@pytest.mark.parametrize("name", [*ORDERS, *CELLS])
def test_every_operator_is_one_that_keeps_planes_times_one_that_exchanges_axes(name):
    matrices = laue_operators(name)
    planar, leaders = coset_leaders(matrices)
    products = {np.ascontiguousarray(a @ b).tobytes() for a in planar for b in leaders}
    assert products == {np.ascontiguousarray(one).tobytes() for one in matrices}
    assert len(planar) * len(leaders) == len(matrices)
    assert is_closed(planar)
    assert (leaders[0] == np.eye(3)).all()


def test_operators_on_voxels_follow_steps_and_axes():
    group = voxel_group(laue_operators("4/m"), grid_of((-1.0, -2.0, -3.0)))
    np.testing.assert_array_equal(group.low, [-2, -4, -6])
    np.testing.assert_array_equal(group.high, [6, 4, 2])
    diagonal = ((1.0, 1.0, 0.0), (1.0, -1.0, 0.0), (0.0, 0.0, 1.0))
    along = voxel_group(laue_operators("mmm"), grid_of(axes=diagonal)).matrices
    assert {abs(int(one[0, 1])) for one in along} == {0, 1}  # h to -h exchanges these axes
    assert is_closed(along)
    half = voxel_group(laue_operators("mmm"), grid_of(step=(0.5, 0.25, 0.1)))
    assert len(half.matrices) == 8


@pytest.mark.parametrize(
    ("name", "grid", "told"),
    [
        ("mmm", {"origin": (-2.1, -2.0, -2.0)}, r"begin at -2\.1, -2, -2 .* at -2, -2, -2\)"),
        ("4/mmm", {"step": (0.5, 0.25, 0.5)}, r"found 0\.5, 0\.25, 0\.5 \(steps of 0\.25, 0\.25,"),
        ("6/m", {"step": (0.5, 0.25, 0.1)}, r"\(steps of 0\.25, 0\.25, 0\.1 would do\)"),
        ("m-3", {"step": (0.5, 0.5, 0.25)}, r"\(steps of 0\.25, 0\.25, 0\.25 would do\)"),
        ("m-3m", {"shape": (9, 9, 11)}, r"found -2, -2, -2 to 2, 2, 3 \(-3 to 3 would do\)"),
    ],
)
def test_grids_that_symmetry_does_not_map_to_themselves_are_refused(name, grid, told):
    with pytest.raises(InputError, match=told):
        voxel_group(laue_operators(name), grid_of(**grid))


def test_unknown_symmetry_is_refused():
    with pytest.raises(InputError, match="expected a symbol or number, found '5/m'"):
        laue_operators("5/m")


@pytest.mark.parametrize(
    ("cell", "symbol", "kept"),
    [
        ((5, 5, 5, 70, 70, 70), "R -3 m :R", True),
        ((5, 5, 5, 70, 70, 70), "R -3 m :H", False),
        ((5, 5, 7, 90, 90, 120), "R -3 m :H", True),
        ((5, 5.02, 7, 90.2, 90, 120), "6/mmm", True),  # as it was measured
        ((5, 6, 7, 90, 90, 110), "P 1 1 2/m", True),
        ((5, 6, 7, 90, 90, 110), "2/m", False),
        ((5, 5, 7, 90, 90, 120), "4/mmm", False),
        ((5, 6, 7, 90, 90, 90), "m-3m", False),
    ],
)
def test_a_cell_has_the_symmetry_or_not(cell, symbol, kept):
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    lattice = Lattice(**dict(zip(names, map(float, cell), strict=True)))
    assert keeps_lattice(laue_operators(symbol), lattice) == kept


@pytest.mark.parametrize(
    ("space_group", "laue_group", "laue", "told"),
    [
        ("P m m m", "2/m", None, True),
        ("P m m m", "2/m", "mmm", False),
        ("P m m m", "mmm", None, False),
        ("P m m m", "unknown", None, False),
        ("P 1 1 21/b", "2/m", None, False),
        ("P 31 1 2", "-3m", None, False),
        ("P m m m", "", None, False),
    ],
)
def test_groups_that_disagree_are_told(caplog, space_group, laue_group, laue, told):
    caplog.set_level(logging.WARNING, "nxmpi")
    logging.getLogger("nxmpi").propagate = True
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    cell = map(float, CELLS.get(space_group, (5, 6, 7, 90, 90, 90)))
    lattice = Lattice(**dict(zip(names, cell, strict=True)))
    sample = Sample(lattice=lattice, space_group=space_group, laue_group=laue_group)
    found = operators_of(Path("x.nxs"), sample, SymmetrizeParams(laue=laue))
    np.testing.assert_array_equal(found, laue_operators(laue or space_group))
    wanted = "space_group P m m m is of the Laue class mmm, laue_group says 2/m: taking the space"
    assert (wanted in caplog.text) == told
    assert bool(caplog.messages) == told


@pytest.mark.parametrize("symbol", ["23", "32"])
def test_point_groups_that_look_like_numbers_are_refused(symbol):
    with pytest.raises(InputError, match="expected a class"):
        laue_operators(symbol)


@pytest.mark.parametrize("symbol", ["4/m", "4/mmm"])
def test_a_unique_axis_that_is_not_the_last_is_refused_if_it_must(symbol):
    axes = ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    grid = HKLGrid(origin=(-1.0,) * 3, step=(0.25,) * 3, shape=(9,) * 3, axes=axes)
    group = voxel_group(laue_operators(symbol), grid)
    if symbol == "4/m":
        with pytest.raises(InputError, match="unique axis"):
            coset_leaders(group.matrices)
    else:
        planar, leaders = coset_leaders(group.matrices)
        assert len(planar) * len(leaders) == 16
