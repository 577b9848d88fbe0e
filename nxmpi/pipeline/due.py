"""Which steps of a scan are to be done, and at which positions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nxmpi.nexus import schema
from nxmpi.nexus.parameters import parent_file
from nxmpi.nexus.values import chosen_entries, open_file
from nxmpi.pipeline.combined import volumes_due
from nxmpi.pipeline.inputs import OVERWRITE
from nxmpi.pipeline.orient import orientation_due
from nxmpi.pipeline.pdf import pdfs_due
from nxmpi.pipeline.peaked import is_another_programs
from nxmpi.pipeline.reduce import BY_POSITION, STEPS, look_ahead, steps_to_run
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.searched import read_searched
from nxmpi.pipeline.symmetrize_plan import averages_due
from nxmpi.pipeline.tasks import task_reasons
from nxmpi.pipeline.transform import position_due
from nxmpi.pipeline.wrapper import require_writable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nxmpi.params import OutputParams
    from nxmpi.pipeline.reduce import Choices

    Reasons = dict[str, str]
    """Why something is to be done, by position or task; what is complete is not in it."""


def steps_due(
    wrapper: Path, choices: Choices, steps: tuple[str, ...] = STEPS, *, redo: bool = False
) -> dict[str, tuple[str, ...]]:
    """Return which steps `nxmpi.pipeline.reduce.run_reduce` would do, in order.

    Not collective. All that comes after a step that is to be done is to be done too, at all
    positions, so that nothing is looked at behind that one; what cannot be done is an error, as it
    would be there. `nxmpi.pipeline.status.scan_states` looks at all steps, by the same reasons.

    Parameters
    ----------
    steps : tuple of str
        Of `nxmpi.pipeline.reduce.STEPS`, in their order.
    redo : bool, optional
        Whether they are to be done even where they are complete.

    Returns
    -------
    dict of str to tuple of str
        The positions of each step, all of them for those that do not go by positions.

    Raises
    ------
    InputError
        If something that is needed is missing or makes no sense, or results cannot be written.
    """
    files, output = schema.ScanFiles(wrapper), choices.output
    if redo:
        output = replace(output, overwrite=True)
    with open_file(wrapper) as file:
        names = tuple(chosen_entries(file, choices.scan.entries))
        foreign = [name for name in names if is_another_programs(file[name])]
    named = redo and steps[0] == "orient"
    readers = reasons_of(files, choices, output, unasked=not named)
    due: dict[str, tuple[str, ...]] = {}
    for step in steps_to_run(steps, choices.scan):
        positions = names
        if not due:
            reasons = readers[step]()
            if step in BY_POSITION or not reasons:
                positions = tuple(reasons)
            if positions and step == "frames" and "transform" in steps:
                look_ahead(wrapper, choices, steps)
        if step == "orient" and not named:
            positions = tuple(name for name in positions if name not in foreign)
        if positions:
            due[step] = positions
    if due:
        require_writable(files)
    return due


def reasons_of(
    files: schema.ScanFiles, choices: Choices, output: OutputParams, *, unasked: bool
) -> dict[str, Callable[[], Reasons]]:
    """Return for each step a function that says what of it is to be done, and why.

    Not collective, as are these functions. Nothing is changed. They raise InputError if something
    that is needed is missing or makes no sense, or another program made what is there.

    Parameters
    ----------
    unasked : bool
        Keep orientations that this program did not make.
    """
    scan = choices.scan

    def frames() -> Reasons:
        positions = read_searched(files.wrapper, scan, choices.norm, choices.frames)
        if output.overwrite:
            return dict.fromkeys((each.name for each in positions), OVERWRITE)
        found = {each.name: task_reasons(files, each, choices.frames) for each in positions}
        return {
            name: ", ".join(dict.fromkeys(each for each in reasons.values() if each))
            for name, reasons in found.items()
            if any(reasons.values())
        }

    def orient() -> Reasons:
        plan, why = orientation_due(files, scan.entries, choices.orient, output, unasked=unasked)
        return {} if plan is None else {"orientation": why}

    def transform() -> Reasons:
        found = read_scan(files.wrapper, scan, choices.norm)
        due = [position_due(found, each, choices.transform, output) for each in found.measured]
        return {plan.name: plan.reason for plan in due if plan.twins}

    def combine() -> Reasons:
        due = volumes_due(files, choices.combine, output)
        return {plan.twin.combine_task: plan.reason for plan in due}

    def symmetrize() -> Reasons:
        due = averages_due(files, choices.symmetrize, output)
        return {plan.twin.symmetrize_task: plan.reason for plan in due}

    def pdf() -> Reasons:
        due = pdfs_due(files, choices.pdf, output)
        return {plan.twin.pdf_task: plan.reason for plan in due}

    return dict(zip(STEPS, (frames, orient, transform, combine, symmetrize, pdf), strict=True))


def parent_of(wrapper: Path) -> Path | None:
    """Return the file that a scan takes settings and grid from, if there is one. Not collective."""
    with open_file(wrapper) as file:
        return parent_file(file, schema.ScanFiles(wrapper).default_parent)
