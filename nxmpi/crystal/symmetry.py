"""Space groups, by cctbx."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from cctbx import crystal, miller, sgtbx
from cctbx.array_family import flex
from cctbx.sgtbx import bravais_types, lattice_symmetry

from nxmpi._typing import F8, Mask
from nxmpi.crystal.lattice import lattice_of, unit_cell
from nxmpi.errors import InputError
from nxmpi.model import Lattice

ALIKE, ALIKE_ANGLE = 1e-4, 0.01
"""Lengths [1] and angles [degrees] that are taken for equal."""
MOVE, FOLLOWS = 1e-3, 0.2
"""By which a parameter of a cell is moved, and the least part of it that equal ones follow."""


class Conventional(NamedTuple):
    """A way to see a lattice as one of the 14 of Bravais."""

    bravais: str
    """Such as ``cF``."""
    space_group: str
    """Symbol of the highest symmetry of such a lattice, with its centring."""
    lattice: Lattice
    """As it was found, its symmetry not imposed."""
    misfit: float
    """Largest angle between axes that symmetry brings to each other [degrees]."""
    UB: F8
    """(3, 3) float64, in this cell's indices [1/Å]."""
    n_operations: int
    """Of the symmetry."""


def space_group_info(symbol: str) -> "sgtbx.space_group_info":
    """Return the space group of a Hermann-Mauguin or Hall symbol, or a number.

    Raises
    ------
    InputError
        If cctbx does not know the symbol.
    """
    try:
        return sgtbx.space_group_info(symbol)
    except RuntimeError as error:
        raise InputError(f"space group: expected a symbol or number, found '{symbol}'") from error


def lattice_translations(symbol: str) -> F8:
    """Return the translations of the lattice within a cell, 0 0 0 first, (n, 3) float64."""
    group = space_group_info(symbol).group()
    pure = [one for one in group.all_ops() if one.r().is_unit_mx()]
    return np.array([one.t().mod_positive().as_double() for one in pure])


def laue_group(symbol: str) -> str:
    """Return the Laue group, such as ``4/mmm``, of a space group."""
    return str(space_group_info(symbol).group().laue_group_type())


def is_allowed(symbol: str, hkl: F8) -> Mask:
    """Return True for the reflections that are not systematically absent.

    Parameters
    ----------
    hkl : (n, 3) int
        [1]

    Returns
    -------
    (n,) bool
    """
    group = space_group_info(symbol).group()
    indices = flex.miller_index([tuple(int(i) for i in row) for row in hkl])
    return ~np.array(group.is_sys_absent(indices), dtype=bool)


def reflections(lattice: Lattice, symbol: str, d_min: float) -> F8:
    """Return all allowed reflections down to a spacing, Friedel mates included, without 000.

    Parameters
    ----------
    d_min : float
        [Å]

    Returns
    -------
    (n, 3) float64
        Sorted by h, k, l.
    """
    p1 = sgtbx.space_group_info("P 1").group().type()
    everything = miller.index_generator(unit_cell(lattice), p1, True, d_min).to_array()
    hkl = np.array(list(everything), dtype=float).reshape(-1, 3)
    return np.asarray(hkl[is_allowed(symbol, hkl)])


