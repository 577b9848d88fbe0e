"""What the commands that make lines, planes and boxes share: their files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nxmpi.parallel.collective import on_root
from nxmpi.parallel.publish import require_place
from nxmpi.pipeline.section import require_replaceable, save_section

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi.model import Lattice
    from nxmpi.nexus.section import Section

DATA = (".nxs", ".csv")


def targets(
    comm: MPI.Intracomm, output: Path | None, name: str, kinds: tuple[str, ...]
) -> list[Path]:
    """Return the files to be written, all in one folder. Collective on ``comm``.

    Parameters
    ----------
    output : Path or None
        One file, by its suffix, or a name without one for all kinds; None for ``name``.
    name : str
        For the current folder.
    kinds : tuple of str
        Suffixes.

    Raises
    ------
    click.UsageError
        If the suffix is of another kind.
    CollectiveError
        On every rank, if nothing can be written there, or something else would be replaced.
    """
    files = _targets(output, name, kinds)

    def require() -> None:
        require_place(files[0])
        for path in files:
            require_replaceable(path)

    on_root(comm, require)
    return files


def _targets(output: Path | None, name: str, kinds: tuple[str, ...]) -> list[Path]:
    if output is None:
        output = Path(name)
    elif output.suffix.lower() in (*DATA, ".png"):
        return [output]
    elif output.suffix and not output.suffix[1:].isdigit():
        expected = ", ".join((*DATA, ".png"))
        raise click.UsageError(f"--output {output}: expected a name that ends in {expected}")
    return [output.with_name(f"{output.name}{kind}") for kind in kinds]


def write_files(
    section: Section, lattice: Lattice | None, files: list[Path], vmax: float | None
) -> None:
    """Write what is wanted of a section. Not collective: the root calls it."""
    for path in files:
        if path.suffix.lower() == ".png":
            from nxmpi.plot.section import plot_section  # matplotlib is slow to import

            plot_section(section, lattice, path, vmax)
        else:
            save_section(path, section)
