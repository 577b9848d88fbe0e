"""Orientations, cell and geometry from the places of indexed peaks, by least squares."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from nxmpi._typing import F8, Mask
from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.prediction import CELL, CENTRE, OUTER, TILTS, TURN, predict
from nxmpi.model import Geometry, Lattice

OUTLIER = 5.0
"""Residual, in units of the fit's own scatter, beyond which a peak is left out [1]."""
LOST = 1e3
"""Residual of a reflection that a geometry does not bring onto the detector [1]."""
DEGENERATE = 1e-5
"""Singular value, to the largest, below which a combination of parameters is held [1]."""


class Observed(NamedTuple):
    """Indexed peaks of a position."""

    hkl: F8
    """(n, 3) float64: whole numbers."""
    places: F8
    """(n, 3) float64: x and y from the outer corner of pixel 0 [pixels], true phi [degrees]."""
    errors: F8
    """(n, 3) float64: standard errors of the places."""


class Parameter(NamedTuple):
    """Something that is free."""

    names: tuple[str, ...]
    """Of `nxmpi.crystal.prediction.PARAMETERS`; those that are one by symmetry change together."""
    positions: tuple[int, ...]
    """Where it is the same."""


class Problem(NamedTuple):
    """What is to be fitted."""

    geometries: tuple[Geometry, ...]
    """Of the positions to begin with, each with a UB that is a rotation times B."""
    lattice: Lattice
    """Of all positions."""
    observed: tuple[Observed, ...]
    parameters: tuple[Parameter, ...]


class Refined(NamedTuple):
    """What fits best."""

    geometries: tuple[Geometry, ...]
    lattice: Lattice
    phi0: F8
    """(n_positions,) float64: to be added to the angles of the file [degrees]."""
    values: F8
    """(n,) float64: changes of the parameters."""
    covariance: F8
    """(n, n) float64: from the errors of the peaks, times their scatter where this is larger."""
    residuals: tuple[F8, ...]
    """(n_peaks, 3) float64 of each position: predicted less observed, in units of the errors."""
    used: tuple[Mask, ...]
    """(n_peaks,) bool of each position: no outliers."""
    held: int
    """Combinations of parameters that the peaks do not determine."""


def refine(problem: Problem) -> Refined:
    """Return the values of the parameters that fit the peaks best.

    Notes
    -----
    Residuals of x, y and phi in units of their errors; first with a soft loss for all peaks, then
    squared without those that are `OUTLIER` times the median deviation off. Combinations that the
    peaks leave open, by the singular values of the derivatives, stay as they are.
    """
    used = tuple(np.ones(len(each.hkl), bool) for each in problem.observed)
    values = np.zeros(len(problem.parameters))
    for loss in ("soft_l1", "linear", "linear"):
        free = _determined(_jacobian(problem, values, used))
        values = _fit(problem, values, used, free, loss)
        every = _residuals(problem, values)
        spread = 1.4826 * np.median(np.abs(np.concatenate(every)), axis=0)
        used = tuple(np.asarray((np.abs(r) / spread).max(axis=1) < OUTLIER) for r in every)
    r = _together(_residuals(problem, values), used)
    J = _jacobian(problem, values, used) @ free
    scatter = max(float(r @ r) / max(r.size - free.shape[1], 1), 1.0)
    lattice = _lattice_at(problem, values)
    made = [_geometry_at(problem, lattice, i, values) for i in range(len(problem.geometries))]
    return Refined(
        geometries=tuple(geometry for geometry, _ in made), lattice=lattice,
        phi0=np.array([phi0 for _, phi0 in made]), values=values,
        covariance=scatter * free @ np.linalg.inv(J.T @ J) @ free.T,
        residuals=_residuals(problem, values), used=used,
        held=len(values) - free.shape[1],
    )  # fmt: skip


def _fit(problem: Problem, start: F8, used: tuple[Mask, ...], free: F8, loss: str) -> F8:
    """Return the values that fit best, from ``start`` along the columns of ``free``."""
    fitted = least_squares(
        lambda x: _together(_residuals(problem, start + free @ x), used),
        np.zeros(free.shape[1]), loss=loss,
        jac=lambda x: _jacobian(problem, start + free @ x, used) @ free,
    )  # fmt: skip
    return np.asarray(start + free @ fitted.x)


def _determined(jacobian: F8) -> F8:
    """Return the combinations of parameters that are determined, (n_parameters, m) float64."""
    size = np.linalg.norm(jacobian, axis=0)
    scale = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    _, singular, rows = np.linalg.svd(jacobian * scale, full_matrices=False)
    return np.asarray((rows[singular > DEGENERATE * singular[0]] * scale).T)


