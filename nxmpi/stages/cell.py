"""A crystal of unknown cell: its reduced cell, and what its lattice may be taken for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.crystal.indexing import Indexed, nearest_equivalent
from nxmpi.crystal.lattice import lattice_of, reciprocal_matrix
from nxmpi.crystal.laue import lattice_rotations
from nxmpi.crystal.symmetry import symmetrized
from nxmpi.crystal.unknown_cell import cell_of, periods
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.stages.orient import Orientations, joined, orient

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.crystal.symmetry import Conventional
    from nxmpi.model import Lattice
    from nxmpi.stages.orient import Seen

ENOUGH = 0.5
"""Part of the peaks of all positions together that makes their cell the crystal's [1]."""
ALMOST = 0.95
"""Peaks that the smallest cell explains, to those of the best, with which it is taken [1]."""
PRIMITIVE = "P 1"


class Reduced(NamedTuple):
    """A lattice and the orientations of its reduced cell."""

    lattice: Lattice
    orientations: Orientations


def find_cell(comm: MPI.Intracomm, seen: tuple[Seen, ...]) -> Reduced | None:
    """Return the reduced cell that explains most of the peaks, None where none was found.

    Collective on ``comm``: directions and pairs of peaks are dealt out. The same on every rank,
    and on any number of ranks.

    Peaks of all positions together lead to a cell if the angles of the file are right. Otherwise
    each position is looked at alone, and what it finds is tried on all.
    """
    nowhere = (None,) * len(seen)
    every, found = _find(comm, joined(seen)), []
    if every is not None and every.explained.mean() >= ENOUGH:
        found = [every]
    else:
        alone = [_find(comm, each) for each in seen] if len(seen) > 1 else []
        found = [one for one in (every, *alone) if one is not None]
    tried = []
    for one in found:
        lattice = lattice_of(one.UB)
        tried.append(Reduced(lattice, orient(comm, seen, lattice, PRIMITIVE, nowhere)))
    if not tried:
        return None
    counts = np.array([_explained(each.orientations) for each in tried])
    volumes = np.array([1 / abs(np.linalg.det(one.UB)) for one in found])
    good = np.flatnonzero(counts >= ALMOST * counts.max())
    return tried[int(good[np.argmin(volumes[good])])]


def conventional(
    found: Orientations, chosen: Conventional, near: F8 | None
) -> tuple[Lattice, Orientations]:
    """Return the cell and orientations as one of the conventional cells of a lattice has them.

    Parameters
    ----------
    found : Orientations
        Of the reduced cell; ``chosen`` was made from that of the first position.
    near : (3, 3) float64, optional
        An earlier UB, to which the nearest of the equivalent orientations is taken.
    """
    first = found.positions[0]
    assert first is not None
    change = np.asarray(np.linalg.solve(first.UB, chosen.UB), np.float64)
    positions = tuple(None if one is None else _in_cell(one, change) for one in found.positions)
    lattice = symmetrized(chosen.lattice, chosen.space_group)
    rotations, to = lattice_rotations(lattice, chosen.space_group), near
    turned: list[Indexed | None] = []
    for one in positions:
        if one is None:
            turned.append(None)
            continue
        UB = nearest_equivalent(one.UB, reciprocal_matrix(lattice) if to is None else to, rotations)
        to = UB
        turned.append(_in_cell(one, np.asarray(np.linalg.solve(one.UB, UB), np.float64)))
    return lattice, Orientations(tuple(turned), found.together)


def _in_cell(one: Indexed, change: F8) -> Indexed:
    hkl = np.asarray(np.linalg.solve(change, one.hkl.T).T, np.float64)
    return Indexed(one.UB @ change, hkl, one.explained, one.score)


def _find(comm: MPI.Intracomm, seen: Seen) -> Indexed | None:
    with all_or_none(comm):
        own = periods(seen.q, seen.weight, (comm.rank, comm.size))
    shares = comm.gather(own)
    return on_root(comm, lambda: cell_of(shares or [], seen.q, seen.weight))


def _explained(found: Orientations) -> int:
    return sum(int(one.explained.sum()) for one in found.positions if one is not None)
