"""The Laplace operator on the voxels of any lattice, by differences between voxels."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from nxmpi._typing import F8, I8
    from nxmpi.crystal.laue import VoxelGroup

NOTHING = 1e-12
"""Weights that are rounding errors alone, by the largest [1]."""


class Stencil(NamedTuple):
    """Laplace's operator: u(x) to the sum of w (u(x + e) - 2 u(x) + u(x - e))."""

    vectors: I8
    """(n, 3) int64: the e, along h, k, l, 6 at most without their inverses [voxels]."""
    weights: F8
    """(n,) float64: the w, all above 0 [Å²]."""

    @property
    def neighbours(self) -> I8:
        """(2 n + 1, 3) int64: 0, every e, and every -e."""
        zero = np.zeros((1, 3), np.int64)
        return np.concatenate([zero, self.vectors, -self.vectors])


def laplace_stencil(metric: F8, group: VoxelGroup) -> Stencil:
    """Return Laplace's operator in Q on voxels; every operator of the group leaves it as it is.

    Parameters
    ----------
    metric : (3, 3) float64
        Of `nxmpi.crystal.metric.mean_metric`.

    Notes
    -----
    With inv(metric) = Σ w e eᵀ the sum of the w ∂²/∂e² is the Laplacian; differences instead of
    the second derivatives are exact for cubic polynomials, and as no weight is below 0 the
    solutions have no extremes but at what is known. See `selling`.
    """
    weights: dict[tuple[int, ...], float] = {}
    for vector, weight in zip(*selling(np.asarray(np.linalg.inv(metric), np.float64)), strict=True):
        for image in group.matrices @ vector:
            one = max(tuple(image.tolist()), tuple((-image).tolist()))
            weights[one] = weights.get(one, 0.0) + weight / len(group.matrices)
    vectors = sorted(weights)
    return Stencil(np.array(vectors), np.array([weights[each] for each in vectors]))


def selling(form: F8) -> tuple[I8, F8]:
    """Return integer vectors e and weights w > 0 with form = Σ w e eᵀ, 6 at most.

    Parameters
    ----------
    form : (3, 3) float64
        Symmetric and positive.

    Returns
    -------
    vectors : (n, 3) int64
    weights : (n,) float64

    Notes
    -----
    Selling, J. reine angew. Math. 77, 143 (1874): four vectors whose sum is 0, of which two make
    an acute angle, are replaced by others that are shorter, until none do; then w = -b · form c
    for each pair of them, and e is the cross product of the other two. As used for differences by
    Fehrenbach & Mirebeau, J. Math. Imaging Vis. 49, 123 (2014).
    """
    base = np.vstack([np.eye(3, dtype=np.int64), -np.ones((1, 3), np.int64)])
    acute = NOTHING * float(np.trace(form))
    while True:
        angles = base @ form @ base.T
        pairs = [pair for pair in combinations(range(4), 2) if angles[pair] > acute]
        if not pairs:
            break
        i, j = max(pairs, key=lambda pair: float(angles[pair]))
        rest = [k for k in range(4) if k not in (i, j)]
        base[rest] += base[i]
        base[i] *= -1
    vectors, weights = [], []
    for i, j in combinations(range(4), 2):
        k, m = (k for k in range(4) if k not in (i, j))
        vectors.append(np.cross(base[k], base[m]))
        weights.append(-float(angles[i, j]))
    kept = np.array(weights) > NOTHING * max(weights)
    return np.array(vectors)[kept], np.array(weights)[kept]
