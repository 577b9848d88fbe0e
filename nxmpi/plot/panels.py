"""What all panels share: titles, names of axes, colour bars, and text where nothing is yet."""

from typing import Literal

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from nxmpi.plot.oblique import INK

WIDEST_TEXT = 390
"""Characters a line times size, for a panel of usual width [points]."""


def draw_text(axes: Axes, text: str) -> None:
    """Write into an empty panel what leads to its contents, one command a line."""
    axes.set(xticks=[], yticks=[], facecolor="0.965")
    for spine in axes.spines.values():
        spine.set(color="0.8", linestyle=(0, (4, 4)))
    size = min(11.0, WIDEST_TEXT / max(len(line) for line in text.splitlines()))
    axes.text(
        0.5, 0.5, text, ha="center", va="center", fontsize=size, color="0.35",
        family="monospace", linespacing=1.8, parse_math=False, transform=axes.transAxes,
    )  # fmt: skip


def add_title(axes: Axes, text: str) -> None:
    """Write a title over a panel."""
    axes.set_title(text, fontsize=13, color=INK, pad=10)


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Write names, with units, along the axes of a panel."""
    axes.tick_params(labelsize=9, colors=INK, which="both")
    axes.set_xlabel(x, fontsize=11, color=INK)
    axes.set_ylabel(y, fontsize=11, color=INK)
    for spine in axes.spines.values():
        spine.set(color=INK, linewidth=0.8)


def add_legend(
    axes: Axes, place: Literal["upper right", "best"], title: str = "", *, dark: bool = False,
    columns: int = 1,
) -> None:  # fmt: skip
    """Name what is drawn with a label, inside of a panel; dark on pictures."""
    paper, ink = ("0.1", "white") if dark else ("white", INK)
    legend = axes.legend(
        loc=place, title=title or None, fontsize=9, title_fontsize=9, labelcolor=ink,
        framealpha=0.85, facecolor=paper, edgecolor="0.6", borderpad=0.4, handletextpad=0.3,
        labelspacing=0.35, alignment="left", ncols=columns, columnspacing=1.0,
    )  # fmt: skip
    legend.get_title().set_color(ink)
    legend.set_zorder(6)


def add_bar(
    figure: Figure, axes: Axes, image: ScalarMappable, label: str,
    beyond: Literal["max", "both", "neither"] = "max",
) -> None:  # fmt: skip
    """Draw a colour bar at the right of a panel; ``beyond`` which ends values may be."""
    axes.apply_aspect()
    box = axes.get_position()
    bar = figure.colorbar(
        image, cax=figure.add_axes((box.x1 + 0.008, box.y0, 0.009, box.height)),
        extend=beyond, extendfrac=0.025,
    )  # fmt: skip
    bar.set_label(label, fontsize=10, color=INK)
    if isinstance(image.norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        bar.ax.yaxis.set_major_formatter("{x:g}")
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    elif beyond == "both":  # negative numbers are wide
        bar.ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    bar.ax.tick_params(labelsize=9, colors=INK)
    bar.outline.set(edgecolor=INK, linewidth=0.6)
