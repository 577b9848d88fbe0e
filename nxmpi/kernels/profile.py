"""A peak's profile: the likeliest Gaussian on a smooth background, for Poisson counts.

The model is ``a + b u + c v + d w + e u² + f v² + g w²``, with u, v, w from -1 to 1 over the box,
and a Gaussian integrated over voxels.
"""

from math import erf, exp, pi, sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

from nxmpi._typing import F8, I4
from nxmpi.kernels.information import damped_inverse, hold, hold_at_limits

N = 14
"""Parameters: x, y, z, log of sigma x, y, z, intensity, background, its slopes and curvatures
along x, y, z."""
INTENSITY, BACKGROUND, SLOPES, CURVATURES = 6, 7, 8, 11
ALONG_X = (1, 0, 0, 2, 0, 0, 0, 3, 4, 3, 3, 5, 3, 3)
"""Which of gx, dx, wx, 1, u and u² the derivative by each parameter has along x."""
N_ALONG_X = 6
STEPS = 40
"""Of the iteration at most; ten are usual."""
REACH = 3.0
"""Half the size of the region that is fitted [standard deviations]."""
MARGIN = (1.5, 1.5, 1.0)
"""What the region is larger, for the background to be seen [pixels, pixels, frames]."""
FAR = 0.05
"""Largest step of an iteration that has not converged after all steps, but may be used."""
TIRED = 15
"""Steps after which they are halved: a peak that is no Gaussian makes them go to and fro."""
BENT = 1.0
"""Slopes and curvatures that are expected, in parts of the background: where there are too few
counts to tell, it is flat."""
FLOOR = 1e-3
"""Least background, as a part of its mean."""


class Pace(NamedTuple):
    """How a fit goes on, and when it ends."""

    flat: int
    """First steps in which the background stays flat, so that it does not take the peak for its
    own."""
    patience: int
    """Steps after which a peak that is wider than it may be is given up."""
    settled: int
    """Steps after which the region stays, so that the iteration can come to rest."""
    at_rest: float
    """Largest step of a fit that has converged: of a place in standard deviations of it or pixels
    and frames, of a width or intensity in parts of it; the background may still move."""


FROM_AFAR = Pace(flat=4, patience=8, settled=9, at_rest=2e-3)
"""Of a fit that knows little of the peak to begin with."""
FROM_NEAR = Pace(flat=0, patience=8, settled=9, at_rest=2e-3)
"""Of a fit that begins where another ended."""
ROUGHLY = Pace(flat=4, patience=6, settled=5, at_rest=2e-2)
"""Of a fit that only tells where another may begin."""


@njit(cache=True, nogil=True)
def write_shares(centre: float, sigma: float, start: int, shares: F8) -> None:
    """Write the part of a Gaussian in each unit interval, and its derivatives.

    Parameters
    ----------
    centre, sigma : float
        [pixels or frames]
    start : int
        Index of the first interval, which is centred on it.
    shares : (3, n) float64
        Receives the part [1], its derivative by the centre, and by the logarithm of sigma.
    """
    norm = 1.0 / sqrt(2.0 * pi)
    low = (start - 0.5 - centre) / sigma
    cdf, pdf = 0.5 * erf(low / sqrt(2.0)), norm * exp(-0.5 * low * low)
    for i in range(shares.shape[1]):
        high = (start + i + 0.5 - centre) / sigma
        cdf_high, pdf_high = 0.5 * erf(high / sqrt(2.0)), norm * exp(-0.5 * high * high)
        shares[0, i] = cdf_high - cdf
        shares[1, i] = (pdf - pdf_high) / sigma
        shares[2, i] = low * pdf - high * pdf_high
        low, cdf, pdf = high, cdf_high, pdf_high


