"""All steps in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nxmpi.parallel.collective import kept_on_root
from nxmpi.pipeline.combine import run_combine
from nxmpi.pipeline.frames import run_frames
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.transform import run_transform

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.params import (
        CombineParams,
        FramesParams,
        NormParams,
        OutputParams,
        ScanParams,
        TransformParams,
    )

STEPS = ("frames", "transform", "combine")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Parameters of all steps."""

    scan: ScanParams
    norm: NormParams
    frames: FramesParams
    transform: TransformParams
    combine: CombineParams
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
    if "frames" in steps and scan.settings is None:
        if "transform" in steps:
            kept_on_root(comm, lambda: read_scan(wrapper, scan, norm))
        run_frames(comm, wrapper, scan, norm, choices.frames, output)
    if "transform" in steps:
        run_transform(comm, wrapper, scan, norm, choices.transform, output)
    if "combine" in steps:
        run_combine(comm, wrapper, choices.combine, output)
