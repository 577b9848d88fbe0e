"""Volumes to files: every rank writes the pillars it owns, in rounds."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.nexus.volume import create_volume
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.h5 import create_file, filters
from nxmpi.parallel.signals import stop_if_wished, wished
from nxmpi.stages.bricks import WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import h5py
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi.nexus.volume import VolumeFile
    from nxmpi.parallel.h5 import Output
    from nxmpi.params import OutputParams
    from nxmpi.stages.bricks import Pillar

    Corner = tuple[int, int, int]
    Values = Mapping[str, NDArray[Any]]
    Create = Callable[[h5py.File, VolumeFile, Mapping[str, object]], None]


def write_volume(
    comm: MPI.Intracomm, output: OutputParams, target: VolumeFile, pillars: list[Pillar],
    fill: Callable[[Pillar], Values],
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
    """
    chunks = [(p.l, p.k, h) for p in pillars for h in range(p.h_start, p.h_stop, WIDTH)]
    with _created(comm, output, target, chunks, create_volume) as (out, paths):
        corners = [(p.l, p.k, p.h_start) for p in pillars]
        write_parts(out, paths, target.dtype, corners, lambda n: fill(pillars[n]))


def write_slabs(
    comm: MPI.Intracomm, output: OutputParams, target: VolumeFile, values: Values,
    first: tuple[int, int], create: Create = create_volume,
) -> None:  # fmt: skip
    """Write a volume as `write_volume` does, from slabs, and look in each round for a wish to stop.

    Collective on ``comm``. For what is made again from the beginning if it is stopped.

    Parameters
    ----------
    values : mapping of str to (n_l, n_k, n_h)
        This rank's slab of whole chunks, by dataset.
    first : tuple of int
        Its first voxel along l and k.
    create : callable
        Creates the datasets in the open file of the root.

    Raises
    ------
    StoppedError
        On every rank, if any heard a wish to stop; the file is closed, and of no use.
    """
    n_l, n_k, n_h = next(iter(values.values())).shape
    corners = [(l, k, 0) for l in range(0, n_l, WIDTH) for k in range(0, n_k, WIDTH)]

    def fill(n: int) -> Values:
        l, k, _ = corners[n]
        return {name: slab[l : l + WIDTH, k : k + WIDTH] for name, slab in values.items()}

    places = [(first[0] + l, first[1] + k, 0) for l, k, _ in corners]
    chunks = [(l, k, h) for l, k, _ in places for h in range(0, n_h, WIDTH)]
    with _created(comm, output, target, chunks, create) as (out, paths):
        parts = (paths, target.dtype, places, fill)
        write_parts(out, *parts, lambda: wished(comm) is not None)
    stop_if_wished(comm)


@contextmanager
def _created(
    comm: MPI.Intracomm, output: OutputParams, target: VolumeFile, chunks: list[Corner],
    create: Create,
) -> Iterator[tuple[Output, dict[str, str]]]:  # fmt: skip
    """Create a volume's file; yield it and the paths of its datasets. Collective on ``comm``."""
    paths = {name: f"{target.space.group}/{name}" for name in target.fills}

    def create_all(file: h5py.File) -> None:
        create(file, target, filters(output.compression))

    written = dict.fromkeys(paths.values(), chunks)
    root_writes = output.root_writes
    with create_file(comm, target.path, create_all, written, root_writes=root_writes) as out:
        yield out, paths


def write_parts(
    out: Output, paths: Mapping[str, str], dtype: str, corners: Sequence[Corner],
    fill: Callable[[int], Values], is_enough: Callable[[], bool] = lambda: False,
) -> None:  # fmt: skip
    """Write the parts of volumes that each rank has, a part of every rank in a round.

    Collective on the output's communicator.

    Parameters
    ----------
    paths : mapping
        Of the datasets, by name.
    corners : sequence of tuple of int
        First voxel of each part of this rank along l, k, h.
    fill : callable
        Returns the (n_l, n_k, n_h) arrays of a part, by name.
    is_enough : callable, optional
        Asked before each round, on every rank, whether to leave out the rest.
    """
    nothing = np.empty((0, 0, 0), dtype)
    for n in range(largest(out.comm, len(corners))):
        if is_enough():
            return
        pieces = dict.fromkeys(paths, nothing)
        where = (slice(0, 0),) * 3
        if n < len(corners):
            values = fill(n)
            pieces = {name: values[name].astype(dtype, copy=False) for name in paths}
            l, k, h = corners[n]
            n_l, n_k, n_h = next(iter(pieces.values())).shape
            where = (slice(l, l + n_l), slice(k, k + n_k), slice(h, h + n_h))
        out.write_round({path: (where, pieces[name]) for name, path in paths.items()})