@njit(cache=True, nogil=True)
def set_region(values: F8, shape: tuple[int, int, int], region: I4) -> None:
    """Write the part of a box, (3, 2) from x to z, that is within reach of a peak."""
    for axis in range(3):
        half = REACH * exp(values[3 + axis]) + MARGIN[axis]
        n = shape[2 - axis]
        region[axis, 0] = min(max(int(values[axis] - half + 0.5), 0), n - 1)
        region[axis, 1] = max(min(int(values[axis] + half + 1.5), n), region[axis, 0] + 1)


@njit(cache=True, nogil=True)
def sum_row(
    counts: I4, shares: F8, scale: float, line: F8, first: float, pitch: float, floor: float,
    products: F8, pulls: F8,
) -> int:  # fmt: skip
    """Write sums over a row of products of gx, dx, wx, 1, u, u², and return how many count.

    Parameters
    ----------
    counts : (n,) int32
        Negative where masked.
    shares : (3, n) float64
        gx, dx, wx, as `write_shares` writes them.
    scale : float
        What is expected above the background is ``scale * gx``.
    line : (3,) float64
        The background is ``line[0] + line[1] u + line[2] u²``.
    first, pitch : float
        u of the first voxel, and from one to the next.
    floor : float
        Least background.
    products : (6, 6) float64
        Receives the sums of two of the six over what is expected; the lower triangle.
    pulls : (6,) float64
        Receives the sums of each times counts over what is expected, less 1.
    """
    gx, dx, wx = shares[0], shares[1], shares[2]
    gg = dg = dd = wg = wd = ww = ng = nd = nw = nn = 0.0
    ug = ud = uw = un = uu = qg = qd = qw = qn = qu = qq = 0.0
    pg = pd = pw = pn = pu = pq = 0.0
    voxels = 0
    for x in range(counts.shape[0]):
        if counts[x] < 0:
            continue
        voxels += 1
        u = first + pitch * x
        g, d, w, q = gx[x], dx[x], wx[x], u * u
        background = line[0] + line[1] * u + line[2] * q
        weight = 1.0 / (max(background, floor) + scale * g)
        pull = counts[x] * weight - 1.0
        pg, pd, pw = pg + pull * g, pd + pull * d, pw + pull * w
        pn, pu, pq = pn + pull, pu + pull * u, pq + pull * q
        gv, dv, wv, uv, qv = g * weight, d * weight, w * weight, u * weight, q * weight
        gg, dg, wg, ng = gg + gv * g, dg + gv * d, wg + gv * w, ng + gv
        ug, qg = ug + gv * u, qg + gv * q
        dd, wd, nd, ud, qd = dd + dv * d, wd + dv * w, nd + dv, ud + dv * u, qd + dv * q
        ww, nw, uw, qw = ww + wv * w, nw + wv, uw + wv * u, qw + wv * q
        nn, un, qn = nn + weight, un + uv, qn + qv
        uu, qu, qq = uu + uv * u, qu + qv * u, qq + qv * q
    products[0, 0] = gg
    products[1, 0], products[1, 1] = dg, dd
    products[2, 0], products[2, 1], products[2, 2] = wg, wd, ww
    products[3, 0], products[3, 1], products[3, 2], products[3, 3] = ng, nd, nw, nn
    products[4, 0], products[4, 1], products[4, 2] = ug, ud, uw
    products[4, 3], products[4, 4] = un, uu
    products[5, 0], products[5, 1], products[5, 2] = qg, qd, qw
    products[5, 3], products[5, 4], products[5, 5] = qn, qu, qq
    pulls[0], pulls[1], pulls[2] = pg, pd, pw
    pulls[3], pulls[4], pulls[5] = pn, pu, pq
    return voxels


