"""``nxmpi pdf``: the symmetrized volume to the 3D-ΔPDF."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli import pdf_options
from nxmpi.pipeline.pdf import run_pdf

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scan", type=shared.FILE)
@shared.with_options(
    pdf_options.PUNCHING, pdf_options.WINDOWING, pdf_options.REAL_SPACE, shared.OUTPUT
)
@click.pass_obj
def pdf(comm: MPI.Intracomm, /, scan: Path, **options: Any) -> None:
    """Punch and fill the Bragg peaks of SCAN's symmetrized volume, and transform it.

    The 3D-ΔPDF comes with errors; the transform of the volume with its Bragg peaks, the total
    PDF, stands beside it.

    \b
    mpiexec -n 4 nxmpi pdf sample_300K.nxs --radius 0.25
    """
    with shared.usage_errors():
        choices = pdf_options.pdf_choices(options)
        output = shared.output_params(options)
    for path in run_pdf(comm, scan, choices, output):
        click.echo(f"{path}")
