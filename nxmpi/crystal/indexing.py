"""The orientation of a crystal of known cell from the scattering vectors of peaks."""

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from nxmpi._typing import F8, I8, Mask

NEAR = 0.15
"""How far each index of a peak that is explained may be from an integer [r.l.u.]."""
LENGTH = 0.02
"""How much the length of a reflection's vector may differ from a peak's [1]."""
ANGLE = 1.5
"""How much the angle of two reflections may differ from that of two peaks [degrees]."""
FLAT = 15.0
"""Angle to a line within which a pair of peaks tells too little [degrees]."""
SEEDS, JUDGES = 40, 150
"""Peaks of the smallest vectors of which pairs are made, and by which candidates are scored."""
CHOICES, PAIRS = 2_000_000, 24
"""Pairs of reflections that are tried; and pairs of peaks, for which there may be more."""
BEST = 30
"""Candidates that are fitted."""
AT_ONCE = 1000
"""Candidates that are scored together."""
ACCURACY, STRAIN = 2e-3, 1e-2
"""Errors that a fit assumes: of scattering vectors [1/Å], and of the cell [1]."""


class Indexed(NamedTuple):
    """An orientation and what it explains."""

    UB: F8
    """(3, 3) float64, with the cell as it fits best [1/Å]."""
    hkl: F8
    """(n, 3) float64, of every peak, not rounded [r.l.u.]."""
    explained: Mask
    """(n,) bool: all indices are near integers."""
    score: float
    """Weight of the peaks that are explained, less where they are not quite."""


class Candidates(NamedTuple):
    """Orientations that pairs of peaks make, the best first."""

    U: F8
    """(n, 3, 3) float64"""
    scores: F8
    """(n,) float64"""
    numbers: F8
    """(n, 2) float64: of the pair, and of the choice of reflections for it."""


