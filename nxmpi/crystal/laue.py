"""Laue groups as integer matrices on the voxels of a grid."""

from itertools import product
from typing import NamedTuple

import numpy as np

from nxmpi._typing import F8, I8, Mask
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.symmetry import lattice_translations, laue_group, space_group_info
from nxmpi.errors import InputError
from nxmpi.model import HKLGrid, Lattice

WHOLE = 1e-6
"""How far from an integer the entries of a matrix and the place of 0 may be [voxels]."""
REPRESENTATIVES = {
    "-1": "P -1", "2/m": "P 1 2/m 1", "mmm": "P m m m", "4/m": "P 4/m", "4/mmm": "P 4/m m m",
    "-3": "P -3", "-3m": "P -3 m 1", "-3m1": "P -3 m 1", "-31m": "P -3 1 m", "6/m": "P 6/m",
    "6/mmm": "P 6/m m m", "m-3": "P m -3", "m-3m": "P m -3 m",
}  # fmt: skip
"""A space group of each Laue class, for those that are given by their class; axes as usual."""


ALIKE = 1e-3
"""How much lengths may differ that are taken for equal, to themselves [1]."""
NEARLY = 0.02
"""How much they may of a cell that was measured, and is said to have a symmetry [1]."""


class VoxelGroup(NamedTuple):
    """The operators of a Laue group on the voxels of a grid, counted from that of 0 0 0."""

    matrices: I8
    """(n, 3, 3) int64, on columns (h, k, l) of voxels."""
    low: I8
    """(3,) int64: the first voxel along h, k and l."""
    high: I8
    """(3,) int64: the last one."""


def laue_operators(symbol: str) -> I8:
    """Return the operators of the Laue group of a space group, or of a Laue class.

    Parameters
    ----------
    symbol : str
        Symbol or number of a space group, or one of the 11 classes, as ``6/mmm``; ``-3m1`` and
        ``-31m`` tell the two settings of one of them.

    Returns
    -------
    (n, 3, 3) int64
        On hkl as columns, the identity first.

    Raises
    ------
    InputError
        If the symbol is not known.
    """
    given = symbol.replace(" ", "")
    if given in ("23", "32"):
        raise InputError(
            f"Laue group: expected a class with its inversion, or a space group by its symbol, "
            f"found the number {symbol} (or a point group: m-3 and -3m are its classes)"
        )
    group = space_group_info(REPRESENTATIVES.get(given, symbol)).group()
    laue = group.build_derived_laue_group()
    rotations = {tuple(operation.r().as_double()) for operation in laue.smx()}
    matrices = np.array(sorted(rotations)).reshape(-1, 3, 3).transpose(0, 2, 1)
    every = np.unique(np.rint(np.concatenate([matrices, -matrices])).astype(np.int64), axis=0)
    is_identity = (every == np.eye(3, dtype=np.int64)).all(axis=(1, 2))
    return np.asarray(every[np.argsort(~is_identity, kind="stable")])


def laue_class(symbol: str) -> str:
    """Return the Laue class of a space group, or of a class in any setting, such as ``-3m``.

    Raises
    ------
    InputError
        If the symbol is not known.
    """
    return laue_group(REPRESENTATIVES.get(symbol.replace(" ", ""), symbol))


def keeps_lattice(operators: I8, lattice: Lattice) -> bool:
    """Return whether a lattice has the symmetry of operators on hkl, to `NEARLY`."""
    B = reciprocal_matrix(lattice)
    metric = B.T @ B
    size = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    change = operators.transpose(0, 2, 1) @ metric @ operators - metric
    return bool((np.abs(change) < 2 * NEARLY * size).all())


def laue_rotations(symbol: str) -> F8:
    """Return the rotations of the Laue group of a space group, (n, 3, 3) float64 on hkl."""
    operators = laue_operators(symbol).astype(np.float64)
    return np.asarray(operators[np.linalg.det(operators) > 0])


def lattice_rotations(lattice: Lattice, symbol: str) -> F8:
    """Return the rotations that bring a lattice with its centring to itself.

    Parameters
    ----------
    symbol : str
        Of a space group with this centring.

    Returns
    -------
    (n, 3, 3) float64
        Integers, on hkl as columns; the identity is among them.
    """
    matrices = metric_rotations(lattice)
    translations = lattice_translations(symbol)
    hkl = np.array(list(product(range(-3, 4), repeat=3)), dtype=float)
    hkl = hkl[_is_whole(hkl @ translations.T).all(axis=1)]
    images = matrices @ hkl.T
    kept = _is_whole(translations @ images).all(axis=(1, 2))
    return np.asarray(matrices[kept])


def metric_rotations(lattice: Lattice) -> F8:
    """Return the rotations that bring the lattice without its centring to itself.

    Returns
    -------
    (n, 3, 3) float64
        Integers, on hkl as columns; the identity is among them.
    """
    matrices = np.array(list(product((-1, 0, 1), repeat=9)), dtype=float).reshape(-1, 3, 3)
    determinants = np.linalg.det(matrices)
    matrices = matrices[(determinants > 0.5) & (determinants < 1.5)]
    B = reciprocal_matrix(lattice)
    metric = B.T @ B
    size = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    change = matrices.transpose(0, 2, 1) @ metric @ matrices - metric
    return np.asarray(matrices[(np.abs(change) < 2 * ALIKE * size).all(axis=(1, 2))])


