"""What may be wrong where no orientation explains the peaks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.crystal.detector import as_matrix, orientation_text
from nxmpi.stages.orient import orient, seen_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mpi4py import MPI

    from nxmpi.model import Geometry, Lattice, Peaks
    from nxmpi.stages.orient import Orientations, Seen

OFFSETS = (-4.0, -2.0, 0.0, 2.0, 4.0)
"""Of the beam centre, along x and y [pixels]."""
THIN = 0.01
"""Of peaks on a line: how far they are beside it, to their distances along it [1]."""


class Crystal(NamedTuple):
    """What is known of the crystal."""

    lattice: Lattice
    space_group: str


def explained_parts(seen: tuple[Seen, ...], found: Orientations) -> list[float]:
    """Return the part of the strong peaks of each position that is explained, 0 without any."""
    parts = []
    for each, one in zip(seen, found.positions, strict=True):
        strong = 0 if one is None else int((one.explained & each.strong).sum())
        parts.append(strong / max(int(each.strong.sum()), 1))
    return parts


def other_centres(
    comm: MPI.Intracomm, geometries: tuple[Geometry, ...], peaks: tuple[Peaks, ...],
    crystal: Crystal,
) -> tuple[Geometry, ...]:  # fmt: skip
    """Return the geometries with the beam centre, some pixels off, that explains most peaks.

    Collective on ``comm``. Each position is looked at alone.
    """
    found = []
    for geometry, own in zip(geometries, peaks, strict=True):
        moved = [_moved(geometry, dx, dy) for dx in OFFSETS for dy in OFFSETS]
        scores = [_score(comm, each, own, crystal) for each in moved]
        found.append(moved[int(np.argmax(scores))])
    return tuple(found)


def _moved(geometry: Geometry, dx: float, dy: float) -> Geometry:
    x, y = geometry.detector.beam_center
    return replace(geometry, detector=replace(geometry.detector, beam_center=(x + dx, y + dy)))


def _score(comm: MPI.Intracomm, geometry: Geometry, peaks: Peaks, crystal: Crystal) -> float:
    one = orient(comm, (seen_at(geometry, peaks),), *crystal, (None,)).positions[0]
    return 0.0 if one is None else one.score


def wrong_ways(
    geometries: tuple[Geometry, ...], peaks: tuple[Peaks, ...],
    parts_of: Callable[[tuple[Seen, ...]], list[float]], least: float,
) -> list[str]:  # fmt: skip
    """Return how the detector or phi would have to be turned round for peaks to be explained.

    Collective if ``parts_of`` is.

    Parameters
    ----------
    parts_of : callable
        Returns the part of the strong peaks of each position that can be explained.
    least : float
        The part that is to be explained.

    Notes
    -----
    A mirror image of a lattice is a lattice: what mirrors all of reciprocal space, in the frame
    of the crystal, cannot be seen from the places of peaks.
    """
    told = []
    ways = [dict(_other_ways(geometry)) for geometry in geometries]
    for text in ways[0]:
        turned = tuple(way[text] for way in ways if text in way)
        if len(turned) < len(ways):
            continue
        seen = tuple(seen_at(geometry, own) for geometry, own in zip(turned, peaks, strict=True))
        part = min(parts_of(seen))
        if part >= least:
            told.append(f"with {text} {part:.0%} of them would be")
    return told


def on_a_line(seen: tuple[Seen, ...]) -> list[str]:
    """Return that the vectors of all peaks of a position lie on a line, where they do."""
    singular = [np.linalg.svd(each.q, compute_uv=False) for each in seen]
    if all(values[1] < THIN * values[0] for values in singular):
        return ["the peaks are of one line through the origin, and leave a turn about it open"]
    return []


def _other_ways(geometry: Geometry) -> Iterator[tuple[str, Geometry]]:
    goniometer, detector = geometry.goniometer, geometry.detector
    back = replace(goniometer, phi=tuple(-p for p in goniometer.phi), step=-goniometer.step)
    yield "phi turning the other way", replace(geometry, goniometer=back)
    x, y, _ = np.array(detector.orientation)
    for first, second in ((-x, y), (x, -y), (y, x), (-x, -y)):
        axes = as_matrix(np.array([first, second, np.cross(first, second)]))
        turned = replace(geometry, detector=replace(detector, orientation=axes))
        yield f"detector_orientation '{orientation_text(axes) or axes}'", turned
