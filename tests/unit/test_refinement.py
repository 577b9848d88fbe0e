"""Refinement of simulated peaks, whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from unit.test_prediction import LATTICE, geometry_of, reflections

from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.prediction import CELL, CENTRE, TURN, predict
from nxmpi.crystal.reciprocal import reflecting_angles
from nxmpi.crystal.refinement import Observed, Parameter, Problem, refine
from nxmpi.crystal.symmetry import free_cell
from nxmpi.errors import InputError
from nxmpi.model import Lattice

ALL = (0, 1, 2)
ERRORS = np.array([0.05, 0.06, 0.02])
"""[pixels, pixels, degrees]"""
FREE = (
    *(Parameter((name,), ALL) for name in (*CELL, *TURN, "yaw", "pitch")),
    *(Parameter((name,), (i,)) for i in ALL for name in CENTRE),
    *(Parameter((name,), (i,)) for i in ALL[1:] for name in ("omega", "chi")),
)
TRUTH = (
    geometry_of(),
    geometry_of(beam_center=(500.0, 440.0), angles=(3.0, -5.0, 15.0)),
    geometry_of(beam_center=(470.0, 460.0), angles=(3.0, -3.0, -10.0)),
)


def observed_of(geometry, seed, false=0.0):
    """Return peaks with errors, some of them anywhere."""
    rng, (hkl, _) = np.random.default_rng(seed), reflections()
    near = reflecting_angles(geometry, hkl)[:, 0]
    places, changes = predict(geometry, LATTICE, hkl, near, ("omega",))
    use = np.isfinite(places).all(axis=1) & (np.abs(changes).max(axis=(1, 2)) < 100)
    hkl, places = hkl[use], places[use]
    places = places + rng.normal(0, 1, places.shape) * ERRORS
    wrong = rng.random(len(places)) < false
    places[wrong] += rng.normal(0, 3, (int(wrong.sum()), 3))
    return Observed(hkl, places, np.tile(ERRORS, (len(hkl), 1))), wrong


def problem_of(parameters=FREE, seed=0, false=0.0):
    """Return what starts half a degree, a pixel and 0.3 % off, and which peaks are wrong."""
    off = replace(LATTICE, a=LATTICE.a * 1.003, gamma=LATTICE.gamma + 0.2)
    turn = Rotation.from_euler("xyz", [0.3, -0.4, 0.3], degrees=True).as_matrix()
    geometries = []
    for each in TRUTH:
        U = np.array(each.UB) @ np.linalg.inv(reciprocal_matrix(LATTICE))
        x, y = each.detector.beam_center
        detector = replace(each.detector, beam_center=(x + 1.0, y - 0.5))
        UB = as_matrix(turn @ U @ reciprocal_matrix(off))
        geometries.append(replace(each, UB=UB, detector=detector))
    peaks = [observed_of(each, 10 * seed + i, false) for i, each in enumerate(TRUTH)]
    observed, wrong = zip(*peaks, strict=True)
    return Problem(tuple(geometries), off, observed, parameters), wrong


def angle_to_truth(found, lattice):
    U = np.array(TRUTH[0].UB) @ np.linalg.inv(reciprocal_matrix(LATTICE))
    ours = np.array(found.UB) @ np.linalg.inv(reciprocal_matrix(lattice))
    return np.degrees(Rotation.from_matrix(ours @ U.T).magnitude())


def test_truth_is_found_within_errors_that_are_right():
    """Over some repetitions: each parameter's error is the scatter of its values."""
    pulls = []
    for seed in range(6):
        problem, _ = problem_of(seed=seed)
        found = refine(problem)
        assert len(found.held) == 0
        assert angle_to_truth(found.geometries[0], found.lattice) < 0.01
        residuals = np.concatenate(found.residuals)
        np.testing.assert_allclose(residuals.std(axis=0), 1.0, atol=0.1)
        off = [getattr(found.lattice, name) - getattr(LATTICE, name) for name in CELL]
        for each, true in zip(found.geometries, TRUTH, strict=True):
            off += list(np.subtract(each.detector.beam_center, true.detector.beam_center))
        errors = np.sqrt(np.diag(found.covariance))
        names = [free.names[0] for free in FREE]
        chosen = [i for i, name in enumerate(names) if name in (*CELL, *CENTRE)]
        pulls.append(np.array(off) / errors[chosen])
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(pulls))), 1.0, atol=0.35)


def test_false_peaks_are_left_out():
    problem, wrong = problem_of(false=0.1)
    found = refine(problem)
    used, false = np.concatenate(found.used), np.concatenate(wrong)
    assert used[false].mean() < 0.1
    assert used[~false].mean() > 0.99
    assert angle_to_truth(found.geometries[0], found.lattice) < 0.01


def test_combinations_that_peaks_do_not_determine_are_held():
    free = (*FREE, Parameter(("wavelength",), ALL), Parameter(("distance",), ALL))
    problem, _ = problem_of(free)
    found = refine(problem)
    assert len(found.held) == 1  # a larger cell looks like a longer wavelength
    np.testing.assert_allclose(np.concatenate(found.residuals).std(axis=0), 1.0, atol=0.1)


def test_parameters_that_are_one_by_symmetry_change_together():
    problem, _ = problem_of((Parameter(("a", "b"), ALL), *(Parameter((n,), ALL) for n in TURN)))
    found = refine(problem)
    change = [getattr(found.lattice, n) - getattr(problem.lattice, n) for n in ("a", "b", "c")]
    assert change[0] == pytest.approx(change[1])
    assert change[0] != 0
    assert change[2] == 0


@pytest.mark.parametrize(
    ("cell", "symbol", "wanted"),
    [
        ((5, 5, 5, 90, 90, 90), "F m -3 m", "abc"),
        ((5, 5, 7, 90, 90, 90), "P 42/m n m", "ab c"),
        ((5, 5, 7, 90, 90, 120), "P 63/m m c", "ab c"),
        ((5, 5, 14, 90, 90, 120), "R -3 m", "ab c"),
        ((5, 5, 5, 62, 62, 62), "R -3 m :R", "abc alpha,beta,gamma"),
        ((5, 6, 7, 90, 90, 90), "P n m a", "a b c"),
        ((5, 6, 7, 90, 105, 90), "C 1 2/c 1", "a b c beta"),
        ((5, 6, 7, 90, 90, 105), "P 1 1 2/m", "a b c gamma"),
        ((5, 6, 7, 80, 95, 105), "P -1", "a b c alpha beta gamma"),
    ],
    ids=str,
)
def test_symmetry_leaves_these_parameters_of_the_cell_free(cell, symbol, wanted):
    lattice = Lattice(**dict(zip(CELL, map(float, cell), strict=True)))
    groups = [
        tuple(word.split(",")) if "," in word or len(word) > 3 else tuple(word)
        for word in wanted.split()
    ]
    assert free_cell(lattice, symbol) == tuple(groups)


def test_cell_that_is_not_of_the_symmetry_is_refused():
    with pytest.raises(InputError, match=r"expected a unit cell of its symmetry, found 5\.1, 6\.3"):
        free_cell(LATTICE, "P m -3 m")
