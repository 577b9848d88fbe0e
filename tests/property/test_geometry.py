"""Pixels, reciprocal space and voxels, for any geometry."""

import h5py
import numpy as np
from hypothesis import assume, example, given
from hypothesis import strategies as st

import nxmpi  # noqa: F401 - before scipy: see nxmpi/__init__.py

from scipy.spatial.transform import Rotation  # isort: skip

from nxmpi.crystal.detector import parse_orientation
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.reciprocal import (
    frame_transforms,
    hkl_to_pixel,
    pixel_to_hkl,
    reflecting_angles,
)
from nxmpi.errors import InputError
from nxmpi.model import Detector, Geometry, Goniometer, HKLGrid, Lattice
from nxmpi.nexus.schema import AXES
from nxmpi.nexus.volume import axis_values, grid_from_axes, read_grid, regular_axis

ORIENTATIONS = ("-y +z -x", "-y -z +x", "+z -y -x", "+y +z +x")


def numbers(low, high):
    return st.floats(low, high, allow_nan=False).map(lambda x: round(x, 6))


def triples(low, high):
    return st.tuples(*[numbers(low, high)] * 3)


@st.composite
def geometries(draw):
    lengths, angles = draw(triples(3, 30)), draw(triples(60, 120))
    try:
        cell = Lattice(**dict(zip(Lattice.__slots__, (*lengths, *angles), strict=True)))
    except InputError:
        assume(False)
    B = reciprocal_matrix(cell)
    assume(np.linalg.cond(B) < 100)
    yaw, pitch, roll = draw(triples(-40, 40))
    theta, omega, chi = draw(triples(-180, 180))
    step = draw(numbers(0.01, 5)) * draw(st.sampled_from([-1, 1]))
    start = draw(numbers(-180, 180))
    U = Rotation.from_euler("zxz", draw(triples(-180, 180)), degrees=True).as_matrix()
    return Geometry(
        wavelength=draw(numbers(0.1, 1.5)),
        detector=Detector(
            shape=(40, 50), pixel_size=draw(numbers(0.05, 1.0)), distance=draw(numbers(50, 500)),
            beam_center=draw(st.tuples(numbers(-20, 70), numbers(-20, 70))),
            orientation=parse_orientation(draw(st.sampled_from(ORIENTATIONS))),
            yaw=yaw, pitch=pitch, roll=roll,
        ),
        goniometer=Goniometer(
            theta=theta, omega=omega, chi=chi, step=step,
            phi=tuple(start + step * k for k in range(5)), sample_offset=draw(triples(-0.5, 0.5)),
        ),
        UB=tuple(tuple(row) for row in U @ B),
    )  # fmt: skip


def goniometer_matrices(goniometer, phi):
    """Return Ry(theta) Rz(omega) Rx(chi) Rz(phi), by scipy: upper case turns with the axes."""
    angles = [(goniometer.theta, goniometer.omega, goniometer.chi)] * len(phi)
    outer = Rotation.from_euler("YZX", angles, degrees=True)
    return (outer * Rotation.from_euler("Z", np.asarray(phi)[:, None], degrees=True)).as_matrix()


def places_of(geometry, x, y, phi):
    """Return v = T inv(O) p (x - xc, y - yc, 0) + (L, 0, 0) - R s, pixel by pixel."""
    detector = geometry.detector
    T = Rotation.from_euler("XYZ", [detector.roll, detector.pitch, detector.yaw], degrees=True)
    uv = np.stack([x - detector.beam_center[0], y - detector.beam_center[1], 0 * x], axis=-1)
    v = T.apply(uv * detector.pixel_size @ np.linalg.inv(np.array(detector.orientation)).T)
    R = goniometer_matrices(geometry.goniometer, phi)
    return v + np.array([detector.distance, 0, 0]) - R @ np.array(geometry.goniometer.sample_offset)


pixels = st.lists(st.tuples(numbers(0, 50), numbers(0, 40), numbers(-180, 180)), min_size=1)


def columns(points):
    return np.array(points).T


@given(geometries(), pixels)
def test_hkl_of_pixels_is_the_formula_written_out(geometry, points):
    x, y, phi = columns(points)
    v = places_of(geometry, x, y, phi)
    k = v / np.linalg.norm(v, axis=1, keepdims=True) - [1, 0, 0]
    R = goniometer_matrices(geometry.goniometer, phi)
    hkl = np.linalg.inv(R @ np.array(geometry.UB)) @ (k / geometry.wavelength)[..., None]
    np.testing.assert_allclose(pixel_to_hkl(geometry, x, y, phi), hkl[..., 0], atol=1e-8)


@given(geometries(), pixels)
def test_hkl_of_a_pixel_leads_back_to_the_pixel(geometry, points):
    x, y, phi = columns(points)
    # the ray to a pixel must not graze the detector
    assume((places_of(geometry, x, y, phi)[:, 0] > 0.1 * geometry.detector.distance).all())
    found = hkl_to_pixel(geometry, pixel_to_hkl(geometry, x, y, phi), phi)
    np.testing.assert_allclose(found, (x, y), atol=1e-5)


