"""The symmetrized volume to the 3D-ΔPDF: punched, filled, windowed, transformed."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import nxmpi
from nxmpi.crystal.holes import find_holes
from nxmpi.crystal.laue import voxel_group
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_sample
from nxmpi.nexus.process import Process, read_inputs, write_process
from nxmpi.nexus.values import entry_names, find, open_file
from nxmpi.nexus.volume import read_grid, write_volume_group
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.publish import unpublished_removed
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.parallel.slabs import even_slabs
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.inputs import Inputs, fingerprint, is_complete, json_input, read_fingerprint
from nxmpi.pipeline.parameters import read_layers, resolve
from nxmpi.pipeline.real_space import (
    pdf_file,
    read_slab,
    sizes_of,
    symmetrized_file,
    total_file,
    window_weights,
    write_beside,
    write_real,
)
from nxmpi.pipeline.wrapper import now, publish_results, require_writable
from nxmpi.stages.fill import punch_and_fill
from nxmpi.stages.karen import Smoothed, karen
from nxmpi.stages.pdf import pdf
from nxmpi.stages.pdf_errors import pdf_errors

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.model import HKLGrid, Sample
    from nxmpi.params import OutputParams, PdfParams, PunchParams, WindowParams
    from nxmpi.stages.fill import Filled
    from nxmpi.stages.pdf import Pdf

log = logging.getLogger(__name__)
STEP = "pdf"
RADIUS = 0.2
"""Of the holes, where neither the user nor a file says it: NXRefine's [1/Å]."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Parameters of this step."""

    punch: PunchParams
    window: WindowParams
    pdf: PdfParams


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What all ranks need to know of one volume."""

    twin: schema.Twin
    files: schema.ScanFiles
    grid: HKLGrid
    sample: Sample
    group: VoxelGroup
    choices: Choices
    absences: str
    """Symbol of a space group with the systematic absences."""
    inputs: Inputs

    @property
    def targets(self) -> list[Path]:
        """The files that are made or changed."""
        files, twin = self.files, self.twin
        return [files.symmetrized(twin), files.total_pdf(twin), files.pdf(twin)]


def run_pdf(
    comm: MPI.Intracomm, wrapper: Path, choices: Choices, output: OutputParams
) -> list[Path]:
    """Make the 3D-ΔPDF of the symmetrized volume, and of its masked twin where there is one.

    Collective on ``comm``.

    Returns
    -------
    list of Path
        The files that were written; none if all was complete.

    Raises
    ------
    CollectiveError
        On every rank, if there is no symmetrized volume, or it cannot be punched as is wished.
    StoppedError
        On every rank, before a volume that is left to do, if any heard a wish to stop.
    """
    with step_lock(comm, wrapper, schema.SHARED, STEP):
        plans = on_root(comm, lambda: _plans(schema.ScanFiles(wrapper), choices, output))
        return [path for plan in plans for path in make_pdf(comm, plan, output)]


def _plans(files: schema.ScanFiles, choices: Choices, output: OutputParams) -> list[Plan]:
    plans = []
    with open_file(files.wrapper) as wrapper:
        sample = read_sample(wrapper[entry_names(wrapper)[0]])
        layers = read_layers(wrapper, files)
        radius = resolve("radius", choices.punch.radius, layers, RADIUS, float)
        choices = replace(choices, punch=replace(choices.punch, radius=radius))
        for twin in (schema.REGULAR, schema.MASKED):
            if twin is schema.MASKED and not files.symmetrized(twin).exists():
                continue
            plan = _plan(wrapper, files, twin, sample, choices)
            done, reason = False, "--overwrite"
            if not output.overwrite:
                done, reason = _is_complete(wrapper[schema.SHARED], plan)
            log.info("%s: %s", twin.pdf_task, "complete" if done else reason)
            if not done:
                require_writable(files)
                plans.append(plan)
    return plans


def _plan(
    wrapper: h5py.File, files: schema.ScanFiles, twin: schema.Twin, sample: Sample, choices: Choices
) -> Plan:
    file = files.symmetrized(twin)
    entry = find(wrapper, schema.SHARED)
    made = read_inputs(entry, twin.symmetrize_task) if entry else None
    grid = read_grid(find(wrapper, f"{schema.SHARED}/{twin.symmetrized}"))
    key = read_fingerprint(file)
    if made is None or grid is None or not key:
        raise InputError(
            f"{file}: expected a symmetrized volume, found none of ours (nxmpi symmetrize makes it)"
        )
    operators = np.array(made["laue"], dtype=np.int64)
    absences = sample.space_group or f"hall: -{sample.centring or 'P'} 1"
    if not sample.space_group and not sample.centring:
        log.info("no space group or centring is known: no reflection is taken for absent")
    inputs: Inputs = {
        "program": f"nxmpi {nxmpi.__version__}", "volume": key, "absences": absences,
        **json_input(asdict(choices)),
    }  # fmt: skip
    return Plan(
        twin=twin, files=files, grid=grid, sample=sample, group=voxel_group(operators, grid),
        choices=choices, absences=absences, inputs=inputs,
    )  # fmt: skip


def _is_complete(entry: h5py.Group, plan: Plan) -> tuple[bool, str]:
    symmetrized, total, pdf = plan.targets
    filled = f"{schema.VOLUME}/{schema.FILLED}"
    for file in (total, pdf):
        done, reason = is_complete(entry, plan.twin.pdf_task, file, plan.inputs, schema.PDF_VOLUME)
        if not done:
            return False, reason
    if read_fingerprint(symmetrized, filled) != fingerprint(plan.inputs):
        return False, f"{symmetrized.name} is of other inputs"
    return True, ""


def make_pdf(comm: MPI.Intracomm, plan: Plan, output: OutputParams) -> list[Path]:
    """Make, write and publish all files of one volume. Collective on ``comm``."""
    stop_if_wished(comm)
    timer, start_time = Timer(), now()
    sizes, params = sizes_of(plan), plan.choices.pdf
    with timer.part("read"):
        volume = read_slab(comm, plan, schema.SYMMETRIZED)
    with timer.part("window"):
        weights = window_weights(comm, plan)
    with unpublished_removed(comm, plan.targets):
        with timer.part("transform"):
            total = pdf(comm, volume, weights, plan.group, sizes, params)
        with timer.part("write"):
            values = {schema.PDF_SIGNAL: total.real.values}
            write_real(comm, plan, total_file(plan), values, output)
            del total, values
        with timer.part("punch and fill"):
            filled = _fill(comm, plan, volume, weights)
        with timer.part("write"):
            write_beside(comm, plan, _beside(comm, volume, filled, weights), output)
            del volume
        with timer.part("transform"):
            delta = pdf(comm, filled.values, weights, plan.group, sizes, params)
        with timer.part("errors"):
            variances = _variances(comm, plan, filled)
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


def _variances(comm: MPI.Intracomm, plan: Plan, filled: Filled | Smoothed) -> NDArray[Any]:
    """Return the variances of the filled volume, 0 where it was filled. Collective on ``comm``."""
    variances = read_slab(comm, plan, schema.SYMMETRIZED_ERRORS)
    with all_or_none(comm):
        for plane, punched, values in zip(variances, filled.punched, filled.values, strict=True):
            plane *= plane
            plane[punched] = 0
            plane[np.isnan(values)] = np.nan
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
    process = Process(
        task=plan.twin.pdf_task, start_time=start_time, end_time=now(), note=line,
        inputs=plan.inputs,
    )  # fmt: skip

    def change(file: h5py.File) -> None:
        entry, command = file[schema.SHARED], f"nxmpi {STEP}"
        volume = symmetrized_file(plan, plan.targets[0])
        volume = volume._replace(fills=dict.fromkeys(beside.values(), np.nan))
        write_volume_group(entry, plan.twin.symmetrized, volume, command, beside)
        for target, group in (
            (total_file(plan), plan.twin.total_pdf), (pdf_file(plan), plan.twin.pdf),
        ):  # fmt: skip
            write_volume_group(entry, group, target, command, {name: name for name in target.fills})
        write_process(entry, process)

    publish_results(plan.files.wrapper, plan.targets, change)
