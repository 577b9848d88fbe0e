"""The transform of one position by CCTW: prepared, run, checked, and written as natively."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from nxmpi.cctw.scratch import SCRIPT
from nxmpi.log import now
from nxmpi.parallel.collective import kept_on_root, on_root
from nxmpi.parallel.publish import temporary, unpublished_removed
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.engine.look import look
from nxmpi.pipeline.engine.result import check_result, write_result
from nxmpi.pipeline.engine.run import run_program
from nxmpi.pipeline.engine.task import (
    BYTES,
    Task,
    given_of,
    prepare,
    program_folder,
    require_memory,
)
from nxmpi.pipeline.transform import STEP, targets_of, volume_file, write_records
from nxmpi.pipeline.wrapper import publish_results

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.pipeline.engine.task import Job
    from nxmpi.pipeline.scan import Measured
    from nxmpi.pipeline.transform import Plan

log = logging.getLogger(__name__)


def transform_by_program(
    group: MPI.Intracomm, job: Job, plan: Plan, measured: Measured | None
) -> list[Path] | None:
    """Transform a position.

    Collective on ``group``, which holds the lock of the step: all ranks go through the frames to
    know what the sums must come to, the root runs the program, all check and write what it made.

    Parameters
    ----------
    measured : Measured or None
        The root's alone.

    Returns
    -------
    list of Path or None
        What was written; None if there is a wish to stop, and nothing was.

    Raises
    ------
    CollectiveError
        On every rank, if a frame cannot be read, the program fails, or its volume is not what
        it must be.
    """
    timer, start_time = Timer(), now()
    targets = targets_of(plan)
    with timer.part("look"):
        expected, unit = look(group, job, plan, measured)
    if expected is None:
        return None
    told: list[str] = []
    name, needed = f"{plan.name}_{STEP}", BYTES * math.prod(plan.grid.shape)
    with (
        program_folder(group, plan.files, job.output, name, needed) as folder,
        unpublished_removed(group, targets.values()),
    ):
        task = Task(
            job=job,
            plan=plan,
            measured=measured,
            folder=folder,
            expected=expected,
            unit=unit,
            given=kept_on_root(group, lambda: given_of(plan, measured, expected)),
        )
        on_root(group, lambda: require_memory(task))
        on_root(group, lambda: prepare(task))
        for twin, target in targets.items():
            with timer.part("program"):
                lines = run_program(group, task, twin)
            if lines is None:
                return None
            told += lines
            with timer.part("check"):
                pillars = check_result(group, task, twin)
            with timer.part("write"):
                write_result(group, task, volume_file(plan, twin, temporary(target), unit), pillars)
        line = f"{plan.name}: {job.program.version}, {timer.summary(group)}"

        def publish_all() -> None:
            text = "\n".join([line, *told, (folder / SCRIPT).read_text()])
            publish_results(
                plan.files.wrapper,
                targets.values(),
                lambda file: write_records(
                    file[plan.name], plan, start_time, text, expected.bad_frames
                ),
            )

        on_root(group, publish_all)
    log.info("transform of %s", line)
    return list(targets.values())
