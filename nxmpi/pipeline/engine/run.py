"""A program is run on what was prepared for it."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING

from nxmpi.cctw.dialect import transform_command
from nxmpi.cctw.scratch import SCRIPT, places_of, unneeded_chunks, write_mask3d
from nxmpi.cctw.watch import Limits, run_watched
from nxmpi.nexus import schema
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.progress import progress
from nxmpi.pipeline.engine.task import named

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi.cctw.scratch import Given
    from nxmpi.pipeline.engine.task import Job, Task

log = logging.getLogger(__name__)


def run_program(group: MPI.Intracomm, task: Task, twin: schema.Twin) -> list[str] | None:
    """Run the program, and return its command and what it printed; None after a wish to stop.

    Collective on ``group``: the root runs it, the others wait.

    Raises
    ------
    CollectiveError
        On every rank, if it fails.
    """
    job, name = task.job, task.plan.name
    lines: list[str] = []
    with all_or_none(group, job.is_stopped):
        if task.given is not None:  # on the root
            mask = task.plan.mask if twin == schema.MASKED else None
            masked = write_mask3d(task.folder, task.given, mask, job.is_stopped)
            if not job.is_stopped():
                places = places_of(task.given, masked=masked)
                command = transform_command(job.program, SCRIPT, places, job.processors.share)
                log.info("%s: %s", name, shlex.join(command))
                with (
                    named(task.plan.files.wrapper, name, twin),
                    progress(group, f"cctw {name}", 100, "percent") as bar,
                ):
                    ran = run_watched(
                        command, task.folder, _limits(job, task.given), job.processors.numbers, bar,
                        job.is_stopped,
                    )  # fmt: skip
                lines = [] if ran.stopped else [shlex.join(command), *ran.printed.lines]
    told: list[str] = group.bcast(lines)
    return told or None


def _limits(job: Job, given: Given) -> Limits:
    return Limits(
        time=job.params.program_time,
        silence=job.params.program_silence,
        unneeded=unneeded_chunks(given),
    )
