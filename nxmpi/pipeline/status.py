"""What of a scan is complete, out of date, or left to do: read from its files, nothing changed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.values import chosen_entries, open_file
from nxmpi.params import OutputParams
from nxmpi.pipeline.combined import volumes_due
from nxmpi.pipeline.orient import orientation_due
from nxmpi.pipeline.pdf import pdfs_due
from nxmpi.pipeline.peaked import is_another_programs
from nxmpi.pipeline.reduce import STEPS, steps_to_run
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.searched import read_searched
from nxmpi.pipeline.symmetrize import averages_due
from nxmpi.pipeline.tasks import task_reasons
from nxmpi.pipeline.transform import position_due

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nxmpi.pipeline.reduce import Choices

State = Literal["done", "partly done", "out of date", "to do", "cannot be done"]
NOT_DONE = "not done yet"
BY_ANOTHER = "by another program"
_ANOTHER = re.compile(r"was done by another program")
KEEP = OutputParams()


@dataclass(frozen=True, kw_only=True)
class StepState:
    """How far a step of a scan is."""

    step: str
    state: State
    reason: str = ""
    """Why it is not done; of what is done, who did it if not this program."""
    due: tuple[str, ...] = ()
    """Positions, or volumes, that are left to do."""


def scan_states(wrapper: Path, choices: Choices) -> list[StepState]:
    """Return how far each step is that ``nxmpi reduce`` would run. Not collective.

    What that would find complete is done. No lock is taken, and no file is changed.

    Raises
    ------
    InputError
        If the scan file cannot be read.
    """
    files = schema.ScanFiles(wrapper)
    with open_file(wrapper) as file:
        names = chosen_entries(file, choices.scan.entries)
        is_kept = all(is_another_programs(file[name]) for name in names)
    readers: dict[str, Callable[[], dict[str, str]]] = {
        "frames": lambda: _frames(files, choices),
        "orient": lambda: _orient(files, choices),
        "transform": lambda: _transform(files, choices),
        "combine": lambda: {
            p.twin.combine_task: p.reason for p in volumes_due(files, choices.combine, KEEP)
        },
        "symmetrize": lambda: {
            p.twin.symmetrize_task: p.reason
            for p in averages_due(files, choices.symmetrize, KEEP)
        },
        "pdf": lambda: {p.twin.pdf_task: p.reason for p in pdfs_due(files, choices.pdf, KEEP)},
    }  # fmt: skip
    states: list[StepState] = []
    for step in steps_to_run(STEPS, choices.scan):
        before = next((each.step for each in states if each.state != "done"), "")
        if step == "orient" and is_kept:  # whatever peaks there are going to be
            before = ""
        n_parts = len(names) if step in ("frames", "transform") else 0
        states.append(_state(step, readers[step], before, n_parts))
    return states


def _state(
    step: str, read: Callable[[], dict[str, str]], before: str, n_parts: int
) -> StepState:  # fmt: skip
    """Return how far a step is.

    Parameters
    ----------
    read : callable
        Returns why something is to be done, by what it is; complete things are not in it.
    before : str
        A step before it that is not done; empty if there is none.
    n_parts : int
        Things that the step makes, 0 where that depends.
    """
    try:
        due = read()
    except InputError as error:
        if _ANOTHER.search(f"{error}"):
            return StepState(step=step, state="done", reason=BY_ANOTHER)
        state: State = "to do" if before else "cannot be done"
        return StepState(step=step, state=state, reason=f"after {before}" if before else f"{error}")
    reasons = set(due.values())
    if not due:
        if before:
            return StepState(step=step, state="out of date", reason=f"after {before}")
        return StepState(step=step, state="done")
    told = "; ".join(f"{name}: {reason}" for name, reason in due.items())
    if any(NOT_DONE not in reason for reason in reasons):
        state = "out of date"
    else:
        state = "partly done" if len(due) < n_parts else "to do"
        told = ", ".join(due) if state == "partly done" else NOT_DONE
    return StepState(step=step, state=state, reason=told, due=tuple(due))


def _frames(files: schema.ScanFiles, choices: Choices) -> dict[str, str]:
    positions = read_searched(files.wrapper, choices.scan, choices.norm, choices.frames)
    found = {each.name: task_reasons(files, each, choices.frames) for each in positions}
    return {
        name: ", ".join(dict.fromkeys(each for each in reasons.values() if each))
        for name, reasons in found.items()
        if any(reasons.values())
    }


def _orient(files: schema.ScanFiles, choices: Choices) -> dict[str, str]:
    entries = choices.scan.entries
    plan, why = orientation_due(files, entries, choices.orient, KEEP, unasked=True)
    return {} if plan is None else {"orientation": why}


def _transform(files: schema.ScanFiles, choices: Choices) -> dict[str, str]:
    scan = read_scan(files.wrapper, choices.scan, choices.norm)
    due = [position_due(scan, each, choices.transform, KEEP) for each in scan.measured]
    return {plan.name: plan.reason for plan in due if plan.twins}
