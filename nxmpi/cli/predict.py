"""``nxmpi predict``: where reflections appear in the frames."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nxmpi.cli import options as shared
from nxmpi.errors import InputError
from nxmpi.parallel.collective import on_root
from nxmpi.parallel.publish import require_place
from nxmpi.params import PredictParams
from nxmpi.pipeline.predict import predict_scan, write_list

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.cli.options import Axis

Range = tuple[float, float]


@click.command()
@click.argument("scan", type=shared.FILE)
@click.option("--entry", "entries", multiple=True, help="A detector position; all by default.")
@click.option(
    "--hkl",
    type=(float, float, float),
    multiple=True,
    metavar="H K L",
    help="A reflection, whole numbers or not; more than once for more.",
)
@click.option("--h", "h_range", type=(float, float), help="Least and largest h.")
@click.option("--k", "k_range", type=(float, float), help="Least and largest k.")
@click.option("--l", "l_range", type=(float, float), help="Least and largest l.")
@click.option(
    "--d-min",
    type=click.FloatRange(0, min_open=True),
    help="Least spacing [Å].",
)
@click.option("--output", type=shared.FILE, help="A .csv for the list, or a .png to draw it.")
@click.pass_obj
def predict(
    comm: MPI.Intracomm, scan: Path, *,
    entries: tuple[str, ...], hkl: tuple[Axis, ...], h_range: Range | None,
    k_range: Range | None, l_range: Range | None, d_min: float | None, output: Path | None,
) -> None:  # fmt: skip
    """List or draw where and when reflections of SCAN appear, by its orientation.

    All that the space group allows and the detector reaches; --h, --k, --l, --d-min and --hkl
    choose. The list is CSV: x, y and frame count from the centre of the first, phi is the true
    angle, d is in Å.

    \b
    nxmpi predict sample_300K.nxs --d-min 1.5
    nxmpi predict sample_300K.nxs --h 0 4 --k 0 4 --l 0 0 --output hk0.png
    """
    ranges = (h_range, k_range, l_range)
    if any(ranges) and not (h_range and k_range and l_range):
        raise click.UsageError("a range of hkl needs all of --h, --k and --l")
    with shared.usage_errors():
        params = PredictParams(
            entries=entries, hkl=hkl, d_min=d_min,
            ranges=(h_range, k_range, l_range) if h_range and k_range and l_range else None,
        )  # fmt: skip
        if output is not None and output.suffix.lower() not in (".csv", ".png"):
            raise InputError(f"{output}: expected a name that ends in .csv or .png")

    def tell() -> int:
        if output is not None:
            require_place(output)
        predictions = predict_scan(scan, params)
        if output is None:
            write_list(predictions, sys.stdout)
        elif output.suffix.lower() == ".png":
            from nxmpi.plot.prediction import plot_predictions  # matplotlib is slow to import

            plot_predictions(scan, predictions, output)
        else:
            with output.open("w", newline="") as file:
                write_list(predictions, file)
        return sum(len(each.found.x) for each in predictions)

    n = on_root(comm, tell)
    if output is not None:
        click.echo(f"{output}: {n} reflections")
