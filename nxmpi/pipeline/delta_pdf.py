"""One symmetrized volume to the 3D-ΔPDF: all that is made, written and published."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.crystal.holes import find_holes
from nxmpi.log import now
from nxmpi.nexus import schema
from nxmpi.nexus.process import write_process
from nxmpi.nexus.volume import write_volume_group
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.memory import ranks_of_node, require_memory
from nxmpi.parallel.publish import unpublished_removed
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.slabs import even_slabs
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.averaged import NEEDS
from nxmpi.pipeline.real_space import (
    has,
    pdf_file,
    read_slab,
    sizes_of,
    symmetrized_file,
    total_file,
    window_weights,
    write_beside,
    write_real,
)
from nxmpi.pipeline.wrapper import publish_results
from nxmpi.stages.cost_volumes import pdf_memory, pdf_shared
from nxmpi.stages.fill import punch_and_fill
from nxmpi.stages.karen import Smoothed, karen
from nxmpi.stages.pdf import pdf
from nxmpi.stages.pdf_errors import pdf_errors

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi.params import OutputParams
    from nxmpi.pipeline.real_space import Plan
    from nxmpi.stages.fill import Filled
    from nxmpi.stages.pdf import Pdf

log = logging.getLogger(__name__)
STEP = "pdf"


def make_pdf(comm: MPI.Intracomm, plan: Plan, output: OutputParams) -> list[Path]:
    """Make, write and publish all files of one volume.

    Collective on ``comm``.

    Raises
    ------
    StoppedError
        On every rank, if any heard a wish to stop before all is written; nothing is kept then.
    """
    stop_if_wished(comm)
    timer, start_time = Timer(), now()
    sizes, params = sizes_of(plan), plan.choices.pdf
    needed = pdf_memory(plan.grid.array_shape, sizes, params, comm.size)
    needed += pdf_shared(sizes, params, comm.size) // ranks_of_node(comm)
    require_memory(comm, needed, f"{pdf_file(plan).path}", NEEDS)
    with timer.part("read"):
        volume = read_slab(comm, plan, schema.SYMMETRIZED)
    stop_if_wished(comm)
    with timer.part("window"):
        weights = window_weights(comm, plan)
    with unpublished_removed(comm, plan.targets):
        with timer.part("transform"):
            total = pdf(comm, volume, weights, plan.group, sizes, params)
        with timer.part("write"):
            values = {schema.PDF_SIGNAL: total.real.values}
            write_real(comm, plan, total_file(plan), values, output)
            del total, values
        stop_if_wished(comm)
        with timer.part("punch and fill"):
            filled = _fill(comm, plan, volume, weights)
        with timer.part("write"):
            write_beside(comm, plan, _beside(comm, volume, filled, weights), output)
        with timer.part("transform"):
            delta = pdf(comm, filled.values, weights, plan.group, sizes, params)
        with timer.part("errors"):
            variances = _variances(comm, plan, volume, filled)
            del volume
            errors = pdf_errors(comm, variances, weights, plan.group, sizes, params)
        with timer.part("write"):
            values = {schema.PDF_SIGNAL: delta.real.values, schema.PDF_ERRORS: errors.values}
            write_real(comm, plan, pdf_file(plan), values, output)
        told = f"{_holes_told(filled)}; {_transform_told(delta, errors.general)}"
        line = f"{plan.twin.pdf_task}: {told}; {timer.summary(comm)}"
        on_root(comm, lambda: _publish(plan, start_time, line))
    log.info("%s", line)
    return plan.targets


def _fill(
    comm: MPI.Intracomm, plan: Plan, volume: NDArray[Any], weights: NDArray[Any]
) -> Filled | Smoothed:
    punch, sample = plan.choices.punch, plan.sample
    start, _ = even_slabs(plan.grid.array_shape[0], comm.size)[comm.rank]
    if punch.karen is not None:
        return karen(comm, volume, plan.group, punch.karen)
    with all_or_none(comm):
        holes = find_holes(plan.group, plan.grid, sample.lattice, plan.absences, punch)
        wanted = weights > 0 if punch.missing == "fill" else None
    return punch_and_fill(comm, volume, start, holes, punch, wanted)


def _beside(
    comm: MPI.Intracomm, volume: NDArray[Any], filled: Filled | Smoothed, weights: NDArray[Any]
) -> dict[str, NDArray[Any]]:
    with all_or_none(comm), np.errstate(divide="ignore"):
        return {
            schema.FILLED: filled.values.astype(np.float32, copy=False),
            schema.PUNCHED: np.where(filled.punched, np.float32(np.nan), volume),
            schema.DATA_WEIGHTS: 1 / weights,
        }


def _variances(
    comm: MPI.Intracomm, plan: Plan, volume: NDArray[Any], filled: Filled | Smoothed
) -> NDArray[Any]:
    """Return the variances of the filled volume, 0 where it was filled.

    Collective on ``comm``. They are counts, or their variance where a background was subtracted,
    by the square of norm: in the mean true however few, where the errors in the file, those of
    single voxels, are never 0.
    """
    variances = read_slab(comm, plan, schema.NORM)
    spread = read_slab(comm, plan, schema.SPREAD) if has(comm, plan, schema.SPREAD) else None
    with all_or_none(comm), np.errstate(divide="ignore", invalid="ignore"):
        for i, plane in enumerate(variances):
            if spread is None:
                plane[:] = np.maximum(volume[i], 0) / plane
            else:
                plane[:] = spread[i] / plane / plane
            plane[filled.punched[i]] = 0
            plane[np.isnan(filled.values[i])] = np.nan
    return variances


def _holes_told(filled: Filled | Smoothed) -> str:
    if isinstance(filled, Smoothed):
        return (
            f"{filled.voxels} voxels stood out of the median around them, {filled.alone} had "
            "nothing around them and stay"
        )
    report = filled.report
    return (
        f"{report.holes} holes ({report.cut} cut by the border, {report.linked} touching others, "
        f"{report.missing} beside voxels that were not measured, {report.failed} with nothing "
        f"measured around them and left empty), {report.voxels} voxels punched, "
        f"{report.factorizations} factorizations"
        + (
            f", {report.together} voxels filled with what was not measured"
            if report.together
            else ""
        )
    )


def _transform_told(delta: Pdf, error: float) -> str:
    mean = f"mean {delta.mean:.6g} under the window taken away, " if delta.mean else ""
    return (
        f"{mean}imaginary part {delta.real.residue:.2g} of the real one, error {error:.3g} far "
        "from symmetry elements"
    )


def _publish(plan: Plan, start_time: str, line: str) -> None:
    """Not collective: the root calls it."""
    beside = {
        "data": schema.SYMMETRIZED, "data_weights": schema.DATA_WEIGHTS,
        "data_errors": schema.SYMMETRIZED_ERRORS, "filled_data": schema.FILLED,
        "punched_data": schema.PUNCHED,
    }  # fmt: skip

    def change(file: h5py.File) -> None:
        entry, command = file[schema.SHARED], f"nxmpi {STEP}"
        volume = symmetrized_file(plan, plan.targets[0])
        volume = volume._replace(fills=dict.fromkeys(beside.values(), np.nan))
        write_volume_group(entry, plan.twin.symmetrized, volume, command, beside)
        for target, group in (
            (total_file(plan), plan.twin.total_pdf), (pdf_file(plan), plan.twin.pdf),
        ):  # fmt: skip
            write_volume_group(entry, group, target, command, {name: name for name in target.fills})
        write_process(entry, plan.twin.pdf_task, plan.inputs, start_time=start_time, note=line)

    publish_results(plan.files.wrapper, plan.targets, change)
