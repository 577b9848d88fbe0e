"""``nxmpi cancel``: the batch jobs of scans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nxmpi.cli import options as shared
from nxmpi.pipeline.submitted import run_cancel

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scans", type=shared.FILE, nargs=-1, required=True)
@click.pass_obj
def cancel(comm: MPI.Intracomm, /, scans: tuple[Path, ...]) -> None:
    """End the jobs that nxmpi submit made for SCANS, waiting or running.

    What is being written does not appear; what is complete stays. nxmpi submit goes on from there.

    \b
    nxmpi cancel sample_300K.nxs
    """
    shared.require_one_process(comm)
    ended = run_cancel(scans)
    for wrapper, job, item in ended:
        click.echo(f"{wrapper}: {job.step}: job {item.id} cancelled, was {item.state}")
    for scan in scans:
        if scan not in {wrapper for wrapper, _, _ in ended}:
            click.echo(f"{scan}: no jobs in the queue")
