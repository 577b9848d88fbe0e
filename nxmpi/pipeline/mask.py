"""The 3-D mask of a position to its file: every rank writes its own frames, in rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.nexus import schema
from nxmpi.nexus.mask import create_mask
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.h5 import create_file, filters
from nxmpi.stages.mask import write_mask as unpack_mask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi.nexus.stack import Stack
    from nxmpi.params import OutputParams
    from nxmpi.stages.own_frames import FrameTables, PassResult


def write_mask(
    comm: MPI.Intracomm, output: OutputParams, path: Path,
    searched: tuple[Stack, FrameTables, PassResult], attributes: Mapping[str, str],
) -> None:  # fmt: skip
    """Write a mask under a temporary name.

    Collective on ``comm``. One frame a chunk; frames without a masked pixel are not written at
    all, and read as zeros. Frames that are not used are masked as a whole.
    """
    raw, tables, result = searched
    n_frames, *shape = raw.shape
    own: dict[int, tuple[bytes | None, bytes | None] | None] = {
        i + tables.first_frame: packed for i, packed in result.masks.items()
    }
    used = range(tables.first_frame, tables.first_frame + tables.n_frames)
    unused = [n for n in range(n_frames) if n not in used]
    own.update(dict.fromkeys(unused[comm.rank :: comm.size]))
    numbers = sorted(own)
    nothing = np.empty((0, 0, 0), np.int8)
    chunks = {schema.MASK: [(n, 0, 0) for n in numbers]}

    def create(file: h5py.File) -> None:
        create_mask(file, raw.shape, None, filters(output.compression), attributes)

    with create_file(comm, path, create, chunks, root_writes=output.root_writes) as out:
        for i in range(largest(comm, len(numbers))):
            where, mask = (slice(0, 0),) * 3, nothing
            if i < len(numbers):
                n = numbers[i]
                packed = own[n]
                mask = np.ones((1, *shape), np.int8)
                if packed is not None:
                    unpack_mask(*packed, mask[0])
                where = (slice(n, n + 1), slice(0, shape[0]), slice(0, shape[1]))
            out.write_round({schema.MASK: (where, mask)})
