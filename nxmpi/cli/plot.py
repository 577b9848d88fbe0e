"""``nxmpi plot``: one picture of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nxmpi.parallel.collective import on_root
from nxmpi.parallel.publish import require_place

if TYPE_CHECKING:
    from mpi4py import MPI

FILE = click.Path(path_type=Path)


@click.command()
@click.argument("scan", type=FILE)
@click.option("--output", type=FILE, help="PNG to write.  [default: SCAN.png beside SCAN.nxs]")
@click.option("--entry", help="Show this position, not the first, and its own volume.")
@click.option("--masked", is_flag=True, help="Show the volume without what the 3-D mask excludes.")
@click.option(
    "--vmax", type=click.FloatRange(0, min_open=True), help="Intensity of the brightest colour."
)
@click.pass_obj
def plot(
    comm: MPI.Intracomm, scan: Path, *,
    output: Path | None, entry: str | None, masked: bool, vmax: float | None,
) -> None:  # fmt: skip
    """Draw the volume of SCAN, and the frames of one position and what they say.

    Planes hk0, h0l, 0kl and their coverage; hk0 symmetrized, punched and filled; the 3D-ΔPDF at
    z = 0, 1/2, 1, as far out as it holds anything; a raw frame, the summed frame with its peaks,
    the frame of which most is masked; transmission, masked part of each frame, radial sum;
    residuals of the peaks over the detector and over phi, and how far their indices are from whole
    ones; maps and a table of how positions agree. Works after any step: what is not there yet is
    named in its place. The planes are drawn at the true angle of their axes, with unmeasured
    voxels in grey.

    \b
    nxmpi plot KMnO4/KMnO4_300K.nxs --output overview.png
    """
    target = output or scan.with_suffix(".png")

    def draw() -> None:
        if output is not None or scan.exists():
            require_place(target)
        from nxmpi.plot.scan import plot_scan  # matplotlib is slow to import

        plot_scan(scan, target, entry=entry, masked=masked, vmax=vmax)

    on_root(comm, draw)
    click.echo(f"{target}: picture of {scan.name}")