def _is_whole(values: F8) -> Mask:
    return np.asarray(np.abs(values - np.rint(values)) < WHOLE)


def voxel_group(operators: I8, grid: HKLGrid) -> VoxelGroup:
    """Return the operators of a Laue group on the voxels of a grid.

    Raises
    ------
    InputError
        If 0 is not the centre of a voxel, or steps along equivalent axes do not fit; says which
        would.
    """
    step, origin = np.array(grid.step), np.array(grid.origin)
    first = origin / step
    low = np.rint(first).astype(np.int64)
    if (np.abs(first - low) > WHOLE).any():
        wanted = low * step
        raise InputError(
            f"grid: expected 0 to be the centre of a voxel, so that its symmetry maps voxels to "
            f"voxels; found axes that begin at {_told(origin)} with steps of {_told(step)} "
            f"(they could begin at {_told(wanted)})"
        )
    axes = np.array(grid.axes).T * step  # hkl = axes @ voxel
    matrices = np.linalg.solve(axes, operators @ axes)
    whole = np.rint(matrices)
    if (np.abs(matrices - whole) > WHOLE).any():
        raise InputError(
            f"grid: expected steps that the symmetry maps to each other, found {_told(step)} "
            f"(steps of {_told(_fitting_steps(operators, step))} would do)"
        )
    high = low + np.array(grid.shape) - 1
    exchanges = (whole[:, 2, :2] != 0).any()  # of l with others
    if exchanges and not ((low == -high).all() and np.ptp(high) == 0):
        wide = float(np.max(np.abs([low, high])) * step[0])
        raise InputError(
            f"grid: expected the same range about 0 along h, k and l, which the symmetry "
            f"exchanges; found {_told(low * step)} to {_told(high * step)} ({-wide:g} to {wide:g} "
            f"would do)"
        )
    return VoxelGroup(whole.astype(np.int64), low, high)


def has_all_images(group: VoxelGroup, l: int) -> Mask:
    """Return which voxels of a plane have all of their images in the grid, (n_k, n_h) bool."""
    h, k = (np.arange(group.low[i], group.high[i] + 1) for i in (0, 1))
    inside = np.ones((len(k), len(h)), np.bool_)
    for matrix in group.matrices:
        for row, low, high in zip(matrix, group.low, group.high, strict=True):
            image = row[0] * h + row[1] * k[:, None] + row[2] * l
            inside &= (image >= low) & (image <= high)
    return inside


def _fitting_steps(operators: I8, step: F8) -> F8:
    """Return steps that are the same along equivalent axes: the smallest of them."""
    alike = (operators != 0).any(axis=0)
    return np.array([step[row | (np.arange(3) == i)].min() for i, row in enumerate(alike)])


def _told(values: F8) -> str:
    return ", ".join(f"{value:g}" for value in values)


def coset_leaders(matrices: I8) -> tuple[I8, I8]:
    """Return the operators that keep planes of l, up to its sign, and what leads to the others.

    Parameters
    ----------
    matrices : (n, 3, 3) int64
        A group.

    Returns
    -------
    planar : (m, 3, 3) int64
        Those with l' = l or -l: a group too. Changes of sign come first, whose images are near.
    leaders : (n / m, 3, 3) int64
        Every operator is one of the planar ones times one of these, the identity first.

    Raises
    ------
    InputError
        If another operator is no exchange of axes.
    """
    rows = matrices[:, 2]
    planar = matrices[(rows[:, :2] == 0).all(axis=1)]
    planar = planar[sorted(range(len(planar)), key=lambda i: _nearness(planar[i]))]
    leaders: list[I8] = []
    seen: set[bytes] = set()
    for matrix in sorted(matrices, key=lambda one: (-int(np.trace(one)), one.tolist())):
        if matrix.tobytes() in seen:
            continue
        best = max((each @ matrix for each in planar), key=lambda one: (one.sum(), one.tolist()))
        seen |= {(each @ matrix).tobytes() for each in planar}
        leaders.append(np.ascontiguousarray(best))
    found = np.array(leaders)
    if (
        len(found) > 1
        and ((np.abs(found).sum(axis=(1, 2)) != 3) | (found < 0).any(axis=(1, 2))).any()
    ):
        raise InputError(
            "grid: expected axes of which the symmetry exchanges all three, or keeps the last one, "
            "found others (take its unique axis for the last one)"
        )
    identity = (found == np.eye(3, dtype=np.int64)).all(axis=(1, 2))
    return np.asarray(planar), np.asarray(found[np.argsort(~identity, kind="stable")])


def _nearness(matrix: I8) -> tuple[int, bool, int]:
    off = matrix - np.diag(np.diag(matrix))
    return int(np.abs(off).sum()), bool((matrix == np.eye(3)).all()), -int(np.trace(matrix))


def is_closed(matrices: I8) -> bool:
    """Return whether the product of any two matrices is one of them."""
    every = {one.tobytes() for one in np.ascontiguousarray(matrices)}
    return all(
        np.ascontiguousarray(a @ b).tobytes() in every for a, b in product(matrices, repeat=2)
    )
