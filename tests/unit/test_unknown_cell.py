"""Cells and orientations from peaks alone."""

import numpy as np
import pytest
from cctbx import crystal
from unit.test_indexing import CRYSTALS, angle_between, lattice_of, peaks_of

from nxmpi.crystal.laue import lattice_rotations
from nxmpi.crystal.symmetry import conventional_cells
from nxmpi.crystal.unknown_cell import cell_of, periods

BRAVAIS = {
    "cubic": "cP", "cubic F": "cF", "tetragonal": "tP", "hexagonal": "hP", "rhombohedral": "hR",
    "orthorhombic": "oP", "monoclinic": "mC", "triclinic": "aP",
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", CRYSTALS)
def test_cell_and_orientation_among_as_many_false_peaks(name, seed):
    values, symbol, _ = CRYSTALS[name]
    lattice = lattice_of(values)
    q, U, hkl = peaks_of(lattice, symbol, seed)
    weight = np.ones(len(q))
    found = cell_of([periods(q, weight)], q, weight)
    assert found.explained[: len(hkl)].all()
    assert found.explained[len(hkl) :].mean() < 0.15
    primitive = crystal.symmetry(unit_cell=values, space_group_symbol=symbol).niggli_cell()
    volume = primitive.unit_cell().volume()
    np.testing.assert_allclose(abs(1 / np.linalg.det(found.UB)), volume, rtol=5e-3)
    best = conventional_cells(found.UB, tolerance=1.5)[0]
    assert best.bravais == BRAVAIS[name]
    if name != "monoclinic":  # whose cell may be chosen in several ways
        edges = [getattr(best.lattice, each) for each in ("a", "b", "c")]
        np.testing.assert_allclose(sorted(edges), sorted(values[:3]), rtol=3e-3)
    if len(lattice_rotations(lattice, symbol)) > 4:  # the axes have an order
        assert angle_between(best.UB, U, lattice) < 0.2


def test_candidates_are_of_falling_symmetry_and_the_same_lattice():
    values, symbol, _ = CRYSTALS["tetragonal"]
    q, _, _ = peaks_of(lattice_of(values), symbol, 1)
    weight = np.ones(len(q))
    UB = cell_of([periods(q, weight)], q, weight).UB
    found = conventional_cells(UB, tolerance=1.5)
    assert [each.bravais for each in found[:1]] == ["tP"]
    assert {"oP", "oC", "mP", "aP"} <= {each.bravais for each in found}
    assert [each.n_operations for each in found] == sorted(
        (each.n_operations for each in found), reverse=True
    )
    for each in found:
        ratio = np.linalg.det(UB) / np.linalg.det(each.UB)
        assert ratio == pytest.approx(2 if each.bravais in ("oC", "mC") else 1, rel=1e-6)
        indices = np.linalg.solve(each.UB, UB)  # of the primitive cell's axes
        np.testing.assert_allclose(indices, np.round(indices), atol=1e-9)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_nothing_is_found_in_no_peaks_or_in_peaks_on_a_line(n):
    q = np.arange(1, n + 1)[:, None] * np.array([[0.15, 0.16, 0.12]])
    weight = np.ones(n)
    assert cell_of([periods(q, weight)], q, weight) is None


@pytest.mark.parametrize("n", [2, 3, 7])
def test_shares_of_the_directions_lead_to_the_same_bits(n):
    values, symbol, _ = CRYSTALS["triclinic"]
    q, _, _ = peaks_of(lattice_of(values), symbol, 1)
    weight = np.ones(len(q))
    found = cell_of([periods(q, weight, (i, n)) for i in range(n)], q, weight)
    assert np.array_equal(found.UB, cell_of([periods(q, weight)], q, weight).UB)
