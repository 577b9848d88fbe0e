"""Images of voxels against the mean of their orbit, each at its own place."""

from math import log, sqrt

from numba import njit

from nxmpi._typing import F4, F8, I8, Mask
from nxmpi.kernels.symmetry import Images

Backgrounds = tuple[I8, I8, I8, I8]
UNIT = 2.0**-20
"""Of chi squared as an integer."""
MOST = 2.0**36
"""Largest chi squared of an image: 48 of them are below 2^62 units."""
DIFFERENCE, INTENSITY, COUNTS_DIFFERENCE, COUNTS, CHI2 = range(5)
"""Columns of the sums of `add_to_shells`."""


@njit(cache=True, nogil=True)
def _chi2(counts: int, norm: int, sum_counts: int, sum_norm: int) -> float:
    """Return how far counts are from what the orbit's mean expects, squared, by its variance."""
    expected = float(sum_counts) * float(norm) / float(sum_norm)
    difference = float(counts) - expected
    return min(difference * difference / expected, MOST)


@njit(cache=True, nogil=True)
def _net_chi2(part: float, net: float, others: tuple[float, float, float, float, int]) -> float:
    """Return how far net counts are from what the orbit's mean expects, squared, by its variance.

    Parameters
    ----------
    part : float
        p, the image's share of the orbit's norm.
    net : float
        Its counts less those of the background.
    others : tuple
        Background of the image and its variance; net counts of the orbit, their variance, and the
        number of images K.

    Notes
    -----
    What is left of image i, x - p Σx, has the variance v (1 - 2p) + p² Σv, with
    v = p Σx + B + Var B of Poisson counts on a background. By it each image expects 1, and K of
    them K; times (K - 1)/K they expect as many as there are degrees of freedom.
    """
    background, variance, total, total_variance, images = others
    own = max(part * total + background, 0.0) + variance
    expected = own * (1 - 2 * part) + part * part * total_variance
    if images < 2 or expected <= 0:
        return 0.0
    difference = net - part * total
    return min(difference * difference / expected * (images - 1) / images, MOST)


@njit(cache=True, nogil=True)
def replace_by_chi2(
    counts: I8, norm: I8, sum_counts: I8, sum_norm: I8, images: Images, background: Backgrounds,
    units: F8,
) -> None:  # fmt: skip
    """Replace the counts of images by their terms of chi squared, in place.

    Parameters
    ----------
    counts, norm : (2, n, n_k, n_h) int64
        Of this rank's planes; of images without norm the term is 0.
    sum_counts, sum_norm : (2, n, n_k, n_h) int64
        Of the orbits.
    images : (2, n, n_k, n_h) int8
        Of the orbits.
    background : four of (2, n, n_k, n_h) int64
        Counts and variance of images, and their sums over orbits; anything where there is none.
    units : (2,) float64
        Of these; empty where no background was subtracted.

    Notes
    -----
    (c - e)²/e with e = n Σc/Σn, in units of `UNIT`: Pearson's, whose expected sum over K images is
    exactly K - 1 for any Σc > 0, as counts are multinomial then. With each image's own counts for
    the variance it would be infinite where there are none, and too large where there are few. Of
    counts on a background it would be K - 1 only where that has the crystal's symmetry; see
    `_net_chi2`.
    """
    c, n = counts.reshape(-1), norm.reshape(-1)
    total, total_norm = sum_counts.reshape(-1), sum_norm.reshape(-1)
    number = images.reshape(-1)
    own, noise = background[0].reshape(-1), background[1].reshape(-1)
    all_own, all_noise = background[2].reshape(-1), background[3].reshape(-1)
    for i in range(c.size):
        if n[i] == 0:
            c[i] = 0
        elif units.size > 0:
            others = (
                own[i] * units[0], noise[i] * units[1], total[i] - all_own[i] * units[0],
                total[i] + all_noise[i] * units[1], number[i],
            )  # fmt: skip
            part, net = float(n[i]) / float(total_norm[i]), c[i] - own[i] * units[0]
            c[i] = int(_net_chi2(part, net, others) / UNIT + 0.5)
        elif total[i] > 0:
            c[i] = int(_chi2(c[i], n[i], total[i], total_norm[i]) / UNIT + 0.5)
        else:
            c[i] = 0


