"""The combined volume averaged over its Laue group."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import nxmpi
from nxmpi.crystal.lattice import lattice_along
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_sample
from nxmpi.nexus.process import Process, write_process
from nxmpi.nexus.values import entry_names, find, open_file
from nxmpi.nexus.volume import (
    CHUNK,
    VolumeFile,
    open_volume,
    read_grid,
    read_part,
    title_of,
    write_volume_group,
)
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.publish import temporary, unpublished_removed
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.inputs import Inputs, fingerprint, is_complete, read_fingerprint
from nxmpi.pipeline.volume import write_volume
from nxmpi.pipeline.wrapper import now, publish_results, require_writable
from nxmpi.stages.bricks import Pillar
from nxmpi.stages.combine import combine
from nxmpi.stages.planes import as_integers, norm_unit, own_ranges, to_slabs
from nxmpi.stages.symmetrize import Planes, owned_planes, symmetrize

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.model import HKLGrid, Sample
    from nxmpi.params import OutputParams, SymmetrizeParams
    from nxmpi.stages.symmetrize import Symmetrized

log = logging.getLogger(__name__)
STEP = "symmetrize"


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What all ranks need to know of one volume."""

    twin: schema.Twin
    files: schema.ScanFiles
    grid: HKLGrid
    sample: Sample
    group: VoxelGroup
    inputs: Inputs

    @property
    def target(self) -> Path:
        """The file that is made."""
        return self.files.symmetrized(self.twin)


def run_symmetrize(
    comm: MPI.Intracomm, wrapper: Path, params: SymmetrizeParams, output: OutputParams
) -> list[Path]:
    """Average the combined volume, and its masked twin where there is one.

    Collective on ``comm``.

    Returns
    -------
    list of Path
        The files that were written; none if all was complete.

    Raises
    ------
    CollectiveError
        On every rank, if there is no combined volume, or its grid is not that of the symmetry.
    """
    with step_lock(comm, wrapper, schema.SHARED, STEP):
        plans = on_root(comm, lambda: _plans(schema.ScanFiles(wrapper), params, output))
        return [_symmetrize_twin(comm, plan, output) for plan in plans]


def _plans(
    files: schema.ScanFiles, params: SymmetrizeParams, output: OutputParams
) -> list[Plan]:  # fmt: skip
    plans = []
    with open_file(files.wrapper) as wrapper:
        sample = read_sample(wrapper[entry_names(wrapper)[0]])
        symbol = params.laue or sample.space_group or sample.laue_group
        if not symbol:
            raise InputError(
                f"{files.wrapper}:/{schema.SHARED}/{schema.SAMPLE}: expected a space group or Laue "
                "group, found neither (--laue names it)"
            )
        operators = laue_operators(symbol)
        for twin in (schema.REGULAR, schema.MASKED):
            file = files.combined(twin)
            grid = read_grid(find(wrapper[schema.SHARED], twin.group))
            if twin is schema.MASKED and not file.exists():
                continue
            if grid is None or not file.exists():
                raise InputError(
                    f"{file}: expected a combined volume, found none (nxmpi combine makes it)"
                )
            inputs: Inputs = {
                "program": f"nxmpi {nxmpi.__version__}", "laue": operators.tolist(),
                "volume": read_fingerprint(file) or f"{file.stat().st_mtime_ns}",
            }  # fmt: skip
            done, reason = False, "--overwrite"
            if not output.overwrite:
                done, reason = is_complete(
                    wrapper[schema.SHARED], twin.symmetrize_task, files.symmetrized(twin), inputs
                )
            log.info("%s: %s", twin.symmetrize_task, "complete" if done else reason)
            if not done:
                require_writable(files)
                group = voxel_group(operators, grid)
                plans.append(
                    Plan(twin=twin, files=files, grid=grid, sample=sample, group=group,
                         inputs=inputs)
                )  # fmt: skip
    return plans


