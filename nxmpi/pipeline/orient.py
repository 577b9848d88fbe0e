"""Orientations of all positions from their peaks."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from nxmpi.nexus import schema
from nxmpi.nexus.values import entry_names, open_file
from nxmpi.parallel.collective import on_root
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.pipeline.crystal_search import find_crystal, seen_with
from nxmpi.pipeline.oriented import publish_orientations
from nxmpi.pipeline.peaked import Peaked, crystal_of, read_peaked, reason_to_orient
from nxmpi.pipeline.wrapper import now, require_writable
from nxmpi.stages.grains import find_grains

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.model import Geometry
    from nxmpi.params import OrientParams, OutputParams
    from nxmpi.stages.refine import Fit

log = logging.getLogger(__name__)
STEP = "orient"


def run_orient(
    comm: MPI.Intracomm, wrapper: Path, params: OrientParams, output: OutputParams,
    *, unasked: bool = False,
) -> list[str]:  # fmt: skip
    """Find and refine the orientation of the crystal at all positions of a scan.

    Collective on ``comm``: pairs of peaks are dealt out; the root refines and writes.

    Parameters
    ----------
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
    with step_lock(comm, wrapper, schema.SHARED, STEP):
        files, start_time = schema.ScanFiles(wrapper), now()
        positions = on_root(comm, lambda: _due(files, params, output, unasked=unasked))
        if not positions:
            return []
        stop_if_wished(comm)
        crystal = on_root(comm, lambda: crystal_of(positions[0], params))
        found = find_crystal(comm, wrapper, positions, crystal, params)
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


def _due(
    files: schema.ScanFiles, params: OrientParams, output: OutputParams, *, unasked: bool
) -> list[Peaked]:  # fmt: skip
    """Return the positions if any is to be oriented, else none. Not collective."""
    with open_file(files.wrapper) as wrapper:
        names = entry_names(wrapper)
        positions = read_peaked(wrapper, names)
        reasons = dict.fromkeys(names, "--overwrite")
        if not output.overwrite:
            reasons = {
                each.name: reason_to_orient(wrapper[each.name], each, params, unasked=unasked)
                for each in positions
            }
    due = [f"{name} ({reason})" for name, reason in reasons.items() if reason]
    log.info("%s: %s", STEP, ", ".join(due) or "complete")
    if due:
        require_writable(files)
    return positions if due else []


def _geometries(fit: Fit) -> tuple[Geometry, ...]:
    """Return the refined geometries, with the angles of phi as they turned out to be."""
    result = []
    for geometry, phi0 in zip(fit.refined.geometries, fit.refined.phi0, strict=True):
        phi = tuple(float(angle + phi0) for angle in geometry.goniometer.phi)
        result.append(replace(geometry, goniometer=replace(geometry.goniometer, phi=phi)))
    return tuple(result)
