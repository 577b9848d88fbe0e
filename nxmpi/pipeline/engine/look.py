"""What a program's volume of a position must come to, from a look at all frames."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.cctw.settings import phi_of
from nxmpi.nexus.frames import StackReader
from nxmpi.parallel.collective import all_or_none, kept_on_root
from nxmpi.pipeline.transform import tables_of
from nxmpi.stages.blocks import expect_blocks
from nxmpi.stages.tables import bcast_tables

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi.kernels.tiles import Tables
    from nxmpi.model import Position
    from nxmpi.pipeline.engine.task import Job
    from nxmpi.pipeline.scan import Measured
    from nxmpi.pipeline.transform import Plan
    from nxmpi.stages.blocks import Expected


def look(
    group: MPI.Intracomm, job: Job, plan: Plan, measured: Measured | None
) -> tuple[Expected | None, float]:
    """Go through the frames.

    Collective on ``group``.

    Parameters
    ----------
    measured : Measured or None
        The root's alone.

    Returns
    -------
    expected : Expected or None
        None after a wish to stop.
    unit : float
        Of its norm.

    Raises
    ------
    CollectiveError
        On every rank, if a frame cannot be read.
    """

    def build() -> Tables:
        assert measured is not None  # on the root
        position = _as_the_program_has_it(measured.position)
        return tables_of(plan.grid, replace(measured, position=position), job.params)

    tables = bcast_tables(group, kept_on_root(group, build))
    used = group.bcast(np.flatnonzero(measured.position.weight > 0) if measured else None)
    with all_or_none(group):
        reader = StackReader(plan.raw, plan.mask, skip_bad_frames=job.params.skip_bad_frames)
    batch = job.params.batch_frames
    expected = expect_blocks(group, tables, reader, used, batch, job.is_stopped)
    reader.close()
    return expected, tables.unit


def _as_the_program_has_it(position: Position) -> Position:
    """Return a position with frames at exactly equal steps, which is all that a script can say."""
    goniometer = position.geometry.goniometer
    first, step = phi_of(goniometer)
    phi = tuple(first + step * k for k in range(len(goniometer.phi)))
    return replace(
        position, geometry=replace(position.geometry, goniometer=replace(goniometer, phi=phi))
    )
