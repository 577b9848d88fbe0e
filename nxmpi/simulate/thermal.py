"""Vectors between atoms and stiffnesses: a squared distance that repeats with the lattice."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.symmetry import space_group_info

if TYPE_CHECKING:
    from nxmpi._typing import F8
    from nxmpi.model import Lattice


def springs(lattice: Lattice, space_group: str) -> tuple[F8, F8]:
    """Return n_j and p_j of q^2 = 2 sum_j p_j (1 - cos(2 pi hkl . n_j)).

    Near each point of the reciprocal lattice that the centring allows, q is the distance to it
    in every direction; between them q^2 is smooth, and equal where the Laue group makes points
    equal.

    Returns
    -------
    vectors : (m, 3) float64
        One of each pair of opposite vectors, at most six [cells].
    stiffness : (m,) float64
        [1/Å^2]

    Notes
    -----
    With b_1, b_2, b_3 and b_0 = -(b_1 + b_2 + b_3) the obtuse superbase of the reciprocal
    lattice, all p_ij = -b_i . b_j are 0 or more, and a vector with coordinates c in it, c_0 = 0,
    has the square sum_ij p_ij (c_i - c_j)^2 (Selling, J. reine angew. Math. 77, 143 (1874)).
    c_i - c_j = hkl . n is an integer at the lattice's points. In three dimensions there is but
    one such sum, which therefore has the lattice's symmetry.
    """
    to_primitive = space_group_info(space_group).group().z2p_op().c().r().as_double()
    basis = np.array(to_primitive).reshape(3, 3)  # rows: hkl of a primitive reciprocal lattice
    superbase = obtuse_superbase(basis, reciprocal_matrix(lattice))
    # columns of the inverse give the coordinates of hkl; that of b_0 is 0
    coordinates = np.vstack([np.zeros(3), np.linalg.inv(superbase[1:]).T])
    cartesian = superbase @ reciprocal_matrix(lattice).T
    products = -cartesian @ cartesian.T
    pairs = [pair for pair in combinations(range(4), 2) if products[pair] > 1e-9 * products.max()]
    vectors = [_upper(coordinates[i] - coordinates[j]) for i, j in pairs]
    return np.array(vectors), np.array([products[pair] for pair in pairs])


def obtuse_superbase(basis: F8, B: F8) -> F8:
    """Return b_0 to b_3 of a lattice, whose sum is 0 and of which no two make an acute angle.

    Parameters
    ----------
    basis : (3, 3) float64
        Rows are hkl of a basis [r.l.u.].
    B : (3, 3) float64
        [1/Å]

    Returns
    -------
    (4, 3) float64
        Rows are hkl [r.l.u.].
    """
    superbase = np.vstack([-basis.sum(axis=0), basis])
    while True:
        products = (superbase @ B.T) @ (superbase @ B.T).T
        acute = np.argwhere(np.triu(products, 1) > 1e-9 * products.max())
        if not len(acute):
            return superbase
        i, j = acute[0]
        others = [k for k in range(4) if k not in (i, j)]
        superbase[others] += superbase[i]
        superbase[i] *= -1


def _upper(vector: F8) -> F8:
    """Return the vector or its opposite: the one that sorts above zero."""
    exact = np.rint(vector * 24) / 24 + 0.0  # no negative zeros
    return exact if tuple(exact) > (0.0, 0.0, 0.0) else np.asarray(-exact + 0.0)
