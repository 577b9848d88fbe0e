"""Where and when reflections appear, and how that changes with every parameter."""

from typing import NamedTuple

import numpy as np

from nxmpi._typing import F8
from nxmpi.crystal.detector import detector_axes
from nxmpi.crystal.goniometer import goniometer_matrix, rotation
from nxmpi.crystal.lattice import reciprocal_matrix, reciprocal_matrix_changes
from nxmpi.crystal.reciprocal import reflecting_angles
from nxmpi.model import Geometry, Lattice

CELL = ("a", "b", "c", "alpha", "beta", "gamma")
"""[Å], and [degrees] like all angles."""
TURN = ("turn_x", "turn_y", "turn_z")
"""Of the crystal, on top of its orientation, about the axes that it has at phi = 0."""
CENTRE = ("x_centre", "y_centre")
"""[pixels]"""
TILTS = {"roll": 0, "pitch": 1, "yaw": 2}
"""Axes, in the order of the product."""
OUTER = {"theta": 1, "omega": 2, "chi": 0}
"""Axes, in the order of the product."""
PARAMETERS = (*CELL, *TURN, "distance", *CENTRE, *TILTS, *OUTER, "phi0", "wavelength")
"""All that a prediction depends on; ``distance`` is in mm, ``wavelength`` in Å. ``phi0`` is added
to the angles of the file."""
DEGREE = np.pi / 180


class Predicted(NamedTuple):
    """Places of reflections, NaN where they do not reach the detector's plane."""

    places: F8
    """(n, 3) float64: x and y from the outer corner of pixel 0 [pixels], true phi [degrees]."""
    changes: F8
    """(n, 3, n_parameters) float64: of the places, for each unit of a parameter."""


class _Rays(NamedTuple):
    """Reflections as they reflect; a place on the detector is o + u a + v b = t + L s."""

    hkl: F8
    R: F8
    """(n, 3, 3) float64: of the goniometer."""
    inner: F8
    """(n, 3, 3) float64: the part of it that phi makes."""
    turning: F8
    """(n, 3, 3) float64: change of R for each degree of phi."""
    G: F8
    """(n, 3) float64, in the laboratory [1/Å]."""
    system: F8
    """(n, 3, 3) float64: a, b and -s in columns."""
    solution: F8
    """(n, 3) float64: u, v and L."""
    phi: F8


class _Change(NamedTuple):
    """What a parameter changes directly, while phi stays."""

    vector: F8
    """Of G."""
    sample: F8
    """Of t."""
    ray: F8
    """Of s, besides G's."""
    origin: F8
    """Of o."""
    axes: F8
    """Of a and b, (3, 2) float64."""


def predict(
    geometry: Geometry, lattice: Lattice, hkl: F8, near: F8, names: tuple[str, ...] = ()
) -> Predicted:  # fmt: skip
    """Return where reflections cross the Ewald sphere and meet the detector.

    Parameters
    ----------
    geometry : Geometry
        With a UB that is a rotation times the B of ``lattice``.
    hkl : (n, 3) float64
        [r.l.u.]
    near : (n,) float64
        Of the two angles at which each reflects, the one nearest to this is taken [degrees].
    names : tuple of str
        Of the parameters whose changes are wanted, of `PARAMETERS`.

    Notes
    -----
    G = R(phi) UB h reflects where f = G_x + wavelength G^2 / 2 is zero: what changes f by df
    changes phi by -df / (df/dphi), where G^2 stays. The place follows from a linear system.
    """
    rays = _rays(geometry, hkl, near)
    x, y = geometry.detector.beam_center
    places = np.column_stack([rays.solution[:, :2] + [x, y], rays.phi])
    places[~(rays.solution[:, 2] > 0)] = np.nan
    changes = np.zeros((*places.shape, len(names)))
    for n, name in enumerate(names):
        changes[:, :, n] = _moved(geometry, rays, _change(geometry, lattice, rays, name), name)
    return Predicted(places, changes)


