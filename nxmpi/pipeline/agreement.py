"""How well positions agree, in words for the log and the record."""

from __future__ import annotations

import io
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nxmpi._typing import F8
    from nxmpi.model import Agreement

WIDTH = 90
"""Characters of a line."""


def describe_agreement(agreement: Agreement, *, refined: bool) -> str:
    """Return what is known of the agreement of positions: a sentence and a table of pairs.

    Parameters
    ----------
    refined : bool
        Whether the scales were refined, and are to be told.
    """
    if len(agreement.names) == 1:
        return "one position: nothing to compare it with"
    lines = []
    if refined:
        told = describe_scales(agreement.names, agreement.scales, agreement.scale_errors)
        lines.append(f"scales of the positions: {told}")
    if not np.isfinite(agreement.chi2):
        return "\n".join([*lines, "positions do not overlap: nothing tells whether they agree"])
    lines.append(
        f"chi squared of the overlaps per degree of freedom: {agreement.chi2:.4g} "
        f"(1 ± {agreement.chi2_error:.2g} if positions agree); "
        f"{100 * agreement.disagreeing:.2g} % of the cubes of 8³ voxels disagree"
    )
    return "\n".join([*lines, _table(agreement)])


def describe_scales(names: Sequence[str], scales: F8, errors: F8) -> str:
    """Return the scales of positions, (n,) float64 each, the first of which is 1."""
    values = zip(names, scales, errors, strict=True)
    told = [f"{name} {value:.5f} ± {error:.5f}" for name, value, error in values if error]
    return ", ".join([f"{names[0]} 1", *told])


def _table(agreement: Agreement) -> str:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("pair")
    for name in ("voxels", "ratio", "error", "scatter", "chi²/ndof", "bright differ"):
        table.add_column(name, justify="right")
    for p, q in combinations(range(len(agreement.names)), 2):
        pair = f"{agreement.names[p]} / {agreement.names[q]}"
        if not np.isfinite(agreement.ratio[p, q]):
            table.add_row(pair, f"{agreement.voxels[p, q]}", *["–"] * 5)
            continue
        table.add_row(
            pair, f"{agreement.voxels[p, q]}", f"{agreement.ratio[p, q]:.5f}",
            f"{agreement.ratio_errors[p, q]:.5f}", percent(agreement.scatter[p, q]),
            f"{agreement.pair_chi2[p, q]:.3f}", percent(agreement.bright[p, q]),
        )  # fmt: skip
    text = io.StringIO()
    Console(file=text, width=WIDTH, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())


def percent(part: float) -> str:
    """Return a part as text, ``–`` where it is not known."""
    return f"{100 * part:.1f} %" if np.isfinite(part) else "–"
