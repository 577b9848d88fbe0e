"""Orientations of all positions from their peaks."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nxmpi.errors import InputError
from nxmpi.log import now
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import has_orientation
from nxmpi.nexus.values import chosen_entries, entry_names, open_file
from nxmpi.parallel.collective import on_root
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.pipeline.crystal_search import find_crystal, seen_with
from nxmpi.pipeline.inputs import OVERWRITE
from nxmpi.pipeline.oriented import publish_orientations
from nxmpi.pipeline.peaked import (
    Peaked,
    crystal_of,
    is_another_programs,
    read_peaked,
    reason_to_orient,
)
from nxmpi.pipeline.wrapper import require_writable
from nxmpi.stages.grains import find_grains

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.model import Geometry
    from nxmpi.params import OrientParams, OutputParams
    from nxmpi.stages.refine import Fit

log = logging.getLogger(__name__)
STEP = "orient"


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """Positions to be oriented, and how."""

    positions: list[Peaked]
    params: OrientParams
    """With the cell held where it has to be."""


def run_orient(
    comm: MPI.Intracomm, wrapper: Path, params: OrientParams, output: OutputParams,
    *, entries: tuple[str, ...] = (), unasked: bool = False,
) -> list[str]:  # fmt: skip
    """Find and refine the orientation of the crystal at all positions of a scan.

    Collective on ``comm``: pairs of peaks are dealt out; the root refines and writes.

    Parameters
    ----------
    entries : tuple of str, optional
        Positions; all by default.
    unasked : bool, optional
        Keep orientations that this program did not make.

    Returns
    -------
    list of str
        A report, empty if all was complete.

    Raises
    ------
    CollectiveError
        On every rank, if the input is unusable, or too few of the strong peaks are explained;
        the file is not touched then.
    """
    files, start_time = schema.ScanFiles(wrapper), now()

    def due() -> tuple[Plan | None, str]:
        plan, why = orientation_due(files, entries, params, output, unasked=unasked)
        if plan is not None:
            require_writable(files)
        return plan, why

    plan, why = on_root(comm, due)
    if plan is None:  # known without the lock: others may be at work on other positions
        log.info("%s: %s", STEP, why)
        return []
    with step_lock(comm, wrapper, schema.SHARED, STEP):
        plan, why = on_root(comm, due)
        log.info("%s: %s", STEP, why)
        if plan is None:
            return []
        stop_if_wished(comm)
        positions = plan.positions
        if plan.params != params:
            log.info("the cell is held, as other positions have orientations with it")
        crystal = on_root(comm, lambda: crystal_of(positions[0], params))
        found = find_crystal(comm, wrapper, positions, crystal, plan.params)
        geometries, lattice = _geometries(found.fit), found.fit.refined.lattice
        grains, told = find_grains(
            comm, seen_with(geometries, positions), found.fit.explained,
            (lattice, found.space_group), geometries, params.grains,
        )  # fmt: skip
        lines = [*found.lines, *told]
        record = (start_time, "\n".join(lines))
        on_root(
            comm,
            lambda: publish_orientations(files, positions, found, grains, params, record),
        )
    return lines


def orientation_due(
    files: schema.ScanFiles, entries: tuple[str, ...], params: OrientParams,
    output: OutputParams, *, unasked: bool,
) -> tuple[Plan | None, str]:  # fmt: skip
    """Return what is to be done, None if nothing is, and why.

    Not collective. Nothing is changed. Parameters are those of `run_orient`.
    """
    with open_file(files.wrapper) as wrapper:
        names = chosen_entries(wrapper, entries)
        if unasked:
            names = [name for name in names if not is_another_programs(wrapper[name])]
        if not names:
            return None, "orientations in the file are kept (nxmpi orient makes new ones)"
        others = [name for name in entry_names(wrapper) if name not in names]
        needs_cell = params.cell is None and not params.find_cell and params.bravais is None
        fitted = params
        if any(has_orientation(wrapper[name]) for name in others):
            if not needs_cell:
                raise InputError(
                    f"{files.wrapper}: expected all positions with another cell, found "
                    f"orientations with the present one at {', '.join(others)} (leave out --entry)"
                )
            fitted = replace(params, free=tuple(g for g in params.free if g != "cell"))
        positions = read_peaked(wrapper, names, needs_cell=needs_cell)
        reasons = dict.fromkeys(names, OVERWRITE)
        if not output.overwrite:
            reasons = {
                each.name: reason_to_orient(wrapper[each.name], each, params, unasked=unasked)
                for each in positions
            }
    due = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    if not due:
        return None, "complete"
    return Plan(positions=positions, params=fitted), ", ".join(due)


def _geometries(fit: Fit) -> tuple[Geometry, ...]:
    """Return the refined geometries, with the angles of phi as they turned out to be."""
    result = []
    for geometry, phi0 in zip(fit.refined.geometries, fit.refined.phi0, strict=True):
        phi = tuple(float(angle + phi0) for angle in geometry.goniometer.phi)
        result.append(replace(geometry, goniometer=replace(geometry.goniometer, phi=phi)))
    return tuple(result)
