"""What Slurm knows of jobs: which wait or run, of all users, and how others ended."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nxmpi.slurm.command import BatchError, ask

if TYPE_CHECKING:
    from collections.abc import Collection

FORMAT = "%i|%A|%F|%T|%N|%M|%r|%u|%j\x1f%k"
"""Of squeue, in all versions: job, its own number, that of the whole array, state, nodes, time so
far, reason, user, name, comment. Users write anything into the last two, but no unit separator."""
ENDED = "JobArrayID:|,State:|,exit_code:|,Reason:|,NodeList:|"
"""Of squeue: job, state, what wait() gave, reason, nodes."""
LEFT = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "SUSPENDED", "RESIZING")
"""States of a job that has not ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """A job in the queue, or a task of an array."""

    id: str
    """As Slurm shows it: 12, or 12_3 of an array."""
    number: str
    """That nothing else has, as in SLURM_JOB_ID."""
    name: str
    state: str
    """As Slurm names it: PENDING, RUNNING, …"""
    nodes: str = ""
    """Where it runs; empty before."""
    elapsed: str = ""
    """Time so far, as Slurm writes it."""
    reason: str = ""
    """Why it waits; empty if there is nothing to tell."""
    user: str = ""
    stands_for: str = ""
    """The job whose work it goes on with, where jobs are not requeued; itself by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """How a job ended, or what it does now."""

    state: str
    """As Slurm names it: COMPLETED, FAILED, …"""
    nodes: str = ""
    """Where it ran."""
    reason: str = ""
    """Why it waits, or how it ended; empty if there is nothing to tell."""


def queued() -> list[Queued]:
    """Return the jobs of all users that wait or run.

    Raises
    ------
    NoSlurmError
        If there is no Slurm here.
    BatchError
        If it does not answer.
    """
    return parse_squeue(ask("squeue", "--noheader", "--all", "--array", f"--format={FORMAT}"))


def parse_squeue(text: str) -> list[Queued]:
    """Return the jobs that lines of squeue in `FORMAT` tell of."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split("|", FORMAT.count("|"))
        if len(fields) <= FORMAT.count("|"):
            continue  # of a comment that has several
        job, number, whole, state, nodes, elapsed, reason, user, words = fields
        name, _, comment = words.partition("\x1f")
        goes_on = re.fullmatch(r"nxmpi (\d+)", comment)
        task = job.partition("_")[2]
        first = goes_on[1] if goes_on else whole
        found.append(
            Queued(
                id=job, number=number, name=name, state=state, nodes=nodes, elapsed=elapsed,
                reason=_known(reason), user=user, stands_for=f"{first}_{task}" if task else first,
            )
        )  # fmt: skip
    return found


def ended(jobs: Collection[str]) -> dict[str, Seen]:
    """Return how jobs ended, by numbers such as 12 or 12_3, of those that anybody still knows.

    The controller forgets jobs after some minutes (MinJobAge); sacct knows them where accounting
    is kept. Each is asked once about all of them, as far as it answers.
    """
    if not jobs:
        return {}
    numbers = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    every = ("--noheader", "--all", "--array", "--states=all", f"--jobs={numbers}")
    found = parse_ended(_said_if_any("squeue", *every, f"--Format={ENDED}"))
    others = sorted(set(jobs) - set(found))
    if others:
        fields = "--format=JobID,State,ExitCode,NodeList"
        found |= parse_sacct(
            _said_if_any("sacct", "-n", "-P", "-X", fields, f"-j{','.join(others)}")
        )
    return {job: found[job] for job in jobs if job in found}


def parse_ended(text: str) -> dict[str, Seen]:
    """Return what lines of squeue in `ENDED` tell, by job; of several the last."""
    found = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) > ENDED.count(",") and fields[2].isdecimal():
            job, state, status, reason, nodes = fields[:5]
            code = f"{int(status) >> 8}:{int(status) & 127}"
            how = _how(state, _known(reason), code)
            found[job] = Seen(state=state, nodes=_known(nodes), reason=how)
    return found


def parse_sacct(text: str) -> dict[str, Seen]:
    """Return what sacct tells of jobs as ``JobID|State|ExitCode|NodeList``, by job."""
    found = {}
    for line in text.splitlines():
        if line.count("|") >= 3:
            job, state, code, nodes = line.strip().split("|")[:4]
            word = state.split()[0]  # "CANCELLED by 1000"
            found[job] = Seen(state=word, nodes=_known(nodes), reason=_how(word, "", code))
    return found


def _known(text: str) -> str:
    return "" if text in ("(null)", "None", "None assigned") else text


def _how(state: str, reason: str, code: str) -> str:
    """Return how a job ended, in words: its state alone if all is said with it."""
    if state in (*LEFT, "COMPLETED"):
        return reason if state in LEFT else ""
    status, _, number = code.partition(":")
    if number not in ("", "0"):
        return f"{state.lower()}, signal {number}"
    if status not in ("", "0"):
        return f"{state.lower()}, status {status}"
    return f"{state.lower()}{f', {reason}' if reason else ''}"


def _said_if_any(*args: str) -> str:
    try:
        return ask(*args)
    except BatchError:
        return ""
