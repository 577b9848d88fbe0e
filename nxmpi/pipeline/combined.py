"""What is to be combined: volumes that are not complete, and what all ranks know of them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nxmpi
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_sample
from nxmpi.nexus.process import read_inputs
from nxmpi.nexus.values import entry_names, find, open_file
from nxmpi.nexus.volume import read_grid
from nxmpi.pipeline.alike import require_alike
from nxmpi.pipeline.background import find_background
from nxmpi.pipeline.inputs import identity, reason_to_make

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

    from nxmpi.model import HKLGrid, Sample
    from nxmpi.params import CombineParams, OutputParams
    from nxmpi.pipeline.background import Background
    from nxmpi.pipeline.inputs import Inputs

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
    background: Background | None
    parts: int
    """That counts were divided into."""
    reason: str
    """Why it is to be made."""

    @property
    def target(self) -> Path:
        """The file that is made."""
        return self.files.combined(self.twin)


def volumes_due(
    files: schema.ScanFiles, params: CombineParams, output: OutputParams
) -> list[Plan]:  # fmt: skip
    """Return what is to be combined. Not collective. Nothing is changed.

    Raises
    ------
    InputError
        If a transform is missing, or has another grid or norm than others, or if another program
        made what is there.
    """
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
            require_alike(wrapper, names, twin)
            parts = math.lcm(*(_parts(wrapper[name], twin) for name in names))
            inputs: Inputs = {
                "program": f"nxmpi {nxmpi.__version__}",
                "refine_scale": int(params.refine_scale),
                **({} if params.engine == "native" else {"engine": params.engine}),
            }
            for name in names:
                inputs[name] = identity(files.transform(name, twin))
            background = find_background(params, wrapper, grid, twin)
            inputs["background"] = background.inputs if background else "none"
            if schema.SHARED not in wrapper:
                raise InputError(f"{files.wrapper}:/{schema.SHARED}: expected a group, found none")
            reason = reason_to_make(
                wrapper[schema.SHARED], twin.combine_task, files.combined(twin), inputs,
                overwrite=output.overwrite,
            )  # fmt: skip
            log.info("%s: %s", twin.combine_task, reason or "complete")
            if reason:
                plans.append(
                    Plan(twin=twin, files=files, names=names, grid=grid, sample=sample,
                         inputs=inputs, background=background, parts=parts, reason=reason)
                )  # fmt: skip
    return plans


def _parts(entry: h5py.Group, twin: schema.Twin) -> int:
    """Return how many parts the pixels of a position were split into."""
    split = (read_inputs(entry, twin.transform_task) or {}).get("split")
    return math.prod(int(n) for n in split) if isinstance(split, list) else 1


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
