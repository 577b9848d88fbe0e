"""Orientations, cell and geometry refined with the peaks that they explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.indexing import NEAR
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.prediction import CENTRE, TILTS, TURN, predict
from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.crystal.refinement import Observed, Parameter, Problem, Refined, refine
from nxmpi.crystal.symmetry import free_cell
from nxmpi.model import Geometry

if TYPE_CHECKING:
    from nxmpi._typing import F8, Mask
    from nxmpi.model import Lattice
    from nxmpi.stages.orient import Orientations, Seen

GROUPS = {
    "cell": ("a", "b", "c", "alpha", "beta", "gamma"), "orientation": TURN,
    "distance": ("distance",), "centre": CENTRE, "tilts": tuple(TILTS), "omega": ("omega",),
    "chi": ("chi",), "theta": ("theta",), "phi0": ("phi0",), "wavelength": ("wavelength",),
}  # fmt: skip
"""Parameters that are free or held together."""
SHARED = ("cell", "wavelength")
"""The same at all positions."""
DETECTOR = ("distance", "tilts")
"""The same at positions where the file says the same of them: the detector was only moved."""
ROUNDS = 5
"""Times that indices are given anew, at most."""
ENOUGH = 20
"""Whole peaks of a position with which those that something may be wrong with are left out."""


class Fit(NamedTuple):
    """What fits best, and the peaks in its light."""

    refined: Refined
    parameters: tuple[Parameter, ...]
    hkl: tuple[F8, ...]
    """(n_peaks, 3) float64 of each position, not rounded [r.l.u.]."""
    explained: tuple[Mask, ...]
    """(n_peaks,) bool of each position."""
    fitted: tuple[Mask, ...]
    """(n_peaks,) bool of each position: in the refinement, outliers among them."""
    residuals: tuple[F8, ...]
    """(n_peaks, 3) float64 of each position: predicted less observed x, y [pixels] and phi
    [degrees], NaN where nothing is explained."""


def free_parameters(
    groups: tuple[str, ...], geometries: tuple[Geometry, ...], lattice: Lattice, space_group: str,
    *, together: bool,
) -> tuple[Parameter, ...]:  # fmt: skip
    """Return the parameters of some of `GROUPS`, shared by positions or of each.

    Raises
    ------
    InputError
        If the lattice has not the symmetry of its space group.
    """
    everywhere = tuple(range(len(geometries)))
    alone = tuple((i,) for i in everywhere)
    moved: dict[tuple[float, ...], tuple[int, ...]] = {}
    for i, geometry in enumerate(geometries):
        detector = geometry.detector
        key = (detector.distance, detector.yaw, detector.pitch, detector.roll)
        moved[key] = (*moved.get(key, ()), i)
    parameters = []
    for group in groups:
        shared = group in SHARED or (group == "orientation" and together)
        where = [everywhere] if shared else list(moved.values()) if group in DETECTOR else alone
        names = [(name,) for name in GROUPS[group]]
        if group == "cell":
            names = list(free_cell(lattice, space_group))  # type: ignore[arg-type]
        parameters += [Parameter(name, positions) for positions in where for name in names]
    return tuple(parameters)


def refine_orientations(
    seen: tuple[Seen, ...], geometries: tuple[Geometry, ...], lattice: Lattice, space_group: str,
    found: Orientations, groups: tuple[str, ...],
) -> Fit:  # fmt: skip
    """Return what fits the peaks best, from orientations that were found.

    Not collective. Peaks are given indices again with what was refined, until none changes.

    Parameters
    ----------
    geometries : tuple of Geometry
        Of the positions; their orientations are not looked at.
    found : Orientations
        With an orientation for every position.
    groups : tuple of str
        What is free, of `GROUPS`.
    """
    parameters = free_parameters(groups, geometries, lattice, space_group, together=found.together)
    starts = [one for one in found.positions if one is not None]
    geometries = tuple(
        _oriented(geometry, one.UB, lattice)
        for geometry, one in zip(geometries, starts, strict=True)
    )
    hkl, explained = tuple(one.hkl for one in starts), tuple(one.explained for one in starts)
    for _ in range(ROUNDS):
        fitted = tuple(_chosen(s, use) for s, use in zip(seen, explained, strict=True))
        observed = tuple(
            Observed(np.round(h[use]), s.places[use], s.errors[use])
            for h, s, use in zip(hkl, seen, fitted, strict=True)
        )
        refined = refine(Problem(geometries, lattice, observed, parameters))
        before, (hkl, explained) = (hkl, explained), _indices(seen, refined)
        if all(
            np.array_equal(np.round(h[e]), np.round(was[e])) and np.array_equal(e, then)
            for h, e, was, then in zip(hkl, explained, *before, strict=True)
        ):
            break
    residuals = tuple(
        _residuals(each, refined, i, h, e)
        for i, (each, h, e) in enumerate(zip(seen, hkl, explained, strict=True))
    )
    return Fit(refined, parameters, hkl, explained, fitted, residuals)


def _chosen(seen: Seen, explained: Mask) -> Mask:
    """Return the peaks to refine with: whole ones, where there are enough of them."""
    whole = explained & seen.whole
    return whole if whole.sum() >= ENOUGH else explained


def _indices(
    seen: tuple[Seen, ...], refined: Refined
) -> tuple[tuple[F8, ...], tuple[Mask, ...]]:  # fmt: skip
    hkl = []
    for each, geometry, phi0 in zip(seen, refined.geometries, refined.phi0, strict=True):
        x, y, phi = each.places.T
        hkl.append(pixel_to_hkl(geometry, x, y, phi + phi0))
    near = tuple(np.asarray(np.abs(h - np.round(h)).max(axis=1) < NEAR) for h in hkl)
    return tuple(hkl), near


def _residuals(seen: Seen, refined: Refined, position: int, hkl: F8, explained: Mask) -> F8:
    phi0, residuals = refined.phi0[position], np.full((len(hkl), 3), np.nan)
    observed = seen.places[explained] + [0.0, 0.0, phi0]
    places = predict(
        refined.geometries[position], refined.lattice, np.round(hkl[explained]), observed[:, 2]
    ).places
    residuals[explained] = places - observed
    return residuals


def _oriented(geometry: Geometry, UB: F8, lattice: Lattice) -> Geometry:
    """Return a geometry with the orientation of a UB and the cell of a lattice."""
    B = reciprocal_matrix(lattice)
    u, _, v = np.linalg.svd(UB @ np.linalg.inv(B))
    return Geometry(
        wavelength=geometry.wavelength, detector=geometry.detector,
        goniometer=geometry.goniometer, UB=as_matrix(u @ v @ B),
    )  # fmt: skip
