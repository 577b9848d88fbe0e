"""``nxmpi transform``: frames of every position to reciprocal space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli import step_options as own
from nxmpi.pipeline.engine.transform import run_by_engine

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scan", type=shared.FILE)
@shared.with_options(shared.SCAN, shared.NORM, own.BINNING, shared.OUTPUT)
@click.pass_obj
def transform(comm: MPI.Intracomm, /, scan: Path, **options: Any) -> None:
    """Bin the frames of SCAN onto a grid of hkl, one volume a detector position.

    Positions that are complete for the same input and parameters are left as they are.

    \b
    mpiexec -n 4 nxmpi transform sample_300K.nxs --qh -8 0.05 8 --qk -8 0.05 8 --ql -8 0.05 8
    """
    with shared.usage_errors():
        scan_params = shared.scan_params(options)
        norm, params = shared.norm_params(options), own.transform_params(comm, options)
        output = shared.output_params(options)
    for path in run_by_engine(comm, scan, scan_params, norm, params, output):
        click.echo(f"{path}")
