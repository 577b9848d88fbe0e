"""What Slurm knows of jobs: where they run, why they wait, how they ended."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

FORMAT = "%i|%T|%N|%M|%r|%k"
"""Of squeue, in all versions: job, state, nodes, time so far, reason, comment."""
LEFT = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "SUSPENDED", "RESIZING")
"""States of a job that has not ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """A job, or a task of an array, as Slurm tells of it now."""

    state: str
    """As Slurm names it: PENDING, RUNNING, FAILED, …"""
    nodes: str = ""
    """Where it runs or ran; empty before."""
    elapsed: str = ""
    """Time so far, as Slurm writes it."""
    reason: str = ""
    """Why it waits, or how it ended; empty if there is nothing to tell."""


def waiting_and_running() -> dict[str, Seen]:
    """Return the jobs of the user in the queue, by numbers such as 12 or 12_3.

    Empty where Slurm does not answer.
    """
    return parse_squeue(_ask("squeue", "--noheader", "--me", "--array", "-o", FORMAT))


def parse_squeue(text: str) -> dict[str, Seen]:
    """Return the jobs that lines of squeue in `FORMAT` tell of.

    One that goes on in place of another, as its comment says, stands under the number of that one.
    """
    found = {}
    for line in text.splitlines():
        if line.count("|") < FORMAT.count("|"):
            continue
        job, state, nodes, elapsed, reason, comment = line.strip().split("|", 5)
        number, _, task = job.partition("_")
        first = comment.split()[1] if comment.startswith("nxmpi ") else number
        found[f"{first}_{task}" if task else first] = Seen(
            state=state, nodes=nodes, elapsed=elapsed, reason=_known(reason)
        )
    return found


def ended(job: str) -> Seen | None:
    """Return how a job ended, None if nobody knows any more.

    The controller forgets jobs after some minutes (MinJobAge); sacct knows them where accounting
    is kept.
    """
    found = parse_scontrol(_ask("scontrol", "--oneliner", "show", "job", job))
    if found is None:
        fields = "--format=State,ExitCode,NodeList"
        found = parse_sacct(_ask("sacct", "-n", "-P", "-X", fields, f"--jobs={job}"))
    return found


def parse_scontrol(text: str) -> Seen | None:
    """Return what a line of ``scontrol --oneliner show job`` tells; of several the last."""
    lines = [line for line in text.splitlines() if "JobState=" in line]
    if not lines:
        return None
    pairs = re.findall(r"(?:^|\s)(JobState|Reason|NodeList|RunTime|ExitCode)=(\S*)", lines[-1])
    fields = {name: _known(value) for name, value in pairs}
    state = fields["JobState"]
    return Seen(
        state=state, nodes=fields.get("NodeList", ""), elapsed=fields.get("RunTime", ""),
        reason=_how(state, fields.get("Reason", ""), fields.get("ExitCode", "")),
    )  # fmt: skip


def parse_sacct(text: str) -> Seen | None:
    """Return what sacct tells of a job as ``State|ExitCode|NodeList``."""
    lines = [line for line in text.splitlines() if line.count("|") >= 2]
    if not lines:
        return None
    state, code, nodes = lines[-1].split("|")[:3]
    word = state.split()[0]  # "CANCELLED by 1000"
    return Seen(state=word, nodes=_known(nodes), reason=_how(word, "", code))


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


def _ask(*args: str) -> str:
    """Return what a command of Slurm says; nothing where it is missing, fails or hangs."""
    try:
        result = subprocess.run(args, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout if result.returncode == 0 else ""
