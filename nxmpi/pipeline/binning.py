"""Frames of one rotation to bricks: tables from the root, memory or a scratch file, the stage."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.filesize import decimal

from nxmpi.errors import InputError
from nxmpi.nexus.frames import StackReader
from nxmpi.parallel.collective import all_or_none, kept_on_root, on_root
from nxmpi.parallel.memory import available_memory, require_disk
from nxmpi.stages.tables import bcast_tables, covered_bytes, tables_of_volumes
from nxmpi.stages.transform import Store, Transformed, Workspace, transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.kernels.tiles import Tables
    from nxmpi.nexus.stack import Stack
    from nxmpi.parallel.timing import Timer
    from nxmpi.params import TransformParams

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Binning:
    """The frames of a rotation, and what is to be done about them."""

    name: str
    """Of the rotation, for messages."""
    raw: Stack
    mask: Stack | None
    shape: tuple[int, int, int]
    """Voxels along the axes of the grid."""
    scratch: Path
    """Folder for a volume that memory does not hold."""
    advice: str
    """What is to be done where there is not room enough."""


def bin_frames(
    comm: MPI.Intracomm, binning: Binning, build: Callable[[], Tables], params: TransformParams,
    store: Store, timer: Timer,
) -> tuple[Transformed, int]:  # fmt: skip
    """Bin all frames that have a weight.

    Collective on ``comm``.

    Parameters
    ----------
    build : callable
        Returns the tables; called on the root only.

    Returns
    -------
    volume : Transformed
        The bricks of this rank.
    n_frames : int
        Frames that it holds, over all ranks.

    Raises
    ------
    CollectiveError
        On every rank, if there is not room enough, or a frame cannot be read.
    """
    params = replace(params, memory=params.memory or available_memory(comm))
    with timer.part("tables"):
        built = kept_on_root(comm, build)
        scratch = on_root(comm, lambda: _scratch(binning, built, params, comm.size))
        tables = bcast_tables(comm, built)
    with all_or_none(comm):
        reader = StackReader(binning.raw, binning.mask, skip_bad_frames=params.skip_bad_frames)
    workspace = Workspace(store=store, timer=timer, scratch=scratch)
    volume = transform(comm, tables, reader, params, workspace)
    reader.close()
    if volume.bad_frames and comm.rank == 0:
        log.warning("%s: left out frames that cannot be read: %s", binning.name, volume.bad_frames)
    return volume, int((tables.scales > 0).sum()) - len(volume.bad_frames)


def _scratch(
    binning: Binning, tables: Tables | None, params: TransformParams, size: int
) -> Path | None:
    """Return where the volume is to lie if memory does not hold it, None if it does."""
    assert tables is not None  # on the root
    volumes = 2 if params.hits else 1
    table = tables_of_volumes(tables) * volumes
    grid = f"a grid of {' x '.join(str(s) for s in binning.shape)} voxels"
    if table > params.memory:
        raise InputError(
            f"{binning.name}: expected a grid that fits the memory, found "
            f"{grid} whose tables alone take {decimal(table)} of the "
            f"{decimal(params.memory)} of a rank; {binning.advice}"
        )
    needed = covered_bytes(tables) * volumes
    if needed // size + table <= params.memory:
        return None
    folder = binning.scratch
    folder.mkdir(parents=True, exist_ok=True)
    require_disk(
        folder, needed, binning.name,
        f"for {grid}, more than {size} times {decimal(params.memory)} of memory hold; "
        f"{binning.advice}",
    )  # fmt: skip
    log.info("%s: the volume lies in a scratch file in %s", binning.name, folder)
    return folder
