"""Orientations of random crystals of known cell, among false peaks."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nxmpi.crystal.indexing import best_of, candidates, nearest_equivalent
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.laue import lattice_rotations, laue_rotations, metric_rotations
from nxmpi.crystal.symmetry import lattice_translations, reflections
from nxmpi.model import Lattice

Q_MAX = 1.0
ERROR = 1e-3
"""Of scattering vectors [1/Å]."""
CRYSTALS = {
    "cubic": ((4.0, 4.0, 4.0, 90.0, 90.0, 90.0), "P m -3 m", 24),
    "cubic F": ((5.6, 5.6, 5.6, 90.0, 90.0, 90.0), "F m -3 m", 24),
    "tetragonal": ((4.6, 4.6, 3.0, 90.0, 90.0, 90.0), "P 42/m n m", 8),
    "hexagonal": ((5.0, 5.0, 7.0, 90.0, 90.0, 120.0), "P 6/m m m", 12),
    "rhombohedral": ((5.0, 5.0, 14.0, 90.0, 90.0, 120.0), "R -3 m", 6),
    "orthorhombic": ((5.475, 8.211, 12.158, 90.0, 90.0, 90.0), "P 21 21 21", 4),
    "monoclinic": ((7.0, 9.0, 6.0, 90.0, 105.0, 90.0), "C 2/m", 2),
    "triclinic": ((6.0, 7.0, 8.0, 85.0, 95.0, 110.0), "P -1", 1),
}


def lattice_of(values):
    return Lattice(**dict(zip(Lattice.__slots__, values, strict=True)))


def peaks_of(lattice, symbol, seed, n_true=150, n_false=150):
    """Return vectors of reflections with errors and of false peaks, and the orientation."""
    rng = np.random.default_rng(seed)
    U = Rotation.random(random_state=seed).as_matrix()
    hkl = reflections(lattice, symbol, 1 / Q_MAX)
    hkl = hkl[rng.permutation(len(hkl))[:n_true]]
    true = hkl @ (U @ reciprocal_matrix(lattice)).T + rng.normal(0, ERROR, hkl.shape)
    false = rng.normal(size=(n_false, 3))
    false *= Q_MAX * rng.random((n_false, 1)) ** (1 / 3) / np.linalg.norm(false, axis=1)[:, None]
    return np.concatenate([true, false]), U, hkl


def angle_between(UB, wanted, lattice):
    """Return the angle from an orientation to the nearest equivalent of another [degrees]."""
    # places of peaks alone do not tell obverse from reverse
    B, rotations = reciprocal_matrix(lattice), metric_rotations(lattice)
    u, _, v = np.linalg.svd(nearest_equivalent(UB, wanted @ B, rotations) @ np.linalg.inv(B))
    return np.degrees(Rotation.from_matrix(u @ v @ wanted.T).magnitude())


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", CRYSTALS)
def test_half_of_the_peaks_false_and_a_cell_off_by_a_percent(name, seed):
    values, symbol, _ = CRYSTALS[name]
    lattice = lattice_of(values)
    q, U, hkl = peaks_of(lattice, symbol, seed)
    off = lattice_of((*(np.array(values[:3]) * 1.01), *values[3:]))
    guess = reciprocal_matrix(off)
    allowed = reflections(off, symbol, 0.99 / Q_MAX)
    weight = np.ones(len(q))
    pairs = candidates(q, weight, guess, allowed, laue_rotations(symbol))
    found = best_of([pairs], q, weight, guess)
    assert angle_between(found.UB, U, lattice) < 0.1
    assert found.explained[: len(hkl)].all()
    assert found.explained[len(hkl) :].mean() < 0.15
    np.testing.assert_allclose(
        np.linalg.det(found.UB), np.linalg.det(reciprocal_matrix(lattice)), rtol=5e-3
    )


@pytest.mark.parametrize("name", CRYSTALS)
def test_rotations_are_those_of_the_lattice(name):
    values, symbol, n = CRYSTALS[name]
    lattice = lattice_of(values)
    B, rotations = reciprocal_matrix(lattice), lattice_rotations(lattice, symbol)
    assert len(rotations) == n
    lengths = np.linalg.norm(B @ rotations, axis=1)
    np.testing.assert_allclose(lengths, np.tile(np.linalg.norm(B, axis=0), (n, 1)), rtol=1e-9)
    translations, hkl = lattice_translations(symbol), reflections(lattice, symbol, 1.0)
    for each in rotations:
        phases = hkl @ each.T @ translations.T
        np.testing.assert_allclose(phases, np.round(phases), atol=1e-9)


def test_equivalent_orientations_are_one():
    values, symbol, n = CRYSTALS["hexagonal"]
    lattice = lattice_of(values)
    B, rotations = reciprocal_matrix(lattice), lattice_rotations(lattice, symbol)
    UB = Rotation.random(random_state=4).as_matrix() @ B
    found = [nearest_equivalent(UB @ each, B, rotations) for each in rotations]
    np.testing.assert_allclose(found, np.tile(found[0], (n, 1, 1)), atol=1e-12)
    near = Rotation.from_euler("xyz", [1, 2, -1], degrees=True).as_matrix() @ UB
    np.testing.assert_allclose(nearest_equivalent(found[3], near, rotations), UB, atol=1e-12)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_nothing_is_found_in_no_peaks_or_in_peaks_on_a_line(n):
    values, symbol, _ = CRYSTALS["cubic"]
    lattice = lattice_of(values)
    q = np.arange(1, n + 1)[:, None] * np.array([[0.15, 0.16, 0.12]])
    B, weight = reciprocal_matrix(lattice), np.ones(n)
    pairs = candidates(q, weight, B, reflections(lattice, symbol, 1.0), laue_rotations(symbol))
    assert best_of([pairs], q, weight, B) is None


@pytest.mark.parametrize("n", [2, 3, 7, 1000])
def test_shares_of_the_pairs_lead_to_the_same_bits(n):
    values, symbol, _ = CRYSTALS["triclinic"]
    lattice = lattice_of(values)
    q, _, _ = peaks_of(lattice, symbol, 1)
    B, weight, allowed = (
        reciprocal_matrix(lattice),
        np.ones(len(q)),
        reflections(lattice, symbol, 2),
    )
    turns = laue_rotations(symbol)
    shares = [candidates(q, weight, B, allowed, turns, (i, n)) for i in range(n)]
    whole = candidates(q, weight, B, allowed, turns)
    found, wanted = best_of(shares, q, weight, B), best_of([whole], q, weight, B)
    assert np.array_equal(found.UB, wanted.UB)
