"""Unit cell, detector and space groups, against textbook formulas and other programs."""

from itertools import product
from math import cos, radians, sin, sqrt

import numpy as np
import pytest

import nxmpi  # noqa: F401 - before pyFAI: see nxmpi/__init__.py

from pyFAI.integrator.azimuthal import AzimuthalIntegrator  # isort: skip

from nxmpi.crystal.detector import parse_orientation, pixel_centres, pixel_positions
from nxmpi.crystal.factors import polarization_factor, solid_angle
from nxmpi.crystal.grid import default_axes, largest_G
from nxmpi.crystal.lattice import direct_matrix, reciprocal_matrix, reciprocal_parameters
from nxmpi.crystal.reciprocal import (
    UB_from_file,
    UB_to_file,
    offset_from_file,
    offset_to_file,
    pixel_to_hkl,
)
from nxmpi.crystal.symmetry import is_allowed, laue_group, reflections
from nxmpi.errors import InputError
from nxmpi.model import Detector, Geometry, Goniometer, Lattice
from nxmpi.nexus.volume import grid_from_axes

TRICLINIC = Lattice(a=5.1, b=6.3, c=7.2, alpha=83.0, beta=97.0, gamma=105.0)
HEXAGONAL = Lattice(a=4.9, b=4.9, c=5.4, alpha=90.0, beta=90.0, gamma=120.0)
ORTHORHOMBIC = Lattice(a=4.0, b=5.0, c=8.0, alpha=90.0, beta=90.0, gamma=90.0)
HKL = np.array(list(product(range(-3, 4), repeat=3)), dtype=float)
ORIENTATION = parse_orientation("-y +z -x")


def spacing_of_triclinic(cell, hkl):
    """Return d as in International Tables for Crystallography B, section 1.1."""
    (h, k, l), a, b, c = hkl.T, cell.a, cell.b, cell.c
    ca, cb, cg = (cos(radians(x)) for x in (cell.alpha, cell.beta, cell.gamma))
    sa, sb, sg = (sin(radians(x)) for x in (cell.alpha, cell.beta, cell.gamma))
    volume = a * b * c * sqrt(1 - ca**2 - cb**2 - cg**2 + 2 * ca * cb * cg)
    squares = (h * b * c * sa) ** 2 + (k * a * c * sb) ** 2 + (l * a * b * sg) ** 2
    mixed = (
        h * k * a * b * c**2 * (ca * cb - cg)
        + k * l * a**2 * b * c * (cb * cg - ca)
        + h * l * a * b**2 * c * (ca * cg - cb)
    )
    with np.errstate(divide="ignore"):
        return volume / np.sqrt(squares + 2 * mixed)


def spacing_of_hexagonal(cell, hkl):
    h, k, l = hkl.T
    with np.errstate(divide="ignore"):
        return 1 / np.sqrt(4 / 3 * (h * h + h * k + k * k) / cell.a**2 + (l / cell.c) ** 2)


@pytest.mark.parametrize(
    ("cell", "spacing"),
    [(TRICLINIC, spacing_of_triclinic), (HEXAGONAL, spacing_of_hexagonal)],
    ids=["triclinic", "hexagonal"],
)
def test_length_of_a_reciprocal_vector_is_one_over_the_spacing(cell, spacing):
    lengths = np.linalg.norm(HKL @ reciprocal_matrix(cell).T, axis=1)
    np.testing.assert_allclose(lengths, 1 / spacing(cell, HKL), rtol=1e-12, atol=1e-15)


def test_orthogonal_cell_has_a_diagonal_B():
    np.testing.assert_allclose(
        reciprocal_matrix(ORTHORHOMBIC), np.diag([1 / 4, 1 / 5, 1 / 8]), atol=1e-15
    )


def test_a_is_along_x_and_b_in_the_xy_plane():
    A = direct_matrix(TRICLINIC)
    np.testing.assert_allclose(A[1:, 0], 0, atol=1e-14)
    assert abs(A[2, 1]) < 1e-14
    assert A[0, 0] == pytest.approx(5.1)
    np.testing.assert_allclose(np.linalg.norm(A, axis=0), [5.1, 6.3, 7.2])
    cosines = (A.T @ A)[[1, 0, 0], [2, 2, 1]] / [6.3 * 7.2, 5.1 * 7.2, 5.1 * 6.3]
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), [83, 97, 105])
    np.testing.assert_allclose(reciprocal_matrix(TRICLINIC).T @ A, np.eye(3), atol=1e-14)


