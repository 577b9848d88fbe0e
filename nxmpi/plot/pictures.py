"""Frames as panels, with peaks and mask over them."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from nxmpi._typing import F8
from nxmpi.plot.frames import Picture
from nxmpi.plot.marks import Marks
from nxmpi.plot.panels import WIDEST_TEXT, add_bar, add_legend, add_title, draw_text, name_axes
from nxmpi.plot.scales import INTENSITY, colors, logarithmic

WHOLE, FLAGGED, MASKED = "#4de8ff", "#8dff57", "#35d0ff"
"""Colours that no count has."""


def draw_picture(figure: Figure, axes: Axes, picture: Picture | str, title: str) -> None:
    """Draw a frame; where there is only a text, the text, below ``title``."""
    if isinstance(picture, str):
        draw_text(axes, picture)
        add_title(axes, title)
        return
    (n_slow, n_fast), block = picture.values.shape, picture.block
    extent = (0, n_fast * block, 0, n_slow * block)
    image = axes.imshow(
        np.ma.masked_invalid(picture.values), norm=logarithmic([picture.values], None),
        cmap=colors(INTENSITY), origin="lower", interpolation="antialiased", extent=extent,
    )  # fmt: skip
    if picture.masked is not None:
        _draw_mask(axes, picture.masked, extent)
    if picture.beam_center is not None:
        x, y = picture.beam_center
        for color, width in (("black", 2.6), ("white", 1.1)):
            axes.plot(x, y, "+", color=color, markersize=11, markeredgewidth=width)
    axes.set(xlim=extent[:2], ylim=extent[2:])
    name_axes(axes, "x (pixels)", "y (pixels)")
    add_title(axes, picture.title)
    add_bar(figure, axes, image, "counts per pixel")


def _draw_mask(axes: Axes, masked: F8, extent: tuple[float, float, float, float]) -> None:
    if not masked.any():
        return
    layer = np.empty((*masked.shape, 4))
    layer[..., :3] = to_rgb(MASKED)
    layer[..., 3] = np.where(masked > 0, 0.3 + 0.4 * masked, 0.0)
    axes.imshow(layer, origin="lower", interpolation="nearest", extent=extent)
    around = np.pad(masked > 0, 1)  # lines close at the edge, too
    step = (extent[1] / masked.shape[1], extent[3] / masked.shape[0])
    places = [(np.arange(n) - 0.5) * d for n, d in zip(around.shape[::-1], step, strict=True)]
    axes.contour(*places, around, [0.5], colors=MASKED, linewidths=0.7)
    axes.plot([], [], "s", color=MASKED, markersize=8, label="3-D mask")
    add_legend(axes, "upper right", dark=True)


def mark_peaks(axes: Axes, marks: Marks | str) -> None:
    """Draw a circle around each peak, and say how many there are of either kind."""
    if isinstance(marks, str):
        size = min(8.0, WIDEST_TEXT / max(len(line) for line in marks.splitlines()))
        axes.text(
            0.97, 0.97, f"peaks: {marks}", ha="right", va="top", fontsize=size, color="0.35",
            family="monospace", linespacing=1.5, parse_math=False, transform=axes.transAxes,
            bbox={"facecolor": "white", "alpha": 0.9, "edgecolor": "0.8"}, zorder=6,
        )  # fmt: skip
        return
    kinds = {
        WHOLE: (~marks.flagged, f"{marks.n_whole} whole"),
        FLAGGED: (marks.flagged, f"{marks.n_flagged} flagged"),
    }
    n_drawn, n_peaks = marks.x.size, marks.n_whole + marks.n_flagged
    size = float(np.interp(n_drawn, [100, 1000], [7.0, 3.5]))
    for color, (chosen, label) in kinds.items():
        axes.plot(
            marks.x[chosen], marks.y[chosen], "o", fillstyle="none", color=color, label=label,
            markersize=size, markeredgewidth=0.7,
        )  # fmt: skip
    title = "no peaks found" if not n_peaks else "peaks"
    title = title if n_drawn == n_peaks else f"strongest {n_drawn} of"
    add_legend(axes, "upper right", title, dark=True)
