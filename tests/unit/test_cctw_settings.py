"""Settings scripts that are written: read back, they are what they were made of."""

import json
import re

import numpy as np
import pytest

from nxmpi.cctw.script import script_of
from nxmpi.cctw.settings import geometry_and_grid, settings_of
from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.errors import InputError
from nxmpi.model import Detector, Geometry, Goniometer, HKLGrid, Lattice

TRICLINIC = Lattice(a=5.1, b=6.2, c=7.3, alpha=81.0, beta=95.0, gamma=103.0)
N_FRAMES = 7


def make_geometry(phi=None, step=0.3, UB=None):
    rng = np.random.default_rng(1)
    UB = rng.normal(size=(3, 3)) / 5 if UB is None else UB
    phi = tuple(float(-40 + step * k) for k in range(N_FRAMES)) if phi is None else phi
    return Geometry(
        wavelength=0.4133,
        detector=Detector(
            shape=(30, 40), pixel_size=0.172, distance=650.123, beam_center=(21.7, 13.2),
            orientation=as_matrix(np.array([[0.0, -1, 0], [0, 0, 1], [-1, 0, 0]])),
            yaw=1.1, pitch=-0.7, roll=0.4,
        ),
        goniometer=Goniometer(
            theta=0.3, omega=-2.0, chi=-90.2, phi=phi, step=step, sample_offset=(0.1, -0.2, 0.05)
        ),
        UB=as_matrix(UB),
    )  # fmt: skip


GRID = HKLGrid(origin=(-2.0, -1.5, -3.0), step=(0.1, 0.05, 0.2), shape=(41, 61, 31))


def read_back(tmp_path, settings, geometry):
    path = tmp_path / "position.pars"
    path.write_text(script_of(settings))
    return geometry_and_grid(path, geometry.detector.shape, N_FRAMES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parameters.useGonPitchError", True), ("transformer.oversampleX", 3),
        ("transformer.oversampleZ", 2), ("transformer.transformOptions", 1),
        ("parameters.oVec", [0, 0, 0.1]), ("parameters.omegaStep", 0.01),
        ("parameters.twoThetaNom", 0.2),
    ],
)  # fmt: skip
def test_settings_that_change_the_result_are_refused_here(tmp_path, name, value):
    geometry = make_geometry()
    settings = settings_of(geometry, GRID, "lower-edge") | {name: value}
    with pytest.raises(InputError, match=rf"position\.pars: {name}: expected "):
        read_back(tmp_path, settings, geometry)


def test_geometry_and_grid_come_back(tmp_path):
    geometry = make_geometry()
    settings = settings_of(geometry, GRID, "lower-edge", TRICLINIC)
    found, grid = read_back(tmp_path, settings, geometry)
    np.testing.assert_allclose(found.UB, geometry.UB, rtol=0, atol=1e-12)
    for name in ("pixel_size", "distance", "beam_center", "orientation", "yaw", "pitch", "roll"):
        np.testing.assert_allclose(
            getattr(found.detector, name), getattr(geometry.detector, name), rtol=1e-12, atol=1e-12
        )
    for name in ("theta", "omega", "chi", "phi", "step", "sample_offset"):
        np.testing.assert_allclose(
            getattr(found.goniometer, name), getattr(geometry.goniometer, name),
            rtol=1e-12, atol=1e-12,
        )  # fmt: skip
    assert found.wavelength == geometry.wavelength
    np.testing.assert_allclose(grid.origin, GRID.origin, atol=1e-12)
    np.testing.assert_allclose(grid.step, GRID.step, rtol=1e-12)
    assert grid.shape == GRID.shape


def test_centred_voxels_begin_half_a_step_earlier(tmp_path):
    geometry = make_geometry()
    _, grid = read_back(tmp_path, settings_of(geometry, GRID, "centred"), geometry)
    expected = np.array(GRID.origin) - np.array(GRID.step) / 2
    np.testing.assert_allclose(grid.origin, expected, atol=1e-12)


def places_of_cctw(settings, geometry, x, y, z):
    """Return where CCTW puts pixel (x, y) of frame z, by the formulas of its source."""
    s = {name.partition(".")[2]: np.array(value) for name, value in settings.items()}
    turn = np.degrees
    G = rotation(1, turn(s["orientErrorGonPitch"])) @ rotation(2, turn(s["omegaNom"]))
    G = G @ rotation(0, turn(s["chiNom"])) @ rotation(2, turn(s["phiNom"] + z * s["phiStep"]))
    D = rotation(0, turn(s["orientErrorDetRoll"])) @ rotation(1, turn(s["orientErrorDetPitch"]))
    D = D @ rotation(2, turn(s["orientErrorDetYaw"]))
    C = G @ s["xTrans"] - np.array([s["distance"], 0, 0])
    p = np.array([x + 0.5 - s["det0x"], y + 0.5 - s["det0y"], 0]) * s["pixelSize"]
    r = D @ np.linalg.solve(s["oMat"], p) - C
    k = r / np.linalg.norm(r) / s["wavelength"] - [1 / s["wavelength"], 0, 0]
    hkl = np.linalg.solve(s["ubMat"], np.linalg.solve(G, k))
    return np.linalg.solve(s["gridBasis"], hkl - s["gridOrigin"]) * s["gridDim"] + s["gridOffset"]


@pytest.mark.parametrize("voxels", ["centred", "lower-edge"])
@pytest.mark.parametrize(
    ("step", "axes", "rate"),
    [
        ((0.1, 0.05, 0.2), np.eye(3), 1.0),
        ((0.03, 0.07, 0.013), np.eye(3), 1.0),
        ((0.1, 0.03, 0.2), np.array([[1.0, 1, 0], [1, -1, 0], [0, 0.5, 1]]), 1.25),
    ],
    ids=["whole", "any step", "skew axes and gaps between frames"],
)
def test_cctw_would_find_the_same_places(voxels, step, axes, rate):
    phi = tuple(float(-40 + 0.3 * rate * k) for k in range(N_FRAMES))
    geometry = make_geometry(phi)
    grid = HKLGrid(origin=(-2.0, -1.5, -3.0), step=step, shape=(41, 61, 31), axes=as_matrix(axes))
    settings = settings_of(geometry, grid, voxels)
    for x, y, z in ((0, 0, 0), (39, 29, 6), (12, 20, 3)):
        corner = np.array([x + 0.5]), np.array([y + 0.5]), np.array([phi[z] + 0.15])
        along = np.linalg.solve(axes.T, pixel_to_hkl(geometry, *corner)[0])
        expected = (along - grid.origin) / step + (0.5 if voxels == "centred" else 0)
        found = places_of_cctw(settings, geometry, x, y, z)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_uneven_angles_are_refused():
    phi = (-40.0, -39.7, -39.4, -39.05, -38.8, -38.5, -38.2)
    with pytest.raises(InputError, match=r"equal steps.*found frame 3"):
        settings_of(make_geometry(phi), GRID, "centred")


def test_numbers_are_plain():
    geometry = make_geometry(step=float(np.float64(0.3)), UB=np.array(make_geometry().UB))
    text = script_of(settings_of(geometry, GRID, "centred", TRICLINIC))
    assert "np." not in text
    for line in text.splitlines():
        name, value = re.fullmatch(r"([\w.]+) = (.*);", line).groups()
        json.loads(value)
        assert name.count(".") == 1