def test_reciprocal_parameters_are_lengths_and_angles_of_the_columns_of_B():
    B = reciprocal_matrix(TRICLINIC)
    lengths = np.linalg.norm(B, axis=0)
    G = B.T @ B / np.outer(lengths, lengths)
    angles = np.degrees(np.arccos([G[1, 2], G[0, 2], G[0, 1]]))
    np.testing.assert_allclose(reciprocal_parameters(TRICLINIC), [*lengths, *angles])


@pytest.mark.parametrize("angles", [(60, 60, 120.0), (30, 40, 71), (90, 90, 180), (120, 120, 120)])
def test_cell_without_a_volume_is_rejected(angles):
    with pytest.raises(InputError, match="no cell has these"):
        Lattice(a=5, b=5, c=5, **dict(zip(("alpha", "beta", "gamma"), angles, strict=True)))


def turn(axis, degrees):
    """Return the right-handed rotation about a unit vector (Rodrigues)."""
    x, y, z = np.eye(3)["xyz".index(axis)]
    K = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    t = radians(degrees)
    return np.eye(3) + sin(t) * K + (1 - cos(t)) * K @ K


def geometry(**changes):
    values = {
        "theta": 1.5, "omega": 12.0, "chi": -88.0, "phi": (-5.0, -4.5, -4.0), "step": 0.5,
        "sample_offset": (0.1, -0.2, 0.05),
    }  # fmt: skip
    U = turn("x", 12) @ turn("y", -31) @ turn("z", 57)
    UB = U @ reciprocal_matrix(TRICLINIC)
    return Geometry(
        wavelength=0.7,
        detector=Detector(
            shape=(50, 60), pixel_size=0.9, distance=61.0, beam_center=(30.3, 22.6),
            orientation=ORIENTATION, yaw=4.0, pitch=-3.0, roll=2.0,
        ),
        goniometer=Goniometer(**values | changes),
        UB=tuple(tuple(row) for row in UB),
    )  # fmt: skip


def test_orientation_matrix_of_a_file_is_read_as_it_was_written():
    UB, A = np.array(geometry().UB), direct_matrix(TRICLINIC)
    M = UB_to_file(UB, 0.5, A)
    np.testing.assert_allclose(UB_from_file(M, 0.5, A), UB, atol=1e-15)
    offset = offset_from_file(offset_to_file((0.1, -0.2, 0.05), 0.5), 0.5)
    np.testing.assert_allclose(offset, (0.1, -0.2, 0.05), atol=1e-16)


@pytest.mark.parametrize("step", [0.1, -2.0, 30.0], ids="step {}".format)
def test_file_means_the_start_of_a_frame_and_a_plain_inverse_of_the_cell(step):
    """The formulas of NXRefine, written out: h = inv(R(phi0 + k step) M inv(A)) k."""
    place = geometry(step=step)
    M = UB_to_file(np.array(place.UB), step, direct_matrix(TRICLINIC))
    offset = np.array(offset_to_file(place.goniometer.sample_offset, step))
    outer = turn("y", 1.5) @ turn("z", 12.0) @ turn("x", -88.0)
    tilt = turn("x", 2.0) @ turn("y", -3.0) @ turn("z", 4.0)
    O = np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]])
    x, y, frame = np.array([3.25, 55.0, 30.5]), np.array([40.0, 2.5, 20.0]), np.array([0, 7, 100])
    found = pixel_to_hkl(place, x, y, -5.0 + (frame + 0.5) * step)
    for i in range(3):
        R = outer @ turn("z", -5.0 + frame[i] * step)
        v = tilt @ np.linalg.inv(O) @ [0.9 * (x[i] - 30.3), 0.9 * (y[i] - 22.6), 0]
        v = v + np.array([61.0, 0, 0]) - R @ offset
        k = (v / np.linalg.norm(v) - [1, 0, 0]) / 0.7
        hkl = np.linalg.inv(R @ M @ np.linalg.inv(direct_matrix(TRICLINIC))) @ k
        np.testing.assert_allclose(found[i], hkl, atol=1e-12)