@njit(cache=True, nogil=True)
def add_information(
    box: I4, values: F8, region: I4, shares: F8, gradient: F8, information: F8
) -> int:  # fmt: skip
    """Sum the gradient of the log-likelihood and Fisher's information over a region.

    Parameters
    ----------
    box : (n_z, n_y, n_x) int32
        Counts; negative where masked.
    values : (N,) float64
        Parameters.
    region : (3, 2) int32
        Ranges along x, y, z.
    shares : (3, 3, m) float64
        Room for `write_shares` along x, y, z.
    gradient, information : (N,), (N, N) float64
        Receive the sums.

    Returns
    -------
    int
        Voxels that are not masked.
    """
    gradient[:] = 0.0
    information[:] = 0.0
    for axis in range(3):
        n = region[axis, 1] - region[axis, 0]
        write_shares(values[axis], exp(values[3 + axis]), region[axis, 0], shares[axis, :, :n])
    columns = slice(region[0, 0], region[0, 1])
    along_x = shares[0, :, : region[0, 1] - region[0, 0]]
    pitch = 2.0 / box.shape[2]
    first = pitch * (region[0, 0] + 0.5) - 1.0
    intensity, background = values[INTENSITY], values[BACKGROUND]
    slopes, curves = values[SLOPES : SLOPES + 3], values[CURVATURES : CURVATURES + 3]
    products, pulls = np.empty((N_ALONG_X, N_ALONG_X)), np.empty(N_ALONG_X)
    factors, line = np.ones(N), np.empty(3)
    line[1], line[2] = slopes[0], curves[0]
    voxels = 0
    for z in range(region[2, 0], region[2, 1]):
        gz, dz, wz = shares[2, :, z - region[2, 0]]
        w = (2.0 * z + 1.0) / box.shape[0] - 1.0
        for y in range(region[1, 0], region[1, 1]):
            gy, dy, wy = shares[1, :, y - region[1, 0]]
            v = (2.0 * y + 1.0) / box.shape[1] - 1.0
            line[0] = background + (slopes[1] + curves[1] * v) * v + (slopes[2] + curves[2] * w) * w
            voxels += sum_row(
                box[z, y, columns], along_x, intensity * gy * gz, line, first, pitch,
                FLOOR * background, products, pulls,
            )  # fmt: skip
            # the derivative by a parameter is a factor of the row times what `ALONG_X` says
            factors[0], factors[3] = intensity * gy * gz, intensity * gy * gz
            factors[1], factors[4] = intensity * dy * gz, intensity * wy * gz
            factors[2], factors[5] = intensity * gy * dz, intensity * gy * wz
            factors[INTENSITY] = gy * gz
            factors[SLOPES + 1], factors[SLOPES + 2] = v, w
            factors[CURVATURES + 1], factors[CURVATURES + 2] = v * v, w * w
            for i in range(N):
                p = ALONG_X[i]
                gradient[i] += factors[i] * pulls[p]
                for j in range(i + 1):
                    q = ALONG_X[j]
                    pair = products[p, q] if p >= q else products[q, p]
                    information[i, j] += factors[i] * factors[j] * pair
    expected = 1.0 / (BENT * background) ** 2
    for i in range(SLOPES, N):
        gradient[i] -= values[i] * expected
        information[i, i] += expected
    for i in range(N):
        for j in range(i):
            information[j, i] = information[i, j]
    return voxels


