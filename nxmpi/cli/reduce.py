"""``nxmpi reduce``: all steps in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.pipeline.reduce import STEPS, Choices, run_reduce

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scan", type=shared.FILE)
@click.option("--from", "first_step", type=click.Choice(STEPS), help="Redo this step and later.")
@click.option("--only", "only_step", type=click.Choice(STEPS), help="Redo this step alone.")
@shared.with_options(
    shared.SCAN,
    shared.FRAMES,
    shared.ORIENTING,
    shared.NORM,
    shared.BINNING,
    shared.COMBINING,
    shared.OUTPUT,
)
@click.pass_obj
def reduce(
    comm: MPI.Intracomm,
    /,
    scan: Path,
    first_step: str | None,
    only_step: str | None,
    **options: Any,
) -> None:
    """Run all steps on SCAN; those complete for the same input and parameters are skipped.

    An orientation that another program found is kept, unless orient is named by --from or --only.

    \b
    mpiexec -n 4 nxmpi reduce sample_300K.nxs
    """
    if first_step and only_step:
        raise click.UsageError("--from and --only exclude each other")
    with shared.usage_errors():
        scan_params = shared.scan_params(options)
        frames = shared.frames_params(options, mask=options["mask"])
        norm, params = shared.norm_params(options), shared.transform_params(comm, options)
        orienting = shared.orient_params(options)
        combining, output = shared.combine_params(options), shared.output_params(options)
    steps = STEPS[STEPS.index(first_step) :] if first_step else STEPS
    steps = (only_step,) if only_step else steps
    redo = bool(first_step or only_step)
    choices = Choices(
        scan=scan_params, norm=norm, frames=frames, orient=orienting, transform=params,
        combine=combining, output=output,
    )  # fmt: skip
    run_reduce(comm, scan, choices, steps, redo=redo)
    click.echo(f"{scan}: complete")
