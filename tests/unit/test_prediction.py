"""Places of reflections and their changes, by formula and by differences."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.lattice import reciprocal_matrix, reciprocal_matrix_changes
from nxmpi.crystal.prediction import CELL, OUTER, PARAMETERS, TURN, predict
from nxmpi.crystal.reciprocal import hkl_to_pixel, pixel_to_hkl, reflecting_angles
from nxmpi.model import Detector, Geometry, Goniometer, Lattice

LATTICE = Lattice(a=5.1, b=6.3, c=7.7, alpha=84.0, beta=97.0, gamma=111.0)
U = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix()


def geometry_of(lattice=LATTICE, U=U, angles=(3.0, -4.0, 20.0), wavelength=0.21, **detector):
    """Return a geometry in which nothing is zero."""
    theta, omega, chi = angles
    values = {
        "shape": (900, 1000), "pixel_size": 0.172, "distance": 310.0, "beam_center": (480.3, 455.8),
        "orientation": ((0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, 0.0, 0.0)),
        "yaw": 1.5, "pitch": -2.0, "roll": 0.7,
    } | detector  # fmt: skip
    return Geometry(
        wavelength=wavelength,
        detector=Detector(**values),
        goniometer=Goniometer(
            theta=theta, omega=omega, chi=chi, phi=tuple(np.arange(-180.0, 180.0, 10.0)), step=10.0,
            sample_offset=(0.11, -0.2, 0.15),
        ),
        UB=as_matrix(U @ reciprocal_matrix(lattice)),
    )  # fmt: skip


def reflections():
    hkl = np.array(np.meshgrid(*[np.arange(-5.0, 6.0)] * 3)).reshape(3, -1).T
    geometry = geometry_of()
    both = reflecting_angles(geometry, hkl)
    use = np.isfinite(both).all(axis=1) & (np.abs(hkl).sum(axis=1) > 0)
    away = (both[:, 1] - both[:, 0] + 180) % 360 - 180
    use &= (np.abs(away) > 20) & (np.abs(away) < 160)  # not those that graze the Ewald sphere
    hkl, near = hkl[use], both[use, 0]
    inside = np.isfinite(predict(geometry, LATTICE, hkl, near).places).all(axis=1)
    return hkl[inside], near[inside]


def moved(name, by):
    """Return the geometry and lattice with one parameter moved, and by how much phi0 is."""
    if name in CELL:
        lattice = replace(LATTICE, **{name: getattr(LATTICE, name) + by})
        return geometry_of(lattice), lattice, 0.0
    if name in TURN:
        turn = Rotation.from_euler(name[-1], by, degrees=True).as_matrix()
        return geometry_of(U=turn @ U), LATTICE, 0.0
    if name in OUTER:
        angles = [3.0, -4.0, 20.0]
        angles[list(OUTER).index(name)] += by
        return geometry_of(angles=angles), LATTICE, 0.0
    if name == "wavelength":
        return geometry_of(wavelength=0.21 + by), LATTICE, 0.0
    if name == "phi0":
        return geometry_of(), LATTICE, by
    if name == "x_centre":
        return geometry_of(beam_center=(480.3 + by, 455.8)), LATTICE, 0.0
    if name == "y_centre":
        return geometry_of(beam_center=(480.3, 455.8 + by)), LATTICE, 0.0
    value = {"distance": 310.0, "yaw": 1.5, "pitch": -2.0, "roll": 0.7}[name]
    return geometry_of(**{name: value + by}), LATTICE, 0.0


@pytest.mark.parametrize("name", PARAMETERS)
def test_changes_are_those_of_small_differences(name):
    hkl, near = reflections()
    found = predict(geometry_of(), LATTICE, hkl, near, (name,)).changes[:, :, 0]
    by = 1e-5 if name == "wavelength" else 1e-3
    ends = []
    for side in (-by, by):
        geometry, lattice, phi0 = moved(name, side)
        ends.append(predict(geometry, lattice, hkl, near).places - [0.0, 0.0, phi0])
    wanted = (ends[1] - ends[0]) / (2 * by)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    assert np.abs(wanted).max() > 0
    assert len(hkl) > 100


def test_places_are_those_of_the_ray_and_lead_back_to_hkl():
    hkl, near = reflections()
    x, y, phi = predict(geometry_of(), LATTICE, hkl, near + 3.0).places.T
    np.testing.assert_allclose(phi, near, atol=1e-9)
    np.testing.assert_allclose((x, y), hkl_to_pixel(geometry_of(), hkl, phi), rtol=1e-9)
    np.testing.assert_allclose(pixel_to_hkl(geometry_of(), x, y, phi), hkl, atol=1e-9)


def test_nearest_angle_is_found_across_the_end_of_a_turn():
    hkl, near = reflections()
    phi = predict(geometry_of(), LATTICE, hkl, near + 360.0).places[:, 2]
    np.testing.assert_allclose(phi, near + 360.0, atol=1e-9)


def test_what_never_reflects_or_goes_away_from_the_detector_has_no_place():
    geometry, hkl = geometry_of(), np.array([[60.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert np.isnan(predict(geometry, LATTICE, hkl[:1], np.zeros(1)).places).any()
    backwards = np.array([[h, 0.0, 0.0] for h in range(-45, 46)])
    both = reflecting_angles(geometry, backwards)
    places = predict(geometry, LATTICE, backwards, both[:, 0]).places
    away = np.isfinite(both).all(axis=1) & np.isnan(places).all(axis=1)
    assert away.any()


def test_cell_changes_of_a_cubic_cell():
    cubic = Lattice(a=4.0, b=4.0, c=4.0, alpha=90.0, beta=90.0, gamma=90.0)
    changes = reciprocal_matrix_changes(cubic)
    np.testing.assert_allclose(changes[0], np.diag([-1 / 16, 0, 0]), atol=1e-15)
