"""Where reflections appear, over the summed frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from nxmpi.nexus.values import open_file
from nxmpi.plot.frames import raw_frames, summed_frame
from nxmpi.plot.oblique import INK
from nxmpi.plot.panels import add_legend, add_title, name_axes
from nxmpi.plot.png import save
from nxmpi.plot.scales import logarithmic

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

    from nxmpi.pipeline.predict import Prediction
    from nxmpi.plot.frames import Picture

SIDE = 7.0
"""Of a panel [inches]."""
LABELLED = 60
"""Reflections of a position that are named."""


def plot_predictions(path: Path, predictions: list[Prediction], output: Path) -> None:
    """Write one PNG: for each position the sum of its frames, and the reflections by frame.

    Not collective.

    Raises
    ------
    InputError
        If the scan cannot be read or the picture not be written.
    """
    n = len(predictions)
    figure = Figure(
        figsize=(SIDE * n, 0.9 * SIDE), dpi=150, facecolor="white", layout="constrained"
    )
    with open_file(path) as file:
        pictures = [summed_frame(file[p.name], raw_frames(file[p.name])) for p in predictions]
    panels = figure.subplots(1, n, squeeze=False)[0]
    for axes, prediction, picture in zip(panels, predictions, pictures, strict=True):
        _draw(figure, axes, prediction, picture)
    figure.suptitle(path.stem, fontsize=15, color=INK)
    save(figure, output)


def _draw(figure: Figure, axes: Axes, prediction: Prediction, picture: Picture | None) -> None:
    found, (n_slow, n_fast) = prediction.found, prediction.geometry.detector.shape
    if picture is not None:
        rows, columns = picture.values.shape
        axes.imshow(
            picture.values, norm=logarithmic([picture.values], None), cmap="gray", origin="lower",
            extent=(0, columns * picture.block, 0, rows * picture.block), alpha=0.75,
        )  # fmt: skip
    frames = ScalarMappable(Normalize(0, len(prediction.geometry.goniometer.phi) - 1), "turbo")
    rings = [tuple(color) for color in frames.to_rgba(found.z).tolist()]
    axes.scatter(
        found.x + 0.5, found.y + 0.5, s=40, facecolor="none", edgecolors=rings,
        linewidths=1.2, label=f"{len(found.x)} reflections",
    )  # fmt: skip
    if len(found.x) <= LABELLED:
        for (h, k, l), x, y in zip(found.hkl, found.x, found.y, strict=True):
            axes.annotate(
                f"{h:g} {k:g} {l:g}", (x + 0.5, y + 0.5), xytext=(4, 4), fontsize=7, color="white",
                textcoords="offset points",
            )  # fmt: skip
    axes.set(xlim=(0, n_fast), ylim=(0, n_slow), aspect="equal")
    name_axes(axes, "x (pixels)", "y (pixels)")
    add_title(axes, prediction.name)
    add_legend(axes, "upper right")
    figure.colorbar(frames, ax=axes, label="frame", shrink=0.75)
