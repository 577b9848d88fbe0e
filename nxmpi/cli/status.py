"""``nxmpi status``: how far scans are."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from nxmpi.cli import options as shared
from nxmpi.cli.reduce import run_of
from nxmpi.errors import InputError
from nxmpi.pipeline.inputs import NOT_DONE
from nxmpi.pipeline.reduce import STEPS
from nxmpi.pipeline.standings import (
    after_failures,
    find_ended,
    find_scans,
    scans_among,
    standings,
)
from nxmpi.slurm.command import BatchError, NoSlurmError
from nxmpi.slurm.queue import queued
from nxmpi.slurm.record import record_path

if TYPE_CHECKING:
    from mpi4py import MPI
    from rich.table import Table

    from nxmpi.pipeline.reduce import Choices
    from nxmpi.pipeline.standings import Standing
    from nxmpi.slurm.queue import Queued, Seen

    Found = dict[Path, list[Standing] | str]
    """Of each scan, or why it cannot be read."""

COLOURS = {
    "done": "green", "running": "blue", "queued": "cyan", "failed": "red", "out of date": "yellow",
    "cannot be done": "red", "locked": "yellow",
}  # fmt: skip
LEFT = ("running", "queued")


class Look(NamedTuple):
    """What was found at one time."""

    found: Found
    endings: dict[str, Seen]
    """Of jobs."""
    trouble: str
    """Why Slurm did not answer; empty if it did, or was not asked."""


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
) -> int:  # fmt: skip
    """Say how far each step of scans is: of files, or of all scans of an experiment's folders.

    Done, running with progress and node, queued, failed with the reason, out of date. Files are
    read only, and no lock is taken; where Slurm is, it is asked about the jobs of nxmpi submit.
    Ends with status 1 if a file that is named cannot be read.

    \b
    nxmpi status                       # of the experiment here
    nxmpi status sample_300K.nxs --watch
    """
    shared.require_one_process(comm)
    logging.getLogger("nxmpi").setLevel(logging.ERROR)
    choices = run_of(comm, Path("scan.nxs"), reducing).choices
    scans = scans_among([scan for path in paths or (Path(),) for scan in find_scans(path)])
    if not scans:
        raise InputError(
            f"{', '.join(str(path.absolute()) for path in paths or (Path(),))}: expected scan "
            "files SAMPLE/LABEL/SAMPLE_SCAN.nxs, found none"
        )
    look = _look(scans, choices, {})
    if as_json:
        if look.trouble:
            click.echo(look.trouble, err=True)
        told = [_plain(scan, steps) for scan, steps in look.found.items()]
        click.echo(json.dumps(told, indent=2))
    else:
        look = _show(look, scans, choices, watch)
    return int(any(isinstance(look.found.get(path), str) for path in paths))


def _look(scans: list[Path], choices: Choices, endings: dict[str, Seen]) -> Look:
    queue: list[Queued] = []
    trouble = ""
    if any(record_path(scan).exists() for scan in scans):
        try:
            queue = queued()
            endings = find_ended(scans, queue, endings)
        except NoSlurmError:
            pass  # jobs are told by their logs
        except BatchError as error:
            trouble = f"Slurm does not answer: {error}"
    found: Found = {}
    for scan in scans:
        try:
            found[scan] = after_failures(standings(scan, choices, queue, endings))
        except InputError as error:
            found[scan] = f"{error}"
    return Look(found, endings, trouble)


def _plain(scan: Path, steps: list[Standing] | str) -> dict[str, object]:
    if isinstance(steps, str):
        return {"scan": str(scan), "error": steps}
    return {"scan": str(scan), "steps": {each.step: asdict(each) for each in steps}}


def _show(look: Look, scans: list[Path], choices: Choices, watch: float | None) -> Look:
    """Show a table, again and again if that is wished, and return what was found last."""
    from rich.console import Console
    from rich.live import Live

    console = Console() if Console().is_terminal else Console(width=140)
    if watch is None:
        console.print(_table(look), *_notes(look.found), sep="\n")
        return look
    with Live(_table(look), console=console, auto_refresh=False) as live:
        while look.trouble or _is_left(look.found):
            time.sleep(watch)
            now = _look(scans, choices, look.endings)
            look = look._replace(trouble=now.trouble) if now.trouble else now
            live.update(_table(look), refresh=True)
    console.print(*_notes(look.found), sep="\n")
    return look


def _is_left(found: Found) -> bool:
    return any(each.state in LEFT for steps in found.values() for each in _steps(steps))


def _steps(steps: list[Standing] | str) -> list[Standing]:
    return [] if isinstance(steps, str) else steps


def _table(look: Look) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("scan", *STEPS, caption=Text(look.trouble, "red") if look.trouble else None)
    for scan, steps in look.found.items():
        if isinstance(steps, str):
            table.add_row(Text(scan.stem), Text("cannot be read", "red"))
            continue
        cells = {}
        for each in steps:
            part = "" if each.progress is None else f" {100 * each.progress:.0f} %"
            cells[each.step] = Text(f"{each.state}{part}", COLOURS.get(each.state, ""))
        table.add_row(Text(scan.stem), *(cells.get(step, "") for step in STEPS))
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
            if each.detail and each.detail != NOT_DONE and not each.detail.startswith("after")
        ]
    return lines
