"""Planes at their true angle: ticks and frame along h, k, l, or x, y, z, themselves."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Polygon
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from nxmpi._typing import F8
from nxmpi.crystal.lattice import direct_matrix, reciprocal_matrix
from nxmpi.model import Lattice
from nxmpi.plot.slices import Plane

TICK = 4.0
"""Length of a tick [points]."""
INK = "0.15"
REAL, CELL = "xyz", "abc"
"""Coordinates in real space, and what they are in units of."""


def plane_matrix(lattice: Lattice, indices: str) -> F8:
    """Return what brings two indices to the paper, the first along x.

    Parameters
    ----------
    indices : str
        ``hk``, ``hl`` or ``kl``; ``xy``, ``xz`` or ``yz`` in real space.

    Returns
    -------
    (2, 2) float64
        Upper triangular; lengths and angles are those of B [1/Å], or of the cell [Å].
    """
    is_real = indices[0] in REAL
    axes = direct_matrix(lattice) if is_real else reciprocal_matrix(lattice)
    two = axes[:, [(REAL if is_real else "hkl").index(index) for index in indices]]
    return np.asarray(np.linalg.cholesky(two.T @ two).T)


def outline(plane: Plane) -> F8:
    """Return the corners of a plane, counter-clockwise: (4, 2) float64 [r.l.u.]."""
    (u0, u1), (v0, v1) = _edges(plane.u), _edges(plane.v)
    return np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1]])


def draw_plane(
    axes: Axes, plane: Plane, lattice: Lattice, norm: Normalize, colors: Colormap
) -> ScalarMappable:
    """Draw a plane with its frame, grid lines, ticks and names of axes."""
    matrix = plane_matrix(lattice, plane.indices)
    to_paper = Affine2D(np.block([[matrix, np.zeros((2, 1))], [np.zeros((1, 2)), np.eye(1)]]))
    corners = outline(plane)
    paper = corners @ matrix.T
    image = axes.imshow(
        np.ma.masked_invalid(plane.values), norm=norm, cmap=colors, origin="lower",
        extent=(corners[0, 0], corners[1, 0], corners[0, 1], corners[2, 1]),
        interpolation="antialiased", interpolation_stage="data",
    )  # fmt: skip
    image.set_transform(to_paper + axes.transData)
    frame = Polygon(paper, closed=True, fill=False, edgecolor=INK, linewidth=0.8, zorder=4)
    axes.add_patch(frame)
    image.set_clip_path(frame)
    for direction in (0, 1):
        _draw_axis(axes, plane, matrix, direction)
    (left, bottom), (right, top) = paper.min(axis=0), paper.max(axis=0)
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    axes.set_axis_off()
    return image


def _draw_axis(axes: Axes, plane: Plane, matrix: F8, direction: int) -> None:
    corners = outline(plane)
    start, end = corners[0], corners[(1, 3)[direction]]
    across = corners[(3, 1)[direction]] - start
    low, high = start[direction], end[direction]
    ticks = MaxNLocator(nbins=7, steps=[1, 2, 5, 10]).tick_values(low, high)
    ticks = ticks[(ticks >= low) & (ticks <= high)]
    unit = np.eye(2)[direction]
    feet = start * (1 - unit) + ticks[:, None] * unit
    lines = np.stack([feet, feet + across], axis=1) @ matrix.T
    axes.add_collection(
        LineCollection(list(lines), colors="white", linewidths=0.4, alpha=0.25, zorder=3),
        autolim=False,
    )
    along, inward = matrix @ unit, matrix @ across
    inward = inward / np.linalg.norm(inward)
    sine = abs(np.linalg.det(matrix)) / np.prod(np.linalg.norm(matrix, axis=0))
    distance = 36 if direction else 20
    slope = float(np.degrees(np.arctan2(along[1], along[0])))
    slope -= 180 if slope > 90 else 0  # not upside down
    for tick, foot in zip(ticks, feet @ matrix.T, strict=True):
        axes.annotate(
            "", foot, xytext=tuple(-TICK * inward), textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.8, "shrinkA": 0,
                        "shrinkB": 0}, annotation_clip=False,
        )  # fmt: skip
        axes.annotate(
            f"{tick:g}".replace("-", "\N{MINUS SIGN}"), foot,
            xytext=tuple(-(TICK + (4 if direction else 2)) * inward), textcoords="offset points",
            ha="right" if direction else "center", va="center" if direction else "top",
            fontsize=9, color=INK, annotation_clip=False,
        )  # fmt: skip
    index = plane.indices[direction]
    unit_name = f"${CELL[REAL.index(index)]}$" if index in REAL else "r.l.u."
    axes.annotate(
        f"${index}$  ({unit_name})", (start + end) / 2 @ matrix.T,
        xytext=tuple(-distance / sine * inward), textcoords="offset points",
        ha="center", va="center" if direction else "top", rotation=slope,
        rotation_mode="anchor", fontsize=11, color=INK, annotation_clip=False,
    )  # fmt: skip


def _edges(centres: F8) -> tuple[float, float]:
    half = (centres[-1] - centres[0]) / (2 * max(centres.size - 1, 1)) or 0.5
    return float(centres[0] - half), float(centres[-1] + half)
