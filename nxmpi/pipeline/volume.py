"""Volumes to files: every rank writes the pillars it owns, in rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.nexus import schema
from nxmpi.nexus.volume import create_volume
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.h5 import create_file, filters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.model import HKLGrid, Lattice
    from nxmpi.params import OutputParams

Pillar = tuple[int, int]
"""First voxel along l and k."""


class VolumeFile(NamedTuple):
    """What a volume's file is to hold."""

    path: Path
    grid: HKLGrid
    lattice: Lattice | None
    title: str
    fills: Mapping[str, float]
    """Datasets, the signal first, and what stands in voxels never written."""
    dtype: str
    attributes: Mapping[str, str | float]
    """Of the group that holds the datasets."""


def write_volume(
    comm: MPI.Intracomm, output: OutputParams, target: VolumeFile, pillars: list[Pillar],
    fill: Callable[[int, int], Mapping[str, F8] | None],
) -> None:  # fmt: skip
    """Write a volume under a temporary name.

    Collective on ``comm``. Chunks are aligned with pillars, so that each is written once, by
    the rank that owns it; chunks that nothing was measured in are not written at all.

    Parameters
    ----------
    pillars : list of (l, k)
        Of this rank.
    fill : callable
        Returns the (at most 32, at most 32, n_h) float64 arrays of a pillar, by dataset;
        None if nothing was measured there.
    """
    rounds = largest(comm, len(pillars))
    nothing = np.empty((0, 0, 0), target.dtype)
    with create_file(comm, target.path, root_writes=output.root_writes) as out:
        if out.file is not None:
            create_volume(
                out.file, target.grid, target.lattice, target.fills, target.dtype,
                filters(output.compression), target.title,
            )  # fmt: skip
            out.file[schema.VOLUME].attrs.update(target.attributes)
        for n in range(rounds):
            pieces = {name: nothing for name in target.fills}
            where = (slice(0, 0),) * 3
            l, k = pillars[n] if n < len(pillars) else (0, 0)
            values = fill(l, k) if n < len(pillars) else None
            if values:
                pieces = {
                    name: array.astype(target.dtype, copy=False) for name, array in values.items()
                }
                n_l, n_k, n_h = next(iter(pieces.values())).shape
                where = (slice(l, l + n_l), slice(k, k + n_k), slice(0, n_h))
            out.write_round(
                {f"{schema.VOLUME}/{name}": (where, pieces[name]) for name in target.fills}
            )
