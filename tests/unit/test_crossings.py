"""Where reflections appear in frames whose angles are even, uneven, or go backwards."""

from dataclasses import replace

import numpy as np
import pytest
from unit.peaks_scan import Crystal, geometry_of, random_rotation

from nxmpi.crystal.crossings import appearances
from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.crystal.symmetry import reflections
from nxmpi.stages.orient import angles_of

CRYSTAL = Crystal(cell=(5, 6, 7, 80, 95, 105), space_group="P -1", U=random_rotation(3))
FRAMES = {
    "even": (np.arange(0.0, 90.0, 0.5), 0.5),
    "with a gap": (np.r_[0.0:40.0:0.5, 70.0:90.0:0.5], 0.5),
    "backwards": (np.arange(20.0, -70.0, -0.5), -0.5),
}


@pytest.mark.parametrize("name", FRAMES)
def test_reflections_are_in_the_frames_that_cover_their_angle(name):
    phi, step = FRAMES[name]
    geometry = geometry_of(CRYSTAL, 0)
    goniometer = replace(geometry.goniometer, phi=tuple(phi.tolist()), step=step)
    geometry = replace(geometry, goniometer=goniometer)
    found = appearances(geometry, reflections(CRYSTAL.lattice, "P -1", 0.9))
    assert len(found.phi) > 100
    frame = np.floor(found.z + 0.5).astype(int)
    into = (found.phi - phi[frame]) / step
    assert (into > -1e-6).all()
    assert (into < 1 + 1e-6).all()
    np.testing.assert_allclose(angles_of(goniometer, found.z), found.phi, atol=1e-6)
    hkl = pixel_to_hkl(geometry, found.x + 0.5, found.y + 0.5, found.phi)
    np.testing.assert_allclose(hkl, found.hkl, atol=1e-6)
    assert set(frame) >= {0, len(phi) - 1} or np.ptp(frame) > 0.9 * len(phi)
