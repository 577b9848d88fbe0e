"""What a refinement found, for people."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from nxmpi.crystal.prediction import CELL, CENTRE, OUTER, TILTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nxmpi._typing import F8
    from nxmpi.crystal.symmetry import Conventional
    from nxmpi.stages.orient import Seen
    from nxmpi.stages.refine import Fit

CORRELATED = 0.95
"""Correlations that are told of [1]."""
WIDTH = 100
UNITS = {
    **dict.fromkeys(("a", "b", "c", "wavelength"), "Å"), "distance": "mm",
    **dict.fromkeys(CENTRE, "pixels"),
}  # fmt: skip
"""Of parameters; of others it is degrees."""
PART = 0.3
"""Least part of a combination in which a parameter is named [1]."""


class Positions(NamedTuple):
    """What a report is about."""

    names: tuple[str, ...]
    seen: tuple[Seen, ...]
    parts: tuple[float, ...]
    """Of the strong peaks of each, that are explained [1]."""


def describe(positions: Positions, fit: Fit) -> list[str]:
    """Return the lines of a report: residuals, parameters with errors, what is not determined."""
    refined = fit.refined
    lines = _table(
        ("", "peaks", "indexed", "of strong", "refined", "outliers", "x (pixel)", "y (pixel)",
         "phi (deg)"),
        [_row(positions, fit, i) for i in range(len(positions.names))],
        "Residuals are medians of their sizes.",
    )  # fmt: skip
    lines += ["", *_parameters(positions.names, fit)]
    lines += ["", *_correlations(positions.names, fit)]
    for combination in refined.held:
        parts = np.flatnonzero(np.abs(combination) > PART * np.abs(combination).max())
        named = ", ".join(_name(positions.names, fit, i) for i in parts.tolist())
        lines.append(f"Not determined, as in the file: a combination of {named}")
    if refined.enlarged.any():
        x, y, phi = refined.enlarged
        lines.append(
            "Peaks are farther from their predictions than their errors, which were enlarged by "
            f"{x:.2g} and {y:.2g} pixels, and what turns the crystal by {phi:.2g} degrees"
        )
        free = {name for parameter in fit.parameters for name in parameter.names}
        others = {"distance": "distance", "tilts": "yaw", "phi0": "phi0"}
        more = [f"--free {group}" for group, name in others.items() if name not in free]
        lines += [f"{' '.join(more)} may explain them better"] if more else []
    return lines


def describe_lattices(found: Iterable[Conventional], chosen: Conventional) -> list[str]:
    """Return a table of what a lattice may be taken for."""
    rows = []
    for each in found:
        cell = (f"{getattr(each.lattice, name):.3f}" for name in CELL)
        mark = "taken" if each is chosen else ""
        rows.append((each.bravais, each.space_group, f"{each.misfit:.3f}", *cell, mark))
    return _table(("lattice", "symmetry", "misfit (deg)", *CELL, ""), rows, "")


def _row(positions: Positions, fit: Fit, i: int) -> tuple[str, ...]:
    explained, fitted = fit.explained[i], fit.fitted[i]
    outliers = int((~fit.refined.used[i]).sum())
    sizes = np.nanmedian(np.abs(fit.residuals[i]), axis=0)
    return (
        positions.names[i], f"{explained.size}", f"{explained.sum()}", f"{positions.parts[i]:.1%}",
        f"{fitted.sum()}", f"{outliers}", f"{sizes[0]:.3f}", f"{sizes[1]:.3f}", f"{sizes[2]:.4f}",
    )  # fmt: skip


def _parameters(names: Sequence[str], fit: Fit) -> list[str]:
    rows = []
    errors = np.sqrt(np.diag(fit.refined.covariance))
    for i, parameter in enumerate(fit.parameters):
        change, error = fit.refined.values[i], errors[i]
        told = f"{error:.2g}" if error > 0 else "not determined"
        value = _value(fit, i)
        unit = UNITS.get(parameter.names[0], "degrees")
        row = ("", "") if value is None else (f"{value:.5f}", f"{change:+.5f}")
        rows.append((_name(names, fit, i), *row, told, unit))
    return _table(("", "value", "change", "standard error", ""), rows, "")


def _value(fit: Fit, number: int) -> float | None:
    name, first = fit.parameters[number].names[0], fit.parameters[number].positions[0]
    geometry = fit.refined.geometries[first]
    if name in CELL:
        return float(getattr(fit.refined.lattice, name))
    if name in ("distance", *TILTS):
        return float(getattr(geometry.detector, name))
    if name in CENTRE:
        return float(geometry.detector.beam_center[CENTRE.index(name)])
    if name in OUTER:
        return float(getattr(geometry.goniometer, name))
    if name == "phi0":
        return float(geometry.goniometer.phi[0] + fit.refined.phi0[first])
    return geometry.wavelength if name == "wavelength" else None


def _name(names: Sequence[str], fit: Fit, number: int) -> str:
    parameter = fit.parameters[number]
    name = " = ".join(parameter.names)
    if len(parameter.positions) == len(names):
        return name
    return f"{name} of {', '.join(names[i] for i in parameter.positions)}"


def _correlations(names: Sequence[str], fit: Fit) -> list[str]:
    found = correlations(fit.refined.covariance)
    n = len(found)
    told = [
        f"{_name(names, fit, i)} and {_name(names, fit, j)} {found[i, j]:+.3f}"
        for i in range(n) for j in range(i) if abs(found[i, j]) > CORRELATED
    ]  # fmt: skip
    return [f"Correlations above {CORRELATED}: " + ("; ".join(told) or "none")]


def correlations(covariance: F8) -> F8:
    """Return the correlations of parameters, 0 where one is not determined, (n, n) float64."""
    errors = np.sqrt(np.diag(covariance))
    size = np.outer(errors, errors)
    return np.asarray(
        np.divide(covariance, size, out=np.zeros_like(covariance), where=size > 0), np.float64
    )


def _table(
    headings: tuple[str, ...], rows: Iterable[tuple[str, ...]], caption: str
) -> list[str]:  # fmt: skip
    table = Table(box=None, padding=(0, 2, 0, 0))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    text = StringIO()
    Console(file=text, width=WIDTH, color_system=None).print(table)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return [*lines, caption] if caption else lines
