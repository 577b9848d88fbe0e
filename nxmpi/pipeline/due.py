"""Which steps of a scan are to be done, and at which positions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nxmpi.nexus import schema
from nxmpi.nexus.parameters import parent_file
from nxmpi.nexus.values import chosen_entries, open_file
from nxmpi.pipeline.combined import plans_due as combine_due
from nxmpi.pipeline.orient import orientation_due
from nxmpi.pipeline.pdf import plans_due as pdf_due
from nxmpi.pipeline.peaked import is_another_programs
from nxmpi.pipeline.reduce import STEPS, look_ahead, steps_to_run
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.searched import read_searched
from nxmpi.pipeline.symmetrize import plans_due as symmetrize_due
from nxmpi.pipeline.tasks import tasks_due
from nxmpi.pipeline.transform import plan_position

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nxmpi.pipeline.reduce import Choices


def steps_due(
    wrapper: Path, choices: Choices, steps: tuple[str, ...] = STEPS, *, redo: bool = False
) -> dict[str, tuple[str, ...]]:
    """Return which steps `nxmpi.pipeline.reduce.run_reduce` would do, in order.

    Not collective. All that comes after a step that is to be done is to be done too.

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
    if redo:
        choices = replace(choices, output=replace(choices.output, overwrite=True))
    with open_file(wrapper) as file:
        names = chosen_entries(file, choices.scan.entries)
        foreign = [name for name in names if is_another_programs(file[name])]
    named = redo and steps[0] == "orient"
    to_orient = tuple(name for name in names if named or name not in foreign)
    due: dict[str, tuple[str, ...]] = {}
    for step in steps_to_run(steps, choices.scan):
        if not due:
            positions = _positions_due(wrapper, choices, step, unasked=not named)
            if positions and step == "frames" and "transform" in steps:
                look_ahead(wrapper, choices, steps)
        else:
            positions = tuple(names)
        if step == "orient" and positions:
            positions = to_orient
        if positions:
            due[step] = positions
    return due


def _positions_due(wrapper: Path, choices: Choices, step: str, *, unasked: bool) -> tuple[str, ...]:
    """Return where a step is to be done, given that all before it are complete."""
    files, output = schema.ScanFiles(wrapper), choices.output
    if step == "frames":
        searched = read_searched(wrapper, choices.scan, choices.norm, choices.frames)
        return tuple(
            position.name
            for position in searched
            if tasks_due(files, position, choices.frames, overwrite=output.overwrite)
        )
    if step == "orient":
        entries = choices.scan.entries
        plan, _ = orientation_due(files, entries, choices.orient, output, unasked=unasked)
        return tuple(each.name for each in plan.positions) if plan else ()
    if step == "transform":
        scan = read_scan(wrapper, choices.scan, choices.norm)
        plans = [plan_position(scan, m, choices.transform, output) for m in scan.measured]
        return tuple(plan.name for plan in plans if plan.twins)
    volumes: Sequence[object]
    if step == "combine":
        volumes = combine_due(files, choices.combine, output)
    elif step == "symmetrize":
        volumes = symmetrize_due(files, choices.symmetrize, output)
    else:
        volumes = pdf_due(files, choices.pdf, output)
    with open_file(wrapper) as file:
        names = chosen_entries(file, choices.scan.entries)
    return tuple(names) if volumes else ()


def parent_of(wrapper: Path) -> Path | None:
    """Return the file that a scan takes settings and grid from, if there is one. Not collective."""
    with open_file(wrapper) as file:
        return parent_file(file, schema.ScanFiles(wrapper).default_parent)
