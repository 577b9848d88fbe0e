"""What explains the peaks of a scan: tried with what is known, then with what may be wrong."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.lattice import is_near
from nxmpi.crystal.symmetry import conventional_cells
from nxmpi.errors import CollectiveError, InputError
from nxmpi.parallel.collective import on_root
from nxmpi.pipeline.fit_report import Positions, describe, describe_lattices
from nxmpi.stages.cell import PRIMITIVE, Reduced, conventional, find_cell
from nxmpi.stages.doubts import Crystal, explained_parts, on_a_line, other_centres, wrong_ways
from nxmpi.stages.orient import orient, seen_at
from nxmpi.stages.refine import Fit, refine_orientations

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.crystal.symmetry import Conventional
    from nxmpi.model import Geometry, Lattice
    from nxmpi.params import OrientParams
    from nxmpi.pipeline.peaked import Peaked
    from nxmpi.stages.orient import Orientations, Seen

log = logging.getLogger(__name__)
FEWEST = 6
"""Peaks that an orientation is refined with."""
AS_GOOD = 2.0
"""Residuals with the symmetry of a lattice, to those without any, with which it is taken [1]."""
OUTLIERS = 0.6
"""Largest part of the peaks of a position, among those refined with, that are outliers [1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What was found for a crystal."""

    space_group: str
    is_new_cell: bool
    """The cell is not the file's."""
    seen: tuple[Seen, ...]
    """Of the positions, with the geometry of the file."""
    fit: Fit
    parts: tuple[float, ...]
    """Of the strong peaks of each position, that are explained [1]."""
    lines: tuple[str, ...]
    """For people."""


def find_crystal(
    comm: MPI.Intracomm, wrapper: Path, positions: list[Peaked],
    crystal: tuple[Lattice, str] | None, params: OrientParams,
) -> Found:  # fmt: skip
    """Return what explains enough of the peaks. Collective on ``comm``.

    Raises
    ------
    CollectiveError
        On every rank, if nothing does; says what may be wrong.
    """
    geometries = tuple(position.geometry for position in positions)
    peaks = tuple(position.peaks for position in positions)
    found = _try(comm, positions, geometries, crystal, params)
    if isinstance(found, Found):
        return found
    parts = found
    seen = seen_with(geometries, positions)
    doubts = on_a_line(seen)
    if not doubts:
        log.info("too few peaks are explained: turning phi and the detector round")
        parts_of = partial(_parts_of, comm, crystal)
        doubts = wrong_ways(geometries, peaks, parts_of, params.min_indexed)
    if not doubts and crystal is None:
        doubts = ["the peaks do not determine a cell (--cell names it)"]
    if not doubts and crystal is not None and "centre" in params.free:
        log.info("too few peaks are explained: looking for another beam centre")
        moved = other_centres(comm, geometries, peaks, Crystal(*crystal))
        found = _try(comm, positions, moved, crystal, params)
        if isinstance(found, Found):
            return found
    if not doubts:
        log.info("too few peaks are explained: looking for another cell")
        doubts = _other_cell(comm, seen, params)
    told = ", ".join(
        f"{part:.0%} at {position.name}" for part, position in zip(parts, positions, strict=True)
    )
    raise CollectiveError(
        f"{wrapper}: expected an orientation that explains at least {params.min_indexed:.0%} of "
        f"the strong peaks of each position (--min-indexed)"
        f"{' with the known cell' if crystal is not None else ''}, found {told}; nothing was "
        f"written"
        f"{''.join(f'; {doubt}' for doubt in doubts)}"
    )


def _try(
    comm: MPI.Intracomm, positions: list[Peaked], geometries: tuple[Geometry, ...],
    crystal: tuple[Lattice, str] | None, params: OrientParams,
) -> Found | list[float]:  # fmt: skip
    """Return what was found, or the parts of the strong peaks where they are too small."""
    seen = seen_with(geometries, positions)
    lines: list[str] = []
    if crystal is None:
        reduced = find_cell(comm, seen)
        if reduced is None:
            return [0.0] * len(seen)
        parts = explained_parts(seen, reduced.orientations)
        if min(parts) < params.min_indexed:
            return parts
        near = next((each.UB for each in positions if each.UB is not None), None)
        choose = partial(_choose, seen, geometries, reduced, near, params)
        lattice, symbol, found, lines = on_root(comm, choose)
    else:
        lattice, symbol = crystal
        found = orient(comm, seen, lattice, symbol, tuple(each.UB for each in positions))
        parts = explained_parts(seen, found)
        if None in found.positions or min(parts) < params.min_indexed / 2:
            return parts
    names = tuple(position.name for position in positions)
    fit = on_root(
        comm, lambda: refine_orientations(seen, geometries, lattice, symbol, found, params.free)
    )
    parts = [
        float((explained & each.strong).sum() / max(each.strong.sum(), 1))
        for explained, each in zip(fit.explained, seen, strict=True)
    ]
    if min(parts) < params.min_indexed:
        return parts
    n_fitted = sum(int(each.sum()) for each in fit.fitted)
    if n_fitted < FEWEST:
        log.info("%d peaks that are explained are too few", n_fitted)
        return [0.0] * len(seen)
    for name, used in zip(names, fit.refined.used, strict=True):
        if used.mean() < 1 - OUTLIERS:
            log.info("%s: most of the peaks that are explained are outliers", name)
            return [0.0] * len(seen)
    if crystal is not None and not is_near(fit.refined.lattice, lattice):
        log.info("what explains the peaks is another cell than the known one")
        return [0.0] * len(seen)
    if len(names) > 1:
        how = (
            "one orientation, with the angles of the file"
            if found.together
            else ("an orientation of each: none explains all with the angles of the file")
        )
        lines = [*lines, f"{', '.join(names)}: {how}"]
    for before, each, name in zip(positions, geometries, names, strict=True):
        if each.detector != before.geometry.detector:
            dx, dy = np.subtract(each.detector.beam_center, before.geometry.detector.beam_center)
            lines = [*lines, f"{name}: begun with the beam centre moved by {dx:g}, {dy:g} pixels"]
    lines = [*lines, "", *describe(Positions(names, seen, tuple(parts)), fit)]
    return Found(
        space_group=symbol, is_new_cell=crystal is None or params.cell is not None, seen=seen,
        fit=fit, parts=tuple(parts), lines=tuple(lines),
    )  # fmt: skip


def _choose(
    seen: tuple[Seen, ...], geometries: tuple[Geometry, ...], reduced: Reduced,
    near: F8 | None, params: OrientParams,
) -> tuple[Lattice, str, Orientations, list[str]]:  # fmt: skip
    """Return the conventional cell of a lattice that was found. Not collective.

    Raises
    ------
    InputError
        If the lattice that was asked for is none of those that fit.
    """
    groups = tuple(name for name in params.free if name in ("cell", "orientation", "centre"))
    found = reduced.orientations
    fit = refine_orientations(seen, geometries, reduced.lattice, PRIMITIVE, found, groups)
    refined = found._replace(
        positions=tuple(
            one and one._replace(UB=np.array(geometry.UB), hkl=hkl, explained=explained)
            for one, geometry, hkl, explained in zip(
                found.positions, fit.refined.geometries, fit.hkl, fit.explained, strict=True
            )
        )
    )
    cells = conventional_cells(np.array(fit.refined.geometries[0].UB), 4 * params.tolerance)
    sizes = _median_sizes(fit)

    def is_as_good(each: Conventional) -> bool:
        lattice, turned = conventional(refined, each, near)
        own = refine_orientations(seen, geometries, lattice, each.space_group, turned, groups)
        return bool((_median_sizes(own) <= AS_GOOD * sizes).all())

    chosen = _chosen(cells, params, is_as_good)
    lines = describe_lattices(cells, chosen)
    lattice, turned = conventional(refined, chosen, near)
    return lattice, chosen.space_group, turned, lines


def _median_sizes(fit: Fit) -> F8:
    """Return the medians of the sizes of residuals of x, y and phi, (3,) float64."""
    return np.asarray(np.nanmedian(np.abs(np.concatenate(fit.residuals)), axis=0))


def _chosen(
    cells: list[Conventional], params: OrientParams, is_as_good: Callable[[Conventional], bool]
) -> Conventional:  # fmt: skip
    """Return the lattice that is asked for, or that of the highest symmetry that fits.

    Not its misfit alone decides, but whether peaks fit as well with its symmetry as without any.
    """
    if params.bravais is None:
        close = (each for each in cells if each.misfit <= params.tolerance)
        return next(each for each in close if each.bravais == "aP" or is_as_good(each))
    fitting = [each for each in cells if each.bravais == params.bravais]
    if not fitting:
        there = ", ".join(dict.fromkeys(each.bravais for each in cells))
        raise InputError(f"lattice: expected one of {there}, found {params.bravais}")
    return min(fitting, key=lambda each: each.misfit)


def _parts_of(
    comm: MPI.Intracomm, crystal: tuple[Lattice, str] | None, seen: tuple[Seen, ...]
) -> list[float]:  # fmt: skip
    """Return the parts of the strong peaks that can be explained. Collective on ``comm``."""
    if crystal is not None:
        return explained_parts(seen, orient(comm, seen, *crystal, (None,) * len(seen)))
    reduced = find_cell(comm, seen)
    return [0.0] * len(seen) if reduced is None else explained_parts(seen, reduced.orientations)


def _other_cell(comm: MPI.Intracomm, seen: tuple[Seen, ...], params: OrientParams) -> list[str]:
    """Return what to do about a cell that is wrong. Collective on ``comm``."""
    reduced = find_cell(comm, seen)
    if reduced is None:
        return []
    part = min(explained_parts(seen, reduced.orientations))
    if part < params.min_indexed:
        return []
    cell = ", ".join(f"{getattr(reduced.lattice, n):.3f}" for n in reduced.lattice.__slots__)
    return [f"with a (reduced) cell of {cell} {part:.0%} of them would be (--find-cell)"]


def seen_with(geometries: tuple[Geometry, ...], positions: list[Peaked]) -> tuple[Seen, ...]:
    """Return what orientations are found from, of each position with a geometry. Not collective."""
    return tuple(seen_at(g, each.peaks) for g, each in zip(geometries, positions, strict=True))
