"""Unit cell to matrices, by cctbx."""

import numpy as np
from cctbx import uctbx

from nxmpi._typing import F8
from nxmpi.model import Lattice, Matrix


def unit_cell(lattice: Lattice) -> "uctbx.unit_cell":
    """Return the cell as cctbx has it."""
    return uctbx.unit_cell(
        (lattice.a, lattice.b, lattice.c, lattice.alpha, lattice.beta, lattice.gamma)
    )


def direct_matrix(lattice: Lattice) -> F8:
    """Return A, whose columns are a, b, c: a along x, b in the xy plane.

    Returns
    -------
    (3, 3) float64
        [Å]
    """
    return np.array(unit_cell(lattice).orthogonalization_matrix()).reshape(3, 3)


def reciprocal_matrix(lattice: Lattice) -> F8:
    """Return B = inv(A).T, so that ``B @ hkl`` is a vector of length 1/d.

    Returns
    -------
    (3, 3) float64
        [1/Å]

    Notes
    -----
    Busing & Levy, Acta Cryst. 22, 457 (1967), with the Cartesian axes tied to the direct
    cell; for every cell, oblique ones included.
    """
    return np.array(unit_cell(lattice).fractionalization_matrix()).reshape(3, 3).T


def lattice_along(lattice: Lattice, axes: Matrix) -> Lattice:
    """Return the lattice whose reciprocal axes are these.

    Parameters
    ----------
    axes : (3, 3)
        Rows [r.l.u.].
    """
    along = reciprocal_matrix(lattice) @ np.array(axes).T
    direct = np.linalg.inv(along)
    metric = direct @ direct.T
    cell = uctbx.unit_cell(metrical_matrix=metric[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]].tolist())
    return Lattice(**dict(zip(Lattice.__slots__, cell.parameters(), strict=True)))


def reciprocal_parameters(lattice: Lattice) -> tuple[float, ...]:
    """Return a*, b*, c* [1/Å, without 2 pi] and alpha*, beta*, gamma* [degrees]."""
    return tuple(unit_cell(lattice).reciprocal_parameters())
