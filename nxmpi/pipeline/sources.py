"""The transforms of all positions of a scan, read pillar by pillar."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.volume import has_chunk, open_volume, read_part
from nxmpi.parallel.decompose import block_range
from nxmpi.stages.bricks import WIDTH, Pillar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import F8


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """The open volumes of all positions, and this rank's part of them."""

    volumes: list[tuple[h5py.Dataset, h5py.Dataset]]
    """Counts and norm, (n_l, n_k, n_h) each."""
    hits: list[h5py.Dataset]
    """Numbers of pixels, (n_l, n_k, n_h) each; none unless all positions have them."""
    mine: list[Pillar]
    """Pillars of this rank; those of all ranks, in rank order, are in the order of the grid."""

    def read(self, pillar: Pillar) -> tuple[F8, F8]:
        """Return counts and norm of a pillar, (n_positions, ...) float64. Not collective."""
        where = slices_of(pillar)
        counts = np.stack([read_part(c, where) for c, _ in self.volumes])
        return counts, np.stack([read_part(n, where) for _, n in self.volumes])

    def read_hits(self, pillar: Pillar) -> F8:
        """Return the number of pixels in the voxels of a pillar, of all positions."""
        return np.asarray(sum(read_part(n, slices_of(pillar)) for n in self.hits))

    def close(self) -> None:
        """Close the files. Not collective."""
        for counts, _ in self.volumes:
            counts.file.close()


def slices_of(pillar: Pillar) -> tuple[slice, slice, slice]:
    """Return where a pillar is in a volume."""
    l, k, start, stop = pillar
    return slice(l, l + WIDTH), slice(k, k + WIDTH), slice(start, stop)


def open_sources(
    comm: MPI.Intracomm, files: Mapping[str, Path], array_shape: tuple[int, int, int]
) -> Sources:  # fmt: skip
    """Open the transforms of all positions. Not collective.

    Parameters
    ----------
    files : mapping
        By position.
    array_shape : tuple of int
        (n_l, n_k, n_h) that the scan file says.

    Raises
    ------
    InputError
        If one cannot be read, or has another shape.
    """
    volumes = [open_volume(file) for file in files.values()]
    for (name, file), (counts, _) in zip(files.items(), volumes, strict=True):
        if counts.shape != array_shape:
            raise InputError(
                f"{file}:{counts.name}: expected shape {array_shape} as the scan file says of "
                f"{name}, found {counts.shape}"
            )
    groups = [counts.parent for counts, _ in volumes]
    all_have = all(schema.HITS in group for group in groups)
    hits = [group[schema.HITS] for group in groups] if all_have else []
    everything = _pillars([counts for counts, _ in volumes])
    mine = everything[slice(*block_range(len(everything), comm.size, comm.rank))]
    return Sources(volumes=volumes, hits=hits, mine=mine)


def _pillars(volumes: list[h5py.Dataset]) -> list[Pillar]:
    """Return the pillars in which any volume has something, the same on every rank."""
    n_l, n_k, n_h = volumes[0].shape
    pillars = []
    for l, k in product(range(0, n_l, WIDTH), range(0, n_k, WIDTH)):
        along = [h for h in range(0, n_h, WIDTH) if any(has_chunk(v, (l, k, h)) for v in volumes)]
        if along:
            pillars.append(Pillar(l, k, along[0], min(along[-1] + WIDTH, n_h)))
    return pillars