def candidates(
    q: F8, weight: F8, B: F8, reflections: F8, rotations: F8, share: tuple[int, int] = (0, 1)
) -> Candidates:  # fmt: skip
    """Return the `BEST` orientations of a share of the pairs; see `best_of`.

    Parameters
    ----------
    reflections : (m, 3) float64
        Those allowed, at least as far out as the `SEEDS` smallest vectors.
    rotations : (n, 3, 3) float64
        That bring allowed reflections to allowed ones, on hkl as columns.
    share : tuple of int, optional
        Number of the share, and how many there are.
    """
    order = np.argsort(np.linalg.norm(q, axis=1), kind="stable")
    seeds, judges = order[:SEEDS], order[:JUDGES]
    U, numbers = orientations_of_pairs(q[seeds], B, reflections, rotations, share)
    parts = np.array_split(U, -(-len(U) // AT_ONCE)) if len(U) else []
    scores = [np.empty(0), *(scores_of(part @ B, q[judges], weight[judges]) for part in parts)]
    return _first(Candidates(U, np.concatenate(scores), numbers))


def best_of(shares: list[Candidates], q: F8, weight: F8, B: F8) -> Indexed | None:
    """Return the orientation that explains most of the peaks, None if no pair fits the cell.

    Parameters
    ----------
    shares : list of Candidates
        Of all shares of the pairs; see `candidates`.
    q : (n, 3) float64
        Scattering vectors, turned back to phi = 0 and all angles 0 [1/Å].
    weight : (n,) float64
        Of each peak in the score [1].
    B : (3, 3) float64
        See `nxmpi.crystal.lattice.reciprocal_matrix` [1/Å].

    Notes
    -----
    Two peaks are given the indices of any two reflections of such lengths and such an angle, and
    each choice makes an orientation (Busing & Levy, Acta Cryst. 22, 457 (1967)). Candidates are
    scored by the peaks of small vectors, where errors of cell and orientation matter least; the
    best are fitted, from small vectors to large ones, and scored by all peaks.
    """
    best = _first(Candidates(*(np.concatenate(parts) for parts in zip(*shares, strict=True))))
    if not len(best.U):
        return None
    fitted = np.array([fit(U, B, q, weight) for U in best.U])
    return explain(fitted[int(np.argmax(scores_of(fitted, q, weight)))], q, weight)


def _first(found: Candidates) -> Candidates:
    """Return the `BEST` by score; those of one score in the order of their numbers."""
    order = np.lexsort((found.numbers[:, 1], found.numbers[:, 0], -found.scores))[:BEST]
    return Candidates(found.U[order], found.scores[order], found.numbers[order])


def explain(UB: F8, q: F8, weight: F8) -> Indexed:
    """Return the indices of peaks, and which of them are near integers; see `best_of`."""
    hkl = np.asarray(np.linalg.solve(UB, q.T).T, np.float64)
    near = np.asarray(np.abs(hkl - np.round(hkl)).max(axis=1) < NEAR)
    return Indexed(UB, hkl, near, float(scores_of(UB[None], q, weight)[0]))


def scores_of(UB: F8, q: F8, weight: F8) -> F8:
    """Return the weight of the peaks that each of some (m, 3, 3) UB explains, (m,) float64.

    A peak's falls from 1 at integer indices to 0 where the worst index is `NEAR` off.
    """
    hkl = np.linalg.solve(UB, q.T).transpose(0, 2, 1)
    miss = np.abs(hkl - np.round(hkl)).max(axis=2) / NEAR
    # no product of matrices: its last bit depends on how many there are
    return np.asarray((np.maximum(1 - miss**2, 0) * weight).sum(axis=1))


def orientations_of_pairs(
    q: F8, B: F8, reflections: F8, rotations: F8, share: tuple[int, int] = (0, 1)
) -> tuple[F8, F8]:
    """Return the rotations that bring pairs of reflections to pairs of peaks.

    Parameters
    ----------
    q, B, reflections, rotations
        See `best_of` and `candidates`. Of reflections that rotations bring to each other, the
        first peak of a pair is given one only: the others make the same crystal.
    share : tuple of int, optional
        Number of the share, and how many there are.

    Returns
    -------
    U : (m, 3, 3) float64
    numbers : (m, 2) float64
        Of the pair, and of the choice of reflections for it.
    """
    g = reflections @ B.T
    g_length, q_length = np.linalg.norm(g, axis=1), np.linalg.norm(q, axis=1)
    fits = np.abs(g_length - q_length[:, None]) < LENGTH * q_length[:, None]
    g_unit, q_unit = g / g_length[:, None], q / q_length[:, None]
    first = fits & first_of_equivalents(reflections, rotations)
    found, numbers = [np.empty((0, 3, 3))], [np.empty((0, 2))]
    pairs = _cheapest_pairs(q_unit, first.sum(axis=1), fits.sum(axis=1))
    for number in range(share[0], len(pairs), share[1]):
        j, i = pairs[number]
        cosine = float(q_unit[i] @ q_unit[j])
        a, b = np.flatnonzero(first[i]), np.flatnonzero(fits[j])
        angles = np.arccos(np.clip(g_unit[a] @ g_unit[b].T, -1, 1))
        one, other = np.nonzero(np.abs(angles - np.arccos(cosine)) < np.radians(ANGLE))
        if one.size:
            to = triads(q_unit[i][None], q_unit[j][None])
            found.append(to @ triads(g_unit[a[one]], g_unit[b[other]]).transpose(0, 2, 1))
            numbers.append(np.column_stack([np.full(one.size, number), np.arange(one.size)]))
    return np.concatenate(found), np.concatenate(numbers)


def _cheapest_pairs(q_unit: F8, first: I8, fits: I8) -> I8:
    """Return pairs of peaks that tell an orientation, those with the fewest choices first.

    Parameters
    ----------
    q_unit : (n, 3) float64
    first, fits : (n,) int64
        Reflections that may be a pair's second and first peak, by number of the peak.

    Returns
    -------
    (m, 2) int64
        As many as have `CHOICES` together, or `PAIRS` at least.
    """
    pairs = np.array(list(combinations(range(len(q_unit)), 2)), np.int64).reshape(-1, 2)
    cosines = (q_unit[pairs[:, 0]] * q_unit[pairs[:, 1]]).sum(axis=1)
    choices = first[pairs[:, 1]] * fits[pairs[:, 0]]
    use = (np.abs(cosines) < np.cos(np.radians(FLAT))) & (choices > 0) & (choices < CHOICES)
    pairs, choices = pairs[use], choices[use]
    order = np.argsort(choices, kind="stable")
    n = max(int(np.searchsorted(np.cumsum(choices[order]), CHOICES)), PAIRS)
    return np.asarray(pairs[order[:n]])


def triads(first: F8, second: F8) -> F8:
    """Return right-handed axes of pairs of directions, symmetric in the two.

    Parameters
    ----------
    first, second : (n, 3) float64
        Unit vectors.

    Returns
    -------
    (n, 3, 3) float64
        In columns: along their sum, along their difference, along their cross product.
    """
    columns = np.stack([first + second, first - second, np.cross(second, first)], axis=-1)
    return np.asarray(columns / np.linalg.norm(columns, axis=1, keepdims=True))


def fit(U: F8, B: F8, q: F8, weight: F8) -> F8:
    """Return the UB that fits the peaks around an orientation, (3, 3) float64 [1/Å].

    In three steps, from small vectors, whose indices are sure, to all. Each turns the crystal, and
    strains its cell as little as the peaks allow.
    """
    length, UB = np.linalg.norm(q, axis=1), U @ B
    for far in (0.4, 0.7, 1.0, 1.0):
        hkl = np.linalg.solve(UB, q.T).T
        near = np.abs(hkl - np.round(hkl)).max(axis=1) < NEAR
        use = near & (length <= far * length.max())
        g, w = np.round(hkl[use]) @ B.T, weight[use]
        if np.linalg.matrix_rank(g, tol=1e-6) < 2:
            continue
        turned, _ = Rotation.align_vectors(q[use], g, w)
        g = turned.apply(g)
        keep = np.eye(3) * (ACCURACY / STRAIN) ** 2
        strain = np.linalg.solve((g * w[:, None]).T @ g + keep, (g * w[:, None]).T @ (q[use] - g)).T
        UB = (np.eye(3) + strain) @ turned.as_matrix() @ B
    return np.asarray(UB)


def nearest_equivalent(UB: F8, to: F8, rotations: F8) -> F8:
    """Return the UB of the same crystal that is nearest to another matrix, (3, 3) float64.

    Parameters
    ----------
    to : (3, 3) float64
        An earlier UB, or B for the least rotation [1/Å].
    rotations : (m, 3, 3) float64
        Of the lattice, on hkl as columns.
    """
    same = UB @ rotations
    return np.asarray(same[np.argmin(((same - to) ** 2).sum(axis=(1, 2)))])


def first_of_equivalents(hkl: F8, rotations: F8) -> Mask:
    """Return whether each reflection is the first, by its indices, of those that rotations make.

    Parameters
    ----------
    hkl : (n, 3) float64
    rotations : (m, 3, 3) float64
        On hkl as columns.

    Returns
    -------
    (n,) bool
    """
    key = np.array([1e8, 1e4, 1.0])
    images = np.einsum("mij,nj->mni", rotations, hkl) @ key
    return np.asarray(hkl @ key >= images.max(axis=0) - 0.5)
