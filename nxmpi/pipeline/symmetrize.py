"""The combined volume averaged over its Laue group."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.lattice import lattice_along
from nxmpi.log import now
from nxmpi.nexus import schema
from nxmpi.nexus.process import write_process
from nxmpi.nexus.shells import R_INT, R_WEIGHTED, describe_residuals, write_shells
from nxmpi.nexus.volume import CHUNK, VolumeFile, create_volume, write_volume_group
from nxmpi.parallel.collective import on_root
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.publish import temporary, unpublished_removed
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.slabs import chunked_slabs
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.averaged import averaged, told
from nxmpi.pipeline.inputs import fingerprint
from nxmpi.pipeline.symmetrize_plan import STEP, averages_due
from nxmpi.pipeline.volume import write_slabs
from nxmpi.pipeline.wrapper import publish_results, require_writable_for
from nxmpi.stages.planes import to_slabs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import F8, I8
    from nxmpi.params import OutputParams, SymmetrizeParams
    from nxmpi.pipeline.averaged import Values
    from nxmpi.pipeline.symmetrize_plan import Plan
    from nxmpi.stages.shells import Shells

log = logging.getLogger(__name__)


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
    StoppedError
        On every rank, if any heard a wish to stop; the volume under way is to be begun again.
    """
    with step_lock(comm, wrapper, schema.SHARED, STEP):
        files = schema.ScanFiles(wrapper)
        plans = on_root(
            comm, lambda: require_writable_for(files, averages_due(files, params, output))
        )
        return [_symmetrize_twin(comm, plan, output) for plan in plans]


def _symmetrize_twin(comm: MPI.Intracomm, plan: Plan, output: OutputParams) -> Path:
    stop_if_wished(comm)
    timer, start_time = Timer(), now()
    average = averaged(comm, plan, timer)
    slabs = chunked_slabs(plan.grid.array_shape[0], comm.size, CHUNK)
    volume = _file(plan, average.n_left_out)
    with unpublished_removed(comm, [plan.target]):
        with timer.part("exchange"):
            made: Values = {}
            for name in [*average.values]:
                stop_if_wished(comm)
                made[name] = to_slabs(comm, average.values.pop(name), plan.group, slabs)
        with timer.part("write"):
            create = partial(_create, shells=average.shells)
            file = volume._replace(path=temporary(plan.target))
            write_slabs(comm, output, file, made, (slabs[comm.rank][0], 0), create)
        line = (
            f"{plan.twin.symmetrize_task}: {len(plan.group.matrices)} operators, "
            f"{told(average, plan.outliers)}, {timer.summary(comm)}"
        )
        on_root(comm, lambda: _publish(plan, start_time, line, (volume, average.shells)))
    log.info("%s", line)
    return plan.target


def _file(plan: Plan, n_left_out: int) -> VolumeFile:
    return VolumeFile(
        path=plan.target,
        grid=plan.grid,
        lattice=lattice_along(plan.sample.lattice, plan.grid.axes),
        title=plan.title,
        fills={
            schema.SYMMETRIZED: np.nan, schema.NORM: 0.0, schema.SYMMETRIZED_ERRORS: np.nan,
            schema.IMAGES: 0.0, schema.CHI2: np.nan,
            **({} if plan.scale is None else {schema.SPREAD: 0.0}),
        },
        dtype="f4",
        attributes={
            schema.FINGERPRINT: fingerprint(plan.inputs), schema.LEFT_OUT: n_left_out,
            **({schema.COUNT_PARTS: plan.parts} if plan.parts > 1 else {}),
        },
    )  # fmt: skip


def _create(
    file: h5py.File, volume: VolumeFile, storage: Mapping[str, object], shells: Shells
) -> None:
    create_volume(file, volume, storage)
    describe_residuals(file)
    _write_shells(file[schema.SHARED], schema.SHELLS, volume, shells)


def _write_shells(entry: h5py.Group, name: str, volume: VolumeFile, shells: Shells) -> None:
    columns: dict[str, F8 | I8] = {
        R_INT: shells.r_int, R_WEIGHTED: shells.r_weighted, schema.CHI2: shells.chi2,
        "orbits": shells.orbits, "voxels": shells.voxels,
    }  # fmt: skip
    title = f"{volume.title}: agreement of images"
    write_shells(entry, name, title, shells.edges, columns)


def _publish(
    plan: Plan, start_time: str, line: str, made: tuple[VolumeFile, Shells]
) -> None:  # fmt: skip
    """Not collective: the root calls it."""
    links = {
        "data": schema.SYMMETRIZED, "weights": schema.NORM,
        "data_errors": schema.SYMMETRIZED_ERRORS, schema.CHI2: schema.CHI2,
    }  # fmt: skip

    def change(file: h5py.File) -> None:
        entry, (volume, shells) = file[schema.SHARED], made
        _write_shells(entry, f"{plan.twin.prefix}{schema.SHELLS}", volume, shells)
        write_volume_group(entry, plan.twin.symmetrized, volume, f"nxmpi {STEP}", links)
        task = plan.twin.symmetrize_task
        write_process(entry, task, plan.inputs, start_time=start_time, note=line)

    publish_results(plan.files.wrapper, [plan.target], change)
