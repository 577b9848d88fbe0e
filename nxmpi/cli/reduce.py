"""``nxmpi reduce``: all steps in order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli import pdf_options
from nxmpi.cli import step_options as own
from nxmpi.pipeline.reduce import STEPS, Choices, run_reduce

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scan", type=shared.FILE)
@click.option("--from", "first_step", type=click.Choice(STEPS), help="Redo this step and later.")
@click.option("--to", "last_step", type=click.Choice(STEPS), help="End with this step.")
@click.option("--only", "only_step", type=click.Choice(STEPS), help="Redo this step alone.")
@shared.with_options(
    shared.SCAN,
    own.FRAMES,
    own.ORIENTING,
    shared.NORM,
    own.BINNING,
    own.COMBINING,
    own.SYMMETRY,
    pdf_options.PUNCHING,
    pdf_options.WINDOWING,
    pdf_options.REAL_SPACE,
    shared.OUTPUT,
)
@click.pass_obj
def reduce(
    comm: MPI.Intracomm,
    /,
    scan: Path,
    first_step: str | None,
    last_step: str | None,
    only_step: str | None,
    **options: Any,
) -> None:
    """Run all steps on SCAN; those complete for the same input and parameters are skipped.

    An orientation that another program found is kept, unless orient is named by --from or --only.

    \b
    mpiexec -n 4 nxmpi reduce sample_300K.nxs
    """
    if only_step and (first_step or last_step):
        raise click.UsageError("--only excludes --from and --to")
    with shared.usage_errors():
        scan_params = shared.scan_params(options)
        frames = own.frames_params(options, mask=options["mask"])
        norm, params = shared.norm_params(options), own.transform_params(comm, options)
        orienting = own.orient_params(options)
        combining, symmetry = own.combine_params(options), own.symmetrize_params(options)
        pdf, output = pdf_options.pdf_choices(options), shared.output_params(options)
    first, last = only_step or first_step or STEPS[0], only_step or last_step or STEPS[-1]
    steps = STEPS[STEPS.index(first) : STEPS.index(last) + 1]
    if not steps:
        raise click.UsageError(f"--from {first} comes after --to {last}")
    redo = bool(first_step or only_step)
    choices = Choices(
        scan=scan_params, norm=norm, frames=frames, orient=orienting, transform=params,
        combine=combining, symmetrize=symmetry, pdf=pdf, output=output,
    )  # fmt: skip
    run_reduce(comm, scan, choices, steps, redo=redo)
    click.echo(f"{scan}: complete")
