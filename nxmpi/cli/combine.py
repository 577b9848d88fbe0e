"""``nxmpi combine``: the transforms of all positions to one volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli import step_options as own
from nxmpi.pipeline.combine import run_combine

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scan", type=shared.FILE)
@shared.with_options(own.COMBINING, own.ENGINE, shared.OUTPUT)
@click.pass_obj
def combine(comm: MPI.Intracomm, /, scan: Path, **options: Any) -> None:
    """Add the transforms of all positions of SCAN and divide once: intensity with errors.

    How well positions agree where they overlap is told, and kept beside the volume: a map of chi
    squared, and a table of pairs of positions.

    With --background the intensity of another scan is subtracted, and its errors are added; change
    it, or its scale, and the volume is made again from the same transforms.

    \b
    mpiexec -n 4 nxmpi combine sample_300K.nxs
    mpiexec -n 4 nxmpi combine sample_300K.nxs --background ../can/can_300K.nxs
    mpiexec -n 4 nxmpi combine sample_300K.nxs --engine cctw
    """
    with shared.usage_errors():
        params, output = own.combine_params(options), shared.output_params(options)
    for path in run_combine(comm, scan, params, output):
        click.echo(f"{path}")
