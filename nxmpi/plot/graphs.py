"""Curves as panels: what changes from frame to frame, and with the scattering angle."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

from nxmpi.plot.curves import Radial, Transmission
from nxmpi.plot.masks import MaskedParts
from nxmpi.plot.panels import add_legend, add_title, draw_text, name_axes

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Colours of the positions, told apart by everyone: Okabe and Ito."""
LEAST_RANGE = 0.04
"""Of the transmission's axis, so that noise does not look like a drift [1]."""
CROWDED = 500
"""Frames from which on their points are small."""
FRAME, MASKED = "frame", "masked pixels (%)"


def draw_transmission(axes: Axes, curves: Sequence[Transmission] | str, name: str) -> None:
    """Draw the transmission of all positions, the raw values of one of them.

    Parameters
    ----------
    name : str
        Of the position with raw values.
    """
    add_title(axes, "Transmission, 1 at its median")
    if isinstance(curves, str):
        draw_text(axes, curves)
        return
    low, high = 1 - LEAST_RANGE / 2, 1 + LEAST_RANGE / 2
    for i, curve in enumerate(curves):
        color, shown = LINES[i % len(LINES)], curve.name == name
        seen = [curve.values[np.isfinite(curve.values)]]
        if shown and curve.raw is not None and np.isfinite(curve.raw).any():
            size = 5.0 if curve.raw.size < CROWDED else 2.5
            axes.plot(
                curve.raw, ".", color=color, markersize=size, alpha=0.5, markeredgewidth=0,
                label=f"{curve.name}, not filtered",
            )  # fmt: skip
            seen.append(np.percentile(curve.raw[np.isfinite(curve.raw)], [1, 99]))
        axes.plot(
            curve.values, color=color, linewidth=1.8 if shown else 1.0, label=curve.name,
            zorder=3 if shown else 2.5,
        )  # fmt: skip
        values = np.concatenate(seen)
        low, high = min(low, *values), max(high, *values)
    room = 0.06 * (high - low)
    axes.set(ylim=(low - room, high + room))
    _finish(axes, "transmission", max(curve.values.size for curve in curves))
    add_legend(axes, "best", columns=2)


def draw_masked_parts(axes: Axes, parts: MaskedParts | str) -> None:
    """Draw how much of each frame is masked."""
    title = "Masked part of each frame"
    if isinstance(parts, str):
        add_title(axes, title)
        draw_text(axes, parts)
        return
    if parts.is_complete:
        axes.fill_between(parts.frames, parts.percent, color=LINES[0], alpha=0.25, linewidth=0)
        axes.plot(parts.frames, parts.percent, color=LINES[0], linewidth=1.0)
    else:
        title = f"Masked part of {parts.frames.size} of {len(parts.used)} frames"
        axes.plot(parts.frames, parts.percent, ".", color=LINES[0], markersize=4)
    add_title(axes, title)
    axes.set(ylim=(0, 1.1 * float(parts.percent.max()) or 1.0))
    if not parts.percent.any():
        axes.text(
            0.5, 0.5, "nothing masked", ha="center", va="center", fontsize=11, color="0.35",
            transform=axes.transAxes,
        )  # fmt: skip
    _finish(axes, MASKED, parts.n_frames)


def draw_radial(axes: Axes, radial: Radial | str) -> None:
    """Draw the intensity by scattering angle, in powers of ten."""
    add_title(axes, "Radial sum of the summed frame")
    if isinstance(radial, str):
        draw_text(axes, radial)
        return
    seen = np.isfinite(radial.intensity) & (radial.intensity > 0)
    axes.plot(radial.x[seen], radial.intensity[seen], color=LINES[0], linewidth=0.9)
    if seen.any():
        axes.set_yscale("log")
        axes.margins(x=0.01)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="0.9", linewidth=0.6)
    name_axes(axes, radial.label, "counts per pixel")


def _finish(axes: Axes, label: str, n_frames: int) -> None:
    axes.set(xlim=(-0.5, n_frames - 0.5))
    axes.ticklabel_format(useOffset=False)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    name_axes(axes, FRAME, label)
