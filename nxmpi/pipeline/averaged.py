"""A combined volume averaged over its Laue group, from its file to this rank's planes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nxmpi.crystal.metric import grid_metric, whole_metric
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.values import open_file, require
from nxmpi.nexus.volume import CHUNK, read_part
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.memory import require_memory
from nxmpi.parallel.signals import stop_if_wished
from nxmpi.stages.background import (
    NOTHING,
    average,
    expected_background,
    less,
    sum_background,
    whole_background,
)
from nxmpi.stages.combine import Sums, combine
from nxmpi.stages.cost_volumes import symmetrize_memory
from nxmpi.stages.images import leave_out, residual_map
from nxmpi.stages.planes import in_units, norm_unit, own_ranges, whole_counts
from nxmpi.stages.shells import compare_images
from nxmpi.stages.symmetrize import Planes, owned_planes, symmetrize

if TYPE_CHECKING:
    import h5py
    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi._typing import F8, I8
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.parallel.timing import Timer
    from nxmpi.pipeline.symmetrize_plan import Plan
    from nxmpi.stages.background import Background
    from nxmpi.stages.shells import Shells
    from nxmpi.stages.symmetrize import Symmetrized

    Values = dict[str, NDArray[Any]]


NEEDS = "use more nodes, or larger steps (--qh, --qk, --ql); nxmpi plan tells what suffices"


class Average(NamedTuple):
    """What was made of one volume."""

    values: Values
    """By the names of datasets, of this rank's planes: (2, n, n_k, n_h) float32, and int8 for the
    number of images."""
    shells: Shells
    n_left_out: int


def averaged(comm: MPI.Intracomm, plan: Plan, timer: Timer) -> Average:
    """Return the average of this rank's planes, and how images agree. Collective on ``comm``.

    Counts and norm of a voxel, sums and the map are 37 bytes; images that are left out need 43, and
    a background 40 more.
    """
    needed = symmetrize_memory(
        plan.group, plan.grid.array_shape, comm.size, background=plan.scale is not None
    )
    require_memory(comm, needed, f"{plan.target}", NEEDS)
    with timer.part("read"):
        planes, unit, background = _read(comm, plan)
    stop_if_wished(comm)
    n_left_out, total = 0, None
    with timer.part("symmetrize"):
        if plan.outliers is None:
            sums = symmetrize(comm, planes, plan.group)
        else:
            sums, n_left_out = leave_out(comm, planes, plan.group, plan.outliers)
        if background is not None:
            total = sum_background(comm, background, planes.first, plan.group)
    stop_if_wished(comm)
    with timer.part("compare"):
        subtracted = NOTHING
        if background is not None and total is not None:
            subtracted = less(background, total, plan.parts)
        squares = grid_metric(plan.grid, plan.sample.lattice)
        metric = on_root(comm, lambda: whole_metric(squares, plan.group))
        shells = compare_images(comm, planes, sums, plan.group, metric, subtracted)
        stop_if_wished(comm)
        chi2 = residual_map(comm, planes, sums, plan.group, subtracted)
        del planes, background, subtracted
    stop_if_wished(comm)
    with timer.part("divide"), all_or_none(comm):
        values = _divided(sums, (1 / plan.parts, unit), total)
    values |= {schema.IMAGES: sums.images, schema.CHI2: chi2}
    return Average(values, shells, n_left_out)


def _divided(
    sums: Symmetrized, units: tuple[float, float], background: Background | None
) -> Values:  # fmt: skip
    names = [schema.SYMMETRIZED, schema.NORM, schema.SYMMETRIZED_ERRORS]
    if background is not None:
        names.append(schema.SPREAD)
    values: Values = {name: np.empty(sums.counts.shape, np.float32) for name in names}
    for s, p in np.ndindex(*sums.counts.shape[:2]):
        counts, norm = (
            np.asarray(values[s, p] * unit, np.float64)
            for values, unit in zip((sums.counts, sums.norm), units, strict=True)
        )
        if background is None:
            divided: tuple[F8, ...] = combine([counts], [norm])
        else:
            divided = average(Sums(counts, norm), background.plane(s, p))
        for name, plane in zip(names, divided, strict=True):
            values[name][s, p] = plane
    return values


def _read(
    comm: MPI.Intracomm, plan: Plan
) -> tuple[Planes, float, Background | None]:  # fmt: skip
    """Return this rank's planes, the unit of their norm, and what was subtracted.

    Collective on ``comm``.
    """
    first, stop = owned_planes(plan.group, comm.size, comm.rank)
    shape = (2, stop - first, *plan.grid.array_shape[1:])
    low = int(plan.group.low[2])
    with all_or_none(comm):
        counts, norm = np.zeros(shape, np.int64), np.zeros(shape)
        own: list[NDArray[Any]] = []
        if plan.scale is not None:
            own = [np.zeros(shape, dtype) for dtype in (np.float64, np.float64, np.float32)]
        path = plan.files.combined(plan.twin)
        with open_file(path) as file:
            volume = file[schema.VOLUME]
            _require_shape(volume, plan)
            for side, a, b in _pieces(plan.group, comm):
                places = np.abs(np.arange(a, b)) - first
                for start in range(0, shape[2], CHUNK):
                    rows = slice(start, start + CHUNK)
                    where = (slice(a - low, b - low), rows, slice(None))
                    try:
                        whole, weight, background = _read_part(volume, where, plan)
                    except InputError as error:
                        raise InputError(f"{path}: {error}") from error
                    counts[side, places, rows] = whole
                    norm[side, places, rows] = weight
                    for n, values in enumerate(background):
                        own[n][side, places, rows] = values
        top = float(norm.max(initial=0.0))
    unit = norm_unit(largest(comm, top))
    with all_or_none(comm):
        planes = Planes(first, counts, in_units(norm, unit), plan.parts)
    return planes, unit, whole_background(comm, *own) if own else None


def _require_shape(volume: h5py.Group, plan: Plan) -> None:
    names = [schema.COUNTS, schema.NORM]
    if plan.scale is not None:
        names += [schema.SUM, schema.BACKGROUND_SUM, schema.BACKGROUND_NORM]
    for name in names:
        dataset = require(volume, name, "a volume")
        if dataset.shape != plan.grid.array_shape:
            raise InputError(
                f"{volume.file.filename}:{dataset.name}: expected the shape of the axes in the "
                f"scan file, {plan.grid.array_shape}, found {dataset.shape}"
            )


def _read_part(
    volume: h5py.Group, where: tuple[slice, ...], plan: Plan
) -> tuple[I8, F8, tuple[F8, ...]]:
    """Return counts and norm of a part, 0 where nothing was measured, and what was subtracted."""

    def read(name: str) -> F8:
        return read_part(volume[name], where)

    weight, intensity = read(schema.NORM), read(schema.COUNTS)
    weight = np.where((weight > 0) & ~np.isnan(intensity), weight, 0.0)
    counts = intensity * weight if plan.scale is None else read(schema.SUM)
    whole = whole_counts(np.where(weight > 0, counts, 0.0), plan.parts)
    if plan.scale is None:
        return whole, weight, ()
    other = Sums(read(schema.BACKGROUND_SUM), read(schema.BACKGROUND_NORM))
    return whole, weight, expected_background(weight, other, plan.scale)


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
