"""The symmetrized volume, its holes and their filling, and planes of the 3D-ΔPDF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import numpy as np
from matplotlib.colors import Normalize

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

SHOWN = {"data": "symmetrized", "punched_data": "punched", "filled_data": "filled"}
"""In the group of a symmetrized volume: what it is called."""
HEIGHTS = (0.0, 0.5, 1.0)
"""z of the planes that are shown [cells]."""
QUANTILE = 99.9
"""Of absolute values, beyond `NEAR`, which colours end at [percent]."""
NEAR = 0.6
"""Distance from the origin within which values do not count for that [shortest axis]."""


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
    """Draw planes of the 3D-ΔPDF, with the same colours, symmetric about zero."""
    if isinstance(found, str):
        for axes, height in zip(panels, HEIGHTS, strict=True):
            add_title(axes, f"3D-ΔPDF at $z = {height:g}$")
            draw_text(axes, found)
        return
    end = _largest(found)
    norm = Normalize(-end, end)
    for axes, plane in zip(panels, found.planes, strict=True):
        image = draw_plane(axes, plane, found.lattice, norm, colors(DIVERGING))
        add_title(axes, f"3D-ΔPDF at $z = {plane.value:.3g}$")
    add_bar(figure, panels[-1], image, "3D-ΔPDF", beyond="both")


def _largest(found: RealSpace) -> float:
    shortest = min(found.lattice.a, found.lattice.b, found.lattice.c)
    values = []
    for plane in found.planes:
        x, y, z = plane.u * found.lattice.a, plane.v[:, None] * found.lattice.b, plane.value
        far = x**2 + y**2 + (z * found.lattice.c) ** 2 > (NEAR * shortest) ** 2
        values.append(np.abs(plane.values[far]))
    every = np.concatenate(values)
    return float(np.percentile(every, QUANTILE)) if every.size and every.any() else 1.0
