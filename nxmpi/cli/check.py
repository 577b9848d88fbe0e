"""``nxmpi check``: what this installation is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nxmpi.errors import CollectiveError
from nxmpi.parallel.trial import write_trial
from nxmpi.pipeline.installation import inspect

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi.pipeline.installation import Installation


@click.command()
@click.option(
    "--directory", type=click.Path(path_type=Path), default=Path(), show_default="the current one",
    help="Folder for the trial file; take one that all nodes share.",
)  # fmt: skip
@click.pass_obj
def check(comm: MPI.Intracomm, *, directory: Path) -> None:
    """Show versions, MPI, HDF5, ranks and nodes, and write 10 MB together.

    Ends with status 1 when something needed is missing. Start it as the real work will be.

    \b
    mpiexec -n 4 nxmpi check --directory .
    """
    installation = inspect(comm)
    if comm.rank == 0:  # before the trial, so that it is seen even if that hangs
        _show(installation)
    if installation.problems:
        raise CollectiveError("; ".join(installation.problems))
    seconds = write_trial(comm, directory)
    click.echo(f"10 MB written and read back in {directory.resolve()}: {seconds:.2f} s")


def _show(installation: Installation) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in installation.rows:
        table.add_row(name, Text(value))
    Console().print(table)
