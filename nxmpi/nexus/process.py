"""Records of what was done: NXprocess groups, as NXRefine looks for them."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py

import nxmpi
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, put, read_number, read_text, replace_group

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Process:
    """One step that was done."""

    task: str
    """NXRefine's name of it."""
    start_time: str
    """ISO."""
    end_time: str
    """ISO."""
    note: str
    """For people."""
    inputs: Mapping[str, object]
    """All that the result depends on, by name; JSON values."""


def write_process(entry: h5py.Group, process: Process) -> None:
    """Record a step, replacing an earlier record of it. Not collective.

    The record is in the workflow collection, where NXRefine of today looks; a link in the
    entry itself serves older ones.
    """
    workflow = entry.require_group(schema.WORKFLOW)
    workflow.attrs["NX_class"] = "NXcollection"
    index = _sequence_index(workflow, process.task)
    group = replace_group(workflow, process.task, "NXprocess")
    put(group, "program", process.task)
    put(group, "sequence_index", index)
    put(group, "version", f"nxmpi v{nxmpi.__version__}")
    note = replace_group(group, "note", "NXnote")
    put(note, "description", process.task)
    put(note, "type", "text/plain")
    put(note, "data", process.note)
    put(group, "pid", os.getpid())
    put(group, "start_time", process.start_time)
    put(group, "end_time", process.end_time)
    parameters = replace_group(group, "parameters", "NXparameters")
    for name, value in process.inputs.items():
        simple = isinstance(value, str | int | float)
        put(parameters, name, value if simple else json.dumps(value))
    if entry.get(process.task, getlink=True) is not None:
        del entry[process.task]
    entry[process.task] = h5py.SoftLink(f"{entry.name}/{schema.WORKFLOW}/{process.task}")


def _sequence_index(workflow: h5py.Group, task: str) -> int:
    """Return the place of a task among those done: its own if it is done again, else the next."""
    places = {name: read_number(workflow, f"{name}/sequence_index") or 0 for name in workflow}
    return int(places.get(task) or max(places.values(), default=0) + 1)


def read_inputs(entry: h5py.Group, task: str) -> dict[str, object] | None:
    """Return what a recorded step depended on, None where it was not done. Not collective.

    An empty mapping means that another program did it.
    """
    group = find(entry, f"{schema.WORKFLOW}/{task}") or find(entry, task)
    if not isinstance(group, h5py.Group):
        return None
    if not read_text(group, "version").startswith("nxmpi"):
        return {}
    parameters = group["parameters"]
    return {name: _value(parameters[name]) for name in parameters}


def _value(dataset: h5py.Dataset) -> object:
    value = dataset[()]
    if not isinstance(value, bytes):
        return value.item()
    text = value.decode()
    return json.loads(text) if text[:1] in {"{", "["} else text
