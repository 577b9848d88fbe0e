"""Orientations, cell and geometry from the places of indexed peaks, by least squares."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq, least_squares
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
PLAUSIBLE = {
    **dict.fromkeys(("a", "b", "c", "distance", "wavelength"), 0.02),
    **dict.fromkeys(("alpha", "beta", "gamma", *TURN, *TILTS, *OUTER, "phi0"), 1.0),
    **dict.fromkeys(CENTRE, 5.0),
}
"""How far parameters may be off: lengths to themselves [1], angles [degrees], centre [pixels]."""
DETERMINED = 3.0
"""How many times better than that peaks have to tell a combination of parameters [1]."""
LEAST = 1e-6
"""Spread of residuals that are as good as zero, in units of the errors [1]."""
TOO_LARGE = 1.1
"""Median residual, to that of the errors of peaks, above which these are enlarged [1]."""


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
    held: F8
    """(m, n) float64: combinations of parameters, in units of `PLAUSIBLE`, that the peaks do not
    determine."""
    enlarged: F8
    """(3,) float64: what was added in quadrature to the errors of x, y [pixels] and of the angle
    by which the crystal misses a reflection [degrees]."""


def refine(problem: Problem) -> Refined:
    """Return the values of the parameters that fit the peaks best.

    Notes
    -----
    Residuals of x, y and phi in units of their errors; first with a soft loss for all peaks, then
    squared without those that are `OUTLIER` times the median deviation off. Where residuals are
    larger than the errors of the peaks, these are enlarged: by a constant in x and y, and in phi
    by what turns the crystal by a constant angle. Combinations of parameters that the peaks tell
    no better than `PLAUSIBLE` stay as they are.
    """
    given, enlarged = problem, np.zeros(3)
    used = tuple(np.ones(len(each.hkl), bool) for each in problem.observed)
    values = np.zeros(len(problem.parameters))
    for loss in ("soft_l1", "linear", "linear"):
        free, held = _determined(problem, _jacobian(problem, values, used))
        values = _fit(problem, free @ np.linalg.pinv(free) @ values, used, free, loss)
        problem, enlarged = _with_errors(given, values)
        every = _residuals(problem, values)
        spread = np.maximum(_deviation(np.concatenate(every)), LEAST)
        used = tuple(np.asarray((np.abs(r) / spread).max(axis=1) < OUTLIER) for r in every)
    free, held = _determined(problem, _jacobian(problem, values, used))
    r = _together(_residuals(problem, values), used)
    J = _jacobian(problem, values, used) @ free
    scatter = max(float(r @ r) / max(r.size - free.shape[1], 1), 1.0)
    lattice = _lattice_at(problem, values)
    made = [_geometry_at(problem, lattice, i, values) for i in range(len(problem.geometries))]
    return Refined(
        geometries=tuple(geometry for geometry, _ in made), lattice=lattice,
        phi0=np.array([phi0 for _, phi0 in made]), values=values,
        covariance=scatter * free @ np.linalg.inv(J.T @ J) @ free.T,
        residuals=_residuals(problem, values), used=used, held=held, enlarged=enlarged,
    )  # fmt: skip


def _with_errors(problem: Problem, values: F8) -> tuple[Problem, F8]:
    """Return the problem with errors that explain the residuals, and what was added to them."""
    lattice, levers = _lattice_at(problem, values), []
    for i, each in enumerate(problem.observed):
        geometry, phi0 = _geometry_at(problem, lattice, i, values)
        turns = predict(geometry, lattice, each.hkl, each.places[:, 2] + phi0, TURN).changes
        lever = np.nan_to_num(np.linalg.norm(turns[:, 2], axis=1), nan=LOST, posinf=LOST)
        levers.append(np.column_stack([np.ones_like(lever), np.ones_like(lever), lever]))
    every = np.concatenate(
        [r * o.errors for r, o in zip(_residuals(problem, values), problem.observed, strict=True)]
    )
    errors, factors = np.concatenate([o.errors for o in problem.observed]), np.concatenate(levers)
    added = np.array(
        [_missing(*columns) for columns in zip(every.T, errors.T, factors.T, strict=True)]
    )
    observed = tuple(
        o._replace(errors=np.hypot(o.errors, lever * added))
        for o, lever in zip(problem.observed, levers, strict=True)
    )
    return problem._replace(observed=observed), added


def _missing(residual: F8, error: F8, lever: F8) -> float:
    """Return what, times the lever, is to be added to errors in quadrature."""

    def excess(added: float) -> float:
        return float(_deviation((residual / np.hypot(error, lever * added))[:, None])[0]) - 1.0

    if excess(0.0) < TOO_LARGE - 1.0:
        return 0.0
    return float(brentq(excess, 0.0, 2 * float(np.abs(residual / lever).max())))


def _deviation(values: F8) -> F8:
    """Return the standard deviation of columns by their median, about 0."""
    return np.asarray(1.4826 * np.median(np.abs(values), axis=0))


def _fit(problem: Problem, start: F8, used: tuple[Mask, ...], free: F8, loss: str) -> F8:
    """Return the values that fit best, from ``start`` along the columns of ``free``."""
    fitted = least_squares(
        lambda x: _together(_residuals(problem, start + free @ x), used),
        np.zeros(free.shape[1]), loss=loss,
        jac=lambda x: _jacobian(problem, start + free @ x, used) @ free,
    )  # fmt: skip
    return np.asarray(start + free @ fitted.x)


def _determined(problem: Problem, jacobian: F8) -> tuple[F8, F8]:
    """Return the combinations of parameters that the peaks determine, and the others.

    Returns
    -------
    free : (n_parameters, m) float64
        In the units of the parameters.
    held : (n_parameters - m, n_parameters) float64
        In units of `PLAUSIBLE`.
    """
    sizes = {name: getattr(problem.lattice, name) for name in ("a", "b", "c")}
    sizes["distance"] = problem.geometries[0].detector.distance
    sizes["wavelength"] = problem.geometries[0].wavelength
    names = [each.names[0] for each in problem.parameters]
    scale = np.array([PLAUSIBLE[name] * sizes.get(name, 1.0) for name in names])
    few = len(jacobian) < len(names)
    _, singular, rows = np.linalg.svd(jacobian * scale, full_matrices=few)
    told = np.zeros(len(rows), bool)
    told[: singular.size] = singular > DETERMINED
    return np.asarray((rows[told] * scale).T), np.asarray(rows[~told])


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
