"""What of a scan is complete, out of date, or left to do: read from its files, nothing changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from nxmpi.errors import AnotherProgramError, InputError
from nxmpi.nexus import schema
from nxmpi.nexus.values import chosen_entries, open_file
from nxmpi.params import OutputParams
from nxmpi.pipeline.due import reasons_of
from nxmpi.pipeline.inputs import NOT_DONE
from nxmpi.pipeline.peaked import is_another_programs
from nxmpi.pipeline.reduce import BY_POSITION, STEPS, steps_to_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nxmpi.pipeline.reduce import Choices

State = Literal["done", "partly done", "out of date", "to do", "cannot be done"]
BY_ANOTHER = "by another program"
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

    What that would find complete is done. No lock is taken, and no file is changed. Steps behind
    one that is to be done are looked at too, and what cannot be done is told, unlike in
    `nxmpi.pipeline.due.steps_due`, which says what to run and fails where that would.

    Raises
    ------
    InputError
        If the scan file cannot be read.
    """
    files = schema.ScanFiles(wrapper)
    with open_file(wrapper) as file:
        names = chosen_entries(file, choices.scan.entries)
        is_kept = all(is_another_programs(file[name]) for name in names)
    readers = reasons_of(files, choices, KEEP, unasked=True)
    states: list[StepState] = []
    for step in steps_to_run(STEPS, choices.scan):
        before = next((each for each in states if each.state != "done"), None)
        if step == "orient" and is_kept:  # whatever peaks there are going to be
            before = None
        n_parts = len(names) if step in BY_POSITION else 0
        states.append(_state(step, readers[step], before, n_parts))
    return states


def _state(
    step: str, read: Callable[[], dict[str, str]], before: StepState | None, n_parts: int
) -> StepState:  # fmt: skip
    """Return how far a step is.

    Parameters
    ----------
    read : callable
        Returns why something is to be done, by what it is; complete things are not in it.
    before : StepState or None
        The first before it that is not done, if there is one.
    n_parts : int
        Things that the step makes, 0 where that depends.
    """
    try:
        due = read()
    except AnotherProgramError:
        return StepState(step=step, state="done", reason=BY_ANOTHER)
    except InputError as error:
        state: State = "cannot be done"
        if before and before.state != state:
            state = "to do"
        reason = f"{error}"
        if before and before.reason != reason:
            reason = f"after {before.step}"
        return StepState(step=step, state=state, reason=reason)
    reasons = set(due.values())
    if not due:
        if before:
            return StepState(step=step, state="out of date", reason=f"after {before.step}")
        return StepState(step=step, state="done")
    told = "; ".join(f"{name}: {reason}" for name, reason in due.items())
    if any(NOT_DONE not in reason for reason in reasons):
        state = "out of date"
    else:
        state = "partly done" if len(due) < n_parts else "to do"
        told = ", ".join(due) if state == "partly done" else NOT_DONE
    return StepState(step=step, state=state, reason=told, due=tuple(due))
