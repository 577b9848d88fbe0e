"""What each step of a reduction is going to take, before it is run: nothing is changed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.nexus.geometry import has_cell, has_orientation
from nxmpi.nexus.values import chosen_entries, open_file
from nxmpi.pipeline.plan_volumes import Volumes
from nxmpi.pipeline.reduce import BY_POSITION, steps_to_run
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.searched import read_searched
from nxmpi.pipeline.status import scan_states
from nxmpi.pipeline.step_cost import Layout, Left, StepCost, together
from nxmpi.stages.cost_frames import frames_memory, frames_sent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nxmpi.pipeline.reduce import Choices
    from nxmpi.pipeline.status import StepState

BY_VOLUMES = ("combine", "symmetrize", "pdf")
MASK_PART = 0.01
"""Of a byte: what a compressed 3-D mask takes for a pixel [1]."""


def plan_scan(
    wrapper: Path, choices: Choices, steps: tuple[str, ...], layout: Layout,
    *, exact: bool = False, redo: bool = False,
) -> list[StepCost]:  # fmt: skip
    """Return what the steps that ``nxmpi reduce`` would do take, in their order. Not collective.

    Parameters
    ----------
    steps : tuple of str
        Of `nxmpi.pipeline.reduce.STEPS`.
    exact : bool, optional
        Bin all frames, as each rank would, to count what is sent.
    redo : bool, optional
        Complete ones too.

    Raises
    ------
    InputError
        If the scan cannot be reduced for want of something.
    """
    states = {each.step: each for each in scan_states(wrapper, choices)}
    again = redo or choices.output.overwrite
    due = [
        step for step in steps_to_run(steps, choices.scan) if again or states[step].state != "done"
    ]
    left = dict.fromkeys(due) if again else {step: _left(states, due, step) for step in due}
    found = []
    if "frames" in due:
        found.append(_frames(wrapper, choices, layout, left["frames"]))
    if "orient" in due:
        found.append(StepCost(step="orient", note="few peaks, one rank refines"))
    later = [step for step in due if step not in ("frames", "orient")]
    if not later:
        return found
    with open_file(wrapper) as file:
        names = chosen_entries(file, choices.scan.entries)
        cells = all(has_cell(file[name]) for name in names)
        oriented = all(has_orientation(file[name]) for name in names)
    if not cells and choices.scan.settings is None:
        why = "not known without a cell"
        return [*found, *(StepCost(step=step, is_known=False, note=why) for step in later)]
    volumes = Volumes(
        read_scan(wrapper, choices.scan, choices.norm, guess=True), choices, layout,
        mask_to_come="frames" in due and choices.scan.mask, oriented=oriented,
    )  # fmt: skip
    transformed = volumes.transform(left.get("transform", frozenset()), exact=exact)
    makers = {
        "combine": volumes.combine, "symmetrize": volumes.symmetrize, "pdf": volumes.pdf
    }  # fmt: skip
    made = [makers[step](left[step]) for step in later if step != "transform"]
    return [*found, *([transformed] if "transform" in due else []), *made]


def _left(states: Mapping[str, StepState], due: list[str], step: str) -> Left:
    """Return what of a step is left to do, taking what steps before it do for changes.

    The orientation is one of all positions, and so is what is made of the combined volumes.
    """
    own, before = states[step], due[: due.index(step)]
    alike = BY_POSITION if step in BY_POSITION else BY_VOLUMES
    is_read = own.due or own.state == "out of date"
    if not is_read or not {*before} <= {*alike}:
        return None
    return frozenset(name for each in (*before, step) for name in states[each].due)


def _frames(wrapper: Path, choices: Choices, layout: Layout, left: Left) -> StepCost:
    positions = read_searched(wrapper, choices.scan, choices.norm, choices.frames)
    found = []
    for each in positions:
        if left is not None and each.name not in left:
            continue
        n_frames = each.last_frame - each.first_frame + 1
        n_pixels = math.prod(each.raw.shape[1:])
        itemsize, batch = np.dtype(each.raw.dtype).itemsize, choices.frames.batch_frames
        found.append(
            StepCost(
                step="frames",
                files=each.raw.identity[0],
                masks=int(MASK_PART * n_frames * n_pixels) if choices.scan.mask else 0,
                memory=frames_memory(n_frames, n_pixels, itemsize, batch, layout.ranks),
                sent=frames_sent(n_frames, n_pixels, layout.ranks),
                work=n_frames * n_pixels,
            )
        )
    return replace(together("frames", found), note="without counts around peaks at seams")
