"""Batch jobs of scans: submitting a chain, and which of the recorded jobs still wait or run."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING

from nxmpi.errors import InputError, LockedError
from nxmpi.log import now
from nxmpi.nexus import schema
from nxmpi.parallel.locks import PUBLISHING, list_locks, refusal, remove_locks, step_lock
from nxmpi.slurm import sbatch
from nxmpi.slurm.left import ask_slurm
from nxmpi.slurm.queue import queued
from nxmpi.slurm.record import Job, add_jobs, read_record, record_path

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.slurm.chain import Planned
    from nxmpi.slurm.params import SubmitParams
    from nxmpi.slurm.queue import Queued

log = logging.getLogger(__name__)
STEP = "submit"
IN_PASSING = (PUBLISHING, "", f"{schema.SHARED} {STEP}")
"""Locks that are held for a moment only, and waited for."""


def run_submit(
    comm: MPI.Intracomm, chain: Sequence[Planned], params: Sequence[SubmitParams]
) -> list[tuple[Path, Job]]:
    """Submit a chain and record its jobs beside the scans, all of it or nothing.

    Collective on ``comm``, which is of one rank.

    Parameters
    ----------
    params : sequence of SubmitParams
        Of each job of the chain.

    Returns
    -------
    list of (Path, Job)
        Each scan with each of its jobs.

    Raises
    ------
    LockedError
        If jobs for one of the scans wait or run already, or somebody else holds a lock of it.
    BatchError
        If the batch system refuses a job.
    """
    wrappers = sorted({wrapper for planned in chain for wrapper in planned.wrappers})
    made: list[tuple[Path, Job]] = []

    def record(ids: list[int]) -> None:
        submitted = now()
        made.extend(
            pair
            for planned, job in zip(chain, ids, strict=True)
            for pair in _jobs_of(planned, job, submitted)
        )
        for wrapper in wrappers:
            add_jobs(wrapper, [job for scan, job in made if scan == wrapper])

    with ExitStack() as stack:
        for wrapper in wrappers:
            stack.enter_context(step_lock(comm, wrapper, schema.SHARED, STEP))
            for lock in remove_locks(wrapper, ask=ask_slurm())[0]:
                log.warning("%s: left behind by %s; removed", lock.path.name, lock.owner)
        require_idle(wrappers)
        sbatch.submit(chain, params, record)
    return made


def _jobs_of(planned: Planned, job: int, submitted: str) -> list[tuple[Path, Job]]:
    """Return what is recorded of a job, for each of its scans."""

    def recorded(task: int | None, position: str | None) -> Job:
        return Job(
            step=planned.step, job=job, task=task, position=position, name=planned.name,
            log=str(sbatch.log_file(planned.log, job, task)), submitted=submitted,
        )  # fmt: skip

    if planned.positions:
        by_task = zip(planned.tasks, planned.positions, strict=True)
        return [(planned.wrappers[0], recorded(task, position)) for task, position in by_task]
    if planned.tasks:
        each = zip(planned.wrappers, planned.tasks, strict=True)
        return [(wrapper, recorded(task, None)) for wrapper, task in each]
    return [(planned.wrappers[0], recorded(None, None))]


def require_idle(wrappers: Sequence[Path]) -> None:
    """Make sure that nothing works on scans: no recorded job, and no owner of a lock.

    Not collective.

    Raises
    ------
    LockedError
        If a job waits or runs, or a lock is held, or it is not known whether it is; names them.
    BatchError
        If Slurm does not answer.
    """
    queue = queued()
    for wrapper in wrappers:
        found = jobs_in_queue(wrapper, queue)
        if found:
            told = ", ".join(
                f"{job.step} {item.id} ({item.state}, of {item.user})" for job, item in found
            )
            raise LockedError(
                f"{wrapper}: expected no jobs of it in the queue, found {told}; wait for them, or "
                "end them by nxmpi cancel"
            )
        for lock in list_locks(wrapper, ask_slurm()):
            if lock.state == "unknown" or (
                lock.state == "running" and lock.subject not in IN_PASSING
            ):
                raise LockedError(refusal(wrapper, lock))


def jobs_in_queue(wrapper: Path, queue: Sequence[Queued]) -> list[tuple[Job, Queued]]:
    """Return which recorded jobs of a scan wait or run. Not collective."""
    jobs = {(job.id, job.name): job for job in read_record(wrapper)}
    found = [(jobs.get((item.stands_for, item.name)), item) for item in queue]
    return [(job, item) for job, item in found if job is not None]


def run_cancel(wrappers: Sequence[Path]) -> list[tuple[Path, Job, Queued]]:
    """End all jobs of scans that wait or run; return them. Not collective."""
    queue = queued()
    found = [
        (wrapper, job, item) for wrapper in wrappers for job, item in jobs_in_queue(wrapper, queue)
    ]
    sbatch.cancel(item.id for _, _, item in found)
    return found


def logs_of(wrapper: Path, step: str, position: str | None) -> list[Job]:
    """Return the latest jobs of a step. Not collective.

    Raises
    ------
    InputError
        If none was submitted, or none for this position alone.
    """
    jobs = [job for job in read_record(wrapper) if job.step == step]
    if not jobs:
        raise InputError(f"{record_path(wrapper)}: expected jobs of {step}, found none")
    if position is None:
        return jobs
    own = [job for job in jobs if job.position in (position, None)]
    if not own:
        names = ", ".join(job.position or "" for job in jobs)
        raise InputError(f"{record_path(wrapper)}: expected one of {names}, found {position}")
    return own
