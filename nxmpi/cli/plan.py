"""``nxmpi plan``: what a reduction is going to take."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli.reduce import ALL, chosen, chosen_steps
from nxmpi.errors import InputError
from nxmpi.parallel.collective import on_root
from nxmpi.parallel.memory import available_memory, ranks_of_node
from nxmpi.pipeline.estimate import disk_warnings, estimate, memory_warnings, unknown_steps
from nxmpi.pipeline.plan import plan_scan
from nxmpi.pipeline.rates import read_rates, write_rates
from nxmpi.pipeline.step_cost import Layout
from nxmpi.simulate.calibrate import calibrate

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi.pipeline.estimate import Estimate
    from nxmpi.pipeline.rates import Rates


@click.command()
@click.argument("scan", type=shared.FILE, required=False)
@click.option(
    "--calibrate",
    "calibrating",
    is_flag=True,
    help="Measure the rates of this machine, with files where SCAN is, and keep them.",
)
@click.option("--ranks", type=click.IntRange(1), help="Of the run; by default those of this one.")
@click.option("--nodes", type=click.IntRange(1), default=1, show_default=True, help="Of the run.")
@click.option(
    "--exact", is_flag=True, help="Bin all frames to count bytes; as long as a transform on 1 rank."
)
@click.option(
    "--strict", is_flag=True, help="Fail if memory or disk do not suffice, or nobody can say."
)
@click.option("--json", "as_json", is_flag=True, help="Numbers for programs: bytes, seconds.")
@shared.with_options(*ALL)
@click.pass_obj
def plan(
    comm: MPI.Intracomm,
    /,
    scan: Path | None,
    ranks: int | None,
    nodes: int,
    *,
    calibrating: bool,
    **options: Any,
) -> None:
    """Say what `nxmpi reduce` would take on SCAN with the same options, before it is run.

    For each step that is not complete: bytes of files, disk, memory, bytes between ranks, time and
    what limits it. Nothing is changed. --memory is that of a node, by default this one's.

    Times come from rates: built in, or of this machine, once --calibrate has measured them. That
    takes a minute, and belongs on a compute node, with as many ranks as are to be used there.

    \b
    mpiexec -n 4 nxmpi plan --calibrate sample_300K.nxs
    nxmpi plan sample_300K.nxs --ranks 64 --nodes 4 --memory 200G
    """
    if calibrating:
        _calibrate(comm, scan)
        return
    if scan is None:
        raise click.UsageError("Missing argument 'SCAN'.")
    steps, redo = chosen_steps(options)
    choices = chosen(comm, options)
    n_ranks = ranks or comm.size
    if nodes > n_ranks:
        raise click.UsageError(f"--nodes: expected at most as many as ranks, {n_ranks}")
    free = available_memory(comm) * ranks_of_node(comm)
    told = options["memory"]
    layout = Layout(n_ranks, nodes, told or free)

    def make() -> tuple[str, list[str], list[str]]:
        logging.getLogger("nxmpi").setLevel(logging.WARNING)  # about input; the run says it again
        costs = plan_scan(scan, choices, steps, layout, exact=options["exact"], redo=redo)
        rates, file = read_rates()
        compressed = options["compression"] != "none"
        estimates = [
            estimate(cost, rates, layout, node_memory=told or free, compressed=compressed)
            for cost in costs
        ]
        folder = scan.absolute().with_suffix("")
        warnings = memory_warnings(estimates, told or free)
        warnings += disk_warnings({folder: estimates}, choices.output.scratch)
        whose, unknown = _whose(rates, file), unknown_steps(estimates)
        if options["as_json"]:
            return _as_json(estimates, layout, whose, warnings), warnings, unknown
        return _table(estimates, layout, whose), warnings, unknown

    text, warnings, unknown = on_root(comm, make)
    click.echo(text)
    if options["strict"] and (warnings or unknown):
        raise InputError(f"{scan}: {'; '.join(warnings + unknown)}")
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)


def _calibrate(comm: MPI.Intracomm, where: Path | None) -> None:
    folder = where or Path()
    if not folder.is_dir():
        folder = folder.absolute().parent
    show = logging.getLogger("nxmpi.simulate.calibrate")
    logging.getLogger("nxmpi").setLevel(logging.WARNING)
    show.setLevel(logging.INFO if comm.rank == 0 else logging.WARNING)
    rates = calibrate(comm, folder)
    path = on_root(comm, lambda: write_rates(rates))
    click.echo(f"{path}: rates of {rates.where}")


def _whose(rates: Rates, file: Path | None) -> str:
    source = f"this machine's, from {file}: {rates.where}" if file else f"built in: {rates.where}"
    return f"{source}, {rates.when}"


def _as_json(
    estimates: list[Estimate], layout: Layout, whose: str, warnings: list[str]
) -> str:  # fmt: skip
    return json.dumps(
        {
            "ranks": layout.ranks, "nodes": layout.nodes, "rates": whose, "warnings": warnings,
            "steps": [asdict(each) for each in estimates],
        },
        indent=2,
    )  # fmt: skip


def _table(estimates: list[Estimate], layout: Layout, whose: str) -> str:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    if not estimates:
        return "all steps are complete"
    table = Table(title=f"{layout.ranks} ranks on {layout.nodes} nodes")
    table.add_column("step")
    for name in ("read", "write", "disk", "memory\na rank", "a node", "between\nranks", "time"):
        table.add_column(name, justify="right")
    table.add_column("limited by")
    table.add_column("")
    for each in estimates:
        if not each.is_known:
            table.add_row(each.step, *["?"] * 8, each.note)
            continue
        about = "" if each.sent_is_exact else "~"
        table.add_row(
            each.step, decimal(each.read), decimal(each.write), decimal(each.disk),
            decimal(each.memory_rank), decimal(each.memory_node), f"{about}{decimal(each.sent)}",
            _time(each.seconds), each.limit, each.note,
        )  # fmt: skip
    console = Console(width=140)
    with console.capture() as captured:
        console.print(table)
    disk, seconds = sum(each.disk for each in estimates), sum(each.seconds for each in estimates)
    which = "all" if all(each.is_known for each in estimates) else "all that is known"
    return (
        f"{captured.get()}{which}: {decimal(disk)} of disk, {_time(seconds)}\nrates: {whose}"
    )  # fmt: skip


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
