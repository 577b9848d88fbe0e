"""All steps in order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nxmpi.pipeline.combine import run_combine
from nxmpi.pipeline.transform import run_transform

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.params import NormParams, OutputParams, ScanParams, TransformParams

STEPS = ("transform", "combine")


def run_reduce(
    comm: MPI.Intracomm, wrapper: Path,
    params: tuple[ScanParams, NormParams, TransformParams, OutputParams],
    steps: tuple[str, ...], *, redo: bool,
) -> None:  # fmt: skip
    """Run steps on a scan, skipping what is complete.

    Collective on ``comm``.

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
    scan, norm, transform, output = params
    if redo:
        output = replace(output, overwrite=True)
    if "transform" in steps:
        run_transform(comm, wrapper, scan, norm, transform, output)
    if "combine" in steps:
        run_combine(comm, wrapper, output)
