"""Options of all steps together, for commands that run, plan or look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli import pdf_options
from nxmpi.pipeline.reduce import STEPS, Choices

if TYPE_CHECKING:
    from mpi4py import MPI

RANGE = (
    click.option("--from", "first_step", type=click.Choice(STEPS), help="Redo this and later."),
    click.option("--to", "last_step", type=click.Choice(STEPS), help="End with this step."),
    click.option("--only", "only_step", type=click.Choice(STEPS), help="Redo this step alone."),
)
ALL = (
    RANGE,
    shared.SCAN,
    shared.FRAMES,
    shared.ORIENTING,
    shared.NORM,
    shared.BINNING,
    shared.COMBINING,
    shared.SYMMETRY,
    pdf_options.PUNCHING,
    pdf_options.WINDOWING,
    pdf_options.REAL_SPACE,
    shared.OUTPUT,
)
"""For `nxmpi.cli.options.with_options`."""


def step_choices(
    comm: MPI.Intracomm, options: dict[str, Any]
) -> tuple[Choices, tuple[str, ...], bool]:  # fmt: skip
    """Return what the options of `ALL` say. Collective on ``comm``.

    Returns
    -------
    choices : Choices
    steps : tuple of str
        Those wished for, in their order.
    redo : bool
        Whether complete ones are to be done again.
    """
    only, first, last = options["only_step"], options["first_step"], options["last_step"]
    if only and (first or last):
        raise click.UsageError("--only excludes --from and --to")
    with shared.usage_errors():
        choices = Choices(
            scan=shared.scan_params(options),
            norm=shared.norm_params(options),
            frames=shared.frames_params(options, mask=options["mask"]),
            orient=shared.orient_params(options),
            transform=shared.transform_params(comm, options),
            combine=shared.combine_params(options),
            symmetrize=shared.symmetrize_params(options),
            pdf=pdf_options.pdf_choices(options),
            output=shared.output_params(options),
        )
    begin, end = only or first or STEPS[0], only or last or STEPS[-1]
    steps = STEPS[STEPS.index(begin) : STEPS.index(end) + 1]
    if not steps:
        raise click.UsageError(f"--from {begin} comes after --to {end}")
    if options["background"] and "symmetrize" in steps:
        raise click.UsageError(
            "--background: expected --to combine: averages less a background are not made yet"
        )
    return choices, steps, bool(first or only)
