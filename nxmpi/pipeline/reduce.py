"""All steps in order."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nxmpi.nexus.geometry import has_orientation
from nxmpi.nexus.values import chosen_entries, open_file
from nxmpi.parallel.collective import kept_on_root
from nxmpi.pipeline.combine import run_combine
from nxmpi.pipeline.engine.transform import run_by_engine
from nxmpi.pipeline.frames import run_frames
from nxmpi.pipeline.orient import run_orient
from nxmpi.pipeline.pdf import run_pdf
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.symmetrize import run_symmetrize
from nxmpi.pipeline.symmetrize_plan import group_of, operators_of

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.params import (
        CombineParams,
        FramesParams,
        NormParams,
        OrientParams,
        OutputParams,
        ScanParams,
        SymmetrizeParams,
        TransformParams,
    )
    from nxmpi.pipeline.real_space import Choices as PdfChoices

log = logging.getLogger(__name__)
STEPS = ("frames", "orient", "transform", "combine", "symmetrize", "pdf")
BY_POSITION = ("frames", "transform")
"""Steps that are done at one position and not at another, each under a lock of its own."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Parameters of all steps."""

    scan: ScanParams
    norm: NormParams
    frames: FramesParams
    orient: OrientParams
    transform: TransformParams
    combine: CombineParams
    symmetrize: SymmetrizeParams
    pdf: PdfChoices
    output: OutputParams


def run_reduce(
    comm: MPI.Intracomm, wrapper: Path, choices: Choices, steps: tuple[str, ...], *, redo: bool
) -> None:
    """Run steps on a scan, skipping what is complete.

    Collective on ``comm``. What later steps need of the scan file is looked for before the
    first one begins.

    Parameters
    ----------
    steps : tuple of str
        Of `STEPS`, in their order.
    redo : bool
        Do the steps again even where they are complete.

    Raises
    ------
    CollectiveError
        On every rank, if a step fails on any.
    """
    scan, norm, output = choices.scan, choices.norm, choices.output
    if redo:
        output = replace(output, overwrite=True)
    steps = steps_to_run(steps, scan)
    if "frames" in steps:
        if "transform" in steps:
            kept_on_root(comm, lambda: look_ahead(wrapper, choices, steps))
        run_frames(comm, wrapper, scan, norm, choices.frames, output)
    if "orient" in steps:
        named = redo and steps[0] == "orient"
        lines = run_orient(
            comm, wrapper, choices.orient, output, entries=scan.entries, unasked=not named
        )
        if lines:
            log.info("orientations\n%s", "\n".join(lines))
    if "transform" in steps:
        run_by_engine(comm, wrapper, scan, norm, choices.transform, output)
    if "combine" in steps:
        run_combine(comm, wrapper, choices.combine, output)
    if "symmetrize" in steps:
        run_symmetrize(comm, wrapper, choices.symmetrize, output)
    if "pdf" in steps:
        run_pdf(comm, wrapper, choices.pdf, output)


def steps_to_run(steps: tuple[str, ...], params: ScanParams) -> tuple[str, ...]:
    """Return those of steps that are run at all: a settings file has all that the first two find.

    Not collective.
    """
    if params.settings is None:
        return steps
    return tuple(step for step in steps if step not in ("frames", "orient"))


def look_ahead(wrapper: Path, choices: Choices, steps: tuple[str, ...]) -> None:
    """Read what later steps need, unless the orientation is still to be found. Not collective.

    Raises
    ------
    InputError
        If something is missing or makes no sense.
    """
    with open_file(wrapper) as file:
        names = chosen_entries(file, choices.scan.entries)
        is_oriented = all(has_orientation(file[name]) for name in names)
    if is_oriented or "orient" not in steps:
        scan = read_scan(wrapper, choices.scan, choices.norm)
        if "symmetrize" in steps:
            operators = operators_of(wrapper, scan.sample, choices.symmetrize)
            group_of(wrapper, operators, scan.grid)
