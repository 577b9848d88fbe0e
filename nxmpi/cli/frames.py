"""``nxmpi frames``: sums, transmission, peaks and 3-D mask in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli import step_options as own
from nxmpi.pipeline.frames import run_frames

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("scan", type=shared.FILE)
@click.option("--no-sums", is_flag=True, help="Leave out sums and transmission.")
@click.option("--no-peaks", is_flag=True, help="Leave out the peaks.")
@click.option("--no-mask", is_flag=True, help="Leave out the 3-D mask.")
@shared.with_options(
    own.FRAMES, shared.USED, shared.FLUX, own.FOLLOWING, own.READING, shared.OUTPUT
)
@click.pass_obj
def frames(
    comm: MPI.Intracomm, /, scan: Path, *, no_sums: bool, no_peaks: bool, no_mask: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Find in the frames of SCAN their sums, the transmission, Bragg peaks and the 3-D mask.

    Every frame is read once. What is complete for the same input and parameters is left as it
    is. Peaks need no threshold: a pixel is held against its own surroundings.

    \b
    mpiexec -n 4 nxmpi frames sample_300K.nxs
    mpiexec -n 4 nxmpi frames sample_300K.nxs --follow --no-monitor
    """
    with shared.usage_errors():
        scan_params = own.followed(shared.used_params(options), options)
        norm = shared.flux_params(options)
        params = own.frames_params(options, sums=not no_sums, peaks=not no_peaks, mask=not no_mask)
        output = shared.output_params(options)
    run_frames(comm, scan, scan_params, norm, params, output)
    click.echo(f"{scan}: frames complete")
