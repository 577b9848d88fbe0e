"""Unit cell to matrices, by cctbx."""

import numpy as np
from cctbx import uctbx

from nxmpi._typing import F8
from nxmpi.errors import InputError
from nxmpi.model import Lattice, Matrix

NEAR, NEAR_ANGLE = 0.03, 2.0
"""How far lengths [1] and angles [degrees] of a known cell may be off."""


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


def reciprocal_matrix_changes(lattice: Lattice) -> F8:
    """Return how B changes with a, b, c [1/Å^2] and alpha, beta, gamma [1/Å/degree].

    From dB = -B dA.T B.

    Returns
    -------
    (6, 3, 3) float64
    """
    (ca, cb, cg), (sa, sb, sg) = (
        f(np.radians([lattice.alpha, lattice.beta, lattice.gamma])) for f in (np.cos, np.sin)
    )
    p = (ca - cb * cg) / sg
    w = np.sqrt(1 - cb**2 - p**2)
    dA = np.zeros((6, 3, 3))
    dA[0, 0, 0] = 1.0
    dA[1, :, 1] = cg, sg, 0.0
    dA[2, :, 2] = cb, p, w
    dp = np.array([-sa / sg, sb * cg / sg, cb - p * cg / sg])
    db = np.array([0.0, -sb, 0.0])
    dA[3:, :, 2] = lattice.c * np.stack([db, dp, -(cb * db + p * dp) / w], axis=1)
    dA[5, :, 1] = -lattice.b * sg, lattice.b * cg, 0.0
    dA[3:] *= np.pi / 180
    B = reciprocal_matrix(lattice)
    return np.asarray(-B @ dA.transpose(0, 2, 1) @ B)


def lattice_along(lattice: Lattice, axes: Matrix) -> Lattice:
    """Return the lattice whose reciprocal axes are these.

    Parameters
    ----------
    axes : (3, 3)
        Rows [r.l.u.].
    """
    return lattice_of(reciprocal_matrix(lattice) @ np.array(axes).T)


def lattice_of(UB: F8) -> Lattice:
    """Return the lattice whose reciprocal axes are the columns of a matrix, turned or not."""
    return Lattice(**dict(zip(Lattice.__slots__, _cell_of(UB).parameters(), strict=True)))


def is_near(lattice: Lattice, to: Lattice, part: float = 1.0) -> bool:
    """Return whether two cells differ by no more than errors of a known cell do, or a part."""
    one, other = (np.array(unit_cell(each).parameters()) for each in (lattice, to))
    lengths, angles = np.abs(one / other - 1)[:3], np.abs(one - other)[3:]
    return bool(max(lengths) < NEAR * part and max(angles) < NEAR_ANGLE * part)


def spacings(lattice: Lattice, hkl: F8) -> F8:
    """Return d of reflections, (n, 3) to (n,) float64 [Å]."""
    return np.asarray(1 / np.linalg.norm(hkl @ reciprocal_matrix(lattice).T, axis=1))


def reduced(UB: F8) -> F8:
    """Return the UB of the Niggli cell of a lattice, right-handed, (3, 3) float64 [1/Å].

    Raises
    ------
    InputError
        If the cell is as good as flat, and has none.
    """
    try:
        change = _cell_of(UB).change_of_basis_op_to_niggli_cell()
    except RuntimeError as error:
        raise InputError(f"unit cell: expected one that can be reduced: {error}") from error
    matrix = np.array(change.c_inv().r().as_double()).reshape(3, 3)
    turned = UB @ np.linalg.inv(matrix.T)
    return np.asarray(turned * np.sign(np.linalg.det(turned)))


def _cell_of(UB: F8) -> "uctbx.unit_cell":
    edges = np.linalg.inv(UB)
    metric = edges @ edges.T
    return uctbx.unit_cell(metrical_matrix=metric[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]].tolist())


def reciprocal_parameters(lattice: Lattice) -> tuple[float, ...]:
    """Return a*, b*, c* [1/Å, without 2 pi] and alpha*, beta*, gamma* [degrees]."""
    return tuple(unit_cell(lattice).reciprocal_parameters())
