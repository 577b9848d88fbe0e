"""``nxmpi export``: volumes for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import click

from nxmpi.cli import options as shared
from nxmpi.parallel.collective import on_root
from nxmpi.params import ExportFormat
from nxmpi.pipeline.export import export as run_export

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI


@click.command()
@click.argument("file", type=shared.FILE)
@click.option(
    "--format", "kind", type=click.Choice(get_args(ExportFormat)), required=True,
    help="yell: HDF5 for Yell and DISCUS; numpy: an .npz; ccp4map: for ChimeraX, Coot, VESTA.",
)  # fmt: skip
@click.option("--dataset", help="Such as fill or pdf_errors; the file's signal by default.")
@click.option("--output", type=shared.FILE, help="The new file; beside FILE by default.")
@click.option("--overwrite", is_flag=True, help="Replace the new file if it is there.")
@click.pass_obj
def export(
    comm: MPI.Intracomm,
    /,
    file: Path,
    kind: ExportFormat,
    dataset: str | None,
    output: Path | None,
    *,
    overwrite: bool,
) -> None:
    """Write the volume in FILE, such as 300K/pdf.nxs, for another program.

    \b
    nxmpi export 300K/symm_transform.nxs --format yell --dataset fill
    """
    target, told = on_root(
        comm, lambda: run_export(file, kind, dataset=dataset, output=output, overwrite=overwrite)
    )
    click.echo(f"{target}: {told}")
