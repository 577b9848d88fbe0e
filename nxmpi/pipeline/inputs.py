"""What a result depends on: to skip what is complete, and to say why something is done again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

import nxmpi
from nxmpi.errors import AnotherProgramError, InputError
from nxmpi.nexus import schema
from nxmpi.nexus.process import read_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from nxmpi.model import Detector, HKLGrid
    from nxmpi.nexus.stack import Stack
    from nxmpi.params import TransformParams
    from nxmpi.pipeline.scan import Measured

Inputs = dict[str, object]


def transform_inputs(
    measured: Measured, grid: HKLGrid, params: TransformParams, twin: schema.Twin
) -> Inputs:
    """Return all that the transform of a position depends on, by name; JSON values.

    Not collective. Arrays stand as hashes, files as size and time of change.
    """
    position, pixels = measured.position, measured.norm.pixels
    geometry = asdict(position.geometry)
    geometry["goniometer"]["phi"] = hash_input(np.array(position.geometry.goniometer.phi))
    return {
        "program": f"nxmpi {nxmpi.__version__}",
        "raw": file_input(measured.raw),
        "mask": file_input(measured.mask) if measured.mask and twin is schema.MASKED else "none",
        "pixel_mask": hash_input(position.bad),
        "weight": hash_input(position.weight),
        "geometry": json_input(geometry),
        "polarization": "off" if pixels.polarization is None else pixels.polarization,
        "solid_angle": "off" if pixels.solid_angle_unit is None else pixels.solid_angle_unit,
        "flat_field": "off" if pixels.flat_field is None else hash_input(pixels.flat_field),
        "first_frame": position.first_frame,
        "last_frame": position.last_frame,
        "grid": json_input(asdict(grid)),
        "voxels": params.voxels,
        "skip_bad_frames": int(params.skip_bad_frames),
        "split": list(params.split),
        "hits": int(params.hits),
        **({} if params.engine == "native" else {"engine": params.engine}),
        **{f"factor_{name}": text for name, text in measured.norm.origins.items()},
    }


NOT_DONE, OVERWRITE = "not done yet", "--overwrite"
"""Reasons to make a result."""
BEFORE, AFTER = "before", "after"
"""Among what is recorded of a refinement: `frames_geometry` before and after it."""


def frames_geometry(
    entry: h5py.Group, detector: Detector | None, wavelength: float | None
) -> Inputs:  # fmt: skip
    """Return the geometry that the pass over the frames depends on; JSON values.

    Not collective. What this program refined itself, from the peaks of that pass, counts as what
    it was before: a better geometry is no reason to go through the frames again.
    """
    now = geometry_inputs(detector, wavelength)
    recorded = read_inputs(entry, schema.REFINE_TASK) or {}
    before = recorded.get(BEFORE)
    return before if isinstance(before, dict) and recorded.get(AFTER) == now else now


def geometry_inputs(detector: Detector | None, wavelength: float | None) -> Inputs:
    """Return detector and wavelength as JSON values."""
    return {
        "geometry": json_input(asdict(detector)) if detector else "none",
        "wavelength": wavelength or "none",
    }


def file_input(stack: Stack) -> dict[str, object]:
    """Return what tells one stack of frames from another."""
    size, changed = stack.identity
    return {
        "file": stack.file.name, "path": stack.path, "size": size, "changed": changed,
        "shape": list(stack.shape), "dtype": stack.dtype,
    }  # fmt: skip


def identity(file: Path) -> str:
    """Return what tells one transform from another: its fingerprint, else size and time of change.

    Not collective.

    Raises
    ------
    InputError
        If there is none.
    """
    if not file.exists():
        raise InputError(f"{file}: expected a transform, found none (nxmpi transform makes it)")
    status = file.stat()
    return read_fingerprint(file) or f"{status.st_size} {status.st_mtime_ns}"


def hash_input(array: NDArray[Any]) -> str:
    """Return a key of an array."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def json_input(value: dict[str, object]) -> dict[str, object]:
    """Return what JSON makes of a mapping, tuples to lists and so on."""
    result: dict[str, object] = json.loads(json.dumps(value))
    return result


def fingerprint(inputs: Mapping[str, object]) -> str:
    """Return a key of what a result depends on."""
    text = json.dumps(inputs, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def reason_to_make(
    entry: h5py.Group, task: str, file: Path, inputs: Inputs, path: str = schema.VOLUME, *,
    overwrite: bool,
) -> str:  # fmt: skip
    """Return why a result is to be made, empty if it is there for these inputs.

    Not collective. The record in the wrapper and the data file must both be of these inputs;
    the latter keeps them at ``path``.

    Raises
    ------
    AnotherProgramError
        If another program made the result that is there: it is not replaced unasked.
    """
    if overwrite:
        return OVERWRITE
    recorded = read_inputs(entry, task)
    found = read_fingerprint(file, path)
    if file.exists() and (recorded == {} or not found):
        raise AnotherProgramError(
            f"{entry.file.filename}:{entry.name}: {task} was done by another program, and its "
            f"result {file.name} is kept; --overwrite replaces it"
        )
    if recorded is None:
        return NOT_DONE
    if not file.exists():
        return f"{file.name} is gone"
    changed = what_changed(recorded, inputs)
    if changed:
        return changed
    return "" if found == fingerprint(inputs) else f"{file.name} is of other inputs"


def what_changed(recorded: Mapping[str, object], inputs: Inputs) -> str:
    """Return which inputs differ from those recorded, empty if none do."""
    changed = [name for name in inputs if recorded.get(name) != inputs[name]]
    return f"changed since: {', '.join(changed)}" if changed else ""


def read_fingerprint(file: Path, path: str = schema.VOLUME) -> str:
    """Return the key that a data file was written with at a path, empty where there is none."""
    try:
        with h5py.File(file, "r") as data:
            return str(data[path].attrs.get(schema.FINGERPRINT, ""))
    except (OSError, KeyError):
        return ""
