"""``nxmpi sum``: repeated scans to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.params import OutputParams
from nxmpi.pipeline.sum import run_sum

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command("sum")
@click.argument("scans", type=shared.FILE, nargs=-1, required=True)
@click.option("--output", type=shared.FILE, required=True, help="The new scan file, beside them.")
@click.option(
    "--tolerance", type=click.FloatRange(0, min_open=True), default=0.5, show_default=True,
    help="How far apart a pixel may be in two scans, in reciprocal space [pixels].",
)  # fmt: skip
@shared.with_options(shared.OUTPUT[:3])
@click.pass_obj
def sum_(
    comm: MPI.Intracomm, /, scans: tuple[Path, ...], output: Path, tolerance: float, **options: Any
) -> None:
    """Add repeated SCANS up: their frames, monitors and masks, into a new scan without results.

    Geometry, orientation and sample are those of the first. Scans whose frames, angles, detectors,
    wavelengths or orientations differ are refused.

    \b
    mpiexec -n 4 nxmpi sum sample_300K.nxs sample_300Kb.nxs --output sample_300Ksum.nxs
    """
    params = OutputParams(
        overwrite=options["overwrite"], compression=options["compression"],
        root_writes=options["root_writes"],
    )  # fmt: skip
    run_sum(comm, list(scans), output, tolerance, params)
    click.echo(f"{output}")
