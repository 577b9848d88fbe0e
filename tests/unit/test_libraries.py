"""Libraries that bring libraries of their own, together in one process."""

import subprocess
import sys

import pytest

CODE = """
import {first}
import numpy, scipy.linalg, scipy.optimize
matrix = numpy.random.default_rng(0).normal(size=(765, 19))
ours = scipy.linalg.svd(matrix, full_matrices=False)[1]
numpy.testing.assert_allclose(ours, numpy.linalg.svd(matrix)[1], rtol=1e-12)
fitted = scipy.optimize.least_squares(lambda x: matrix @ x - matrix.sum(axis=1), numpy.zeros(19))
numpy.testing.assert_allclose(fitted.x, 1, rtol=1e-6)
import numba, pyFAI
"""


@pytest.mark.parametrize("first", ["nxmpi", "nxmpi.crystal.lattice", "nxmpi.cli.main"])
def test_linear_algebra_is_right_beside_cctbx(first):
    command = [sys.executable, "-c", CODE.format(first=first)]
    assert subprocess.run(command, check=False, timeout=120).returncode == 0
