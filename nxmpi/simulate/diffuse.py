"""The diffuse scattering: a stated formula, for any cell and Laue group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.symmetry import space_group_info
from nxmpi.errors import InputError
from nxmpi.simulate.thermal import springs

if TYPE_CHECKING:
    from nxmpi._typing import F8
    from nxmpi.model import Lattice, Vector

FORMULA = (
    "I(hkl) = flat + air exp(-Q^2 / (2 air_width^2)) + exp(-falloff Q^2) {amplitude "
    "[1 + sum_j alphas_j cos(2 pi hkl . vectors_j)] + tds Q^2 / (q^2 + tds_width^2)}, "
    "Q = 2 pi |UB hkl|, q^2 = 2 sum_j stiffness_j (1 - cos(2 pi hkl . vectors_j)). Near every "
    "point of the reciprocal lattice, but for those that the centring forbids, q is 2 pi "
    "times the distance to it; without tds there is no stiffness"
)

LEVELS = ("flat", "air", "air_width", "amplitude", "falloff", "tds", "tds_width")
DIVISORS = np.array([1, 2, 3, 4, 6, 8, 12, 24])
"""Vectors between atoms are multiples of one of these fractions of the cell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Diffuse:
    """Background of |Q| alone, short-range order of two kinds of atom, thermal scattering."""

    flat: float = 0.5
    """Background everywhere [counts per pixel and frame, where all factors are 1]."""
    air: float = 1.0
    """Background at Q = 0, above the flat one; factors are those of all else [same]."""
    air_width: float = 2.0
    """Standard deviation of the scattering of air [1/Å]."""
    amplitude: float = 3.0
    """Mean of the diffuse scattering at Q = 0, if the atoms were points [same]."""
    falloff: float = 0.01
    """Of atomic scattering and thermal motion [Å^2]."""
    tds: float = 0.0
    """Thermal diffuse scattering where q = Q, but for the falloff [counts]; 0 is none."""
    tds_width: float = 0.15
    """Distance q from a Bragg peak below which it stays finite [1/Å]."""
    shells: tuple[tuple[Vector, float], ...] = (((1, 0, 0), -0.3), ((0, 0, 1), -0.2))
    """Vectors between atoms [cells], each with the sum of the Warren-Cowley parameters over the
    shell of vectors that the Laue group makes of it [1]."""

    def __post_init__(self) -> None:
        levels = (self.flat, self.air, self.amplitude, self.falloff, self.tds)
        if not min(levels) >= 0 or not min(self.air_width, self.tds_width) > 0:
            raise InputError(f"diffuse scattering: expected levels of 0 or more, found {self}")
        total = sum(abs(alpha) for _, alpha in self.shells)
        if total > 1:  # the intensity could be negative
            raise InputError(
                "diffuse scattering: expected correlations whose sizes add to 1 at most, "
                f"found {total:g}"
            )
        parts = np.array([vector for vector, _ in self.shells], float).ravel() * DIVISORS[-1]
        whole = np.allclose(parts, np.rint(parts), atol=1e-9)
        if not whole or not parts.reshape(-1, 3).any(axis=1).all():
            raise InputError(
                f"diffuse scattering: expected vectors in multiples of 1/{DIVISORS[-1]} of the "
                f"cell, none of them zero, found {self.shells}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class DiffuseParameters:
    """What the formula needs, symmetry expanded."""

    flat: float
    air: float
    air_width: float
    amplitude: float
    falloff: float
    tds: float
    tds_width: float
    vectors: F8
    """(m, 3) float64: one of each pair of opposite vectors [cells]."""
    alphas: F8
    """(m,) float64: sum of the Warren-Cowley parameters of the pair [1]."""
    stiffness: F8
    """(m,) float64: p of `nxmpi.simulate.thermal` [1/Å^2]."""

    @property
    def levels(self) -> F8:
        """(7,) float64: the scalars, as kernels take them."""
        return np.array([getattr(self, name) for name in LEVELS])

    @property
    def coefficients(self) -> F8:
        """(m, 2) float64: alphas and stiffness, as kernels take them."""
        return np.stack([self.alphas, self.stiffness], axis=1)

    @property
    def divisor(self) -> int:
        """What makes integers of the vectors when they are multiplied by it."""
        scaled = (np.outer(self.vectors.ravel(), DIVISORS) + 0.25) % 1 - 0.25
        return int(DIVISORS[(abs(scaled) < 1e-9).all(axis=0)].min())


def laue_operators(space_group: str) -> F8:
    """Return the matrices of the Laue group, which act on real-space columns.

    Returns
    -------
    (n, 3, 3) float64
        In the basis of the cell; a row of hkl is multiplied from its right.
    """
    group = space_group_info(space_group).group().build_derived_laue_group()
    unique = {tuple(op.r().as_double()) for op in group.all_ops()}
    return np.array(sorted(unique)).reshape(-1, 3, 3)


def expand(diffuse: Diffuse, space_group: str, lattice: Lattice) -> DiffuseParameters:
    """Return the parameters with every shell completed by the Laue group, and the springs."""
    operators = laue_operators(space_group)
    found: dict[Vector, F8] = {}
    for vector, alpha in diffuse.shells:
        rows = operators @ np.array(vector, float) + 0.0  # no negative zeros
        images = {(float(x), float(y), float(z)) for x, y, z in rows}
        one_of_each_pair = [image for image in images if image > (0.0, 0.0, 0.0)]
        for image in one_of_each_pair:
            part = np.array([alpha / len(one_of_each_pair), 0.0])
            found[image] = found.get(image, np.zeros(2)) + part
    if diffuse.tds > 0:
        for (x, y, z), stiffness in zip(*springs(lattice, space_group), strict=True):
            vector = (float(x), float(y), float(z))
            found[vector] = found.get(vector, np.zeros(2)) + np.array([0.0, stiffness])
    vectors = sorted(found)
    coefficients = np.array([found[vector] for vector in vectors], float).reshape(-1, 2)
    return DiffuseParameters(
        **{name: getattr(diffuse, name) for name in LEVELS},
        vectors=np.array(vectors, float).reshape(-1, 3),
        alphas=coefficients[:, 0],
        stiffness=coefficients[:, 1],
    )


def diffuse_intensity(parameters: DiffuseParameters, hkl: F8, Q: F8) -> F8:
    """Return the intensity of `FORMULA`: counts where all factors of the norm are 1.

    Parameters
    ----------
    hkl : (..., 3) float64
        [r.l.u.]
    Q : (...) float64
        Length of the scattering vector, with 2 pi [1/Å].

    Returns
    -------
    (...) float64
        [counts]
    """
    p = parameters
    waves = np.cos(2 * np.pi * (np.asarray(hkl) @ p.vectors.T))
    tds = p.tds * Q**2 / (2 * (1 - waves) @ p.stiffness + p.tds_width**2)
    crystal = np.exp(-p.falloff * Q**2) * (p.amplitude * (1 + waves @ p.alphas) + tds)
    return np.asarray(p.flat + p.air * np.exp(-0.5 * (Q / p.air_width) ** 2) + crystal)


def voxel_mean(parameters: DiffuseParameters, UB: F8, hkl: F8, step: Vector) -> F8:
    """Return the intensity averaged over voxels, by three Gauss-Legendre points an axis.

    Parameters
    ----------
    UB : (3, 3) float64
        [1/Å]
    hkl : (n, 3) float64
        Centres of the voxels [r.l.u.].
    step : tuple of float
        Size of a voxel along h, k, l [r.l.u.].

    Returns
    -------
    (n,) float64
        [counts]
    """
    nodes, weights = np.polynomial.legendre.leggauss(3)
    mean = np.zeros(len(hkl))
    for i, j, k in np.ndindex(3, 3, 3):
        point = hkl + 0.5 * np.array(step) * nodes[[i, j, k]]
        Q = 2 * np.pi * np.linalg.norm(point @ np.asarray(UB).T, axis=1)
        mean += weights[[i, j, k]].prod() / 8 * diffuse_intensity(parameters, point, Q)
    return mean