@given(geometries(), st.lists(st.tuples(*[st.integers(-20, 20)] * 3), min_size=1))
def test_reflecting_angles_bring_a_point_to_the_ewald_sphere(geometry, points):
    hkl = np.array(points, dtype=float)
    radius = 1 / geometry.wavelength
    g = hkl @ np.array(geometry.UB).T

    def outside(phi):
        """Return how far the points are outside of the sphere [1/Å]."""
        R = goniometer_matrices(geometry.goniometer, phi)
        return np.linalg.norm((R @ g[..., None])[..., 0] + [radius, 0, 0], axis=1) - radius

    for phi in reflecting_angles(geometry, hkl).T:
        found = np.isfinite(phi)
        at = outside(np.where(found, phi, 0.0))
        np.testing.assert_allclose(at[found], 0, atol=1e-9 * (1 + np.abs(g).max()))
        assert ((phi[found] >= -180) & (phi[found] < 180)).all()
    never = np.isnan(reflecting_angles(geometry, hkl)).any(axis=1)
    turn = np.array([outside(np.full(len(hkl), angle)) for angle in np.arange(-180, 180, 3)])
    one_sided = (turn > -1e-9).all(axis=0) | (turn < 1e-9).all(axis=0)
    assert one_sided[never].all()


@given(geometries(), pixels)
def test_a_pixel_sees_its_point_at_one_of_the_reflecting_angles(geometry, points):
    x, y, phi = columns(points)
    both = reflecting_angles(geometry, pixel_to_hkl(geometry, x, y, phi))
    apart = np.abs((both - phi[:, None] + 180) % 360 - 180)
    certain = np.abs((both[:, 1] - both[:, 0] + 180) % 360 - 180) > 0.1  # else they touch
    assert (apart.min(axis=1)[certain] < 1e-4).all()


axes = st.tuples(
    st.integers(-400, 400), st.sampled_from([0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 1 / 3, 1.0]),
    st.integers(2, 1200),
)  # fmt: skip


def grid_of(three):
    return HKLGrid(
        origin=tuple(float(f"{start * step:.10g}") for start, step, _ in three),
        step=tuple(float(f"{step:.10g}") for _, step, _ in three),
        shape=tuple(n for *_, n in three),
    )


@given(geometries(), st.tuples(axes, axes, axes), st.data())
def test_voxel_of_the_middle_of_a_voxel_is_that_voxel(geometry, three, data):
    grid = grid_of(three)
    index = np.array([data.draw(st.integers(0, n - 1)) for n in grid.shape])
    for voxels, middle in (("centred", 0.0), ("lower-edge", 0.5)):
        matrices, offset, _ = frame_transforms(geometry, grid, voxels)
        hkl = np.array(grid.origin) + (index + middle) * np.array(grid.step)
        phi = np.array(geometry.goniometer.phi) + geometry.goniometer.step / 2
        R = goniometer_matrices(geometry.goniometer, phi)
        k = geometry.wavelength * (R @ np.array(geometry.UB) @ hkl)
        places = (matrices @ k[..., None])[..., 0] + offset
        np.testing.assert_array_equal(np.floor(places), [index] * len(places))
        np.testing.assert_allclose(places, [index + 0.5] * len(places), atol=1e-6)


@given(geometries())
def test_sample_of_each_frame_turns_with_the_crystal(geometry):
    grid = HKLGrid(origin=(0.0, 0.0, 0.0), step=(1.0, 1.0, 1.0), shape=(1, 1, 1))
    phi = np.array(geometry.goniometer.phi) + geometry.goniometer.step / 2
    expected = goniometer_matrices(geometry.goniometer, phi) @ geometry.goniometer.sample_offset
    np.testing.assert_allclose(frame_transforms(geometry, grid, "centred")[2], expected, atol=1e-12)


def in_file(grid, dtype):
    file = h5py.File("grid.nxs", "w", driver="core", backing_store=False)
    for axis, name in enumerate(reversed(AXES)):
        file[name] = axis_values(grid, axis).astype(dtype)
    return file


@given(st.tuples(axes, axes, axes))
@example(((-240, 1 / 3, 481),) * 3)
def test_grid_read_from_its_axes_is_the_same_grid(three):
    grid = grid_of(three)
    with in_file(grid, "f8") as file:
        assert read_grid(file) == grid


@given(
    st.sampled_from([0.001, 0.005, 0.02, 0.05, 0.1, 1.0]), st.integers(-400, 400),
    st.integers(200, 1200),
)  # fmt: skip
def test_grid_of_round_numbers_is_read_from_single_precision(step, start, n):
    grid = grid_of(((start, step, n),) * 3)
    with in_file(grid, "f4") as file:
        assert read_grid(file) == grid


@given(numbers(-50, 50), st.sampled_from([0.001, 0.025, 0.1, 0.3, 1.0]), numbers(0, 100))
def test_axis_ends_within_half_a_step_of_where_it_was_told_to(start, step, length):
    origin, spacing, n = regular_axis(start, step, start + length)
    assert (origin, spacing) == (start, step)
    assert abs(origin + (n - 1) * spacing - (start + length)) <= step * (0.5 + 1e-6)


@given(st.integers(1, 500), st.sampled_from([0.001, 0.005, 0.01, 0.02, 0.05, 0.1]))
def test_symmetric_axis_has_zero_in_its_middle(n, step):
    stop = n * step
    grid = grid_from_axes(((-stop, step, stop),) * 3)
    assert grid.shape == (2 * n + 1,) * 3
    assert abs(axis_values(grid, 0)[n]) < 1e-9
