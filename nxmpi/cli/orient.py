"""``nxmpi orient``: peaks to orientations, cell and geometry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli import step_options as own
from nxmpi.params import OutputParams
from nxmpi.pipeline.orient import run_orient

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scan", type=shared.FILE)
@shared.with_options(own.ORIENTING)
@click.option("--entry", "entries", multiple=True, help="A detector position; all by default.")
@click.option("--overwrite", is_flag=True, help="Do again what is complete.")
@click.pass_obj
def orient(
    comm: MPI.Intracomm, /, scan: Path, *, entries: tuple[str, ...], overwrite: bool, **options: Any
) -> None:  # fmt: skip
    """Find and refine the orientation of the crystal of SCAN at all positions.

    By the Bragg peaks that nxmpi frames found, with the cell in the file or without any. Refined
    are the cell as its symmetry allows, the orientation, and for each position beam centre, omega
    and chi; --free and --hold choose. What cannot be told from the peaks stays as it is. Nothing
    is written, and the status is not 0, where too few of the strong peaks are explained.

    \b
    nxmpi orient sample_300K.nxs
    nxmpi orient sample_300K.nxs --free distance --free tilts --hold chi
    """
    with shared.usage_errors():
        params = own.orient_params(options)
        output = OutputParams(overwrite=overwrite)
    for line in run_orient(comm, scan, params, output, entries=entries):
        click.echo(line)
    click.echo(f"{scan}: orientation complete")
