"""``nxmpi unlock``: locks of runs that have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nxmpi.cli import options as shared
from nxmpi.errors import InputError
from nxmpi.parallel.collective import on_root
from nxmpi.parallel.locks import Lock, list_locks, remove_locks
from nxmpi.slurm.left import ask_slurm

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

STATES = {
    "ended": "which has ended",
    "running": "which is running",
    "unknown": "of which it is not known here whether it still runs",
}


@click.command()
@click.argument("scan", type=shared.FILE)
@click.option("--force", is_flag=True, help="Remove locks of processes that may still run, too.")
@click.pass_context
def unlock(context: click.Context, scan: Path, *, force: bool) -> None:
    """List the locks of SCAN and remove those whose process has ended for certain.

    That is certain only on the host where it ran, and for a job of Slurm where this is asked.
    Before --force, make sure that the process or job that is named does not run any more: two that
    write the same files spoil them. The exit status is 1 if a lock is kept.

    \b
    nxmpi unlock sample_300K.nxs
    nxmpi unlock --force sample_300K.nxs
    """
    comm: MPI.Intracomm = context.obj
    removed, kept = on_root(comm, lambda: _remove(scan, force=force))
    for lock in removed:
        click.echo(f"{_what(lock)}: removed")
    for lock in kept:
        click.echo(f"{_what(lock)}: kept; --force removes it")
    if not removed and not kept:
        click.echo(f"{scan}: not locked")
    if kept:
        context.exit(1)


def _remove(scan: Path, *, force: bool) -> tuple[list[Lock], list[Lock]]:
    there = scan.exists() or (scan.resolve().parent.is_dir() and list_locks(scan))
    if not there:
        raise InputError(f"{scan}: no such file")
    return remove_locks(scan, force=force, ask=ask_slurm())


def _what(lock: Lock) -> str:
    return (
        f"{lock.path.name}: {lock.subject or 'nexusformat'} by {lock.owner}, {STATES[lock.state]}"
    )
