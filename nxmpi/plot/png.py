"""Figures into files."""

from pathlib import Path

from matplotlib.figure import Figure

from nxmpi.errors import InputError


def save(figure: Figure, output: Path) -> None:
    """Write a figure as PNG, which appears when complete or not at all. Not collective.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    temporary = output.with_name(f".{output.name}.tmp")
    try:
        figure.savefig(temporary, format="png")
        temporary.replace(output)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{output}: cannot be written ({error.strerror})") from error
