"""``nxmpi submit``: the steps of scans as a chain of batch jobs."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli.given import step_options
from nxmpi.cli.reduce import run_of
from nxmpi.nexus.schema import ScanFiles
from nxmpi.pipeline.due import parent_of, steps_due
from nxmpi.pipeline.estimate import disk_warnings
from nxmpi.pipeline.reduce import STEPS
from nxmpi.pipeline.requests import largest_of, requests_of
from nxmpi.pipeline.standings import scans_among
from nxmpi.pipeline.step_cost import Layout
from nxmpi.pipeline.submitted import require_idle, run_submit
from nxmpi.slurm.chain import Work, plan_chain
from nxmpi.slurm.nodes import limits_of
from nxmpi.slurm.sbatch import shell_script
from nxmpi.slurm.site import read_site, site_file, write_site

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.cli.reduce import Run
    from nxmpi.pipeline.estimate import Estimate
    from nxmpi.pipeline.requests import Request
    from nxmpi.slurm.chain import Planned
    from nxmpi.slurm.params import SubmitParams
    from nxmpi.slurm.site import Site


@click.command()
@click.argument("scans", type=shared.FILE, nargs=-1)
@click.option("--nodes", type=click.IntRange(min=1), help="Of each job; orient takes one.")
@click.option("--ranks-per-node", type=click.IntRange(min=1), help="One for each core by default.")
@click.option("--account", help="That is charged.")
@click.option("--partition", help="Queue that jobs go to.")
@click.option("--time", help="Limit of each job, as Slurm reads it: 04:00:00.")
@click.option("--mem", help="Memory of a node, as Slurm reads it: 200G.")
@click.option(
    "--plan",
    "planning",
    is_flag=True,
    help="Ask for time and memory by what nxmpi plan expects, where they are not given; this "
    "takes some seconds a scan, and --ranks-per-node.",
)
@click.option("--constraint", help="Features that nodes must have.")
@click.option("--mpi", help="How ranks are started: a type of srun --mpi, or mpiexec.")
@click.option("--after", metavar="JOB", help="Begin when this job ended well; 12:13 for two.")
@click.option("--extra", multiple=True, help="Further option of sbatch; more than once for more.")
@click.option(
    "--options",
    "reducing",
    default="",
    metavar="OPTIONS",
    help='Of nxmpi reduce, for all scans: "--to combine --refine-scale".',
)
@click.option(
    "--parent",
    "parents",
    type=shared.FILE,
    multiple=True,
    help="One of SCANS: others begin after its transform.",
)
@click.option("--together", is_flag=True, help="Transform all positions of a scan in one job.")
@click.option("--dry-run", is_flag=True, help="Only print what would be submitted.")
@click.option("--init", is_flag=True, help="Only write the site's defaults, to be edited.")
@click.pass_obj
def submit(
    comm: MPI.Intracomm, /, scans: tuple[Path, ...], *, reducing: str, parents: tuple[Path, ...],
    together: bool, planning: bool, dry_run: bool, init: bool, **asked: Any,
) -> None:  # fmt: skip
    """Submit what is left to do of SCANS to Slurm: a job for each step, one after another.

    Steps that are complete are left out. Scans of which the same is left to do share arrays of
    jobs; a scan alone has an array task for each position in its transform. Where a job fails,
    those that wait for it are cancelled. Either all jobs are submitted or none.

    Defaults of the site are in ~/.config/nxmpi/site.toml, or where NXMPI_SITE says.

    \b
    nxmpi submit --init
    nxmpi submit sample_300K.nxs --nodes 4 --time 02:00:00 --dry-run
    nxmpi submit sample_*.nxs --nodes 4 --options "--refine-scale --radius 0.3"
    nxmpi submit sample_*.nxs --nodes 4 --ranks-per-node 32 --plan
    """
    shared.require_one_process(comm)
    if init:
        write_site(site_file())
        click.echo(f"{site_file()}: edit it, and environment.sh of the folder that it names")
        return
    if not scans:
        raise click.UsageError("Missing argument 'SCANS...'.")
    logging.getLogger("nxmpi.pipeline").setLevel(logging.WARNING)
    given = {name: value for name, value in asked.items() if value not in (None, ())}
    with shared.usage_errors():
        site = read_site(site_file(), STEPS, given)
    paths = list({scan.resolve(): scan.absolute() for scan in scans}.values())
    all_paths, paths = paths, scans_among(paths)
    if others := [path.name for path in all_paths if path not in paths]:
        click.echo(f"left out, without detector positions: {', '.join(others)}", err=True)
    by_file = {scan.resolve(): scan for scan in paths}
    for parent in parents:
        if parent.resolve() not in by_file:
            raise click.UsageError(f"--parent {parent}: expected one of SCANS")
    if not dry_run:
        require_idle(paths)
    runs = {scan: run_of(comm, scan, reducing) for scan in paths}
    works = [_work(run) for run in runs.values()]
    own = {
        scan: parent and by_file.get(parent.resolve())
        for scan, parent in zip(paths, map(parent_of, paths), strict=True)
    }
    named = {*own.values(), *(by_file[parent.resolve()] for parent in parents)}
    first = {scan: None if its == scan else its for scan, its in own.items() if scan in named}
    chain = plan_chain([work for work in works if work.steps], parents=first, together=together)
    for work in works:
        if not work.steps:
            click.echo(f"{work.wrapper}: complete", err=dry_run)
    params = [site.of_step(planned.step) for planned in chain]
    if planning:
        params = _planned(site, chain, runs)
    if dry_run:
        click.echo(shell_script(chain, params))
        return
    for wrapper, job in run_submit(comm, chain, params):
        where = f" {job.position}" if job.position else ""
        click.echo(f"{wrapper}: {job.step}{where}: job {job.id}")


def _work(run: Run) -> Work:
    """Return what is left to do of a scan."""
    due = steps_due(run.scan, run.choices, run.steps, redo=run.redo)
    words = {step: step_options(run.context, step, redo=run.redo) for step in due}
    named = run.choices.scan.entries
    if "orient" in due and not named and due["orient"] != due.get("transform"):
        # those that another program oriented are kept
        words["orient"] += tuple(word for name in due["orient"] for word in ("--entry", name))
    return Work(wrapper=run.scan, folder=ScanFiles(run.scan).folder, steps=due, options=words)


def _planned(site: Site, chain: list[Planned], runs: dict[Path, Run]) -> list[SubmitParams]:
    """Return what each job asks for, by what its scans are expected to take."""
    partitions = {step: site.of_step(step).partition for step in STEPS}
    known = {name: limits_of(name) for name in {*partitions.values()}}
    limits = {step: known[partitions[step]] for step in STEPS}
    layouts = {step: _layout(site.of_step(step), limits[step].mebibytes) for step in STEPS}
    requests: dict[Path, dict[str, Request]] = {}
    results: dict[Path, list[Estimate]] = {}
    for scan, run in runs.items():
        apart = any(job.positions and scan in job.wrappers for job in chain)
        requests[scan], results[ScanFiles(scan).folder], warnings = requests_of(
            scan, run.choices, run.steps, layouts, redo=run.redo, apart=apart
        )
        for warning in warnings:
            click.echo(f"Warning: {scan}: {warning}", err=True)
    scratch = next(iter(runs.values())).choices.output.scratch  # the same for all scans
    for warning in disk_warnings(results, scratch):
        click.echo(f"Warning: {warning}", err=True)
    return [
        _requested(site.of_step(job.step), job, requests, limits[job.step].minutes) for job in chain
    ]


def _layout(its: SubmitParams, mebibytes: int) -> Layout:
    """Return how a job runs on nodes with so much memory, 0 if that is not known."""
    if its.ranks_per_node is None:
        raise click.UsageError(
            "--plan needs --ranks-per-node, or ranks_per_node in the site's file"
        )
    return Layout(its.nodes * its.ranks_per_node, its.nodes, mebibytes * 2**20)


def _requested(
    params: SubmitParams, job: Planned, requests: dict[Path, dict[str, Request]], most: int
) -> SubmitParams:
    """Return what a job asks for, what it did anyway if that is not known of all its scans.

    Parameters
    ----------
    most : int
        Time that a job may take; 0 if it may take any [min].
    """
    if not all(job.step in requests[scan] for scan in job.wrappers):
        return params
    minutes, mebibytes = largest_of([requests[scan][job.step] for scan in job.wrappers])
    return replace(
        params,
        time=params.time or str(min(minutes, most) if most else minutes),
        mem=params.mem or f"{mebibytes}M",
    )
