"""Primitive cell and orientation from the scattering vectors of peaks alone."""

from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from nxmpi._typing import F8, I8
from nxmpi.crystal.indexing import Indexed, explain, scores_of
from nxmpi.crystal.lattice import reduced
from nxmpi.errors import InputError

SHORTEST, LONGEST = 2.5, 60.0
"""Lengths of lattice vectors that are looked for [Å]."""
DIRECTIONS = 8000
"""Over half a sphere, one every 1.6 degrees."""
PEAKS = 300
"""Of the smallest vectors, that directions are tried with."""
NEAR = 0.2
"""How far from an integer the product of a lattice vector and a peak may be in its fit [1]."""
STRONGEST = 200
"""Directions whose vectors are fitted."""
VECTORS = 30
"""Lattice vectors of which cells are made."""
ALMOST_ALL = 0.85
"""Weight of the explained peaks of which indices may all have a factor by chance."""
SAME = 0.02
"""Difference of vectors that are taken for one, to their length [1]."""
FLAT = 0.1
"""Least volume of a cell, to the product of its edges [1]."""


class Periods(NamedTuple):
    """Vectors along which the peaks are periodic, the strongest first."""

    vectors: F8
    """(n, 3) float64 [Å]"""
    power: F8
    """(n,) float64: how much of the peaks' weight is periodic."""
    numbers: I8
    """(n,) int64: of their directions."""


def smallest(q: F8) -> I8:
    """Return the numbers of the peaks that directions are tried with, (n,) int64."""
    return np.argsort(np.linalg.norm(q, axis=1), kind="stable")[:PEAKS]


def cell_of(shares: list[Periods], q: F8, weight: F8) -> Indexed | None:
    """Return the reduced cell, in its orientation, that explains most of the peaks.

    Parameters
    ----------
    shares : list of Periods
        Of all shares of the directions; see `periods`.
    q : (n, 3) float64
        Scattering vectors, turned back to phi = 0 and all angles 0 [1/Å].
    weight : (n,) float64
        Of each peak in the score [1].

    Returns
    -------
    Indexed or None
        UB of the Niggli cell; None where no three lattice vectors are found.

    Notes
    -----
    Products of peaks with a direction are periodic if it is that of a lattice vector, with the
    period 1 / length: peaks of their Fourier transforms are lattice vectors (Steller, Bolotovsky
    & Rossmann, J. Appl. Cryst. 30, 1036 (1997)). Of the cells that three of them make, the
    smallest of those is taken that explain almost as much as the best.
    """
    some = smallest(q)
    if len(some) < 3:
        return None
    found = _strongest(Periods(*(np.concatenate(parts) for parts in zip(*shares, strict=True))))
    vectors = lattice_vectors(found.vectors, q[some], weight[some])
    cells = np.array(list(combinations(vectors, 3))).reshape(-1, 3, 3)
    edges = np.linalg.norm(cells, axis=2).prod(axis=1)
    volumes = np.abs(np.linalg.det(cells))
    cells = cells[volumes > FLAT * edges]
    if not len(cells):
        return None
    UB = np.linalg.inv(cells)
    scores = scores_of(UB, q[some], weight[some])
    good = np.flatnonzero(scores > 0.9 * scores.max())
    best = good[np.argmin(np.abs(np.linalg.det(cells[good])))]
    try:
        return explain(_smallest(_fitted(reduced(UB[best]), q, weight), q, weight), q, weight)
    except InputError:  # of peaks that are no lattice
        return None


def periods(q: F8, weight: F8, share: tuple[int, int] = (0, 1)) -> Periods:
    """Return the strongest periods along a share of the directions.

    Parameters
    ----------
    q, weight
        See `cell_of`.
    share : tuple of int, optional
        Number of the share, and how many there are.
    """
    some = smallest(q)
    q, weight = q[some], weight[some]
    numbers = np.arange(share[0], DIRECTIONS, share[1])
    directions = half_sphere(DIRECTIONS)[numbers]
    # no product of matrices: its last bit depends on how many directions there are
    along = sum(directions[:, i, None] * q[:, i] for i in range(3))
    reach = np.linalg.norm(q, axis=1).max(initial=1 / LONGEST)
    n = int(2 ** np.ceil(np.log2(4 * reach * LONGEST)))
    width = 2 * reach / n * 1.0001
    cell = ((along + reach) / width).astype(int) + np.arange(numbers.size)[:, None] * n
    density = np.bincount(cell.ravel(), np.tile(weight, numbers.size), numbers.size * n)
    power = np.abs(np.fft.rfft(density.reshape(numbers.size, n), 4 * n, axis=1))
    lengths = np.arange(power.shape[1]) / (4 * n * width)
    power[:, (lengths < SHORTEST) | (lengths > LONGEST)] = 0.0
    highest = np.argmax(power, axis=1)
    found = directions * lengths[highest][:, None]
    power = np.round(power[np.arange(numbers.size), highest], 6)
    return _strongest(Periods(found, power, numbers))


