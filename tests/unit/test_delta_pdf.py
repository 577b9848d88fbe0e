"""Signs of a 3D-ΔPDF after punching, for the example of Mantid's DeltaPDF3D."""

from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI

from nxmpi.crystal.holes import find_holes
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.crystal.window import window_on, window_slab
from nxmpi.model import HKLGrid, Lattice
from nxmpi.nexus.volume import axis_values
from nxmpi.params import PdfParams, PunchParams, WindowParams
from nxmpi.stages.fill import punch_and_fill
from nxmpi.stages.fourier import real_space_grid, transform_sizes
from nxmpi.stages.pdf import pdf

COMM = MPI.COMM_SELF
N, STEP = 61, 0.1
GRID = HKLGrid(origin=(-3.0, -3.0, -3.0), step=(STEP,) * 3, shape=(N,) * 3)
LATTICE = Lattice(a=2 * np.pi, b=2 * np.pi, c=2 * np.pi, alpha=90.0, beta=90.0, gamma=90.0)
"""1 r.l.u. is 1/Å."""


def example(planes):
    """Return Bragg peaks at integers, and broad ones at (n + 1/2, m, 0), [l, k, h]."""
    axis = np.linspace(-3, 3, N)
    whole = (axis - np.rint(axis)) ** 2
    half = (axis - np.floor(axis) - 0.5) ** 2
    along_l = whole[:, None, None] if planes > 1 else np.zeros((1, 1, 1))
    bragg = np.exp(-(whole + whole[:, None] + along_l) / (2 * 0.01**2))
    broad = np.exp(-(half + whole[:, None] + along_l) / (2 * 0.1**2))
    return 100 * bragg + 20 * broad


@pytest.mark.parametrize("planes", [1, N])
def test_signs_after_punching(planes):
    grid = replace(GRID, origin=(*GRID.origin[:2], -0.1 * (planes // 2)), shape=(N, N, planes))
    group = voxel_group(laue_operators("mmm"), grid)
    punch = PunchParams(radius=0.15)
    holes = find_holes(group, grid, LATTICE, "P 1", punch)
    volume = example(planes)
    filled = punch_and_fill(COMM, volume, 0, holes, punch)
    assert filled.report.holes == 7**2 * (7 if planes > 1 else 1)
    window = window_on(WindowParams(window="none"), group, grid, LATTICE)
    weights = window_slab(window, 0, planes, np.float64)
    sizes = transform_sizes(group, grid, LATTICE, None)
    real = real_space_grid(grid, sizes)
    x, y, z = (axis_values(real, i) for i in range(3))
    made = pdf(COMM, filled.values, weights, group, sizes, PdfParams(precision="double"))
    assert made.real.residue < 1e-12

    def at(*vector):
        i, j, k = (np.abs(axis - v).argmin() for axis, v in zip((x, y, z), vector, strict=True))
        return made.real.values[j - N // 2, k, i]

    assert at(1, 0, 0) < 0 < at(0, 1, 0)
    assert at(1, 1, 0) < 0 < at(0, 2, 0)
    assert at(2, 0, 0) > 0
    assert 0.9 < -at(1, 0, 0) / at(0, 1, 0) < 1.1