@njit(cache=True, nogil=True)
def fit_profile(
    box: I4, least: F8, most: F8, pace: Pace, shares: F8, values: F8, errors: F8, region: I4
) -> int:
    """Find the likeliest peak in a box by Fisher's scoring.

    Parameters
    ----------
    box : (n_z, n_y, n_x) int32
        Counts; negative where masked.
    least, most : (8,) float64
        Limits of the parameters but slopes and curvatures.
    pace : Pace
    shares : (3, 3, m) float64
        Room to work, m being the longest side of the box.
    values : (N,) float64
        Where to begin; receives the parameters. x, y, z in the box, centre of voxel 0 at 0.
    errors : (N,) float64
        Receives the standard deviations (Cramér and Rao's bound).
    region : (3, 2) int32
        Receives the ranges along x, y, z that were fitted.

    Returns
    -------
    int
        Steps taken; 0 if it did not converge, became too wide, or nothing was to be seen.
    """
    gradient, step = np.empty(N), np.empty(N)
    information, inverse = np.empty((N, N)), np.empty((N, N))
    largest = 0.0
    for taken in range(1, STEPS + 1):
        if taken <= pace.settled:
            set_region(values, box.shape, region)
        if add_information(box, values, region, shares, gradient, information) <= N:
            return 0
        hold_at_limits(values, least, most, gradient, information)
        if taken <= pace.flat:
            for i in range(SLOPES, N):
                hold(i, gradient, information)
        damped_inverse(information, 1e-9 if taken > 3 else 1e-2, inverse)
        largest = 0.0
        for i in range(N):
            step[i] = 0.0
            for j in range(N):
                step[i] += inverse[i, j] * gradient[j]
            errors[i] = sqrt(max(inverse[i, i], 0.0))
            if i <= INTENSITY:
                unit = max(errors[i], abs(values[i]) if i == INTENSITY else 1.0)
                largest = max(largest, abs(step[i]) / unit)
        part = 1.0 if taken <= TIRED else 0.5
        if not take_step(values, step, part, least, most) and taken >= pace.patience:
            return 0
        if largest < pace.at_rest and taken > pace.settled:
            return taken
    return STEPS if largest < FAR else 0


@njit(cache=True, nogil=True)
def take_step(values: F8, step: F8, part: float, least: F8, most: F8) -> bool:
    """Go a part of a step, less where it is long; return False if the peak is too wide."""
    shorter = part
    for axis in range(3):
        shorter = min(shorter, 0.7 * exp(values[3 + axis]) / max(abs(step[axis]), 1e-12))
        shorter = min(shorter, 0.4 / max(abs(step[3 + axis]), 1e-12))
    shorter = min(shorter, 0.8 * values[INTENSITY] / max(-step[INTENSITY], 1e-12))
    shorter = min(shorter, 2.0 * values[INTENSITY] / max(step[INTENSITY], 1e-12))
    fits = True
    for i in range(N):
        values[i] += shorter * step[i]
        if i < least.shape[0]:
            fits &= not (3 <= i < 6 and values[i] >= most[i])
            values[i] = min(max(values[i], least[i]), most[i])
    return fits


@njit(cache=True, nogil=True)
def significance(box: I4, values: F8, region: I4, shares: F8) -> float:
    """Return the intensity over its standard deviation, place and widths taken as known.

    See `add_information`. Unlike the error of the intensity this does not become larger for
    what the widths could be too, and tells whether there is more than a smooth background.
    """
    gradient, information = np.empty(N), np.empty((N, N))
    add_information(box, values, region, shares, gradient, information)
    n = N - INTENSITY
    inverse = np.empty((n, n))
    damped_inverse(information[INTENSITY:, INTENSITY:].copy(), 1e-9, inverse)
    return float(values[INTENSITY]) / sqrt(max(inverse[0, 0], 1e-300))


@njit(cache=True, nogil=True)
def describe(box: I4, values: F8, core: float) -> tuple[int, int, int]:
    """Return what lies in the ellipsoid of so many sigma: voxels, the largest count, masked ones.

    The ellipsoid is half a voxel larger, so that it holds some of the narrowest peak too.
    """
    n, largest, masked = 0, 0, 0
    r = np.empty(3)
    for axis in range(3):
        r[axis] = core * exp(values[3 + axis]) + 0.5
    for z in range(box.shape[0]):
        dz = ((z - values[2]) / r[2]) ** 2
        if dz > 1.0:
            continue
        for y in range(box.shape[1]):
            dy = dz + ((y - values[1]) / r[1]) ** 2
            if dy > 1.0:
                continue
            for x in range(box.shape[2]):
                if dy + ((x - values[0]) / r[0]) ** 2 > 1.0:
                    continue
                n += 1
                masked += box[z, y, x] < 0
                largest = max(largest, box[z, y, x])
    return n, largest, masked
