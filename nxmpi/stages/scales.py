"""Scales of positions from their overlaps: robust, with errors, the first held at 1.

For two positions p, q in one voxel, with counts c of Poisson distributions of means s w I, put
R = c_p w_q / (w_p + w_q) and S = c_q w_p / (w_p + w_q): both have the mean s I w_p w_q / (w_p +
w_q), of their own s, whatever the intensity I is. ΣR / ΣS over any voxels is the rate ratio of
Mantel and Haenszel, which estimates s_p / s_q without bias from few counts too; a ratio of
intensities or of counts, weighted by 1 / counts, does not (Greenland & Robins, Biometrics 41,
55 (1985)). With θ = ln s_p - ln s_q, the difference D = R exp(-θ/2) - S exp(θ/2), given the
sum n of the two counts, has mean 0 and variance V = n w_p w_q / (w_p + w_q)² for any θ: c_p is
binomial. So V can be a weight, and voxels be chosen by n, without shifting anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq, root
from scipy.sparse.csgraph import connected_components

from nxmpi.kernels.overlaps import R, S, V
from nxmpi.stages.overlaps import pairs_of

if TYPE_CHECKING:
    from nxmpi._typing import F8, I8

LINEAR, LOST = 4.0, 8.0
"""A difference counts in full up to the first, and not at all beyond the second [standard
deviations]. In between less and less (Hampel's function): a function bent where Poisson noise is
would shift the result, for such noise is skew where counts are few."""
HUBER = 1.5
"""Where the first round stops to count in full, which has one solution from anywhere."""
MEDIAN = 0.6744897501960817
"""Of the size of a normal deviate."""
MEDIAN_ERROR = 1.1664
"""Standard deviation of n deviates' median size, relative, times the square root of n."""
CONVERGED = 1e-8
"""What a last step may still change of ln s."""
LEAST_VARIANCE = 5.0
"""V of cubes that scatter is found in, about 20 counts: with fewer, noise hides it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scales:
    """How much each position has of what the norm makes expected."""

    values: F8
    """(n_positions,) float64, 1 for the first; NaN where no overlap tells [1]."""
    errors: F8
    """(n_positions,) float64, standard deviations; 0 for the first [1]."""
    scatter: float
    """Differences between positions from cube to cube, beyond noise, as part of the whole [1]."""


def unconnected(pairs: F8, n_positions: int) -> list[int]:
    """Return the positions that no chain of overlaps with counts connects to the first.

    Parameters
    ----------
    pairs : (n_cubes, n_pairs, 3) float64
        R, S, V.
    """
    graph = np.zeros((n_positions, n_positions))
    sums = pairs.sum(axis=0)
    for (p, q), total in zip(pairs_of(n_positions), sums, strict=True):
        graph[p, q] = total[R] > 0 and total[S] > 0
    labels = connected_components(graph, directed=False)[1]
    return [p for p in range(n_positions) if labels[p] != labels[0]]


def fit_scales(pairs: F8, chunks: I8, information: F8, n_positions: int) -> Scales:
    """Return the scales of positions that are connected by overlaps. Not collective.

    Parameters
    ----------
    pairs : (n_cubes, n_pairs, 3) float64
        R, S, V.
    chunks : (n_cubes,) int64
        Which of the chunks each cube is in, numbered from 0.
    information : (n_pairs,) float64
        Σ C π_p π_q, which the error from counting alone comes from.

    Notes
    -----
    Solved is Σ V / d ψ(D / d) = 0 for each position, over the cubes of its pairs; ψ is Hampel's
    function and d² = V + (τV)², with the scatter τ from the median of D / d. An error is the
    largest of three: from the scatter of D between cubes, between chunks (where the ratio drifts
    over the overlap), and from counting alone.
    """
    lines = _incidence(n_positions)
    scatter, logs = 0.0, _start(pairs.sum(axis=0), lines)
    for _ in range(2):
        logs = _solve(pairs, lines, logs, scatter, (HUBER, np.inf))
        scatter = _scatter(pairs, lines @ logs)
    logs = _solve(pairs, lines, logs, scatter, (LINEAR, LOST))
    if not np.isfinite(logs).all():
        unknown = np.full(n_positions, np.nan)
        return Scales(values=unknown, errors=unknown, scatter=np.nan)
    errors = np.sqrt(_variances(pairs, lines, logs, scatter, chunks, information))
    values = np.exp(np.concatenate([[0.0], logs]))
    return Scales(values=values, errors=values * np.concatenate([[0.0], errors]), scatter=scatter)


def _incidence(n_positions: int) -> F8:
    """Return (n_pairs, n_positions - 1) float64: what makes θ of all ln s but the first."""
    pairs = pairs_of(n_positions)
    lines = np.zeros((len(pairs), n_positions))
    for i, (p, q) in enumerate(pairs):
        lines[i, p], lines[i, q] = 1, -1
    return lines[:, 1:]


def _start(sums: F8, lines: F8) -> F8:
    seen = (sums[:, R] > 0) & (sums[:, S] > 0)
    weights = np.sqrt(sums[seen, V])
    ratios = np.log(sums[seen, R] / sums[seen, S])
    solution: F8 = np.linalg.lstsq(lines[seen] * weights[:, None], ratios * weights)[0]
    return solution


def _differences(pairs: F8, theta: F8) -> tuple[F8, F8]:
    """Return D and minus its derivative by θ, (n_cubes, n_pairs) float64 each."""
    r, s = pairs[..., R] * np.exp(-theta / 2), pairs[..., S] * np.exp(theta / 2)
    return r - s, (r + s) / 2


def _standardized(pairs: F8, theta: F8, scatter: float) -> tuple[F8, F8, F8]:
    """Return D / d, minus its derivative by θ, and V / d, all 0 where pairs do not overlap."""
    difference, slope = _differences(pairs, theta)
    v = pairs[..., V]
    deviation = np.sqrt(np.where(v > 0, v + (scatter * v) ** 2, 1.0))
    return difference / deviation, slope / deviation, v / deviation


def _psi(z: F8, corners: tuple[float, float]) -> tuple[F8, F8]:
    """Return what a difference counts, and the derivative: linear, then falling to 0."""
    linear, lost = corners
    size = np.abs(z)
    falling = linear * (np.clip((lost - size) / (lost - linear), 0, 1) if lost < np.inf else 1.0)
    slope = -linear / (lost - linear)
    inside = size <= linear
    return (
        np.where(inside, z, np.sign(z) * falling),
        np.where(inside, 1.0, np.where(size < lost, slope, 0.0)),
    )


def _scores(
    pairs: F8, lines: F8, logs: F8, scatter: float, corners: tuple[float, float]
) -> tuple[F8, F8]:
    """Return what each cube adds, (n_cubes, n_positions - 1), and minus their sum's derivative."""
    z, slope, weight = _standardized(pairs, lines @ logs, scatter)
    value, derivative = _psi(z, corners)
    stiffness = (weight * derivative * slope).sum(axis=0)
    return (weight * value) @ lines, (lines.T * stiffness) @ lines


def _solve(pairs: F8, lines: F8, start: F8, scatter: float, corners: tuple[float, float]) -> F8:
    """Return the ln s where the scores add up to nothing, NaN if that is not found."""
    if not np.isfinite(start).all():
        return start

    def function(logs: F8) -> tuple[F8, F8]:
        scores, slope = _scores(pairs, lines, logs, scatter, corners)
        return scores.sum(axis=0), -slope

    result = root(function, start, jac=True, method="hybr")
    scores, slope = _scores(pairs, lines, result.x, scatter, corners)
    if not np.isfinite(slope).all() or np.linalg.eigvalsh(slope).min() <= 0:
        return np.full(start.shape, np.nan)
    # root's own test asks for more digits than sums of floats have
    step = np.linalg.solve(slope, scores.sum(axis=0))
    return np.asarray(np.where(np.abs(step).max() < CONVERGED, result.x, np.nan))


def _scatter(pairs: F8, theta: F8) -> float:
    """Return τ for which the median of |D| / d is as large as a normal deviate's may well be."""
    enough = pairs[..., V] >= LEAST_VARIANCE
    if not enough.any() or not np.isfinite(theta).all():
        return 0.0
    difference = np.abs(_differences(pairs, theta)[0][enough])
    v = pairs[..., V][enough]
    likely = MEDIAN * (1 + 2 * MEDIAN_ERROR / np.sqrt(v.size))

    def surplus(scatter: float) -> float:
        return float(np.median(difference / np.sqrt(v + (scatter * v) ** 2)) - likely)

    if surplus(0.0) <= 0:
        return 0.0
    return float(brentq(surplus, 0.0, float(np.median(difference / v)) / likely))


def _variances(pairs: F8, lines: F8, logs: F8, scatter: float, chunks: I8, information: F8) -> F8:
    """Return the variance of each ln s but the first's."""
    scores, slope = _scores(pairs, lines, logs, scatter, (LINEAR, LOST))
    inverse = np.linalg.inv(slope)
    found = [np.diag(np.linalg.inv((lines.T * information) @ lines))]
    for labels in (np.arange(len(chunks)), chunks):
        sums = np.stack([np.bincount(labels, column) for column in scores.T], axis=1)
        n = np.unique(labels).size
        if n > len(logs):
            spread = (sums[:, :, None] * sums[:, None, :]).sum(axis=0) * n / (n - len(logs))
            found.append(np.diag(inverse @ spread @ inverse))
    return np.asarray(np.max(found, axis=0))
