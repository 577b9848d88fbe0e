"""Records of what was done: NXprocess groups, as NXRefine looks for them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import h5py

import nxmpi
from nxmpi.log import now
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, put, read_number, read_text, replace_group

if TYPE_CHECKING:
    from collections.abc import Mapping


def write_process(
    entry: h5py.Group, task: str, inputs: Mapping[str, object], *, start_time: str, note: str
) -> None:
    """Record a step that ends now, replacing an earlier record of it. Not collective.

    The record is in the workflow collection, where NXRefine of today looks; a link in the
    entry itself serves older ones.

    Parameters
    ----------
    task : str
        NXRefine's name of the step.
    inputs : mapping of str to object
        All that the result depends on, by name; JSON values.
    start_time : str
        Of the step, as `nxmpi.log.now` returns it.
    note : str
        For people.
    """
    workflow = entry.require_group(schema.WORKFLOW)
    workflow.attrs["NX_class"] = "NXcollection"
    index = _sequence_index(workflow, task)
    group = replace_group(workflow, task, "NXprocess")
    put(group, "program", task)
    put(group, "sequence_index", index)
    put(group, "version", f"nxmpi v{nxmpi.__version__}")
    told = replace_group(group, "note", "NXnote")
    put(told, "description", task)
    put(told, "type", "text/plain")
    put(told, "data", note)
    put(group, "pid", os.getpid())
    put(group, "start_time", start_time)
    put(group, "end_time", now())
    parameters = replace_group(group, "parameters", "NXparameters")
    for name, value in inputs.items():
        simple = isinstance(value, str | int | float)
        put(parameters, name, value if simple else json.dumps(value))
    if entry.get(task, getlink=True) is not None:
        del entry[task]
    entry[task] = h5py.SoftLink(f"{entry.name}/{schema.WORKFLOW}/{task}")


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
