"""Planes of reciprocal space by their names, such as ``h k 0.5`` or ``h h l``."""

import re
from typing import NamedTuple

import numpy as np

from nxmpi.crystal.detector import as_matrix
from nxmpi.errors import InputError
from nxmpi.model import HKLGrid, Matrix, Vector

INDICES = "hkl"
NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:/\d+)?"
TERM = rf"(?:{NUMBER}\*?[hkl]|{NUMBER}|[hkl])"


class NamedPlane(NamedTuple):
    """A plane, and the axes of a grid that lies along it."""

    text: str
    axes: Matrix
    """Rows: what the letters of the plane stand for, each at its own index, and the normal at the
    third [r.l.u.]."""
    normal: int
    """Index of the normal: 0 for h, 1 for k, 2 for l."""
    place: Vector
    """Where the plane lies along the axes; 0 along the other two unless the name shifts them."""


def parse_plane(text: str) -> NamedPlane:
    """Return the plane that a name such as ``h k 0.5``, ``h h l`` or ``h+1/3 -h l`` stands for.

    Three sums of numbers and multiples of two of the letters h, k and l are h, k and l as functions
    of these two. The normal is the cross product of the two directions, taken as if h, k, l were
    Cartesian, so that it is h, k or l itself for ``h k 0.5`` and the like, and (1, -1, 0) for
    ``h h l``; its first number is positive.

    Raises
    ------
    InputError
        If it is no plane.
    """
    parts = text.replace(",", " ").split()
    if len(parts) != 3 or not all(_is_sum(part) for part in parts):
        raise InputError(f"plane: expected three of the kind 'h k 0.5' or 'h -h l', found '{text}'")
    sums = np.array([_sum(part) for part in parts])
    used = [i for i in range(3) if sums[:, i].any()]
    if len(used) != 2:
        named = ", ".join(INDICES[i] for i in used) or "none"
        raise InputError(f"plane: expected two of h, k and l to vary, found {named} in '{text}'")
    first, second = sums[:, used[0]], sums[:, used[1]]
    across = np.cross(first, second)
    if not across.any():
        raise InputError(f"plane: expected two directions, found a line in '{text}'")
    normal = 3 - sum(used)
    rows = np.empty((3, 3))
    rows[used], rows[normal] = (first, second), across * np.sign(across[across != 0][0])
    rows += 0.0  # no -0
    place = np.linalg.solve(rows.T, sums[:, 3])
    h, k, l = (float(f"{x:.12g}") + 0.0 for x in place)
    return NamedPlane(" ".join(parts), as_matrix(rows), normal, (h, k, l))


def span(grid: HKLGrid, axis: Vector) -> tuple[float, float, float]:
    """Return start, step and stop along a direction from 0 0 0, as far as a grid reaches.

    Along h, k or l they are the grid's own.

    Parameters
    ----------
    grid : HKLGrid
        Along h, k, l.
    axis : tuple of float
        [r.l.u.]
    """
    vector, step = np.array(axis), np.array(grid.step)
    low = np.array(grid.origin)
    high = low + step * (np.array(grid.shape) - 1)
    used = np.flatnonzero(vector)
    if used.size == 1 and vector[used[0]] == 1:
        i = used[0]
        return float(low[i]), float(step[i]), float(high[i])
    ends = np.sort([low[used] / vector[used], high[used] / vector[used]], axis=0)
    width = float((step[used] / np.abs(vector[used])).min())
    start, stop = np.ceil(ends[0].max() / width - 1e-6), np.floor(ends[1].min() / width + 1e-6)
    if stop < start:
        raise InputError(
            f"plane: expected 0 0 0 in the reach of the grid along {axis}, found it outside "
            "(--qh, --qk, --ql give ranges)"
        )
    return float(start * width), width, float(stop * width)


def _is_sum(part: str) -> bool:
    return bool(re.fullmatch(rf"[+-]?{TERM}(?:[+-]{TERM})*", part))


def _sum(part: str) -> tuple[float, ...]:
    """Return the factors of h, k and l in a sum, and its constant."""
    factors = [0.0] * 4
    for term in re.findall(r"[+-]?[^+-]+", part):
        letter = term[-1] if term[-1] in INDICES else ""
        number = term.removesuffix(letter).rstrip("*")
        above, _, below = number.partition("/")
        if above in ("", "+", "-"):
            above += "1"
        if below and not float(below):
            raise InputError(f"plane: expected numbers, found a division by 0 in '{part}'")
        value = float(above) / (float(below) if below else 1.0)
        factors[INDICES.index(letter) if letter else 3] += value
    return tuple(factors)