@njit(cache=True, nogil=True)
def add_to_shells(
    counts: I8, norm: I8, sum_counts: I8, sum_norm: I8, images: Images,
    metric: I8, edges: I8, place: I8, background: Backgrounds, units: F8, sums: F8, voxels: I8,
) -> None:  # fmt: skip
    """Add what the images of a plane say of their agreement, by shells of |Q|.

    Parameters
    ----------
    counts, norm, sum_counts, sum_norm : (n_k, n_h) int64
    images : (n_k, n_h) int8
        Of the orbit; those that are alone are left out.
    metric : (3, 3) int64
        Of voxels: |Q|² in some unit is x · metric · x, the same for all images.
    edges : (n_shells + 1,) int64
        Least |Q|² of each shell, from 0 on; the last one is above all.
    place : (3,) int64
        Of the plane's first voxel along h, k, l, from that of 0 0 0.
    background : four of (n_k, n_h) int64
        Of the plane, and ``units``, as of `replace_by_chi2`.
    sums : (n_shells, 5) float64
        |I - mean| and I [counts per unit of norm], these times the norm of the image [counts], and
        chi squared; added to in place.
    voxels : (n_shells, 2, 49) int64
        Voxels of orbits without and with counts, by the images of their orbit; added to in place.
    """
    n_shells = len(edges) - 1
    scale = n_shells / sqrt(float(edges[n_shells]))
    l = place[2]
    for i in range(counts.shape[0]):
        k = place[1] + i
        for j in range(counts.shape[1]):
            n, n_images = norm[i, j], images[i, j]
            if n == 0 or n_images < 2:
                continue
            h = place[0] + j
            q2 = h * (metric[0, 0] * h + 2 * (metric[0, 1] * k + metric[0, 2] * l))
            q2 += k * (metric[1, 1] * k + 2 * metric[1, 2] * l) + metric[2, 2] * l * l
            shell = min(max(int(scale * sqrt(float(q2))), 0), n_shells - 1)
            while q2 < edges[shell]:
                shell -= 1
            while q2 >= edges[shell + 1]:
                shell += 1
            net, total, total_norm = float(counts[i, j]), float(sum_counts[i, j]), sum_norm[i, j]
            told, chi2 = total > 0, 0.0
            if units.size > 0:
                own, noise = background[0][i, j] * units[0], background[1][i, j] * units[1]
                spread = total + background[3][i, j] * units[1]
                total -= background[2][i, j] * units[0]
                net -= own
                told = spread > 0
                chi2 = _net_chi2(
                    float(n) / float(total_norm), net, (own, noise, total, spread, n_images)
                )  # fmt: skip
            elif told:
                chi2 = _chi2(counts[i, j], n, sum_counts[i, j], total_norm)
            voxels[shell, 1 if told else 0, n_images] += 1
            if not told:
                continue
            intensity = net / float(n)
            difference = abs(intensity - total / float(total_norm))
            sums[shell, DIFFERENCE] += difference
            sums[shell, INTENSITY] += intensity
            sums[shell, COUNTS_DIFFERENCE] += difference * float(n)
            sums[shell, COUNTS] += net
            sums[shell, CHI2] += chi2


@njit(cache=True, nogil=True)
def find_deviations(
    counts: I8, norm: I8, sum_counts: I8, sum_norm: I8, images: Images, least: float,
    deviations: F4,
) -> bool:  # fmt: skip
    """Compare each image with the others of its orbit; return whether any one deviates.

    Parameters
    ----------
    counts, norm, sum_counts, sum_norm : (2, n, n_k, n_h) int64
    images : (2, n, n_k, n_h) int8
    least : float
        What is not above this does not deviate [squares of standard deviations].
    deviations : (2, n, n_k, n_h) float32
        Overwritten; 0 for images that do not deviate or are fewer than three
        [squares of standard deviations].

    Notes
    -----
    Twice the logarithm of the ratio of likelihoods of Poisson counts, with one mean for the image
    and one for the others, to one mean for all: 2 (c ln(c/e) + c' ln(c'/e')), c' and e' of the
    others. It follows chi squared (Wilks) closely down to few counts, where a difference by its
    standard deviation does not: a single count in 48 images would be 7 of these.
    """
    c, n = counts.reshape(-1), norm.reshape(-1)
    total, total_norm = sum_counts.reshape(-1), sum_norm.reshape(-1)
    number, result = images.reshape(-1), deviations.reshape(-1)
    found = False
    for i in range(c.size):
        result[i] = 0.0
        if n[i] == 0 or number[i] < 3 or total[i] == 0:
            continue
        part = float(n[i]) / float(total_norm[i])
        own, others, every = float(c[i]), float(total[i] - c[i]), float(total[i])
        deviation = 0.0
        if own > 0:
            deviation += own * log(own / (every * part))
        if others > 0:
            deviation += others * log(others / (every * (1 - part)))
        if 2 * deviation > least:
            result[i] = 2 * deviation
            found = True
    return found


@njit(cache=True, nogil=True)
def mark_worst(deviations: F4, worst: F4, marks: Images) -> None:
    """Mark with 1 the images that deviate, and most of their orbit; others with 0.

    Parameters
    ----------
    deviations, worst : (2, n, n_k, n_h) float32
        Of images, and the largest of their orbits.
    marks : (2, n, n_k, n_h) int8
        Overwritten.
    """
    own, most, result = deviations.reshape(-1), worst.reshape(-1), marks.reshape(-1)
    for i in range(own.size):
        result[i] = 1 if own[i] > 0 and own[i] == most[i] else 0


@njit(cache=True, nogil=True)
def leave_out_marked(
    counts: I8, norm: I8, marks: Mask, marked: Images, images: Images, measured: Images
) -> int:
    """Take counts and norm from images that are marked; return how many lost them.

    Parameters
    ----------
    counts, norm : (2, n, n_k, n_h) int64
        In place.
    marks : (2, n, n_k, n_h) bool
    marked, images, measured : (2, n, n_k, n_h) int8
        Of each orbit: the number of marked images, of those there are now, and of those there were
        at first; only where more than half of these remain is any left out.
    """
    c, n, mark = counts.reshape(-1), norm.reshape(-1), marks.reshape(-1)
    lost, now, before = marked.reshape(-1), images.reshape(-1), measured.reshape(-1)
    left_out = 0
    for i in range(c.size):
        if mark[i] and 2 * (now[i] - lost[i]) > before[i]:
            c[i], n[i] = 0, 0
            left_out += 1
    return left_out