def test_orientation_names_the_axes_of_the_laboratory():
    assert ORIENTATION == ((0, -1, 0), (0, 0, 1), (-1, 0, 0))
    assert parse_orientation("x+y  z") == ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert parse_orientation("-z-x-y") == ((0, 0, -1), (-1, 0, 0), (0, -1, 0))


@pytest.mark.parametrize(
    "text", ["", "-y +z", "-y +z -z", "-y +z -w", "--y +z x", "x y z x", "+y z 1", "None"]
)
def test_orientation_that_does_not_name_three_axes_is_rejected(text):
    with pytest.raises(InputError, match="expected such as '-y \\+z -x'"):
        parse_orientation(text)


# --- what a pixel sees


def flat_detector(orientation, **tilts):
    return Detector(
        shape=(50, 60), pixel_size=1.0, distance=55.0, beam_center=(21.3, 34.9),
        orientation=parse_orientation(orientation), **tilts,
    )  # fmt: skip


def integrator():
    return AzimuthalIntegrator(
        dist=0.055, poni1=0.0349, poni2=0.0213, pixel1=1e-3, pixel2=1e-3, wavelength=1e-10
    )


@pytest.mark.parametrize("fraction", [0.99, 0.0, -1.0, 0.6])
def test_polarization_is_that_of_pyfai(fraction):
    places = pixel_centres(flat_detector("-y +z -x"))
    expected = integrator().polarization(shape=(50, 60), factor=fraction)
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(polarization_factor(places, fraction), expected, rtol=1e-6)


def test_polarization_belongs_to_the_laboratory_not_to_the_detector():
    upright, lying = (flat_detector(text) for text in ("-y +z -x", "+z -y -x"))
    x, y = np.array([1.5, 40.0]), np.array([44.0, 7.5])
    dx, dy = x - 21.3, y - 34.9
    swapped = pixel_positions(lying, dy + 21.3, dx + 34.9)
    np.testing.assert_allclose(
        polarization_factor(swapped, 0.9),
        polarization_factor(pixel_positions(upright, x, y), 0.9),
    )


def test_solid_angle_is_that_of_pyfai():
    detector = flat_detector("-y +z -x")
    found = solid_angle(detector, pixel_centres(detector)) / (1.0 / 55.0) ** 2
    np.testing.assert_allclose(found, integrator().solidAngleArray((50, 60)), rtol=1e-6)


def angle_of_triangle(a, b, c):
    """Return the solid angle of a triangle (Van Oosterom & Strackee, IEEE 1983)."""
    a, b, c = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b, c))
    triple = (a * np.cross(b, c)).sum(-1)
    rest = 1 + (a * b).sum(-1) + (b * c).sum(-1) + (c * a).sum(-1)
    return 2 * np.arctan2(np.abs(triple), rest)


@pytest.mark.parametrize("orientation", ["-y +z -x", "+z -y -x"])
def test_solid_angle_of_a_tilted_detector_is_what_its_pixels_cover(orientation):
    detector = flat_detector(orientation, yaw=-29.0, pitch=7.0, roll=11.0)
    x, y = np.meshgrid(np.arange(61.0), np.arange(51.0))
    corners = pixel_positions(detector, x, y)
    p, q, r, s = corners[:-1, :-1], corners[:-1, 1:], corners[1:, 1:], corners[1:, :-1]
    expected = angle_of_triangle(p, q, r) + angle_of_triangle(p, r, s)
    assert expected.max() > 1.5 * expected.min()
    found = solid_angle(detector, pixel_centres(detector))
    np.testing.assert_allclose(found, expected, rtol=(1 / 40.0) ** 2)  # a pixel is not a point


# --- space groups


def unmixed(h, k, l):
    return h % 2 == k % 2 == l % 2


def diamond(h, k, l):
    planes = ((h, k, l), (k, l, h), (l, h, k))
    return unmixed(h, k, l) and all((q + r) % 4 == 0 for p, q, r in planes if p == 0)


