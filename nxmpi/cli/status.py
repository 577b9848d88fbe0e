"""``nxmpi status``: how far scans are."""

from __future__ import annotations

import json
import logging
import shlex
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nxmpi.cli import options as shared
from nxmpi.cli.reduce import chosen, chosen_steps, reduce
from nxmpi.errors import InputError
from nxmpi.pipeline.reduce import STEPS
from nxmpi.pipeline.watch import after_failures, find_scans, standings
from nxmpi.slurm.queue import waiting_and_running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpi4py import MPI
    from rich.table import Table

    from nxmpi.pipeline.reduce import Choices
    from nxmpi.pipeline.watch import Standing
    from nxmpi.slurm.queue import Seen

    Found = dict[Path, list[Standing] | str]
    """Of each scan, or why it cannot be read."""

COLOURS = {
    "done": "green", "running": "blue", "queued": "cyan", "failed": "red", "out of date": "yellow",
    "cannot be done": "red",
}  # fmt: skip
LEFT = ("running", "queued")


@click.command()
@click.argument("paths", type=shared.FILE, nargs=-1)
@click.option("--options", "reducing", default="", help="Of nxmpi reduce, if others were given.")
@click.option(
    "--watch",
    type=click.FloatRange(0.1),
    is_flag=False,
    flag_value=10.0,
    metavar="[SECONDS]",
    help="Look again and again, every 10 s by default, until nothing runs or is queued.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def status(
    comm: MPI.Intracomm, /, paths: tuple[Path, ...], *, reducing: str, watch: float | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Say how far each step of scans is: of files, or of all scans of an experiment's folders.

    Done, running with progress and node, queued, failed with the reason, out of date. Files are
    read only, and no lock is taken; where Slurm is, it is asked about the jobs of nxmpi submit.

    \b
    nxmpi status                       # of the experiment here
    nxmpi status sample_300K.nxs --watch
    """
    if comm.size > 1:
        raise click.UsageError(f"expected one process, found {comm.size}")
    logging.getLogger("nxmpi").setLevel(logging.ERROR)
    choices = _choices(comm, reducing)
    scans = [scan for path in paths or (Path(),) for scan in find_scans(path)]
    if not scans:
        raise InputError(
            f"{', '.join(str(path.absolute()) for path in paths or (Path(),))}: expected scan "
            "files SAMPLE/LABEL/SAMPLE_SCAN.nxs, found none"
        )
    found = _look(scans, choices)
    if as_json:
        click.echo(json.dumps([_plain(scan, steps) for scan, steps in found.items()], indent=2))
        return
    _show(found, scans, choices, watch)


def _choices(comm: MPI.Intracomm, reducing: str) -> Choices:
    context = reduce.make_context("nxmpi reduce", ["scan.nxs", *shlex.split(reducing)], obj=comm)
    options = dict(context.params)
    chosen_steps(*(options[f"{which}_step"] for which in ("first", "last", "only")))
    return chosen(comm, options)


def _look(scans: list[Path], choices: Choices) -> Found:
    seen: Mapping[str, Seen] = waiting_and_running()
    found: Found = {}
    for scan in scans:
        try:
            found[scan] = after_failures(standings(scan, choices, seen))
        except InputError as error:
            found[scan] = f"{error}"
    return found


def _plain(scan: Path, steps: list[Standing] | str) -> dict[str, object]:
    if isinstance(steps, str):
        return {"scan": str(scan), "error": steps}
    return {"scan": str(scan), "steps": {each.step: asdict(each) for each in steps}}


def _show(found: Found, scans: list[Path], choices: Choices, watch: float | None) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console() if Console().is_terminal else Console(width=140)
    if watch is None:
        console.print(_table(found), *_notes(found), sep="\n")
        return
    with Live(_table(found), console=console, auto_refresh=False) as live:
        while any(e.state in LEFT for steps in found.values() if steps for e in _steps(steps)):
            time.sleep(watch)
            found = _look(scans, choices)
            live.update(_table(found), refresh=True)
    console.print(*_notes(found), sep="\n")


def _steps(steps: list[Standing] | str) -> list[Standing]:
    return [] if isinstance(steps, str) else steps


def _table(found: Found) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("scan", *STEPS)
    for scan, steps in found.items():
        if isinstance(steps, str):
            table.add_row(Text(scan.stem), Text("cannot be read", "red"))
            continue
        cells = []
        for each in steps:
            part = "" if each.progress is None else f" {100 * each.progress:.0f} %"
            cells.append(Text(f"{each.state}{part}", COLOURS.get(each.state, "")))
        table.add_row(Text(scan.stem), *cells)
    return table


def _notes(found: Found) -> list[str]:
    """Return a line for each thing that the table has no room for."""
    from rich.markup import escape

    lines = []
    for scan, steps in found.items():
        if isinstance(steps, str):
            lines.append(escape(steps))
        lines += [
            escape(f"{scan.stem} {each.step}: {each.state}: {each.detail}")
            for each in _steps(steps)
            if each.detail and each.detail != "not done yet" and not each.detail.startswith("after")
        ]
    return lines
