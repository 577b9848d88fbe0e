"""Several positions to one volume: sums of counts and of norm, divided once."""

import numpy as np

from nxmpi._typing import F8


def combine(counts: list[F8], norm: list[F8]) -> tuple[F8, F8, F8]:
    """Return the intensity of voxels measured at several positions. Not collective.

    Parameters
    ----------
    counts, norm : lists of (...) float64
        Of each position, in the order of the scan: sums of floats depend on their order.

    Returns
    -------
    intensity : (...) float64
        Σc / Σw; NaN where nothing was measured [counts per unit of norm].
    norm : (...) float64
        Σw.
    errors : (...) float64
        Square root of the variance, Σc / (Σw)², and 1 / (Σw)² where no count fell: the
        variance of a Poisson sum estimated by the sum, which cannot be zero.
    """
    total, weight = np.zeros_like(counts[0]), np.zeros_like(norm[0])
    for c, w in zip(counts, norm, strict=True):
        total += c
        weight += w
    with np.errstate(invalid="ignore", divide="ignore"):
        intensity = np.where(weight > 0, total / weight, np.nan)
        errors = np.where(weight > 0, np.sqrt(np.maximum(total, 1)) / weight, np.nan)
    return intensity, weight, errors
