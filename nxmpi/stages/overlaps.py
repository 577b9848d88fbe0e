"""Where positions overlap: sums in cubes of 8^3 voxels, and all of them on the root."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels.overlaps import CUBE, CUBE_SQUARE, NDOF, add_overlaps, overlap_intensity
from nxmpi.parallel.arrays import gather_rows
from nxmpi.stages.bricks import WIDTH

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F8, I8
    from nxmpi.stages.bricks import Pillar

BRIGHT = 0.05
"""Part of the voxels of a chunk, the brightest, that are looked at apart [1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlaps:
    """Sums of the voxels that several positions reached; see `nxmpi.kernels.overlaps`.

    Only cubes with anything in them are there. On a rank 8 bytes for each number: with P
    positions and M = P (P - 1) / 2 pairs, 4 + 3 P + 3 M a cube and 7 M a pillar.
    """

    places: I8
    """(n_cubes,) int64, index of each cube in the map in C order."""
    cubes: F8
    """(n_cubes, 5) float64"""
    positions: F8
    """(n_cubes, n_positions, 3) float64"""
    pairs: F8
    """(n_cubes, n_pairs, 3) float64"""
    totals: F8
    """(n_pillars, n_pairs, 7) float64"""

    @property
    def of_cubes(self) -> tuple[I8, F8, F8, F8]:
        """All arrays with a row for each cube."""
        return self.places, self.cubes, self.positions, self.pairs

    @property
    def n_positions(self) -> int:
        """Number of positions."""
        return int(self.positions.shape[1])


def map_shape(array_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the number of cubes along l, k, h."""
    n_l, n_k, n_h = (-(-n // CUBE) for n in array_shape)
    return n_l, n_k, n_h


def pairs_of(n: int) -> list[tuple[int, int]]:
    """Return the pairs of n positions in the order of the sums."""
    return list(combinations(range(n), 2))


def pillar_overlaps(
    counts: F8, norm: F8, pillar: Pillar, array_shape: tuple[int, int, int]
) -> Overlaps:
    """Return the sums of one pillar. Not collective.

    Parameters
    ----------
    counts, norm : (n_positions, at most 32, at most 32, n_h) float64
        Of the pillar.
    array_shape : tuple of int
        (n_l, n_k, n_h) of the whole volume [voxels].

    Notes
    -----
    Bragg peaks vary inside of a voxel, which positions sample at different points, so that the
    brightest 5 % of the overlap in each chunk, where they have 5 counts at least, are kept out
    of all but two sums. Which voxels these are depends on the sum of the counts of all positions;
    given that sum, how it divides between positions that agree is binomial whatever the
    intensity, so that choosing so shifts no mean.
    """
    n_positions = len(counts)
    n_pairs = len(pairs_of(n_positions))
    shape = map_shape(counts.shape[1:])
    cubes, positions = np.zeros((*shape, 5)), np.zeros((*shape, n_positions, 3))
    pairs, totals = np.zeros((*shape, n_pairs, 3)), np.zeros((n_pairs, 7))
    add_overlaps(counts, norm, _limits(counts, norm), WIDTH, cubes, positions, pairs, totals)
    filled = np.nonzero((cubes[..., NDOF] > 0) | (cubes[..., CUBE_SQUARE] > 0))
    corner = (pillar.l // CUBE, pillar.k // CUBE, pillar.h_start // CUBE)
    where = tuple(part + start for part, start in zip(filled, corner, strict=True))
    places = np.ravel_multi_index(where, map_shape(array_shape))
    return Overlaps(
        places=places.astype(np.int64), cubes=cubes[filled], positions=positions[filled],
        pairs=pairs[filled], totals=totals[None],
    )  # fmt: skip


def _limits(counts: F8, norm: F8) -> F8:
    intensity = np.empty(counts.shape[1:])
    overlap_intensity(counts, norm, intensity)
    limits = []
    for start in range(0, counts.shape[3], WIDTH):
        values = intensity[:, :, start : start + WIDTH]
        values = values[np.isfinite(values)]
        # one of the values, never a mean of two
        limits.append(np.quantile(values, 1 - BRIGHT, method="lower") if values.size else 0.0)
    return np.array(limits)


def gather_overlaps(comm: MPI.Intracomm, parts: list[Overlaps], n_positions: int) -> Overlaps:
    """Return the sums of all pillars on the root; elsewhere nothing but the right shapes.

    Collective on ``comm``. Ranks own pillars in rank order, so that what the root has is in
    the order of the grid, and the same on any number of ranks.
    """
    n_pairs = len(pairs_of(n_positions))
    columns = (1, 5, 3 * n_positions, 3 * n_pairs)
    rows = [
        np.concatenate(
            [sums.reshape(len(sums), n) for sums, n in zip(p.of_cubes, columns, strict=True)],
            axis=1,
        )
        for p in parts
    ]
    cubes = gather_rows(comm, np.concatenate([np.empty((0, sum(columns))), *rows]), "found")
    totals = [
        np.empty((0, 7 * n_pairs)),
        *(p.totals.reshape(len(p.totals), 7 * n_pairs) for p in parts),
    ]
    all_totals = gather_rows(comm, np.concatenate(totals), "found")
    places, sums, positions, pairs = np.split(cubes, np.cumsum(columns)[:-1], axis=1)
    return Overlaps(
        places=places[:, 0].astype(np.int64), cubes=sums,
        positions=positions.reshape(len(cubes), n_positions, 3),
        pairs=pairs.reshape(len(cubes), n_pairs, 3),
        totals=all_totals.reshape(len(all_totals), n_pairs, 7),
    )  # fmt: skip