def _symmetrize_twin(comm: MPI.Intracomm, plan: Plan, output: OutputParams) -> Path:
    stop_if_wished(comm)
    timer, start_time = Timer(), now()
    with timer.part("read"):
        planes, unit = _read(comm, plan)
    with timer.part("symmetrize"):
        sums = symmetrize(comm, planes, plan.group)
        del planes
    n_l = plan.grid.array_shape[0]
    rows = -(-n_l // CHUNK)
    slabs = [
        (min(start * CHUNK, n_l), min(stop * CHUNK, n_l))
        for start, stop in (block_range(rows, comm.size, rank) for rank in range(comm.size))
    ]
    with unpublished_removed(comm, [plan.target]):
        with timer.part("exchange"):
            made = _intensities(comm, plan, sums, unit, slabs)
        with timer.part("write"):
            _write(comm, plan, made, slabs[comm.rank][0], output)
        line = (
            f"{plan.twin.symmetrize_task}: {len(plan.group.matrices)} operators, "
            f"{timer.summary(comm)}"
        )
        on_root(comm, lambda: _publish(plan, start_time, line))
    log.info("%s", line)
    return plan.target


def _read(comm: MPI.Intracomm, plan: Plan) -> tuple[Planes, float]:
    """Return this rank's planes and the unit of their norm. Collective on ``comm``."""
    first, stop = owned_planes(plan.group, comm.size, comm.rank)
    shape = (2, stop - first, *plan.grid.array_shape[1:])
    top = 0.0
    with all_or_none(comm):
        volume, weight = open_volume(plan.files.combined(plan.twin))
        pieces = list(_pieces(plan.group, comm))
        for _, a, b in pieces:
            low = int(plan.group.low[2])
            norm = read_part(weight, (slice(a - low, b - low), slice(None), slice(None)))
            top = max(top, float(norm.max(initial=0.0)))
    unit = norm_unit(largest(comm, top))
    with all_or_none(comm):
        counts, norms = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for side, a, b in pieces:
            where = (slice(a - low, b - low), slice(None), slice(None))
            values = as_integers(read_part(volume, where), read_part(weight, where), unit)
            places = np.abs(np.arange(a, b)) - first
            counts[side, places], norms[side, places] = values
        volume.file.close()
    return Planes(first, counts, norms), unit


def _pieces(group: VoxelGroup, comm: MPI.Intracomm) -> list[tuple[int, int, int]]:
    """Return the planes of this rank a chunk at a time: side, range of l. Not collective."""
    return [
        (side, start, min(start + CHUNK, b))
        for side, a, b in own_ranges(group, comm.size, comm.rank)
        for start in range(a, b, CHUNK)
    ]


def _intensities(
    comm: MPI.Intracomm, plan: Plan, sums: Symmetrized, unit: float,
    slabs: list[tuple[int, int]],
) -> dict[str, F8]:  # fmt: skip
    """Return what is written of this rank's slab. Collective on ``comm``."""
    with all_or_none(comm):
        single = [np.empty(sums.counts.shape, np.float32) for _ in range(3)]
        for s in range(2):
            for p in range(sums.counts.shape[1]):
                values = combine([sums.counts[s, p].astype(np.float64)], [sums.norm[s, p] * unit])
                for array, plane in zip(single, values, strict=True):
                    array[s, p] = plane
    names = (schema.SYMMETRIZED, schema.NORM, schema.SYMMETRIZED_ERRORS)
    made = {
        name: to_slabs(comm, array, plan.group, slabs)
        for name, array in zip(names, single, strict=True)
    }
    made[schema.IMAGES] = to_slabs(comm, sums.images.astype(np.float32), plan.group, slabs)
    return made


def _write(
    comm: MPI.Intracomm, plan: Plan, made: dict[str, F8], start: int, output: OutputParams
) -> None:  # fmt: skip
    n, n_k, n_h = made[schema.NORM].shape
    pillars = [
        Pillar(start + l, k, 0, n_h) for l in range(0, n, CHUNK) for k in range(0, n_k, CHUNK)
    ]

    def fill(pillar: Pillar) -> dict[str, F8]:
        l, k = pillar.l - start, pillar.k
        return {name: values[l : l + CHUNK, k : k + CHUNK] for name, values in made.items()}

    write_volume(comm, output, _file(plan, temporary(plan.target)), pillars, fill)


def _file(plan: Plan, path: Path) -> VolumeFile:
    return VolumeFile(
        path=path,
        grid=plan.grid,
        lattice=lattice_along(plan.sample.lattice, plan.grid.axes),
        title=title_of(plan.sample, plan.files.scan, plan.twin.symmetrized),
        fills={
            schema.SYMMETRIZED: np.nan, schema.NORM: 0.0, schema.SYMMETRIZED_ERRORS: np.nan,
            schema.IMAGES: 0.0,
        },
        dtype="f4",
        attributes={schema.FINGERPRINT: fingerprint(plan.inputs)},
    )  # fmt: skip


def _publish(plan: Plan, start_time: str, line: str) -> None:
    """Not collective: the root calls it."""
    links = {
        "data": schema.SYMMETRIZED, "weights": schema.NORM,
        "data_errors": schema.SYMMETRIZED_ERRORS,
    }  # fmt: skip
    process = Process(
        task=plan.twin.symmetrize_task, start_time=start_time, end_time=now(), note=line,
        inputs=plan.inputs,
    )  # fmt: skip

    def change(file: h5py.File) -> None:
        entry = file[schema.SHARED]
        volume = _file(plan, plan.target)
        write_volume_group(entry, plan.twin.symmetrized, volume, f"nxmpi {STEP}", links)
        write_process(entry, process)

    publish_results(plan.files.wrapper, [plan.target], change)