def _together(parts: tuple[F8, ...], used: tuple[Mask, ...]) -> F8:
    return np.concatenate([part[use].ravel() for part, use in zip(parts, used, strict=True)])


def _residuals(problem: Problem, values: F8) -> tuple[F8, ...]:
    lattice, result = _lattice_at(problem, values), []
    for i, each in enumerate(problem.observed):
        geometry, phi0 = _geometry_at(problem, lattice, i, values)
        near = each.places[:, 2] + phi0
        places = predict(geometry, lattice, each.hkl, near).places - [0.0, 0.0, phi0]
        r = (places - each.places) / each.errors
        result.append(np.nan_to_num(r, nan=LOST, posinf=LOST, neginf=-LOST))
    return tuple(result)


def _jacobian(problem: Problem, values: F8, used: tuple[Mask, ...]) -> F8:
    """Return the derivatives of the residuals of the peaks used, (n, n_parameters) float64."""
    lattice = _lattice_at(problem, values)
    names = tuple(dict.fromkeys(name for each in problem.parameters for name in each.names))
    parts = []
    for i, each in enumerate(problem.observed):
        geometry, phi0 = _geometry_at(problem, lattice, i, values)
        near = each.places[:, 2] + phi0
        changes = predict(geometry, lattice, each.hkl, near, names).changes
        changes = np.nan_to_num(changes[used[i]] / each.errors[used[i]][..., None])
        by_name = dict(zip(names, changes.reshape(-1, len(names)).T, strict=True))
        turned = [by_name.get(name, 0.0) for name in TURN]
        left = _left_jacobian(_turn_of(problem, i, values))
        by_name |= {
            name: sum(turned[k] * left[k, m] for k in range(3))
            for m, name in enumerate(TURN) if name in by_name
        }  # fmt: skip
        nothing = np.zeros(changes.shape[0] * 3)
        parts.append(
            [
                sum((by_name[name] for name in free.names), nothing)
                if i in free.positions else nothing
                for free in problem.parameters
            ]
        )  # fmt: skip
    return np.concatenate([np.stack(columns, axis=1) for columns in parts])


def _lattice_at(problem: Problem, values: F8) -> Lattice:
    cell = {name: getattr(problem.lattice, name) for name in CELL}
    for free, value in zip(problem.parameters, values, strict=True):
        for name in free.names:
            if name in CELL:
                cell[name] += float(value)
    return Lattice(**cell)


def _changes_at(problem: Problem, position: int, values: F8) -> dict[str, float]:
    """Return what the parameters change at a position, by name."""
    return {
        name: float(value)
        for free, value in zip(problem.parameters, values, strict=True)
        if position in free.positions
        for name in free.names
    }


def _turn_of(problem: Problem, position: int, values: F8) -> F8:
    """Return the rotation vector of a position [rad]."""
    change = _changes_at(problem, position, values)
    return np.radians([change.get(name, 0.0) for name in TURN])


def _geometry_at(
    problem: Problem, lattice: Lattice, position: int, values: F8
) -> tuple[Geometry, float]:
    start, change = problem.geometries[position], _changes_at(problem, position, values)
    detector, goniometer = start.detector, start.goniometer
    U = np.array(start.UB) @ np.linalg.inv(reciprocal_matrix(problem.lattice))
    turn = Rotation.from_rotvec(_turn_of(problem, position, values)).as_matrix()
    x, y = (c + change.get(name, 0.0) for c, name in zip(detector.beam_center, CENTRE, strict=True))
    geometry = Geometry(
        wavelength=start.wavelength + change.get("wavelength", 0.0),
        detector=replace(
            detector, distance=detector.distance + change.get("distance", 0.0), beam_center=(x, y),
            **{name: getattr(detector, name) + change.get(name, 0.0) for name in TILTS},
        ),
        goniometer=replace(
            goniometer,
            **{name: getattr(goniometer, name) + change.get(name, 0.0) for name in OUTER},
        ),
        UB=as_matrix(turn @ U @ reciprocal_matrix(lattice)),
    )  # fmt: skip
    return geometry, change.get("phi0", 0.0)


def _left_jacobian(vector: F8) -> F8:
    """Return the rotation, on top of exp(w), that a change of w is, for each unit, (3, 3).

    Notes
    -----
    Chirikjian, Stochastic Models, Information Theory, and Lie Groups, vol. 2 (2011), eq. 10.86 and
    following.
    """
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-6:
        return np.asarray(np.eye(3) + cross / 2)
    one, two = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.asarray(np.eye(3) + one * cross + two * cross @ cross)
