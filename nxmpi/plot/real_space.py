"""The symmetrized volume, its holes and their filling, and planes of the 3D-ΔPDF."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import h5py
import numpy as np
from matplotlib.colors import Normalize

from nxmpi.crystal.lattice import direct_matrix
from nxmpi.model import Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, read_array
from nxmpi.plot.oblique import draw_plane
from nxmpi.plot.panels import add_bar, add_title, draw_text
from nxmpi.plot.scales import DIVERGING, INTENSITY, between_peaks, colors, logarithmic
from nxmpi.plot.slices import Plane, map_volume, read_plane

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nxmpi._typing import F8, Mask

SHOWN = {"data": "symmetrized", "punched_data": "punched", "filled_data": "filled"}
"""In the group of a symmetrized volume: what it is called."""
HEIGHTS = (0.0, 0.5, 1.0)
"""z of the planes that are shown [cells]."""
QUANTILE = 99.9
"""Of absolute values, beyond `NEAR`, which colours end at [percent]."""
NEAR = 0.6
"""Distance from the origin within which values do not count for that [shortest axis]."""
SEEN = 0.99
"""Part of the sum of squares, beyond `NEAR`, that is within what is shown [1]."""
MARGIN, LEAST = 1.3, 2.0
"""Shown is so much more than that [1], and at least so far along x and y [cells]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RealSpace:
    """Planes of a 3D-ΔPDF, and the cell they are in."""

    planes: list[Plane]
    lattice: Lattice


def read_symmetrized(file: h5py.File, twin: schema.Twin, todo: str) -> list[Plane | str]:
    """Return hk0 of the symmetrized volume, of it with holes, and filled. Not collective.

    Parameters
    ----------
    todo : str
        Stands for what is not there yet.
    """
    group = find(file, f"{schema.SHARED}/{twin.symmetrized}")
    planes: list[Plane | str] = []
    for name in SHOWN:
        volume = map_volume(group, name) if isinstance(group, h5py.Group) else None
        planes.append(todo if volume is None else read_plane(volume, "l"))
    return planes


def read_real_space(file: h5py.File, twin: schema.Twin) -> RealSpace | None:
    """Return planes of the 3D-ΔPDF, None where there is none. Not collective."""
    group = find(file, f"{schema.SHARED}/{twin.pdf}")
    data = find(group, schema.PDF_SIGNAL) if isinstance(group, h5py.Group) else None
    if not isinstance(group, h5py.Group) or not isinstance(data, h5py.Dataset):
        return None
    z, y, x = (read_array(group, name) for name in schema.PDF_AXES)
    lengths = [group[name].attrs.get("scaling_factor") for name in reversed(schema.PDF_AXES)]
    angles = group.attrs.get("angles")
    if z is None or y is None or x is None or any(one is None for one in (*lengths, angles)):
        return None
    planes = []
    for height in HEIGHTS:
        nearest = int(np.abs(z - height).argmin())
        planes.append(
            Plane(normal="z", value=float(z[nearest]), has_zero=True, u=x, v=y,
                  values=np.asarray(data[nearest], dtype=np.float64), letters="xyz")
        )  # fmt: skip
    a, b, c = (float(length) for length in lengths)
    gamma, beta, alpha = (float(angle) for angle in angles)
    return RealSpace(
        planes=planes, lattice=Lattice(a=a, b=b, c=c, alpha=alpha, beta=beta, gamma=gamma)
    )


def draw_symmetrized(
    figure: Figure, panels: list[Axes], planes: list[Plane | str], lattice: Lattice | None,
    where: str,
) -> None:  # fmt: skip
    """Draw the three planes with the same colours.

    Parameters
    ----------
    where : str
        Name of the plane.
    """
    there = [plane for plane in planes if isinstance(plane, Plane)]
    norm = logarithmic([between_peaks(plane) for plane in there], None)
    image = None
    for axes, plane, name in zip(panels, planes, SHOWN.values(), strict=True):
        add_title(axes, f"{where} {name}")
        if isinstance(plane, str) or lattice is None:
            draw_text(axes, str(plane))
        else:
            image = draw_plane(axes, plane, lattice, norm, colors(INTENSITY))
    if image is not None and isinstance(planes[-1], Plane):
        add_bar(figure, panels[-1], image, "intensity")


def draw_real_space(figure: Figure, panels: list[Axes], found: RealSpace | str) -> None:
    """Draw planes of the 3D-ΔPDF, as far as they hold anything, with colours about zero."""
    if isinstance(found, str):
        for axes, height in zip(panels, HEIGHTS, strict=True):
            add_title(axes, f"3D-ΔPDF at $z = {height:g}$")
            draw_text(axes, found)
        return
    shown = crop(found)
    end = _largest(shown)
    norm = Normalize(-end, end)
    for axes, plane in zip(panels, shown.planes, strict=True):
        image = draw_plane(axes, plane, found.lattice, norm, colors(DIVERGING))
        add_title(axes, f"3D-ΔPDF at $z = {plane.value:.3g}$")
    add_bar(figure, panels[-1], image, "3D-ΔPDF", beyond="both")


def crop(found: RealSpace) -> RealSpace:
    """Return the planes without the outer parts in which there is nothing to be seen.

    Correlations end after some cells, and planes reach as far as voxels are fine.
    """
    squares = [
        np.where(_is_far(plane, found.lattice), np.nan_to_num(plane.values) ** 2, 0.0)
        for plane in found.planes
    ]
    every = np.sum(squares, axis=0)
    x, y = found.planes[0].u, found.planes[0].v
    columns, rows = _within(x, every.sum(axis=0)), _within(y, every.sum(axis=1))
    planes = [
        replace(plane, u=x[columns], v=y[rows], values=plane.values[np.ix_(rows, columns)])
        for plane in found.planes
    ]
    return replace(found, planes=planes)


def _within(axis: F8, squares: F8) -> Mask:
    order = np.argsort(np.abs(axis), kind="stable")
    sums = np.cumsum(squares[order])
    last = order[min(np.searchsorted(sums, SEEN * sums[-1]), axis.size - 1)]
    reach = max(MARGIN * abs(float(axis[last])), LEAST) if sums[-1] > 0 else np.inf
    return np.asarray(np.abs(axis) <= reach)


def _is_far(plane: Plane, lattice: Lattice) -> Mask:
    shortest = min(lattice.a, lattice.b, lattice.c)
    x, y = np.meshgrid(plane.u, plane.v)
    places = np.stack([x, y, np.full_like(x, plane.value)], axis=-1) @ direct_matrix(lattice).T
    return np.asarray((places**2).sum(axis=-1) > (NEAR * shortest) ** 2)


def _largest(found: RealSpace) -> float:
    values = [np.abs(plane.values[_is_far(plane, found.lattice)]) for plane in found.planes]
    every = np.concatenate(values)
    every = every[np.isfinite(every)]
    return float(np.percentile(every, QUANTILE)) or 1.0 if every.size else 1.0
