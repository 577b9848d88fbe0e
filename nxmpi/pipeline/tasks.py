"""Which of the results of the pass over the frames are to be made, and what they depend on."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import nxmpi
from nxmpi.nexus import schema
from nxmpi.nexus.process import read_inputs
from nxmpi.nexus.values import open_file
from nxmpi.pipeline.inputs import (
    NOT_DONE,
    OVERWRITE,
    Inputs,
    file_input,
    hash_input,
    reason_to_make,
    what_changed,
)
from nxmpi.pipeline.wrapper import require_writable

if TYPE_CHECKING:
    import h5py

    from nxmpi.params import FramesParams
    from nxmpi.pipeline.searched import Searched

log = logging.getLogger(__name__)
RESULTS = {
    schema.MAX_TASK: schema.SUMS, schema.FIND_TASK: schema.PEAKS,
    schema.MASK_TASK: schema.DATA_MASK,
}  # fmt: skip
"""Where each task leaves its result."""


def tasks_due(
    files: schema.ScanFiles, position: Searched, params: FramesParams, *, overwrite: bool
) -> dict[str, Inputs]:  # fmt: skip
    """Return the tasks of a position that are to be done, with what they depend on.

    Not collective. What another program did is kept, unless it is to be overwritten.
    """
    wanted = _inputs(position, params)
    reasons = dict.fromkeys(wanted, OVERWRITE)
    if not overwrite:
        reasons = task_reasons(files, position, params)
    due = {task: inputs for task, inputs in wanted.items() if reasons[task]}
    if due:
        told = ", ".join(f"{task} ({reasons[task]})" for task in due)
        log.info("%s: %s", position.name, told)
        require_writable(files)
    elif wanted:
        log.info("%s: %s: complete", position.name, "frames")
    return due


def task_reasons(
    files: schema.ScanFiles, position: Searched, params: FramesParams
) -> dict[str, str]:  # fmt: skip
    """Return why each task of a position is to be done, empty if it is complete or kept.

    Not collective. Nothing is changed.
    """
    with open_file(files.wrapper) as wrapper:
        entry = wrapper[position.name]
        return {
            task: _reason(entry, files, task, inputs)
            for task, inputs in _inputs(position, params).items()
        }


def _reason(entry: h5py.Group, files: schema.ScanFiles, task: str, inputs: Inputs) -> str:
    """Return why a task is to be done, empty if it is complete or another program's."""
    recorded = read_inputs(entry, task)
    is_there = entry.get(RESULTS[task], getlink=True) is not None
    is_mask = task == schema.MASK_TASK
    if recorded == {} or (is_mask and recorded is None and is_there):
        log.info("%s: %s was done by another program and is kept (--overwrite)", entry.name, task)
        return ""
    if is_mask:
        mask = files.mask(entry.name.strip("/"))
        reason = reason_to_make(entry, task, mask, inputs, schema.MASK, overwrite=False)
    else:
        reason = NOT_DONE if recorded is None else what_changed(recorded, inputs)
    return reason or ("" if is_there else f"{RESULTS[task]} is gone")


def _inputs(position: Searched, params: FramesParams) -> dict[str, Inputs]:
    """Return what each of the three results depends on, by task."""
    common: Inputs = {
        "program": f"nxmpi {nxmpi.__version__}",
        "raw": file_input(position.raw),
        "pixel_mask": hash_input(position.bad),
        "first_frame": position.first_frame,
        "last_frame": position.last_frame,
        "skip_bad_frames": int(params.skip_bad_frames),
    }
    search = {
        **position.geometry,
        "sigma_background": params.sigma_background,
        "gain": params.gain,
    }
    sums = {
        **common, **search, "weight": hash_input(position.weight),
        "polarization": position.polarization,
        "q_min": "default" if params.q_min is None else params.q_min,
        "q_max": "default" if params.q_max is None else params.q_max,
        **{f"factor_{name}": text for name, text in position.factors.items()},
    }  # fmt: skip
    peaks = {
        **common, **search, "sigma_strong": params.sigma_strong,
        "saturation": position.saturation,
        "threshold": "none" if position.threshold is None else position.threshold,
    }  # fmt: skip
    mask = {
        **common,
        "threshold1": params.mask_t1, "in_sigmas": int(params.mask_in_sigmas),
        "horizontal_size1": params.mask_h1, "threshold2": params.mask_t2,
        "horizontal_size2": params.mask_h2,
    }  # fmt: skip
    wanted = (
        (schema.MAX_TASK, params.sums, sums),
        (schema.FIND_TASK, params.peaks, peaks),
        (schema.MASK_TASK, params.mask, mask),
    )
    return {task: inputs for task, is_wanted, inputs in wanted if is_wanted}