def _strongest(found: Periods) -> Periods:
    order = np.lexsort((found.numbers, -found.power))[:STRONGEST]
    return Periods(found.vectors[order], found.power[order], found.numbers[order])


def lattice_vectors(found: F8, q: F8, weight: F8) -> F8:
    """Return vectors whose products with many peaks are whole, best first.

    Parameters
    ----------
    found : (m, 3) float64
        Vectors to begin with [Å].
    q, weight
        See `cell_of`.

    Returns
    -------
    (n, 3) float64
        [Å]
    """
    fitted = np.array([_fitted_vector(each, q, weight) for each in found])
    fitted = fitted[np.linalg.norm(fitted, axis=1) > SHORTEST / 2]
    scores = _scores_of_vectors(fitted, q, weight)
    kept: list[F8] = []
    for i in np.argsort(-scores, kind="stable"):
        size = np.linalg.norm(fitted[i])
        if all(
            min(np.linalg.norm(fitted[i] - v), np.linalg.norm(fitted[i] + v)) > SAME * size
            for v in kept
        ):
            kept.append(fitted[i])
        if len(kept) == VECTORS:
            break
    return np.array(kept).reshape(-1, 3)


def half_sphere(n: int) -> F8:
    """Return directions spread evenly over half a sphere, on a spiral, (n, 3) float64."""
    z = (np.arange(n) + 0.5) / n
    turn = np.arange(n) * np.pi * (3 - np.sqrt(5))
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(turn), r * np.sin(turn), z], axis=1)


def _fitted_vector(vector: F8, q: F8, weight: F8) -> F8:
    for _ in range(5):
        along = q @ vector
        whole = np.round(along)
        w = weight * (np.abs(along - whole) < NEAR)
        vector = np.asarray(
            np.linalg.lstsq((q * w[:, None]).T @ q, q.T @ (w * whole), rcond=1e-6)[0], np.float64
        )
    return vector


def _scores_of_vectors(vectors: F8, q: F8, weight: F8) -> F8:
    along = vectors @ q.T
    miss = np.abs(along - np.round(along)) / NEAR
    return np.asarray(np.maximum(1 - miss**2, 0) @ weight)


def _smallest(UB: F8, q: F8, weight: F8) -> F8:
    """Return the UB of the smallest cell that explains what this one does.

    Where the indices of almost all peaks have a combination that is a multiple of 2, 3 or 5, the
    same combination of the cell's edges is a multiple of a lattice vector.
    """
    for prime in (2, 2, 2, 3, 3, 5):
        found = explain(UB, q, weight)
        h, w = np.round(found.hkl[found.explained]), weight[found.explained]
        combined = np.array(list(product(range(prime), repeat=3))[1:], dtype=float)
        share = ((h @ combined.T) % prime == 0).T @ w / w.sum()
        best = int(np.argmax(share))
        if share[best] < ALMOST_ALL:
            continue
        edges = np.linalg.inv(UB)
        edges[np.flatnonzero(combined[best])[0]] = combined[best] @ edges / prime
        UB = _fitted(reduced(np.linalg.inv(edges)), q, weight)
    return UB


def _fitted(UB: F8, q: F8, weight: F8) -> F8:
    """Return the UB that fits the peaks that are explained, by least squares."""
    for _ in range(3):
        found = explain(UB, q, weight)
        h, w = np.round(found.hkl[found.explained]), weight[found.explained][:, None]
        if np.linalg.matrix_rank(h) < 3:
            break
        fitted = np.linalg.lstsq((h * w).T @ h, (h * w).T @ q[found.explained], rcond=None)[0]
        UB = np.asarray(fitted.T, np.float64)
    return UB
