"""The symmetrized volume to the 3D-ΔPDF: punched, filled, windowed, transformed."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

import nxmpi
from nxmpi.crystal.laue import voxel_group
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_sample
from nxmpi.nexus.process import read_inputs
from nxmpi.nexus.values import entry_names, find, open_file
from nxmpi.nexus.volume import read_grid
from nxmpi.parallel.collective import on_root
from nxmpi.parallel.locks import step_lock
from nxmpi.pipeline.delta_pdf import STEP, make_pdf
from nxmpi.pipeline.inputs import Inputs, fingerprint, json_input, read_fingerprint, reason_to_make
from nxmpi.pipeline.parameters import read_layers, resolve
from nxmpi.pipeline.real_space import Choices, Plan
from nxmpi.pipeline.symmetrize_plan import STEP as SYMMETRIZE
from nxmpi.pipeline.wrapper import require_writable_for

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi.model import Sample
    from nxmpi.params import OutputParams

log = logging.getLogger(__name__)
RADIUS = 0.2
"""Of the holes, where neither the user nor a file says it: NXRefine's [1/Å]."""


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
    with (
        step_lock(comm, wrapper, schema.SHARED, STEP),
        step_lock(comm, wrapper, schema.SHARED, SYMMETRIZE),  # whose file is written anew
    ):
        files = schema.ScanFiles(wrapper)
        plans = on_root(comm, lambda: require_writable_for(files, pdfs_due(files, choices, output)))
        return [path for plan in plans for path in make_pdf(comm, plan, output)]


def pdfs_due(files: schema.ScanFiles, choices: Choices, output: OutputParams) -> list[Plan]:
    """Return what is to be transformed to real space. Not collective. Nothing is changed.

    Raises
    ------
    InputError
        If there is no symmetrized volume, or another program made what is there.
    """
    plans = []
    with open_file(files.wrapper) as wrapper:
        sample = read_sample(wrapper[entry_names(wrapper)[0]])
        choices = with_radius(wrapper, files, choices)
        for twin in (schema.REGULAR, schema.MASKED):
            if twin is schema.MASKED and not files.symmetrized(twin).exists():
                continue
            plan = _plan(wrapper, files, twin, sample, choices)
            reason = _reason(wrapper[schema.SHARED], plan, overwrite=output.overwrite)
            log.info("%s: %s", twin.pdf_task, reason or "complete")
            if reason:
                plans.append(replace(plan, reason=reason))
    return plans


def with_radius(wrapper: h5py.File, files: schema.ScanFiles, choices: Choices) -> Choices:
    """Return choices with the radius of holes that holds for a scan. Not collective."""
    layers = read_layers(wrapper, files)
    radius = resolve("radius", choices.punch.radius, layers, RADIUS, float)
    return replace(choices, punch=replace(choices.punch, radius=radius))


def absences_of(sample: Sample) -> str:
    """Return the symbol of a space group with the systematic absences of a sample."""
    return sample.space_group or f"hall: -{sample.centring or 'P'} 1"


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
    if fingerprint(made) != key:
        raise InputError(
            f"{file}: expected the volume that {wrapper.filename} records, found another one "
            "(nxmpi symmetrize makes it again)"
        )
    operators = np.array(made["laue"], dtype=np.int64)
    group = voxel_group(operators, grid)
    one_sided = (group.low < group.high) & ((group.low >= 0) | (group.high <= 0))
    if one_sided.any():
        first, last = (np.multiply(end, grid.step).tolist() for end in (group.low, group.high))
        raise InputError(
            f"{file}: expected a grid with 0 inside along h, k and l, found {first} to {last} "
            "(--qh, --qk and --ql of nxmpi transform)"
        )
    absences = absences_of(sample)
    if not sample.space_group and not sample.centring:
        log.info("no space group or centring is known: no reflection is taken for absent")
    inputs: Inputs = {
        "program": f"nxmpi {nxmpi.__version__}", "volume": key, "absences": absences,
        **json_input(asdict(choices)),
    }  # fmt: skip
    return Plan(
        twin=twin, files=files, grid=grid, sample=sample, group=group,
        choices=choices, absences=absences, inputs=inputs,
    )  # fmt: skip


def _reason(entry: h5py.Group, plan: Plan, *, overwrite: bool) -> str:
    """Return why a volume is to be made, empty if it is complete."""
    symmetrized, total, pdf = plan.targets
    filled = f"{schema.VOLUME}/{schema.FILLED}"
    for file in (total, pdf):
        reason = reason_to_make(
            entry, plan.twin.pdf_task, file, plan.inputs, schema.PDF_VOLUME, overwrite=overwrite
        )
        if reason:
            return reason
    is_filled = read_fingerprint(symmetrized, filled) == fingerprint(plan.inputs)
    return "" if is_filled else f"{symmetrized.name} is of other inputs"