CONDITIONS = {
    "P -1": lambda h, k, l: True,
    "P 1 21/c 1": lambda h, k, l: not (k == 0 and l % 2) and not (h == l == 0 and k % 2),
    "P 21 21 21": lambda h, k, l: (
        not any(p % 2 and q == r == 0 for p, q, r in ((h, k, l), (k, l, h), (l, h, k)))
    ),
    "C 1 2/m 1": lambda h, k, l: (h + k) % 2 == 0,
    "I 4/m m m": lambda h, k, l: (h + k + l) % 2 == 0,
    "F m -3 m": unmixed,
    "F d -3 m :2": diamond,
    "R -3 m :H": lambda h, k, l: (-h + k + l) % 3 == 0,
    "R -3 m :R": lambda h, k, l: True,
    "P 41": lambda h, k, l: not (h == k == 0 and l % 4),
    "P 61": lambda h, k, l: not (h == k == 0 and l % 6),
    "P 63/m m c": lambda h, k, l: not (l % 2 and (h == k or h == -2 * k or k == -2 * h)),
}


@pytest.mark.parametrize("symbol", CONDITIONS)
def test_absent_reflections_are_those_of_the_international_tables(symbol):
    hkl = np.array([each for each in product(range(-7, 8), repeat=3) if any(each)])
    expected = [CONDITIONS[symbol](*(int(i) for i in row)) for row in hkl]
    np.testing.assert_array_equal(is_allowed(symbol, hkl), expected)


@pytest.mark.parametrize(
    ("cell", "symbol", "spacing"),
    [(TRICLINIC, "P -1", spacing_of_triclinic), (HEXAGONAL, "P 63/m m c", spacing_of_hexagonal)],
    ids=["triclinic", "hexagonal"],
)
def test_reflections_are_all_allowed_ones_down_to_a_spacing(cell, symbol, spacing):
    hkl = np.array([each for each in product(range(-9, 10), repeat=3) if any(each)])
    near = hkl[spacing(cell, hkl.astype(float)) >= 1.03]
    assert np.abs(near).max() < 9
    expected = {tuple(row) for row in near.tolist() if CONDITIONS[symbol](*row)}
    found = reflections(cell, symbol, 1.03)
    assert len(found) == len(expected) > 200
    assert {tuple(row) for row in found.astype(int).tolist()} == expected


LAST_NUMBERS = {
    "-1": 2, "2/m": 15, "mmm": 74, "4/m": 88, "4/mmm": 142, "-3": 148, "-3m": 167,
    "6/m": 176, "6/mmm": 194, "m-3": 206, "m-3m": 230,
}  # fmt: skip
"""The last space group of each Laue class, by number."""


def test_laue_group_of_every_space_group():
    number = 1
    for name, last in LAST_NUMBERS.items():
        assert {laue_group(str(n)) for n in range(number, last + 1)} == {name}
        number = last + 1
    assert number == 231


@pytest.mark.parametrize("symbol", ["", "P 7", "rubbish", "231"])
def test_unknown_space_group_is_rejected(symbol):
    with pytest.raises(InputError, match="space group"):
        laue_group(symbol)


# --- a grid nobody asked for


@pytest.mark.parametrize("cell", [TRICLINIC, HEXAGONAL, ORTHORHOMBIC], ids=lambda cell: f"{cell.a}")
@pytest.mark.parametrize("G_max", [0.1, 0.9, 2.5, 6.0])
def test_default_grid_covers_a_sphere_and_has_a_voxel_at_zero(cell, G_max):
    grid = grid_from_axes(default_axes(G_max, cell))
    rng = np.random.default_rng(1)
    sphere = rng.normal(size=(2000, 3))
    sphere *= 0.8 * G_max / np.linalg.norm(sphere, axis=1, keepdims=True)
    reach = np.abs(sphere @ direct_matrix(cell)).max(axis=0)  # h = a.G
    for axis, n in enumerate(grid.shape):
        assert n % 2 == 1
        assert 600 < n < 1700
        centre = grid.origin[axis] + grid.step[axis] * (n // 2)
        assert abs(centre) < 1e-9
        assert grid.step[axis] * (n // 2) >= reach[axis]


def test_largest_G_is_that_of_the_farthest_corner():
    detector = flat_detector("-y +z -x", yaw=-29.0, pitch=7.0)
    corners = pixel_positions(detector, np.array([0, 0, 60, 60.0]), np.array([0, 50, 0, 50.0]))
    two_theta = np.arccos(corners[:, 0] / np.linalg.norm(corners, axis=1))
    expected = (2 * np.sin(two_theta / 2) / 0.5).max()
    assert largest_G(detector, 0.5) == pytest.approx(expected)
