"""The transforms of all positions to one combined volume."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

import nxmpi
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_sample
from nxmpi.nexus.process import Process, read_inputs, write_process
from nxmpi.nexus.values import entry_names, find, open_file
from nxmpi.nexus.volume import (
    VolumeFile,
    has_chunk,
    open_volume,
    read_grid,
    read_part,
    title_of,
    write_volume_group,
)
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.progress import progress
from nxmpi.parallel.publish import temporary, unpublished_removed
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.inputs import Inputs, fingerprint, is_complete, read_fingerprint
from nxmpi.pipeline.volume import write_volume
from nxmpi.pipeline.wrapper import now, publish_results, require_writable
from nxmpi.stages.bricks import WIDTH, Pillar
from nxmpi.stages.combine import combine

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.model import HKLGrid, Sample
    from nxmpi.params import OutputParams

log = logging.getLogger(__name__)
STEP = "combine"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all ranks need to know of one combined volume."""

    twin: schema.Twin
    files: schema.ScanFiles
    names: list[str]
    grid: HKLGrid
    sample: Sample | None
    inputs: Inputs


def run_combine(comm: MPI.Intracomm, wrapper: Path, output: OutputParams) -> list[Path]:
    """Combine the transforms of all positions, and their masked twins where there are any.

    Collective on ``comm``.

    Returns
    -------
    list of Path
        The files that were written; none if all was complete.

    Raises
    ------
    CollectiveError
        On every rank, if a transform is missing or has another grid.
    StoppedError
        On every rank, before a volume that is left to do, if any heard a wish to stop.
    """
    with step_lock(comm, wrapper, schema.SHARED, STEP):
        plans = on_root(comm, lambda: _plans(schema.ScanFiles(wrapper), output))
        return [_combine_twin(comm, plan, output) for plan in plans]


def _plans(files: schema.ScanFiles, output: OutputParams) -> list[Plan]:
    plans = []
    with open_file(files.wrapper) as wrapper:
        names = entry_names(wrapper)
        sample = read_sample(wrapper[names[0]])
        for twin in (schema.REGULAR, schema.MASKED):
            lacking = [n for n in names if read_inputs(wrapper[n], twin.transform_task) is None]
            if twin is schema.MASKED and len(lacking) == len(names):
                continue
            if lacking:
                raise InputError(
                    f"{files.wrapper}: expected {twin.transform_task} of all positions, found "
                    f"none of {', '.join(lacking)} (nxmpi transform makes them)"
                )
            grid = _common_grid(wrapper, names, twin)
            inputs: Inputs = {"program": f"nxmpi {nxmpi.__version__}"}
            for name in names:
                file = files.transform(name, twin)
                inputs[name] = read_fingerprint(file) or _identity(file)
            if schema.SHARED not in wrapper:
                raise InputError(f"{files.wrapper}:/{schema.SHARED}: expected a group, found none")
            done, reason = False, "--overwrite"
            if not output.overwrite:
                done, reason = is_complete(
                    wrapper[schema.SHARED], twin.combine_task, files.combined(twin), inputs
                )
            log.info(
                "%s is complete" if done else "%s (%s)",
                *((twin.combine_task,) if done else (twin.combine_task, reason)),
            )
            if not done:
                require_writable(files)
                plans.append(
                    Plan(
                        twin=twin, files=files, names=names, grid=grid, sample=sample, inputs=inputs
                    )
                )
    return plans


def _identity(file: Path) -> str:
    if not file.exists():
        raise InputError(f"{file}: expected a transform, found none (nxmpi transform makes it)")
    status = file.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def _common_grid(wrapper: h5py.File, names: list[str], twin: schema.Twin) -> HKLGrid:
    grids = {name: read_grid(find(wrapper[name], twin.group)) for name in names}
    first = grids[names[0]]
    for name, grid in grids.items():
        if grid is None or grid != first:
            raise InputError(
                f"{wrapper.filename}:/{name}/{twin.group}: expected the grid of {names[0]}, "
                f"{first}, found {grid} (nxmpi transform --overwrite makes them alike)"
            )
    assert first is not None
    return first


def _combine_twin(comm: MPI.Intracomm, plan: Plan, output: OutputParams) -> Path:
    stop_if_wished(comm)
    timer, start_time = Timer(), now()
    target = plan.files.combined(plan.twin)
    with all_or_none(comm):
        volumes = [open_volume(plan.files.transform(name, plan.twin)) for name in plan.names]
        for name, (counts, _) in zip(plan.names, volumes, strict=True):
            if counts.shape != plan.grid.array_shape:
                raise InputError(
                    f"{counts.file.filename}:{counts.name}: expected shape "
                    f"{plan.grid.array_shape} as /{name}/{plan.twin.group} says, "
                    f"found {counts.shape}"
                )
        everything = _pillars([counts for counts, _ in volumes])
    mine = everything[slice(*block_range(len(everything), comm.size, comm.rank))]
    with (
        unpublished_removed(comm, [target]),
        progress(comm, STEP, len(mine), "pillars") as bar,
    ):

        def fill(pillar: Pillar) -> dict[str, F8]:
            l, k, start, stop = pillar
            where = np.s_[l : l + WIDTH, k : k + WIDTH, start:stop]
            with timer.part("read"):
                counts = [read_part(c, where) for c, _ in volumes]
                norm = [read_part(n, where) for _, n in volumes]
            with timer.part("combine"):
                intensity, weight, errors = combine(counts, norm)
            bar.advance(1)
            return {schema.COUNTS: intensity, schema.NORM: weight, schema.ERRORS: errors}

        with timer.part("write and the rest"):
            write_volume(comm, output, _file(plan, temporary(target)), mine, fill)
        line = f"{plan.twin.combine_task}: {len(plan.names)} positions, {timer.summary(comm)}"

        def publish_all() -> None:
            publish_results(
                plan.files.wrapper,
                [target],
                lambda file: _write_records(file[schema.SHARED], plan, start_time, line),
            )

        on_root(comm, publish_all)
    for counts, _ in volumes:
        counts.file.close()
    log.info("%s", line)
    return target


def _pillars(volumes: list[h5py.Dataset]) -> list[Pillar]:
    """Return the pillars in which any volume has something, the same on every rank."""
    n_l, n_k, n_h = volumes[0].shape
    pillars = []
    for l, k in product(range(0, n_l, WIDTH), range(0, n_k, WIDTH)):
        along = [h for h in range(0, n_h, WIDTH) if any(has_chunk(v, (l, k, h)) for v in volumes)]
        if along:
            pillars.append(Pillar(l, k, along[0], min(along[-1] + WIDTH, n_h)))
    return pillars


def _file(plan: Plan, path: Path) -> VolumeFile:
    return VolumeFile(
        path=path,
        grid=plan.grid,
        lattice=plan.sample.lattice if plan.sample else None,
        title=title_of(plan.sample, plan.files.scan, plan.twin.group),
        fills={schema.COUNTS: np.nan, schema.NORM: 0.0, schema.ERRORS: np.nan},
        dtype="f4",
        attributes={schema.FINGERPRINT: fingerprint(plan.inputs)},
    )


def _write_records(entry: h5py.Group, plan: Plan, start_time: str, line: str) -> None:
    volume = _file(plan, plan.files.combined(plan.twin))
    write_volume_group(entry, plan.twin, volume, f"nxmpi {STEP}")
    process = Process(
        task=plan.twin.combine_task, start_time=start_time, end_time=now(), note=line,
        inputs=plan.inputs,
    )  # fmt: skip
    write_process(entry, process)
