"""Colours, and the range of values that they stand for."""

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize, PowerNorm

from nxmpi._typing import F8
from nxmpi.plot.slices import Plane

UNMEASURED = "0.72"
INTENSITY, COVERAGE, DIVERGING = "inferno", "viridis", "RdBu_r"
ABOUT_ZERO = LinearSegmentedColormap.from_list("about zero", ["#2f9bff", "0.2", "#ff6a1f"])
"""Colours of what may have either sign, all of them seen on white."""
OFF = LinearSegmentedColormap.from_list("off", ["#0d0887", "#a11b9b", "#e76f5a", "#fdae32"])
"""Colours of distances from 0, seen on white: matplotlib's plasma without its end."""
BRAGG = 0.2
"""Half the side of the box around a reciprocal-lattice point that the colours ignore [r.l.u.]."""


def between_peaks(plane: Plane) -> F8:
    """Return the values away from whole h, k, l, where no Bragg peak is: (n,) float64."""
    off_u, off_v = (np.abs(axis - np.rint(axis)) > BRAGG for axis in (plane.u, plane.v))
    away = off_u[None, :] | off_v[:, None]
    return plane.values[away] if np.isfinite(plane.values[away]).any() else plane.values.ravel()


def logarithmic(arrays: list[F8], vmax: float | None) -> Normalize:
    """Return a scale for scattering, which spans orders of magnitude; zeros are darkest.

    Parameters
    ----------
    arrays : list of (...) float64
        NaN where nothing was measured.
    vmax : float or None
        Where it ends; None = at twice the 99.7th percentile; at most four decades above its start.
    """
    values = np.concatenate([np.empty(0), *(a[np.isfinite(a) & (a > 0)] for a in arrays)])
    if not values.size:
        return Normalize(0.0, vmax or 1.0)
    low, high = (float(x) for x in np.percentile(values, [2.0, 99.7]))
    high = vmax or 2 * high
    return LogNorm(min(max(low / 2, high * 1e-4), high / 10), high, clip=True)


def square_root(values: F8) -> Normalize:
    """Return a scale from 0 to the 99th percentile: a norm rises steeply towards the origin."""
    values = values[np.isfinite(values)]
    return PowerNorm(0.5, 0.0, float(np.percentile(values, 99)) if values.size else 1.0)


def colors(name: str) -> Colormap:
    """Return a colour map in which what was not measured is grey."""
    return mpl.colormaps[name].with_extremes(bad=UNMEASURED)
