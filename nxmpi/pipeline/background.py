"""What is subtracted from a combined volume: the transforms of a scan without the sample."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.process import read_inputs
from nxmpi.nexus.values import entry_names, find, open_file
from nxmpi.nexus.volume import read_grid
from nxmpi.pipeline.alike import compare_with_background
from nxmpi.pipeline.inputs import identity

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi.model import HKLGrid
    from nxmpi.params import CombineParams
    from nxmpi.pipeline.inputs import Inputs

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Background:
    """The transforms of a scan of the empty beam or the empty can."""

    scale: float
    """Of its intensity [1]."""
    files: dict[str, Path]
    """By position."""
    inputs: Inputs
    """What tells it from others."""


def find_background(
    params: CombineParams, scan: h5py.File, grid: HKLGrid, twin: schema.Twin
) -> Background | None:
    """Return what is to be subtracted, None where nothing is. Not collective.

    Parameters
    ----------
    scan : h5py.File
        The open scan file that it is subtracted from.

    Raises
    ------
    InputError
        If a transform of the background is missing, has another grid, or other voxels, or if the
        background is the scan itself.
    """
    if params.background is None:
        return None
    files = schema.ScanFiles(params.background)
    if files.wrapper.exists() and files.wrapper.samefile(scan.filename):
        raise InputError(f"{files.wrapper}: expected a background that is not the scan itself")
    with open_file(files.wrapper) as wrapper:
        names = entry_names(wrapper)
        taken = _twin_of(wrapper, names, twin)
        for name in names:
            found = read_grid(find(wrapper[name], taken.group))
            if found != grid:
                raise InputError(
                    f"{files.wrapper}:/{name}/{taken.group}: expected a background on the grid of "
                    f"{scan.filename}, {grid}, found {found} (nxmpi transform with --qh, --qk and "
                    "--ql makes them alike)"
                )
            compare_with_background(scan, wrapper, name, (twin, taken))
    paths = {name: files.transform(name, taken) for name in names}
    return Background(
        scale=params.background_scale,
        files=paths,
        inputs={
            "scan": files.wrapper.name, "scale": params.background_scale,
            **{name: identity(path) for name, path in paths.items()},
        },
    )  # fmt: skip


def _twin_of(wrapper: h5py.File, names: list[str], twin: schema.Twin) -> schema.Twin:
    """Return the twin that there is: a background needs no 3-D mask of its own."""
    lacking = [n for n in names if read_inputs(wrapper[n], twin.transform_task) is None]
    if twin is schema.MASKED and len(lacking) == len(names):
        log.info("%s has no masked transforms: taking the others", wrapper.filename)
        return _twin_of(wrapper, names, schema.REGULAR)
    if lacking:
        raise InputError(
            f"{wrapper.filename}: expected {twin.transform_task} of all positions of the "
            f"background, found none of {', '.join(lacking)} (nxmpi transform makes them)"
        )
    return twin


def describe_background(
    comm: MPI.Intracomm, background: Background, measured: int, lacking: int
) -> str:
    """Return what was subtracted, and where nothing could be. Collective on ``comm``.

    Parameters
    ----------
    measured, lacking : int
        Voxels of this rank, and those of them in which the background was not measured.
    """
    measured, lacking = (sum(comm.allgather(n)) for n in (measured, lacking))
    return (
        f"background: {background.scale:g} times {background.inputs['scan']}; {lacking} of "
        f"{measured} voxels, {100 * lacking / max(measured, 1):.2f} %, have none and are left out"
    )
