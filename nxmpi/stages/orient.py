"""Orientations of a crystal at all detector positions, together or at each alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.crystal.detector import pixel_positions
from nxmpi.crystal.goniometer import goniometer_matrix
from nxmpi.crystal.indexing import (
    SEEDS,
    Indexed,
    best_of,
    candidates,
    explain,
    nearest_equivalent,
)
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.laue import laue_rotations, metric_rotations
from nxmpi.crystal.reciprocal import scattering_vectors
from nxmpi.crystal.symmetry import is_allowed, reflections
from nxmpi.parallel.collective import all_or_none, on_root

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F8, Mask
    from nxmpi.model import Geometry, Goniometer, Lattice, Peaks

TOGETHER = 0.9
"""Score of one orientation of all positions, to the sum of those of each alone [1]."""
MARGIN = 1.05
"""How much farther out than the seeds reflections are made [1]."""
MOST = 100_000
"""Reflections that are made, at most."""
CHECKED, ABSENT = 300, 0.02
"""Peaks whose absences tell equivalent orientations apart, and the part that chance makes [1]."""
UNKNOWN = 0.3
"""Error of a place where the file has none [pixels or frames]."""


class Seen(NamedTuple):
    """Peaks of a position, as orientations are found from them."""

    places: F8
    """(n, 3) float64: x and y from the outer corner of pixel 0 [pixels], true phi [degrees]."""
    q: F8
    """(n, 3) float64: scattering vectors, turned back to all angles 0 [1/Å]."""
    errors: F8
    """(n, 3) float64: of the places."""
    weight: F8
    """(n,) float64: 1, or less where something may be wrong with the peak [1]."""
    strong: Mask
    """(n,) bool: of the brighter half."""

    @property
    def whole(self) -> Mask:
        """(n,) bool: nothing is wrong with the peak."""
        return np.asarray(self.weight == 1.0)


class Orientations(NamedTuple):
    """What was found."""

    positions: tuple[Indexed | None, ...]
    """None where no pair of peaks fits the cell."""
    together: bool
    """One orientation of the crystal explains all positions with the angles of the file."""


def seen_at(geometry: Geometry, peaks: Peaks) -> Seen:
    """Return what orientations are found from. The orientation in ``geometry`` is not looked at."""
    x, y, phi = peaks.x + 0.5, peaks.y + 0.5, angles_of(geometry.goniometer, peaks.z)
    R = np.array([goniometer_matrix(geometry.goniometer, angle) for angle in phi]).reshape(-1, 3, 3)
    v = pixel_positions(geometry.detector, x, y)
    offset = np.array(geometry.goniometer.sample_offset)
    k = scattering_vectors(v - R @ offset, geometry.wavelength)
    q = (R.transpose(0, 2, 1) @ k[..., None])[..., 0]
    errors = np.column_stack([peaks.x_error, peaks.y_error, peaks.z_error])
    known = np.isfinite(errors) & (errors > 0)
    errors = np.where(known, errors, UNKNOWN) * [1.0, 1.0, abs(geometry.goniometer.step)]
    return Seen(
        places=np.column_stack([x, y, phi]), q=q, errors=errors,
        weight=np.where(peaks.flags == 0, 1.0, 0.5),
        strong=peaks.intensity >= np.median(peaks.intensity) if len(peaks) else peaks.flags > 0,
    )  # fmt: skip


def angles_of(goniometer: Goniometer, z: F8) -> F8:
    """Return the true phi of places along the frames, (n,) float64 [degrees].

    Parameters
    ----------
    z : (n,) float64
        0 is the middle of the first frame, a little before and behind the frames is allowed.
    """
    starts = np.array(goniometer.phi)
    frame = np.clip(np.floor(z + 0.5), 0, starts.size - 1).astype(int)
    return np.asarray(starts[frame] + (z + 0.5 - frame) * goniometer.step)


def orient(
    comm: MPI.Intracomm, seen: tuple[Seen, ...], lattice: Lattice, space_group: str,
    before: tuple[F8 | None, ...],
) -> Orientations:  # fmt: skip
    """Return the orientation of a crystal of known cell at each position.

    Collective on ``comm``: pairs of peaks are dealt out. The result is the same on every rank,
    and on any number of ranks.

    Parameters
    ----------
    seen : tuple of Seen
        Of the positions, the same on every rank.
    before : tuple of (3, 3) float64 or None
        UB of an earlier orientation of each: of equivalent ones the nearest is returned, else that
        with the least rotation.
    """
    alone = tuple(_index(comm, each, lattice, space_group) for each in seen)
    every = alone[0] if len(seen) == 1 else _index(comm, joined(seen), lattice, space_group)
    return on_root(
        comm, lambda: _chosen(seen, (alone, every), (lattice, space_group), before)
    )  # fmt: skip


def _chosen(
    seen: tuple[Seen, ...], found: tuple[tuple[Indexed | None, ...], Indexed | None],
    crystal: tuple[Lattice, str], before: tuple[F8 | None, ...],
) -> Orientations:  # fmt: skip
    """Return the orientation of each position, of the equivalent ones. Not collective."""
    alone, every = found
    best = sum(each.score for each in alone if each is not None)
    together = len(seen) > 1 and every is not None and every.score >= TOGETHER * best
    to = next((each for each in before if each is not None), None)
    chosen: list[Indexed | None] = []
    for own, peaks, near in zip(alone, seen, before, strict=True):
        one = every if together else own
        if one is None:
            chosen.append(None)
            continue
        # one orientation looks for the same equivalent everywhere, others for one near the first
        to = to if together or near is None else near
        UB = equivalent(one, crystal, reciprocal_matrix(crystal[0]) if to is None else to)
        to = UB if to is None else to
        chosen.append(explain(UB, peaks.q, peaks.weight))
    return Orientations(tuple(chosen), together)


def equivalent(one: Indexed, crystal: tuple[Lattice, str], to: F8) -> F8:
    """Return the UB of the same lattice that is nearest to another, (3, 3) float64 [1/Å].

    Rotations that bring the lattice to itself but for its centring, or are none of the crystal,
    can make explained peaks systematically absent: those that make the fewest so are taken.
    """
    lattice, space_group = crystal
    rotations = metric_rotations(lattice)
    hkl = np.round(one.hkl[one.explained])[:CHECKED]
    allowed = np.array(
        [
            is_allowed(space_group, np.rint(np.linalg.solve(each, hkl.T).T)).mean()
            for each in rotations
        ]
    )
    good = rotations[allowed >= allowed.max() - ABSENT] if len(hkl) else rotations
    return nearest_equivalent(one.UB, to, good)


def joined(seen: tuple[Seen, ...]) -> Seen:
    """Return the peaks of all positions as if they were of one."""
    return Seen(*(np.concatenate(parts) for parts in zip(*seen, strict=True)))


def _index(
    comm: MPI.Intracomm, seen: Seen, lattice: Lattice, space_group: str
) -> Indexed | None:  # fmt: skip
    if len(seen.q) < 2:
        return None
    B, share = reciprocal_matrix(lattice), (comm.rank, comm.size)
    with all_or_none(comm):
        lengths = np.sort(np.linalg.norm(seen.q, axis=1))
        far = lengths[min(SEEDS, lengths.size) - 1] * MARGIN
        far = min(far, float(3 * MOST * np.linalg.det(B) / (4 * np.pi)) ** (1 / 3))
        allowed = reflections(lattice, space_group, 1 / far)
        rotations = laue_rotations(space_group)
        own = candidates(seen.q, seen.weight, B, allowed, rotations, share)
    shares = comm.gather(own)
    return on_root(comm, lambda: best_of(shares or [], seen.q, seen.weight, B))
