"""What a program made: checked, and written as the native engine writes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import h5py
import numpy as np

from nxmpi.cctw.result import Sums, columns_of, read_column, require_agreement, require_volume
from nxmpi.cctw.scratch import OUTPUT, VOLUME
from nxmpi.nexus import schema
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.decompose import block_range
from nxmpi.pipeline.engine.task import named
from nxmpi.pipeline.transform import factors_of
from nxmpi.pipeline.volume import write_volume
from nxmpi.stages.bricks import WIDTH, Pillar

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.nexus.volume import VolumeFile
    from nxmpi.pipeline.engine.task import Task

log = logging.getLogger(__name__)


def check_result(group: MPI.Intracomm, task: Task, twin: schema.Twin) -> list[Pillar]:
    """Return the parts of the volume that this rank is to write, if it is what it must be.

    Collective on ``group``: each rank reads a part.

    Raises
    ------
    CollectiveError
        On every rank, if it is not.
    """
    path, expected, shape = task.folder / OUTPUT, task.expected, task.plan.grid.array_shape
    with all_or_none(group), named(task.plan.files.wrapper, task.plan.name, twin):
        require_volume(path, VOLUME, shape)
        everything = columns_of(shape, expected.edge)
        mine = everything[slice(*block_range(len(everything), group.size, group.rank))]
        with h5py.File(path, "r") as file:
            volumes = [file[f"{VOLUME}/{name}"] for name in (schema.COUNTS, schema.NORM)]
            columns = [read_column(volumes, start, expected.edge, WIDTH) for start in mine]
    everyone = group.gather(columns)
    with all_or_none(group), named(task.plan.files.wrapper, task.plan.name, twin):
        if everyone is not None:
            index = 1 if twin == schema.MASKED else 0
            sums, near = expected.sums, expected.near
            inexact = require_agreement(
                [column for some in everyone for column in some],
                Sums(sums.counts[index] * 1.0, near.counts[index] * 1.0),
                Sums(sums.norm[index] * task.unit, near.norm[index] * task.unit),
                expected.edge,
            )
            if inexact:
                log.warning(
                    "%s: more than 2^24 counts in some voxels, of which single precision, in which "
                    "%s adds, loses some", task.plan.name, task.job.program.version,
                )  # fmt: skip
    return [Pillar(l, k, 0, shape[2]) for column in columns for l, k in column.used]


def write_result(group: MPI.Intracomm, task: Task, file: VolumeFile, pillars: list[Pillar]) -> None:
    """Write the volume as the native engine does, and remove the program's.

    Collective on ``group``.
    """
    attributes = {n: v for n, v in file.attributes.items() if n != schema.NORM_UNIT}
    path = task.folder / OUTPUT
    with h5py.File(path, "r") as source:
        volumes = {name: source[f"{VOLUME}/{name}"] for name in file.fills}

        def fill(pillar: Pillar) -> dict[str, F8]:
            where = np.s_[pillar.l : pillar.l + WIDTH, pillar.k : pillar.k + WIDTH]
            return {name: volume[where].astype(float) for name, volume in volumes.items()}

        file = file._replace(attributes=attributes, factors=factors_of(task.measured))
        write_volume(group, task.job.output, file, pillars, fill)
    on_root(group, path.unlink)
