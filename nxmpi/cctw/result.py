"""Whether a program's volume is what it must be: its exit status says little."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np

from nxmpi.errors import NxmpiError
from nxmpi.nexus.schema import COUNTS, NORM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nxmpi._typing import F4, F8

EXACT = 2.0**24
"""From which on single precision loses counts."""
TOLERANCE = 1e-4
"""Relative difference of sums in single precision from true ones."""


class Block(NamedTuple):
    """Sums of a block of voxels."""

    counts: float
    norm: float
    inexact: bool
    """Some voxel has more counts than single precision can add to."""


class Column(NamedTuple):
    """Blocks along h, beginning at a voxel along l and k; part of a volume that a rank reads."""

    l: int
    k: int
    blocks: list[Block]
    used: list[tuple[int, int]]
    """First voxels along l and k of the chunks' width in which something is."""


def require_volume(path: Path, group: str, shape: tuple[int, int, int]) -> None:
    """Make sure that a file holds counts and norm. Not collective.

    Raises
    ------
    NxmpiError
        If it is missing or cannot be read, lacks either, or has them in another shape.
    """
    if not path.exists():
        raise NxmpiError(f"{path.name}: expected the volume that the program ended well with, "
                         "found no file")  # fmt: skip
    try:
        with h5py.File(path, "r") as file:
            for name in (COUNTS, NORM):
                dataset = file.get(f"{group}/{name}")
                if not isinstance(dataset, h5py.Dataset):
                    raise NxmpiError(f"{path.name}:/{group}/{name}: expected a volume, found none")
                if dataset.shape != shape:
                    raise NxmpiError(
                        f"{path.name}:/{group}/{name}: expected shape {shape}, found "
                        f"{dataset.shape}"
                    )
    except OSError as error:
        raise NxmpiError(f"{path.name}: expected an HDF5 file, found: {error}") from error


def columns_of(shape: tuple[int, int, int], edge: int) -> list[tuple[int, int]]:
    """Return where the columns of blocks of a volume begin along l and k."""
    return [*product(range(0, shape[0], edge), range(0, shape[1], edge))]


def read_column(
    volumes: Sequence[h5py.Dataset], start: tuple[int, int], edge: int, width: int
) -> Column:
    """Read a column of counts and norm, and add up its blocks. Not collective.

    Parameters
    ----------
    volumes : sequence of Dataset
        Counts and norm, (n_l, n_k, n_h) each.
    width : int
        Of the chunks of the file that is going to be written [voxels].

    Raises
    ------
    NxmpiError
        If it cannot be read, or holds what no sums can be.
    """
    l, k = start
    where = np.s_[l : l + edge, k : k + edge]
    try:
        counts, norm = (volume[where] for volume in volumes)
    except (OSError, RuntimeError) as error:
        raise NxmpiError(f"output: expected to be readable at l {l}, k {k}, found: {error}") from (
            error
        )
    _require_sums(counts, norm, start)
    at = range(0, counts.shape[2], edge)
    blocks = []
    for h in at:
        part = np.s_[:, :, h : h + edge]
        blocks.append(
            Block(
                counts=float(counts[part].sum(dtype=np.float64)),
                norm=float(norm[part].sum(dtype=np.float64)),
                inexact=bool(counts[part].max() >= EXACT),
            )
        )
    used = [
        (l + i, k + j)
        for i, j in product(range(0, counts.shape[0], width), range(0, counts.shape[1], width))
        if counts[i : i + width, j : j + width].any() or norm[i : i + width, j : j + width].any()
    ]
    return Column(l, k, blocks, used)


def _require_sums(counts: F4, norm: F4, start: tuple[int, int]) -> None:
    for name, values in ((COUNTS, counts), (NORM, norm)):
        wrong = ~(np.isfinite(values) & (values >= 0))
        if wrong.any():
            l, k, h = (int(i[0]) for i in np.nonzero(wrong))
            raise NxmpiError(
                f"output: expected sums of 0 or more, found {values[l, k, h]:g} in {name} at "
                f"l {start[0] + l}, k {start[1] + k}, h {h}"
            )
    if ((counts > 0) & (norm == 0)).any():
        raise NxmpiError("output: expected a norm where counts are, found none in some voxels")


class Sums(NamedTuple):
    """Sums over blocks that a volume must come to, (n_l, n_k, n_h) float64."""

    total: F8
    near: F8
    """Of pixels that may be in the next block, or out of the grid, by rounding."""


def require_agreement(columns: Sequence[Column], counts: Sums, norm: Sums, edge: int) -> bool:
    """Make sure that sums over blocks are those of the input. Not collective: for the root.

    Parameters
    ----------
    counts, norm : Sums
    edge : int
        Of a block [voxels].

    Returns
    -------
    bool
        Whether some voxel has more counts than single precision can add to, so that some are
        missing.

    Raises
    ------
    NxmpiError
        If they are not.
    """
    shape = counts.total.shape
    found, inexact = np.zeros((2, *shape)), np.zeros(shape, bool)
    for column in columns:
        where = column.l // edge, column.k // edge
        found[0][where] = [block.counts for block in column.blocks]
        found[1][where] = [block.norm for block in column.blocks]
        inexact[where] = [block.inexact for block in column.blocks]
    for name, values, (expected, near) in zip((COUNTS, NORM), found, (counts, norm), strict=True):
        if expected.sum() > 0 and not values.any():
            raise NxmpiError(
                f"output: expected a sum of {expected.sum():g} in {name}, found zero everywhere"
            )
        slack = TOLERANCE * expected + near
        may_lack = inexact if name == COUNTS else np.zeros_like(inexact)
        wrong = (values > expected + slack) | ((values < expected - slack) & ~may_lack)
        if wrong.any():
            l, k, h = (int(i[0]) for i in np.nonzero(wrong))
            total = f"{values.sum():.9g} instead of {expected.sum():.9g} in all"
            raise NxmpiError(
                f"output: expected a sum of {expected[l, k, h]:.9g} in {name} of the {edge} voxels "
                f"a side from l {l * edge}, k {k * edge}, h {h * edge}, found "
                f"{values[l, k, h]:.9g}; so in {int(wrong.sum())} of {wrong.size} blocks, {total}"
            )
    return bool(inexact.any())
