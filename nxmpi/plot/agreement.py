"""How well positions agree: planes of the maps beside the combined volume, and what was told."""

from dataclasses import dataclass

import h5py
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from nxmpi.model import Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, read_text
from nxmpi.plot.oblique import INK, draw_plane
from nxmpi.plot.panels import add_bar, add_title, draw_text
from nxmpi.plot.scales import COVERAGE, colors
from nxmpi.plot.slices import Plane, map_volume, read_plane

ABOUT_ONE = "coolwarm"
"""Colours of what is 1 where positions agree."""
LEAST_FACTOR, LEAST_RATIO = 3.2, 0.05
"""Ranges of colours about 1 that noise shall not fill: of chi squared, and of ratios."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Maps:
    """Planes of the maps of cubes, and the table of pairs."""

    chi2: Plane
    ratio: Plane
    """Of the position that differs most."""
    position: str
    """Its name."""
    bright: Plane
    table: str


def read_maps(file: h5py.File, names: list[str], twin: schema.Twin) -> Maps | None:
    """Return planes of the maps of agreement, None where there are none. Not collective."""
    group = find(file, f"{schema.SHARED}/{twin.prefix}{schema.AGREEMENT}")
    if not isinstance(group, h5py.Group):
        return None
    wanted = [schema.CHI2, schema.BRIGHT, *(f"{schema.RATIO}_{name}" for name in names)]
    wanted += [f"{schema.RATIO}_{name}_errors" for name in names]
    volumes = {name: map_volume(group, name) for name in wanted}
    planes = {name: read_plane(v, "l") for name, v in volumes.items() if v is not None}
    if len(planes) < len(wanted):
        return None
    position = max(names, key=lambda name: _difference(planes, name))
    task = f"{schema.SHARED}/{schema.WORKFLOW}/{twin.combine_task}"
    return Maps(
        chi2=planes[schema.CHI2], ratio=planes[f"{schema.RATIO}_{position}"], position=position,
        bright=planes[schema.BRIGHT],
        table=read_text(file, f"{task}/note/data").partition("\n")[2],
    )  # fmt: skip


def _difference(planes: dict[str, Plane], name: str) -> float:
    """Return how far a position is off where it is worst, but for 5 % [standard deviations]."""
    ratio, error = (planes[f"{schema.RATIO}_{name}{end}"].values for end in ("", "_errors"))
    known = np.isfinite(ratio) & (error > 0)
    return _largest(np.abs(ratio[known] - 1) / error[known])


def draw_maps(
    figure: Figure, panels: list[Axes], maps: Maps | str, lattice: Lattice | None, where: str
) -> None:
    """Draw the three maps.

    Parameters
    ----------
    where : str
        Name of the plane.
    """
    titles = [f"$\\chi^2$ per degree of freedom, {where}", "Ratio of a position to the others",
              f"Difference in bright voxels, {where}"]  # fmt: skip
    if isinstance(maps, str) or lattice is None:
        for axes, title in zip(panels, titles, strict=True):
            draw_text(axes, str(maps))
            add_title(axes, title)
        return
    titles[1] = f"{maps.position} over the others, {where}"
    factor = max(LEAST_FACTOR, _largest(maps.chi2.values))
    part = min(1.0, max(LEAST_RATIO, _largest(np.abs(maps.ratio.values - 1))))
    drawn = (
        (maps.chi2, LogNorm(1 / factor, factor, clip=True), ABOUT_ONE, "1 = agree"),
        (maps.ratio, Normalize(1 - part, 1 + part), ABOUT_ONE, "ratio"),
        (maps.bright, Normalize(0.0, 1.0), COVERAGE, "relative, rms"),
    )
    for axes, title, (plane, norm, name, label) in zip(panels, titles, drawn, strict=True):
        image = draw_plane(axes, plane, lattice, norm, colors(name))
        add_title(axes, title)
        add_bar(figure, axes, image, label)


def _largest(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.percentile(values, 95)) if values.size else 0.0


def draw_table(figure: Figure, text: str, bottom: float, height: float) -> None:
    """Write the table of pairs below the maps; places in parts of the figure's height."""
    n_lines = max(len(text.splitlines()), 1)
    size = min(10.0, height * figure.get_figheight() * 72 / (1.35 * n_lines))
    figure.text(
        0.5, bottom + height, text, ha="center", va="top", fontsize=size, color=INK,
        family="monospace", linespacing=1.2, parse_math=False,
    )  # fmt: skip
