"""``nxmpi reduce``: all steps in order."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

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
    **options: Any,
) -> None:
    """Run all steps on SCAN; those complete for the same input and parameters are skipped.

    An orientation that another program found is kept, unless orient is named by --from or --only.

    \b
    mpiexec -n 4 nxmpi reduce sample_300K.nxs
    """
    steps, redo = chosen_steps(options)
    choices = chosen(comm, options)
    run_reduce(comm, scan, choices, steps, redo=redo)
    click.echo(f"{scan}: complete")


class Run(NamedTuple):
    """What ``nxmpi reduce`` would do with a scan."""

    scan: Path
    context: click.Context
    choices: Choices
    steps: tuple[str, ...]
    redo: bool


def run_of(comm: MPI.Intracomm, scan: Path, text: str) -> Run:
    """Return what ``nxmpi reduce`` would do with a scan and the options in a text.

    Raises
    ------
    click.UsageError
        Of the command that calls, if these are no options of reduce.
    """
    try:
        words = [str(scan), *shlex.split(text)]
        context = reduce.make_context("nxmpi reduce", words, obj=comm)
        steps, redo = chosen_steps(context.params)
        return Run(scan, context, chosen(comm, context.params), steps, redo)
    except (ValueError, click.UsageError) as error:
        told = error.format_message() if isinstance(error, click.UsageError) else f"{error}"
        raise click.UsageError(f"--options {text!r}: {told}") from error


def chosen_steps(options: dict[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Return the steps that --from, --to and --only say, and whether they are done again."""
    first_step, last_step, only_step = (
        options[f"{which}_step"] for which in ("first", "last", "only")
    )
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
