"""A line with its errors, a plane at its true angle, or a box seen along its shortest side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from nxmpi.nexus import schema
from nxmpi.plot.oblique import INK, draw_plane
from nxmpi.plot.panels import add_bar, add_title, name_axes
from nxmpi.plot.png import save
from nxmpi.plot.scales import INTENSITY, between_peaks, colors, logarithmic
from nxmpi.plot.slices import Plane

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi._typing import F8
    from nxmpi.model import Lattice
    from nxmpi.nexus.section import Section

LETTERS = {**dict(zip(schema.AXES, "lkh", strict=True)),
           **dict(zip(schema.PDF_AXES, "lkh", strict=True))}  # fmt: skip
"""Which letter of a plane belongs to an axis."""


def plot_section(
    section: Section, lattice: Lattice | None, output: Path, vmax: float | None = None
) -> None:  # fmt: skip
    """Write one PNG. Not collective.

    Parameters
    ----------
    lattice : Lattice or None
        Whose reciprocal axes are those of the section; None for axes at right angles.
    vmax : float or None
        Intensity of the brightest colour.

    Raises
    ------
    InputError
        If the picture cannot be written.
    """
    figure = Figure(figsize=(8, 7), dpi=150, facecolor="white")
    axes = figure.add_axes((0.1, 0.1, 0.74, 0.8))
    if len(section.axes) == 1:
        along = section.axes[0]
        axes.errorbar(
            along.values, section.intensity, section.errors, fmt=".-", color="#b5367a",
            ecolor="0.6", linewidth=0.8, markersize=4, elinewidth=0.8,
        )  # fmt: skip
        name_axes(axes, along.label, "intensity")
    else:
        plane = _plane(section)
        scale = logarithmic([between_peaks(plane)], vmax)
        if lattice is None:
            axes.imshow(
                np.ma.masked_invalid(plane.values), norm=scale, cmap=colors(INTENSITY),
                origin="lower", extent=(plane.u[0], plane.u[-1], plane.v[0], plane.v[-1]),
            )  # fmt: skip
            name_axes(axes, section.axes[-1].label, section.axes[-2].label)
        else:
            draw_plane(axes, plane, lattice, scale, colors(INTENSITY))
        add_bar(figure, axes, ScalarMappable(scale, colors(INTENSITY)), "intensity")
    add_title(axes, section.title)
    axes.title.set_color(INK)
    save(figure, output)


def _plane(section: Section) -> Plane:
    """Return the section itself, or a box added up along its shortest side."""
    values, axes = section.intensity, list(section.axes)
    if len(axes) == 3:
        shortest = int(np.argmin(values.shape))
        values = _added(section, shortest)
        del axes[shortest]
    letters = [LETTERS[axis.name] for axis in axes]
    (normal,) = set("hkl") - set(letters)
    return Plane(
        normal=normal, value=0.0, has_zero=True, u=axes[1].values, v=axes[0].values, values=values
    )


def _added(section: Section, dimension: int) -> F8:
    if schema.SUM in section.sums and schema.SUM_NORM in section.sums:
        counts, norm = (
            section.sums[name].sum(axis=dimension) for name in (schema.SUM, schema.SUM_NORM)
        )
        return np.where(norm > 0, counts / np.where(norm > 0, norm, 1.0), np.nan)
    measured = np.isfinite(section.intensity)
    total = np.where(measured, section.intensity, 0.0).sum(axis=dimension)
    n = measured.sum(axis=dimension)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)
