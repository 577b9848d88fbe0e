"""How well reflections of the crystal explain the peaks, as panels."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nxmpi._typing import F8, Mask
from nxmpi.plot.graphs import LINES
from nxmpi.plot.marks import MOST_MARKED
from nxmpi.plot.oblique import INK
from nxmpi.plot.panels import add_bar, add_legend, add_title, draw_text, name_axes
from nxmpi.plot.reflections import Reflections
from nxmpi.plot.scales import ABOUT_ZERO, OFF

MOST_POINTS = 20000
"""Drawn of the strongest peaks, where each is a point."""
FAR, FAR_ARROW = 4.0, 1.5
"""Residuals are drawn no longer than that many times their 90th percentile [1]."""
LONGEST = 0.1
"""Of an arrow, in parts of the shorter side of the detector [1]."""
ROOM = 0.7
"""Above the points, for the legend, in parts of the longest residual [1]."""
TITLES = (
    r"Predicted less observed ($\Delta x$, $\Delta y$)", r"$\Delta x$ and $\Delta y$ over $\phi$",
    r"$\Delta\phi$ over $\phi$", "Indexed peaks",
)  # fmt: skip
INKS = {"x": LINES[0], "y": LINES[1], r"\phi": LINES[2]}
NONE = "no peaks indexed"


def draw_reflections(
    figure: Figure, panels: Sequence[Axes], reflections: Reflections | str
) -> None:
    """Draw residuals over the detector and over phi, and how far peaks are from whole indices.

    Parameters
    ----------
    panels : sequence of Axes
        Vectors, x and y over phi, phi over phi, indices.
    """
    if isinstance(reflections, str):
        for axes, title in zip(panels, TITLES, strict=True):
            draw_text(axes, reflections)
            add_title(axes, title)
        return
    vectors, upper, lower, indices = panels
    known: Mask = np.asarray(np.isfinite(reflections.residuals).all(axis=1))
    _draw_vectors(figure, vectors, reflections, known)
    dots = np.flatnonzero(known)[:MOST_POINTS]
    phi, (x, y, turn) = reflections.phi[dots], reflections.residuals[dots].T
    _draw_points(upper, phi, {"x": x, "y": y}, "pixels", TITLES[1])
    _draw_points(lower, phi, {r"\phi": turn}, "degrees", TITLES[2])
    _draw_indices(figure, indices, reflections)


def _draw_vectors(figure: Figure, axes: Axes, reflections: Reflections, known: Mask) -> None:
    add_title(axes, TITLES[0])
    chosen = np.flatnonzero(known)[:MOST_MARKED]
    if not chosen.size:
        draw_text(axes, NONE)
        return
    dx, dy, turn = reflections.residuals[chosen].T
    length = np.hypot(dx, dy)
    limit = _limit(length, FAR_ARROW)
    times = _rounded(LONGEST * min(reflections.shape) / limit)
    shorter = np.minimum(1.0, limit / np.maximum(length, limit)) * times
    widest = float(np.percentile(np.abs(turn), 95)) or 1.0
    arrows = axes.quiver(
        reflections.x[chosen], reflections.y[chosen], dx * shorter, dy * shorter, turn,
        cmap=ABOUT_ZERO, norm=Normalize(-widest, widest), angles="xy", scale_units="xy", scale=1.0,
        units="inches", width=0.014, headwidth=3.5, headlength=4.0, headaxislength=3.6,
    )  # fmt: skip
    lines = [f"arrows {times:g} × as long"]
    if chosen.size < np.count_nonzero(known):
        lines.append(f"of the strongest {chosen.size}")
    if (length > limit).any():
        lines.append(f"{np.count_nonzero(length > limit)} cut short")
    axes.text(
        0.97, 0.97, "\n".join(lines), ha="right", va="top", fontsize=9, color=INK, zorder=6,
        linespacing=1.3, transform=axes.transAxes,
        bbox={"facecolor": "white", "alpha": 0.85, "edgecolor": "0.6", "boxstyle": "round,pad=0.3"},
    )  # fmt: skip
    _finish_detector(axes, reflections)
    add_bar(figure, axes, arrows, r"$\Delta\phi$ (degrees)", "both")


def _draw_points(
    axes: Axes, phi: F8, residuals: dict[str, F8], unit: str, title: str
) -> None:  # fmt: skip
    """Draw residuals over phi; triangles at the edge stand for those farther out."""
    if not phi.size:
        add_title(axes, title)
        draw_text(axes, NONE)
        return
    names = ", ".join(rf"$\Delta {name}$" for name in residuals)
    limit = max(_limit(np.abs(values), FAR) for values in residuals.values())
    size, n_far = float(np.interp(phi.size, [100, 2000], [5.0, 2.0])), 0
    for name, values in residuals.items():
        color = INKS[name]
        far = np.abs(values) > limit
        middle = float(np.median(np.abs(values)))
        axes.plot(
            phi[~far], values[~far], ".", color=color, markersize=size, alpha=0.7,
            markeredgewidth=0,
        )  # fmt: skip
        label = rf"median $|\Delta {name}|$ {middle:.2g}"
        axes.plot([], [], "o", color=color, markersize=4, markeredgewidth=0, label=label)
        for marker, side in (("^", 1), ("v", -1)):
            beyond = phi[far & (values * side > 0)]
            axes.plot(
                beyond, np.full(beyond.size, side * limit), marker, color=color, markersize=3.5,
                markeredgewidth=0,
            )  # fmt: skip
        n_far += int(np.count_nonzero(far))
    add_title(axes, f"{title}, {n_far} farther out" if n_far else title)
    axes.set(ylim=(-1.1 * limit, (1.1 + ROOM) * limit))
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.ticklabel_format(useOffset=False)
    axes.axhline(0.0, color="0.6", linewidth=0.8, zorder=1)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    name_axes(axes, r"$\phi$ (degrees)", f"{names} ({unit})")
    add_legend(axes, "upper right", columns=2)


def _draw_indices(figure: Figure, axes: Axes, reflections: Reflections) -> None:
    first, n = reflections.grain[:MOST_POINTS], reflections.x.size
    n_indexed = int(np.count_nonzero(reflections.grain))
    known = np.isfinite(reflections.off[:MOST_POINTS])
    size = float(np.interp(n, [100, 2000], [28.0, 7.0]))
    norm = PowerNorm(0.5, 0.0, 0.5)  # what is indexed is near 0
    for marker, chosen, label in (
        ("o", first == 1, "indexed"), ("D", first > 1, "of another crystal"),
        ("x", first == 0, "not indexed"),
    ):  # fmt: skip
        where = np.flatnonzero(chosen & known)
        points = axes.scatter(
            reflections.x[where], reflections.y[where], size * (2.0 if marker == "x" else 1.0),
            c=reflections.off[where], cmap=OFF, norm=norm, marker=marker,
            edgecolors=None if marker == "x" else INK, linewidths=1.2 if marker == "x" else 0.3,
            label=label if where.size else None,
        )  # fmt: skip
    strong = reflections.fraction
    part = "" if strong is None else f", {100 * strong:.4g} % of strong"
    add_title(axes, f"{n_indexed} of {n} peaks indexed{part}")
    _finish_detector(axes, reflections)
    if known.any():
        add_legend(axes, "upper right", "" if n <= MOST_POINTS else f"strongest {MOST_POINTS}")
    label = r"largest $|h - \mathrm{round}\ h|$ of $h$, $k$, $l$"
    add_bar(figure, axes, points, label, "neither")


def _finish_detector(axes: Axes, reflections: Reflections) -> None:
    n_slow, n_fast = reflections.shape
    axes.set(xlim=(0, n_fast), ylim=(0, n_slow), aspect="equal")
    name_axes(axes, "x (pixels)", "y (pixels)")


def _limit(sizes: F8, far: float) -> float:
    """Return the largest of some sizes, or less where a few are much larger than most."""
    return float(min(sizes.max(), far * np.percentile(sizes, 90)) or sizes.max()) or 1.0


def _rounded(value: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not above a value."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max((n for n in (1, 2, 5) if n * power <= value), default=1) * power)
