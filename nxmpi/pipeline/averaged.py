"""A combined volume averaged over its Laue group, from its file to this rank's planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.volume import CHUNK, open_volume, read_part, title_of
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.stages.combine import combine
from nxmpi.stages.images import leave_out, residual_map
from nxmpi.stages.planes import in_units, norm_unit, own_ranges, whole_counts
from nxmpi.stages.shells import compare_images, integer_metric
from nxmpi.stages.symmetrize import Planes, owned_planes, symmetrize

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.model import HKLGrid, Sample
    from nxmpi.parallel.timing import Timer
    from nxmpi.pipeline.inputs import Inputs
    from nxmpi.stages.shells import Shells

    Values = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What all ranks need to know of one volume."""

    twin: schema.Twin
    files: schema.ScanFiles
    grid: HKLGrid
    sample: Sample
    group: VoxelGroup
    outliers: float | None
    inputs: Inputs
    reason: str = ""
    """Why it is to be made."""

    @property
    def target(self) -> Path:
        """The file that is made."""
        return self.files.symmetrized(self.twin)

    @property
    def title(self) -> str:
        """What the volume is called."""
        return title_of(self.sample, self.files.scan, self.twin.symmetrized)


class Average(NamedTuple):
    """What was made of one volume."""

    values: Values
    """By the names of datasets, of this rank's planes: (2, n, n_k, n_h) float32, and int8 for the
    number of images."""
    shells: Shells
    n_left_out: int


def averaged(comm: MPI.Intracomm, plan: Plan, timer: Timer) -> Average:
    """Return the average of this rank's planes, and how images agree. Collective on ``comm``.

    Counts and norm of a voxel, sums and the map are 37 bytes; images that are left out need 43.
    """
    with timer.part("read"):
        planes, unit = _read(comm, plan)
    n_left_out = 0
    with timer.part("symmetrize"):
        if plan.outliers is None:
            sums = symmetrize(comm, planes, plan.group)
        else:
            sums, n_left_out = leave_out(comm, planes, plan.group, plan.outliers)
    with timer.part("compare"):
        metric = on_root(comm, lambda: integer_metric(plan.group, plan.grid, plan.sample.lattice))
        shells = compare_images(comm, planes, sums, plan.group, *metric)
        chi2 = residual_map(comm, planes, sums, plan.group)
        del planes
    with timer.part("divide"), all_or_none(comm):
        names = (schema.SYMMETRIZED, schema.NORM, schema.SYMMETRIZED_ERRORS)
        values: Values = {name: np.empty(sums.counts.shape, np.float32) for name in names}
        for s in range(2):
            for p in range(sums.counts.shape[1]):
                divided = combine([sums.counts[s, p].astype(np.float64)], [sums.norm[s, p] * unit])
                for name, plane in zip(names, divided, strict=True):
                    values[name][s, p] = plane
    values |= {schema.IMAGES: sums.images, schema.CHI2: chi2}
    return Average(values, shells, n_left_out)


def _read(comm: MPI.Intracomm, plan: Plan) -> tuple[Planes, float]:
    """Return this rank's planes and the unit of their norm. Collective on ``comm``."""
    first, stop = owned_planes(plan.group, comm.size, comm.rank)
    shape = (2, stop - first, *plan.grid.array_shape[1:])
    low = int(plan.group.low[2])
    with all_or_none(comm):
        counts, norm = np.zeros(shape, np.int64), np.zeros(shape)
        path = plan.files.combined(plan.twin)
        volume, weight = open_volume(path)
        for dataset in (volume, weight):
            if dataset.shape != plan.grid.array_shape:
                raise InputError(
                    f"{path}:{dataset.name}: expected the shape of the axes in the scan file, "
                    f"{plan.grid.array_shape}, found {dataset.shape}"
                )
        for side, a, b in _pieces(plan.group, comm):
            places = np.abs(np.arange(a, b)) - first
            for start in range(0, shape[2], CHUNK):
                rows = slice(start, start + CHUNK)
                where = (slice(a - low, b - low), rows, slice(None))
                weights, intensity = read_part(weight, where), read_part(volume, where)
                weights = np.where(np.isnan(intensity), 0.0, weights)
                try:
                    counts[side, places, rows] = whole_counts(intensity, weights)
                except InputError as error:
                    raise InputError(f"{path}: {error}") from error
                norm[side, places, rows] = np.where(weights > 0, weights, 0.0)
        volume.file.close()
        top = float(norm.max(initial=0.0))
    unit = norm_unit(largest(comm, top))
    with all_or_none(comm):
        return Planes(first, counts, in_units(norm, unit)), unit


def _pieces(group: VoxelGroup, comm: MPI.Intracomm) -> list[tuple[int, int, int]]:
    """Return this rank's planes by the chunks they are in: side, range of l. Not collective."""
    low = int(group.low[2])
    pieces = []
    for side, a, b in own_ranges(group, comm.size, comm.rank):
        starts = [a, *range(a + CHUNK - (a - low) % CHUNK, b, CHUNK)]
        pieces += [(side, *ends) for ends in zip(starts, [*starts[1:], b], strict=True)]
    return pieces


def told(average: Average, outliers: float | None) -> str:
    """Return how well images agree, in words."""
    r_int, r_weighted, chi2 = average.shells.total
    text = "no voxel has counts and two images"
    if np.isfinite(chi2):
        text = (
            f"R_int {r_int:.4g} ({r_weighted:.4g} weighted by norm), chi squared of images "
            f"{chi2:.4g}"
        )
    if outliers is not None:
        text += f", {average.n_left_out} images left out beyond {outliers:g} sigma"
    return text
