"""``nxmpi reduce``: all steps in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli.steps import ALL, step_choices
from nxmpi.pipeline.reduce import run_reduce

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scan", type=shared.FILE)
@shared.with_options(*ALL)
@click.pass_obj
def reduce(comm: MPI.Intracomm, /, scan: Path, **options: Any) -> None:
    """Run all steps on SCAN; those complete for the same input and parameters are skipped.

    An orientation that another program found is kept, unless orient is named by --from or --only.

    \b
    mpiexec -n 4 nxmpi reduce sample_300K.nxs
    """
    choices, steps, redo = step_choices(comm, options)
    run_reduce(comm, scan, choices, steps, redo=redo)
    click.echo(f"{scan}: complete")
