"""``nxmpi cut``: a line or a box out of a volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nxmpi.cli import options as shared
from nxmpi.cli.section import targets, write_files
from nxmpi.parallel.collective import on_root
from nxmpi.params import CutParams
from nxmpi.pipeline.cut import run_cut, volume_file

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


class Place(click.ParamType[tuple[float, float, float]]):
    """Three numbers in one word, such as '0 0 0.5'."""

    name = "place"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float]:
        """Return the numbers."""
        try:
            h, k, l = (float(part) for part in str(value).replace(",", " ").split())
        except ValueError:
            self.fail(f"expected three numbers such as '0 0 0.5', found '{value}'", param, ctx)
        return h, k, l


@click.command()
@click.argument("file", type=shared.FILE)
@click.option("--line", type=(Place(), Place()), help="Two ends, such as '0 0 0' '4 0 0'.")
@click.option("--width", type=float, help="Diameter of the line; a voxel by default [1/Å].")
@click.option("--step", type=float, help="Along the line; the volume's by default [r.l.u.].")
@click.option(
    "--box", type=(float,) * 6, metavar="H H K K L L", help="First and last h, k and l [r.l.u.]."
)
@click.option(
    "--along", multiple=True, type=click.Choice([*"hklxyz"]),
    help="What is left of the box; more than once for a map.  [default: its longest side]",
)  # fmt: skip
@click.option("--entry", help="Of a scan: this position, not all of them.")
@click.option("--masked", is_flag=True, help="Of a scan: the volume without masked pixels.")
@click.option("--symmetrized", is_flag=True, help="Of a scan: the volume averaged by symmetry.")
@click.option("--output", type=shared.FILE, help="A .csv, .nxs or .png; a name for all three.")
@click.option("--vmax", type=click.FloatRange(0, min_open=True), help="Brightest intensity.")
@click.pass_obj
def cut(comm: MPI.Intracomm, /, file: Path, **options: Any) -> None:
    """Add up a line or a box of a volume, and write it with its errors.

    FILE is a scan file, whose combined volume is taken, or the file of any volume, of real space
    too; there x, y, z, cells and Å stand for h, k, l, r.l.u. and 1/Å. Counts and norm are added and
    divided once, where the volume has them; else voxels are weighted by their errors.

    \b
    nxmpi cut sample_300K.nxs --line "0 0 0.5" "4 0 0.5" --width 0.05
    nxmpi cut sample_300K.nxs --box 0 4 -0.1 0.1 0.4 0.6 --along h --output rod.csv
    """
    with shared.usage_errors():
        params = CutParams(
            **{name: options[name] for name in ("line", "width", "step", "box", "along")}
        )
    files = targets(comm, options["output"], f"{file.stem}_cut", (".nxs", ".csv", ".png"))

    def make() -> None:
        source = volume_file(
            file, options["entry"], masked=options["masked"], symmetrized=options["symmetrized"]
        )
        write_files(*run_cut(source, params), files, options["vmax"])

    on_root(comm, make)
    for path in files:
        click.echo(f"{path}")
