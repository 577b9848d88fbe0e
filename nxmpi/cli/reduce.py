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


RANGE = (
    click.option("--from", "first_step", type=click.Choice(STEPS), help="Redo this and later."),
    click.option("--to", "last_step", type=click.Choice(STEPS), help="End with this step."),
    click.option("--only", "only_step", type=click.Choice(STEPS), help="Redo this step alone."),
)
ALL = (
    RANGE, shared.SCAN, own.FRAMES, own.ORIENTING, shared.NORM, own.BINNING,
    own.COMBINING, own.SYMMETRY, pdf_options.PUNCHING, pdf_options.WINDOWING,
    pdf_options.REAL_SPACE, shared.OUTPUT,
)  # fmt: skip
"""Options of all steps."""


@click.command()
@click.argument("scan", type=shared.FILE)
@shared.with_options(*ALL)
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
    steps, redo = chosen_steps(first_step, last_step, only_step)
    choices = chosen(comm, options)
    run_reduce(comm, scan, choices, steps, redo=redo)
    click.echo(f"{scan}: complete")


def chosen_steps(
    first_step: str | None, last_step: str | None, only_step: str | None
) -> tuple[tuple[str, ...], bool]:
    """Return the steps that --from, --to and --only say, and whether they are done again."""
    if only_step and (first_step or last_step):
        raise click.UsageError("--only excludes --from and --to")
    first, last = only_step or first_step or STEPS[0], only_step or last_step or STEPS[-1]
    steps = STEPS[STEPS.index(first) : STEPS.index(last) + 1]
    if not steps:
        raise click.UsageError(f"--from {first} comes after --to {last}")
    return steps, bool(first_step or only_step)


def chosen(comm: MPI.Intracomm, options: dict[str, Any]) -> Choices:
    """Return what the options say. Collective on ``comm``."""
    with shared.usage_errors():
        return Choices(
            scan=shared.scan_params(options),
            norm=shared.norm_params(options),
            frames=own.frames_params(options, mask=options["mask"]),
            orient=own.orient_params(options),
            transform=own.transform_params(comm, options),
            combine=own.combine_params(options),
            symmetrize=own.symmetrize_params(options),
            pdf=pdf_options.pdf_choices(options),
            output=shared.output_params(options),
        )
