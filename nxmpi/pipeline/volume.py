"""Volumes to files: every rank writes the pillars it owns, in rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.nexus.volume import create_volume
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.h5 import create_file, filters
from nxmpi.stages.bricks import WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.nexus.volume import VolumeFile
    from nxmpi.params import OutputParams
    from nxmpi.stages.bricks import Pillar

    Create = Callable[[h5py.File, VolumeFile, Mapping[str, object]], None]


def write_volume(
    comm: MPI.Intracomm, output: OutputParams, target: VolumeFile, pillars: list[Pillar],
    fill: Callable[[Pillar], Mapping[str, F8]], create: Create = create_volume,
) -> None:  # fmt: skip
    """Write a volume under a temporary name.

    Collective on ``comm``. Chunks are aligned with pillars, so that each is written once, by
    the rank that owns it; chunks outside all pillars are not written at all.

    Parameters
    ----------
    pillars : list of Pillar
        Of this rank; no two ranks have the same.
    fill : callable
        Returns the (at most 32, at most 32, n_h) float64 arrays of a pillar, by dataset.
    create : callable
        Creates the datasets in the open file of the root.
    """
    rounds = largest(comm, len(pillars))
    starts = [(p.l, p.k, h) for p in pillars for h in range(p.h_start, p.h_stop, WIDTH)]
    paths = {name: f"{target.space.group}/{name}" for name in target.fills}
    nothing = np.empty((0, 0, 0), target.dtype)

    def create_all(file: h5py.File) -> None:
        create(file, target, filters(output.compression))

    chunks = dict.fromkeys(paths.values(), starts)
    root_writes = output.root_writes
    with create_file(comm, target.path, create_all, chunks, root_writes=root_writes) as out:
        for n in range(rounds):
            pieces = dict.fromkeys(paths, nothing)
            where = (slice(0, 0),) * 3
            if n < len(pillars):
                l, k, start, stop = pillars[n]
                values = fill(pillars[n])
                pieces = {name: values[name].astype(target.dtype, copy=False) for name in paths}
                n_l, n_k, _ = next(iter(pieces.values())).shape
                where = (slice(l, l + n_l), slice(k, k + n_k), slice(start, stop))
            out.write_round({path: (where, pieces[name]) for name, path in paths.items()})