def conventional_cells(UB: F8, tolerance: float) -> list[Conventional]:
    """Return the conventional cells of a lattice, of the highest symmetry first.

    Parameters
    ----------
    UB : (3, 3) float64
        Of any primitive cell [1/Å].
    tolerance : float
        Largest misfit [degrees].
    """
    primitive = crystal.symmetry(unit_cell=unit_cell(lattice_of(UB)), space_group_symbol="P 1")
    groups = lattice_symmetry.metric_subgroups(primitive, max_delta=tolerance).result_groups
    found = []
    for each in groups:
        to_best = np.array(each["cb_op_inp_best"].c().r().as_double()).reshape(3, 3)
        turned = UB @ to_best.T
        symmetry = each["best_subsym"]
        bravais = bravais_types.bravais_lattice(group=symmetry.space_group())
        found.append(
            Conventional(
                bravais=str(bravais), space_group=str(symmetry.space_group_info()),
                lattice=lattice_of(turned), misfit=float(each["max_angular_difference"]),
                UB=turned, n_operations=int(symmetry.space_group().order_p()),
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (-one.n_operations, one.misfit))


class Symmetry(NamedTuple):
    """What files tell of a space group."""

    crystal_system: str
    centring: str
    laue_group: str


def symmetry_of(symbol: str) -> Symmetry:
    """Return the crystal system, centring and Laue group of a space group."""
    group = space_group_info(symbol).group()
    system, centring = group.crystal_system().lower(), group.conventional_centring_type_symbol()
    return Symmetry(str(system), str(centring), laue_group(symbol))


def is_compatible(lattice: Lattice, symbol: str) -> bool:
    """Return whether a lattice has the symmetry of a space group, by and large."""
    return bool(space_group_info(symbol).group().is_compatible_unit_cell(unit_cell(lattice)))


HOLOHEDRIES = (
    "P m -3 m", "P 6/m m m", "P -3 m 1", "R -3 m :H", "R -3 m :R", "P 4/m m m", "P m m m",
    "P 1 2/m 1", "P 1 1 2/m", "P 2/m 1 1", "P -1",
)  # fmt: skip
"""The highest symmetry of each crystal system and choice of axes."""


def highest_symmetry(lattice: Lattice, system: str = "", centring: str = "") -> str:
    """Return the symbol of the highest symmetry that a unit cell can have.

    Parameters
    ----------
    system : str, optional
        Crystal system that it is known to have, such as ``hexagonal``.
    centring : str, optional
        One letter.
    """
    cell = unit_cell(lattice)
    for symbol in HOLOHEDRIES:
        group = space_group_info(symbol).group()
        known = system in ("", group.crystal_system().lower())
        if known and group.is_compatible_unit_cell(cell, ALIKE, ALIKE_ANGLE):
            if centring in ("", "P", symbol[0]):
                return symbol
            try:
                return str(space_group_info(centring + symbol[1:]))
            except InputError:  # no such lattice
                continue
    return highest_symmetry(lattice)


def symmetrized(lattice: Lattice, symbol: str) -> Lattice:
    """Return the nearest lattice that has the symmetry of a space group."""
    cell = space_group_info(symbol).group().average_unit_cell(unit_cell(lattice))
    return Lattice(**dict(zip(Lattice.__slots__, cell.parameters(), strict=True)))


def free_cell(lattice: Lattice, symbol: str) -> tuple[tuple[str, ...], ...]:
    """Return the parameters of a cell that its space group leaves free.

    Parameters
    ----------
    lattice : Lattice
        Of that symmetry.

    Returns
    -------
    tuple of tuple of str
        Names in order, those together that have to be equal; what is fixed is left out.

    Raises
    ------
    InputError
        If the lattice is not of that symmetry.
    """
    group = space_group_info(symbol).group()
    values = np.array(unit_cell(lattice).parameters())
    if not group.is_compatible_unit_cell(unit_cell(lattice)):
        raise InputError(
            f"space group {symbol}: expected a unit cell of its symmetry, found "
            f"{', '.join(f'{value:g}' for value in values)}"
        )
    moved, average = [], np.array(group.average_unit_cell(unit_cell(lattice)).parameters())
    for name in Lattice.__slots__:
        cell = unit_cell(replace(lattice, **{name: getattr(lattice, name) + MOVE}))
        moved.append(np.array(group.average_unit_cell(cell).parameters()) - average)
    follows = np.array(moved) / MOVE > FOLLOWS
    groups: dict[tuple[str, ...], None] = {}
    for i in np.flatnonzero(np.diag(follows)).tolist():
        same = [j for j in range(6) if follows[i, j] and follows[j, i] and i // 3 == j // 3]
        groups[tuple(Lattice.__slots__[j] for j in same)] = None
    return tuple(groups)
