"""Orientations of scans whose truth is known, at positions together and alone."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from scipy.spatial.transform import Rotation
from unit.test_prediction import LATTICE, U, geometry_of, reflections

from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.prediction import predict
from nxmpi.crystal.reciprocal import reflecting_angles
from nxmpi.model import PeakFlag, Peaks
from nxmpi.stages.orient import angles_of, orient, seen_at

COMM, NOWHERE = MPI.COMM_SELF, (None, None, None)
ANGLES = ((3.0, -4.0, 20.0), (3.0, -5.0, 15.0), (3.0, -3.0, -10.0))


def peaks_of(geometry, seed, n=120):
    """Return peaks of a geometry, with small errors, among as many false ones."""
    rng, (hkl, _) = np.random.default_rng(seed), reflections()
    hkl = hkl[rng.permutation(len(hkl))[:n]]
    places = predict(geometry, LATTICE, hkl, reflecting_angles(geometry, hkl)[:, 0]).places
    places = places[np.isfinite(places).all(axis=1)]
    false = rng.uniform([0, 0, -180], [1000, 900, 180], places.shape)
    x, y, phi = np.concatenate([places, false]).T
    start, step = geometry.goniometer.phi[0], geometry.goniometer.step
    columns = dict.fromkeys(Peaks.__dataclass_fields__, np.full(x.size, np.nan))
    whole = dict.fromkeys(("n_pixels", "maximum", "flags"), np.zeros(x.size, np.int64))
    place = {"x": x - 0.5, "y": y - 0.5, "z": (phi - start) / step - 0.5}
    place = {name: value + rng.normal(0, 0.02, x.size) for name, value in place.items()}
    return Peaks(**(columns | whole | place)), len(places)


def fine_geometry(**values):
    geometry = geometry_of(**values)
    phi = tuple(np.arange(-180.0, 180.0, 0.5))
    return replace(geometry, goniometer=replace(geometry.goniometer, phi=phi, step=0.5))


def angle(UB):
    u, _, v = np.linalg.svd(UB @ np.linalg.inv(reciprocal_matrix(LATTICE)))
    return np.degrees(Rotation.from_matrix(u @ v @ U.T).magnitude())


@pytest.mark.parametrize("together", [True, False])
def test_positions_are_oriented_together_where_one_crystal_explains_them(together):
    seen, true = [], []
    for i, angles in enumerate(ANGLES):
        turn = Rotation.from_euler("z", 0.0 if together else 5.0 * i, degrees=True).as_matrix()
        geometry = fine_geometry(angles=angles, U=turn @ U)  # turned on its holder between scans
        peaks, n = peaks_of(geometry, i)
        nowhere = replace(geometry, UB=as_matrix(np.eye(3)))
        seen.append(seen_at(nowhere, peaks))
        true.append(n)
    found = orient(COMM, tuple(seen), LATTICE, "P -1", NOWHERE)
    assert found.together == together
    for one, n in zip(found.positions, true, strict=True):
        assert one.explained[:n].mean() > 0.95
        assert one.explained[n:].mean() < 0.15
    assert angle(found.positions[0].UB) < 0.1


def test_nearest_to_an_earlier_orientation_is_chosen():
    cubic = replace(LATTICE, a=5.0, b=5.0, c=5.0, alpha=90.0, beta=90.0, gamma=90.0)
    geometry = fine_geometry(lattice=cubic)
    hkl, _ = reflections()
    places = predict(geometry, cubic, hkl, reflecting_angles(geometry, hkl)[:, 0]).places
    k = np.isfinite(places).all(axis=1)
    q = hkl[k] @ (U @ reciprocal_matrix(cubic)).T
    seen = seen_at(geometry, peaks_of(geometry, 1)[0])._replace(q=q, weight=np.ones(len(q)))
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    before = U @ turn @ reciprocal_matrix(cubic)
    found = orient(COMM, (seen,), cubic, "P m -3 m", (before,)).positions[0]
    np.testing.assert_allclose(found.UB, before, atol=1e-4)
    least = orient(COMM, (seen,), cubic, "P m -3 m", (None,)).positions[0]
    assert np.linalg.norm(least.UB - reciprocal_matrix(cubic)) <= np.linalg.norm(
        before - reciprocal_matrix(cubic)
    )


def test_flagged_peaks_count_less_and_angles_follow_the_frames():
    geometry = fine_geometry()
    peaks, _ = peaks_of(geometry, 2)
    flags = np.where(np.arange(len(peaks)) % 2, int(PeakFlag.ENDS), 0)
    assert set(seen_at(geometry, replace(peaks, flags=flags)).weight) == {1.0, 0.5}
    uneven = replace(geometry.goniometer, phi=(10.0, 20.0, 40.0), step=2.0)
    z = np.array([-0.5, 0.0, 1.0, 1.25, 2.5])
    np.testing.assert_allclose(angles_of(uneven, z), [10.0, 11.0, 21.0, 21.5, 42.0])


def test_no_peaks_are_no_orientation():
    geometry = fine_geometry()
    peaks, _ = peaks_of(geometry, 3)
    nothing = Peaks(**{name: getattr(peaks, name)[:0] for name in Peaks.__dataclass_fields__})
    found = orient(COMM, (seen_at(geometry, nothing),), LATTICE, "P -1", (None,))
    assert found.positions == (None,)
