"""The figure: three planes of the volume above, frames and coverage below."""

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LogNorm, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from nxmpi._typing import F8
from nxmpi.model import Lattice
from nxmpi.plot.frames import Picture
from nxmpi.plot.oblique import INK, draw_plane
from nxmpi.plot.slices import Plane

UNMEASURED = "0.72"
INTENSITY, COVERAGE = "inferno", "viridis"
NAMES = {"l": "$hk0$", "k": "$h0l$", "h": "$0kl$"}
BRAGG = 0.2
"""Half the side of the box around a reciprocal-lattice point that the colours ignore [r.l.u.]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Contents:
    """What a figure shows; text stands where something is not there yet."""

    title: str
    subtitle: str
    lattice: Lattice | None
    """There where planes are."""
    planes: list[Plane | str]
    """hk0, h0l, 0kl."""
    coverage: Plane | str
    frame: Picture | str
    summed: Picture | str


def draw(contents: Contents, vmax: float | None) -> Figure:
    """Return the figure.

    Parameters
    ----------
    vmax : float or None
        Intensity of the brightest colour of the planes; None = from their values.
    """
    figure = Figure(figsize=(15.0, 10.2), dpi=200, facecolor="white")
    figure.text(0.5, 0.974, contents.title, ha="center", va="center", fontsize=17, color=INK)
    figure.text(0.5, 0.945, contents.subtitle, ha="center", va="center", fontsize=11, color="0.4")
    upper = [figure.add_axes((left, 0.535, 0.262, 0.355)) for left in (0.055, 0.368, 0.678)]
    lower = [figure.add_axes((left, 0.065, 0.235, 0.355)) for left in (0.055, 0.378, 0.7)]
    planes = [plane for plane in contents.planes if isinstance(plane, Plane)]
    shared = logarithmic([between_peaks(plane) for plane in planes], vmax)
    for axes, name, plane in zip(upper, NAMES, contents.planes, strict=True):
        _draw_slice(axes, plane, contents.lattice, shared, INTENSITY)
        _add_title(axes, _plane_title(plane) if isinstance(plane, Plane) else NAMES[name])
    if planes:
        _add_bar(figure, upper[2], ScalarMappable(shared, _colors(INTENSITY)), "intensity")
    _draw_picture(figure, lower[0], contents.frame, "Raw frame")
    _draw_picture(figure, lower[1], contents.summed, "Summed frame")
    coverage = contents.coverage
    scale = square_root(coverage.values) if isinstance(coverage, Plane) else Normalize()
    image = _draw_slice(lower[2], coverage, contents.lattice, scale, COVERAGE)
    where = _plane_title(coverage) if isinstance(coverage, Plane) else NAMES["l"]
    _add_title(lower[2], f"Coverage of {where}")
    if image is not None:
        _add_bar(figure, lower[2], image, "norm")
    return figure


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


def _colors(name: str) -> Colormap:
    return mpl.colormaps[name].with_extremes(bad=UNMEASURED)


def _draw_slice(
    axes: Axes, plane: Plane | str, lattice: Lattice | None, norm: Normalize, colors: str
) -> ScalarMappable | None:
    if isinstance(plane, str) or lattice is None:
        _draw_text(axes, str(plane))
        return None
    return draw_plane(axes, plane, lattice, norm, _colors(colors))


def _plane_title(plane: Plane) -> str:
    if not plane.has_zero:
        return f"${plane.indices}$, ${plane.normal} = {plane.value:g}$ (the grid has no 0)"
    if abs(plane.value) > 1e-6:
        return f"{NAMES[plane.normal]}  (${plane.normal} = {plane.value:.3g}$)"
    return NAMES[plane.normal]


def _draw_picture(figure: Figure, axes: Axes, picture: Picture | str, title: str) -> None:
    if isinstance(picture, str):
        _draw_text(axes, picture)
        _add_title(axes, title)
        return
    (n_slow, n_fast), block = picture.values.shape, picture.block
    image = axes.imshow(
        np.ma.masked_invalid(picture.values), norm=logarithmic([picture.values], None),
        cmap=_colors(INTENSITY), origin="lower", interpolation="antialiased",
        extent=(0, n_fast * block, 0, n_slow * block),
    )  # fmt: skip
    if picture.beam_center is not None:
        x, y = picture.beam_center
        for color, width in (("black", 2.6), ("cyan", 1.1)):
            axes.plot(x, y, "+", color=color, markersize=11, markeredgewidth=width)
        axes.set(xlim=(0, n_fast * block), ylim=(0, n_slow * block))
    axes.tick_params(labelsize=9, colors=INK)
    axes.set_xlabel("x (pixels)", fontsize=11, color=INK)
    axes.set_ylabel("y (pixels)", fontsize=11, color=INK)
    _add_title(axes, picture.title)
    _add_bar(figure, axes, image, "counts per pixel")


def _draw_text(axes: Axes, text: str) -> None:
    axes.set(xticks=[], yticks=[], facecolor="0.965")
    for spine in axes.spines.values():
        spine.set(color="0.8", linestyle=(0, (4, 4)))
    size = min(11.0, 400 / max(len(line) for line in text.splitlines()))
    axes.text(
        0.5, 0.5, text, ha="center", va="center", fontsize=size, color="0.35",
        family="monospace", linespacing=1.8, parse_math=False, transform=axes.transAxes,
    )  # fmt: skip


def _add_title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=13, color=INK, pad=10)


def _add_bar(figure: Figure, axes: Axes, image: ScalarMappable, label: str) -> None:
    axes.apply_aspect()
    box = axes.get_position()
    bar = figure.colorbar(
        image, cax=figure.add_axes((box.x1 + 0.008, box.y0, 0.009, box.height)),
        extend="max", extendfrac=0.025,
    )  # fmt: skip
    bar.set_label(label, fontsize=10, color=INK)
    if isinstance(image.norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize=9, colors=INK)
    bar.outline.set(edgecolor=INK, linewidth=0.6)
