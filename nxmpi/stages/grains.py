"""Further crystals in the peaks that the first does not explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from nxmpi.crystal.indexing import nearest_equivalent
from nxmpi.crystal.laue import lattice_rotations
from nxmpi.stages.orient import Seen, orient

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F8, Mask
    from nxmpi.model import Geometry, Lattice

FEWEST, LEAST = 10, 0.3
"""Number and part of the peaks that are left, that make a crystal."""


class Grain(NamedTuple):
    """A further crystal, by position."""

    UB: tuple[F8, ...]
    """(3, 3) float64 each [1/Å]."""
    hkl: tuple[F8, ...]
    """(n, 3) float64 each, of all peaks [r.l.u.]."""
    explained: tuple[Mask, ...]
    """(n,) bool each: peaks of this crystal and no earlier one."""


def find_grains(
    comm: MPI.Intracomm, seen: tuple[Seen, ...], explained: tuple[Mask, ...],
    crystal: tuple[Lattice, str], geometries: tuple[Geometry, ...], n_grains: int,
) -> tuple[list[Grain], list[str]]:  # fmt: skip
    """Return further crystals of the same cell, and what there is to be told of them.

    Collective on ``comm``.

    Parameters
    ----------
    explained : tuple of (n,) bool
        Peaks of the first crystal at each position.
    geometries : tuple of Geometry
        With its orientations.
    n_grains : int
        Crystals to be found, with the first; one more is told of.
    """
    rotations, grains, told = lattice_rotations(*crystal), [], []
    first, rest = tuple(np.array(g.UB) for g in geometries), tuple(~each for each in explained)
    for number in range(2, n_grains + 2):
        left = tuple(_some(each, use) for each, use in zip(seen, rest, strict=True))
        n_left = sum(len(each.q) for each in left)
        if n_left < FEWEST:
            break
        found = orient(comm, left, *crystal, first)
        n_found = sum(int(one.explained.sum()) for one in found.positions if one is not None)
        if n_found < max(FEWEST, LEAST * n_left):
            break
        UB = tuple(
            own if one is None else one.UB for one, own in zip(found.positions, first, strict=True)
        )
        turn = max(_angle(a, b, rotations) for a, b in zip(UB, first, strict=True))
        told.append(
            f"Crystal {number}, turned by {turn:.2f} degrees, explains {n_found} of the {n_left} "
            "peaks that are left" + ("" if number <= n_grains else f" (--grains {number})")
        )
        if number > n_grains:
            break
        hkl, new = [], []
        for each, own, use, one in zip(seen, UB, rest, found.positions, strict=True):
            hkl.append(np.asarray(np.linalg.solve(own, each.q.T).T, np.float64))
            mine = np.zeros(len(use), bool)
            mine[np.flatnonzero(use)] = False if one is None else one.explained
            new.append(mine)
        rest = tuple(use & ~mine for use, mine in zip(rest, new, strict=True))
        grains.append(Grain(UB, tuple(hkl), tuple(new)))
    return grains, told


def _some(seen: Seen, use: Mask) -> Seen:
    return Seen(seen.places[use], seen.q[use], seen.errors[use], seen.weight[use], seen.strong[use])


def _angle(UB: F8, to: F8, rotations: F8) -> float:
    """Return the angle between two crystals [degrees]."""
    near = nearest_equivalent(UB, to, rotations)
    u, _, v = np.linalg.svd(near @ np.linalg.inv(to))
    return float(np.degrees(Rotation.from_matrix(u @ v).magnitude()))
