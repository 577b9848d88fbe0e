"""Lists of reflections in text files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path


def read_reflections(path: Path) -> tuple[tuple[float, ...], ...]:
    """Return the rows of a file: h, k, l [r.l.u.] and, where it has them, radii [1/Å].

    Not collective. What follows a ``#`` is a comment.

    Raises
    ------
    InputError
        If it cannot be read, or rows are not of three or four numbers.
    """
    try:
        rows = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected rows of h k l and a radius, found: {error}") from error
    if rows.shape[1] not in (3, 4) or not np.isfinite(rows).all() or (rows[:, 3:] <= 0).any():
        raise InputError(
            f"{path}: expected rows of h, k, l and, if at all, a radius above 0, found "
            f"{rows.shape[0]} rows of {rows.shape[1]} numbers"
        )
    return tuple(tuple(float(value) for value in row) for row in rows)
