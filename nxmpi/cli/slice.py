"""``nxmpi slice``: a plane or a box straight from the frames."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

import click

from nxmpi.cli import options as shared
from nxmpi.cli import step_options as own
from nxmpi.cli.section import targets, write_files
from nxmpi.parallel.collective import on_root
from nxmpi.params import SliceParams, TransformParams, Voxels
from nxmpi.pipeline.slice import run_slice

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.cli.options import Axis

_TRANSFORM = TransformParams()


@click.command("slice")
@click.argument("scan", type=shared.FILE)
@click.option("--plane", help="Such as 'h k 0.5', 'h h l' or 'h+1/3 -h l'.")
@click.option(
    "--box", type=(float,) * 6, metavar="H H K K L L", help="First and last h, k and l [r.l.u.]."
)
@click.option("--qh", type=(float,) * 3, help="Start, step, stop of h in --plane [r.l.u.].")
@click.option("--qk", type=(float,) * 3, help="Start, step, stop of k in --plane [r.l.u.].")
@click.option("--ql", type=(float,) * 3, help="Start, step, stop of l in --plane [r.l.u.].")
@click.option("--thickness", type=float, help="Of the plane; a voxel by default [r.l.u.].")
@click.option("--masked", is_flag=True, help="Leave out what the 3-D mask excludes.")
@click.option("--output", type=shared.FILE, help="A .nxs, .csv or .png; a name for .nxs and .png.")
@click.option("--vmax", type=click.FloatRange(0, min_open=True), help="Brightest intensity.")
@click.option("--voxels", type=click.Choice(get_args(Voxels)), default=_TRANSFORM.voxels,
              show_default=True, help="As of nxmpi transform.")  # fmt: skip
@click.option("--split", type=(int, int, int), default=_TRANSFORM.split, show_default=True,
              help="As of nxmpi transform.")  # fmt: skip
@click.option("--skip-bad-frames", is_flag=True, help="Leave out frames that cannot be read.")
@shared.with_options(shared.USED, own.FOLLOWING, shared.NORM)
@click.pass_obj
def slice_(
    comm: MPI.Intracomm, /, scan: Path, plane: str | None, box: tuple[float, ...] | None,
    qh: Axis | None, qk: Axis | None, ql: Axis | None, **options: Any,
) -> None:  # fmt: skip
    """Bin the frames of SCAN onto a plane or a box, and write it with its errors.

    The same sums as those of the transform, of all positions together, in seconds: nothing is kept,
    and nothing in the scan is changed. Ranges, steps and thickness are those of the scan's grid
    unless they are given.

    \b
    mpiexec -n 4 nxmpi slice sample_300K.nxs --plane "h k 0.5"
    mpiexec -n 4 nxmpi slice sample_300K.nxs --plane "h h l" --qh -5 0.02 5 --output hhl.png
    """
    with shared.usage_errors():
        params = SliceParams(
            plane=plane, box=box, ranges=(qh, qk, ql),  # type: ignore[arg-type]
            thickness=options["thickness"], masked=options["masked"],
        )  # fmt: skip
        scan_params = own.followed(shared.used_params(options), options)
        norm = shared.norm_params(options)
        binning = TransformParams(
            voxels=options["voxels"], split=options["split"],
            skip_bad_frames=options["skip_bad_frames"],
        )  # fmt: skip
    what = re.sub(r"[^\w.+-]+", "_", plane) if plane else "box"
    files = targets(comm, options["output"], f"{scan.stem}_{what}", (".nxs", ".png"))
    made = run_slice(comm, scan, params, scan_params, norm, binning)

    def write() -> None:
        assert made is not None
        write_files(*made, files, options["vmax"])

    on_root(comm, write)
    for path in files:
        click.echo(f"{path}")
