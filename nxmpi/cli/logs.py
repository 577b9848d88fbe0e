"""``nxmpi logs``: what batch jobs wrote."""

from __future__ import annotations

from pathlib import Path

import click

from nxmpi.cli import options as shared
from nxmpi.pipeline.reduce import STEPS
from nxmpi.pipeline.submitted import logs_of


@click.command()
@click.argument("scan", type=shared.FILE)
@click.argument("step", type=click.Choice(STEPS))
@click.option("--entry", "position", help="A detector position; all by default.")
@click.option("--path", "only_path", is_flag=True, help="Print the names of the files alone.")
def logs(scan: Path, step: str, position: str | None, *, only_path: bool) -> None:
    """Print the logs of the jobs that nxmpi submit made last for a STEP of SCAN.

    \b
    nxmpi logs sample_300K.nxs transform --entry f2
    tail -f $(nxmpi logs sample_300K.nxs transform --path)
    """
    for job in logs_of(scan, step, position):
        path = Path(job.log)
        if only_path:
            click.echo(path)
            continue
        click.echo(f"==> job {job.id}: {path}")
        text = (
            path.read_text(errors="replace") if path.exists() else "nothing yet: it has not begun"
        )
        click.echo(text)