def _rays(geometry: Geometry, hkl: F8, near: F8) -> _Rays:
    both = reflecting_angles(geometry, hkl)
    away = (both - near[:, None] + 180) % 360 - 180
    nearest = np.argmin(np.abs(away), axis=1)[:, None]
    phi = near + np.take_along_axis(away, nearest, axis=1)[:, 0]
    outer = goniometer_matrix(geometry.goniometer, 0.0)
    c, s, o = np.cos(phi * DEGREE), np.sin(phi * DEGREE), np.zeros_like(phi)
    inner = np.array([[c, -s, o], [s, c, o], [o, o, o + 1]]).transpose(2, 0, 1)
    R = outer @ inner
    G = _times(R, hkl @ np.array(geometry.UB).T)
    axes = detector_axes(geometry.detector) * geometry.detector.pixel_size
    system = np.empty((len(phi), 3, 3))
    system[:, :, :2], system[:, :, 2] = axes[:, :2], -G
    system[:, 0, 2] -= 1 / geometry.wavelength
    sample = R @ np.array(geometry.goniometer.sample_offset)
    solution = _solve(system, sample - [geometry.detector.distance, 0.0, 0.0])
    return _Rays(hkl, R, inner, outer @ _generator(2) @ inner, G, system, solution, phi)


def _change(geometry: Geometry, lattice: Lattice, rays: _Rays, name: str) -> _Change:
    zero = np.zeros_like(rays.G)
    change = _Change(zero, zero, np.zeros(3), np.zeros(3), np.zeros((3, 2)))
    goniometer, detector, UB = geometry.goniometer, geometry.detector, np.array(geometry.UB)
    if name in CELL:
        U = UB @ np.linalg.inv(reciprocal_matrix(lattice))
        dB = reciprocal_matrix_changes(lattice)[CELL.index(name)]
        return change._replace(vector=_times(rays.R, rays.hkl @ (U @ dB).T))
    if name in TURN:
        turned = _generator(TURN.index(name)) @ UB
        return change._replace(vector=_times(rays.R, rays.hkl @ turned.T))
    if name == "distance":
        return change._replace(origin=np.array([1.0, 0.0, 0.0]))
    if name == "wavelength":
        return change._replace(ray=np.array([-1 / geometry.wavelength**2, 0.0, 0.0]))
    if name in TILTS:
        tilt = _chain_change(name, {each: getattr(detector, each) for each in TILTS}, TILTS)
        axes = tilt @ np.linalg.inv(np.array(detector.orientation)) * detector.pixel_size
        return change._replace(axes=axes[:, :2])
    if name in OUTER:
        angles = {each: getattr(goniometer, each) for each in OUTER}
        dR = _chain_change(name, angles, OUTER) @ rays.inner
        return change._replace(
            vector=_times(dR, rays.hkl @ UB.T), sample=dR @ np.array(goniometer.sample_offset)
        )
    return change


def _moved(geometry: Geometry, rays: _Rays, change: _Change, name: str) -> F8:
    """Return the change of x, y and phi, (n, 3) float64."""
    wavelength, offset = geometry.wavelength, np.array(geometry.goniometer.sample_offset)
    UB = np.array(geometry.UB)
    speed = _times(rays.turning, rays.hkl @ UB.T)
    df = change.vector[:, 0] + wavelength * (rays.G * change.vector).sum(axis=1)
    if name == "wavelength":
        df = (rays.G**2).sum(axis=1) / 2
    dphi = (-df / speed[:, 0])[:, None]
    dt = change.sample + (rays.turning @ offset) * dphi
    ds = change.ray + change.vector + speed * dphi
    of_axes = rays.solution[:, :2] @ change.axes.T
    uv = _solve(rays.system, dt - change.origin - of_axes + rays.solution[:, 2:] * ds)[:, :2]
    if name in CENTRE:
        uv[:, CENTRE.index(name)] += 1.0
    return np.column_stack([uv, dphi - (name == "phi0")])


def _chain_change(name: str, angles: dict[str, float], axes: dict[str, int]) -> F8:
    """Return the change of a product of rotations for each degree of one of them, (3, 3)."""
    product = np.eye(3)
    for each, axis in axes.items():
        turn = rotation(axis, angles[each])
        product = product @ (turn @ _generator(axis) if each == name else turn)
    return product


def _generator(axis: int) -> F8:
    """Return the change of a rotation about an axis, at 0, for each degree, (3, 3)."""
    matrix = np.zeros((3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, j], matrix[j, i] = -DEGREE, DEGREE
    return matrix


def _times(matrices: F8, vectors: F8) -> F8:
    return np.asarray((matrices @ vectors[..., None])[..., 0])


def _solve(matrices: F8, vectors: F8) -> F8:
    return np.asarray(np.linalg.solve(matrices, vectors[..., None])[..., 0])
