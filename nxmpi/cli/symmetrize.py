"""``nxmpi symmetrize``: the combined volume averaged over its Laue group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli import step_options as own
from nxmpi.pipeline.symmetrize import run_symmetrize

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scan", type=shared.FILE)
@shared.with_options(own.SYMMETRY, shared.OUTPUT)
@click.pass_obj
def symmetrize(comm: MPI.Intracomm, /, scan: Path, **options: Any) -> None:
    """Average the combined volume of SCAN over its Laue group: intensity with errors.

    Counts and norm of the distinct images of each voxel are added, then divided; how many there
    were, and chi squared of these against their mean, is kept beside them, and R_int by |Q|.

    \b
    mpiexec -n 4 nxmpi symmetrize sample_300K.nxs
    mpiexec -n 4 nxmpi symmetrize sample_300K.nxs --outliers 5
    """
    with shared.usage_errors():
        params, output = own.symmetrize_params(options), shared.output_params(options)
    for path in run_symmetrize(comm, scan, params, output):
        click.echo(f"{path}")
