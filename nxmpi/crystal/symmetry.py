"""Space groups, by cctbx."""

import numpy as np
from cctbx import miller, sgtbx
from cctbx.array_family import flex

from nxmpi._typing import F8, Mask
from nxmpi.crystal.lattice import unit_cell
from nxmpi.errors import InputError
from nxmpi.model import Lattice


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
