"""One symmetrized volume to its files in real space, and what was made on the way beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.crystal.lattice import lattice_along
from nxmpi.crystal.laue import has_all_images
from nxmpi.crystal.window import window_on, window_slab
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.copied import copy_all_but
from nxmpi.nexus.values import open_file, require
from nxmpi.nexus.volume import (
    CHUNK,
    REAL,
    VolumeFile,
    create_datasets,
    read_part,
    title_of,
)
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.publish import temporary
from nxmpi.parallel.slabs import chunked_slabs, deal_anew, even_slabs
from nxmpi.pipeline.inputs import fingerprint
from nxmpi.pipeline.volume import write_slabs
from nxmpi.stages.fourier import real_space_grid, to_full_slabs, transform_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import h5py
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.model import HKLGrid, Sample
    from nxmpi.params import OutputParams, PdfParams, PunchParams, WindowParams
    from nxmpi.pipeline.inputs import Inputs
    from nxmpi.stages.fourier import Sizes

    Values = dict[str, NDArray[Any]]


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
    reason: str = ""
    """Why it is to be made."""

    @property
    def targets(self) -> list[Path]:
        """The files that are made or changed."""
        files, twin = self.files, self.twin
        return [files.symmetrized(twin), files.total_pdf(twin), files.pdf(twin)]


ADDED = (schema.FILLED, schema.PUNCHED, schema.DATA_WEIGHTS)
"""Datasets that this step puts beside the symmetrized volume."""


def has(comm: MPI.Intracomm, plan: Plan, name: str) -> bool:
    """Return whether the symmetrized volume has a dataset. Collective on ``comm``."""

    def look() -> bool:
        with open_file(plan.targets[0]) as file:
            return f"{schema.VOLUME}/{name}" in file

    return on_root(comm, look)


def read_slab(comm: MPI.Intracomm, plan: Plan, name: str) -> NDArray[Any]:
    """Return this rank's planes, dealt out evenly, of a dataset of the symmetrized volume.

    Collective on ``comm``.

    Returns
    -------
    (n, n_k, n_h) float32
    """
    n_l, n_k, n_h = plan.grid.array_shape
    start, stop = even_slabs(n_l, comm.size)[comm.rank]
    with all_or_none(comm):
        slab = np.empty((stop - start, n_k, n_h), np.float32)
        with open_file(plan.targets[0]) as file:
            dataset = require(file, f"{schema.VOLUME}/{name}", "a symmetrized volume")
            if dataset.shape != plan.grid.array_shape:
                raise InputError(
                    f"{plan.targets[0]}:{dataset.name}: expected the shape of the axes in the scan "
                    f"file, {plan.grid.array_shape}, found {dataset.shape}"
                )
            for first in range(start, stop, CHUNK):
                last = min(first + CHUNK, stop)
                part = (slice(first, last), slice(None), slice(None))
                slab[first - start : last - start] = read_part(dataset, part)
    return slab


def window_weights(comm: MPI.Intracomm, plan: Plan) -> NDArray[Any]:
    """Return the window on this rank's planes, dealt out evenly.

    Collective on ``comm``. It is 0 for voxels of which the grid has not all images: without these
    real space had not the symmetry, nor its errors their formula.

    Returns
    -------
    (n, n_k, n_h) float32
    """
    start, stop = even_slabs(plan.grid.array_shape[0], comm.size)[comm.rank]
    with all_or_none(comm):
        window = window_on(plan.choices.window, plan.group, plan.grid, plan.sample.lattice)
        weights = window_slab(window, start, stop, np.float32)
        for l, plane in enumerate(weights, start + int(plan.group.low[2])):
            plane[~has_all_images(plan.group, l)] = 0
    return weights


def sizes_of(plan: Plan) -> Sizes:
    """Return the number of voxels to transform. Not collective."""
    spacing = plan.choices.pdf.spacing
    return transform_sizes(plan.group, plan.grid, plan.sample.lattice, spacing)


def write_beside(
    comm: MPI.Intracomm, plan: Plan, values: Values, output: OutputParams
) -> None:  # fmt: skip
    """Write a copy of the symmetrized volume's file with datasets more, under a temporary name.

    Collective on ``comm``; see `nxmpi.pipeline.volume.write_slabs`.

    Parameters
    ----------
    values : dict of (n, n_k, n_h) float32
        `ADDED`, on this rank's planes, dealt out evenly.
    """
    source, n_l = plan.targets[0], plan.grid.array_shape[0]
    have, want = even_slabs(n_l, comm.size), chunked_slabs(n_l, comm.size, CHUNK)
    values = {name: deal_anew(comm, slab, have, want) for name, slab in values.items()}

    def create(file: h5py.File, volume: VolumeFile, storage: Mapping[str, Any]) -> None:
        with open_file(source) as old:
            data = copy_all_but(old, file, ADDED)
        create_datasets(data, volume, storage)
        data[schema.FILLED].attrs[schema.FINGERPRINT] = fingerprint(plan.inputs)

    volume = symmetrized_file(plan, temporary(source))
    write_slabs(comm, output, volume, values, (want[comm.rank][0], 0), create)


def symmetrized_file(plan: Plan, path: Path) -> VolumeFile:
    """Return what is put beside the symmetrized volume. Not collective."""
    return VolumeFile(
        path=path,
        grid=plan.grid,
        lattice=lattice_along(plan.sample.lattice, plan.grid.axes),
        title=title_of(plan.sample, plan.files.scan, plan.twin.symmetrized),
        fills=dict.fromkeys(ADDED, np.nan),
        dtype="f4",
        attributes={},
    )


def write_real(
    comm: MPI.Intracomm, plan: Plan, target: VolumeFile, values: Values, output: OutputParams
) -> None:  # fmt: skip
    """Write a volume of real space under a temporary name. Collective on ``comm``.

    Parameters
    ----------
    values : dict of (n, N_z, N_x)
        This rank's planes y >= 0, as of `nxmpi.stages.fourier.RealSpace`.
    """
    sizes = sizes_of(plan)
    slabs = chunked_slabs(sizes[1], comm.size, CHUNK)
    slab = {name: to_full_slabs(comm, half, sizes, slabs) for name, half in values.items()}
    file = target._replace(path=temporary(target.path))
    write_slabs(comm, output, file, slab, (0, slabs[comm.rank][0]))


def total_file(plan: Plan) -> VolumeFile:
    """Return the transform of the volume with its Bragg peaks. Not collective."""
    return _real_file(plan, plan.targets[1], plan.twin.total_pdf, schema.PDF_SIGNAL)


def pdf_file(plan: Plan) -> VolumeFile:
    """Return the 3D-ΔPDF. Not collective."""
    return _real_file(plan, plan.targets[2], plan.twin.pdf, schema.PDF_SIGNAL, schema.PDF_ERRORS)


def _real_file(plan: Plan, path: Path, group: str, *names: str) -> VolumeFile:
    return VolumeFile(
        path=path,
        grid=real_space_grid(plan.grid, sizes_of(plan)),
        lattice=lattice_along(plan.sample.lattice, plan.grid.axes),
        title=title_of(plan.sample, plan.files.scan, group).replace("Pdf", "PDF"),
        fills=dict.fromkeys(names, np.nan),
        dtype="f4" if plan.choices.pdf.precision == "single" else "f8",
        attributes={schema.FINGERPRINT: fingerprint(plan.inputs)},
        space=REAL,
    )
