"""What a command line of CCTW asks for, done by this package: files in, file out."""

from __future__ import annotations

import logging
from itertools import product
from math import prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.cctw.command import parse_place, read_settings
from nxmpi.cctw.geometry import find_sights
from nxmpi.cctw.inputs import open_volumes, read_frames, read_sums
from nxmpi.cctw.output import RATIO, Layout, create_datasets, find_output, layout_of
from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.volume import CHUNK
from nxmpi.parallel.collective import all_or_none, kept_on_root, on_root
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.h5 import create_file
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.memory import require_disk
from nxmpi.parallel.publish import publish, temporary, unpublished_removed
from nxmpi.parallel.timing import Timer
from nxmpi.params import TransformParams
from nxmpi.pipeline.binning import Binning, bin_frames
from nxmpi.pipeline.volume import write_parts
from nxmpi.stages.bricks import WIDTH, fill_pillar, pillars_held
from nxmpi.stages.tables import require_some, tables_of_sights
from nxmpi.stages.transform import NoStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import F8
    from nxmpi.cctw.command import CctwParams
    from nxmpi.cctw.inputs import Frames
    from nxmpi.crystal.reciprocal import Sights
    from nxmpi.kernels.tiles import Tables

    Corner = tuple[int, int, int]

log = logging.getLogger(__name__)

LOCKED, STEP = "nxcctw", "output"
"""What the lock of an output is called."""
MERGED_COMPRESSION = 2
"""Level of gzip of what is merged, if nothing else is said."""


class Task(NamedTuple):
    """A transform, as the root knows it."""

    frames: Frames
    sights: Sights
    layout: Layout


def run_cctw_transform(comm: MPI.Intracomm, params: CctwParams) -> str:
    """Transform frames as CCTW does.

    Collective on ``comm``. The output appears when it is complete, in the place of an old one.

    Returns
    -------
    str
        What was done, in one line.

    Raises
    ------
    CollectiveError
        On every rank, if anything named is missing, not understood or cannot be written.
    """
    timer = Timer()
    target = on_root(comm, lambda: find_output(params))
    with step_lock(comm, target.file, LOCKED, STEP):
        task = kept_on_root(comm, lambda: _task(params))
        binning, layout = on_root(comm, lambda: _shared(task))

        def build() -> Tables:
            assert task is not None  # on the root
            frames = task.frames
            h, k, l = binning.shape
            return tables_of_sights(
                task.sights, frames.bad, frames.weight, frames.factor, (h, k, l), 0.0
            )

        binned = TransformParams(voxels="lower-edge", skip_bad_frames=params.skip_bad_frames)
        volume, n_frames = bin_frames(comm, binning, build, binned, NoStore(), timer)
        if comm.rank == 0 and not n_frames:
            log.warning("%s: no frame with a weight reaches the grid: all is 0", layout.place)
        bricks = (volume.kept, *(() if binning.mask else (volume.excluded,)))
        pillars = pillars_held(bricks)

        def fill(n: int) -> Mapping[str, F8]:
            return _filled(*fill_pillar(bricks, pillars[n], volume.unit * volume.views))

        rooms = [(p.l, p.k, h) for p in pillars for h in range(p.h_start, p.h_stop, WIDTH)]
        corners = [(p.l, p.k, p.h_start) for p in pillars]
        fits = layout.chunks in (None, tuple(min(CHUNK, n) for n in layout.shape))
        with timer.part("write"):
            _write(comm, layout, corners, fill, rooms if fits else None)
        return f"{layout.place}: {n_frames} frames, {timer.summary(comm)}"


def run_cctw_merge(comm: MPI.Intracomm, params: CctwParams) -> str:
    """Add volumes as CCTW does.

    Collective on ``comm``; as `run_cctw_transform`.
    """
    timer = Timer()
    target = on_root(comm, lambda: find_output(params))
    with step_lock(comm, target.file, LOCKED, STEP):
        layout = on_root(comm, lambda: _merged_layout(params))
        with all_or_none(comm):
            volumes = open_volumes([parse_place(text, "input") for text in params.inputs])
        step_l, step_k, _ = layout.chunks or (CHUNK,) * 3
        n_l, n_k, n_h = layout.shape
        rows = list(product(range(0, n_l, step_l), range(0, n_k, step_k)))
        mine = rows[slice(*block_range(len(rows), comm.size, comm.rank))]

        def fill(n: int) -> Mapping[str, F8]:
            l, k = mine[n]
            return _filled(*read_sums(volumes, np.s_[l : l + step_l, k : k + step_k]))

        along = range(0, n_h, layout.chunks[2]) if layout.chunks else ()
        rooms = [(l, k, h) for l, k in mine for h in along]
        with timer.part("read and write"):
            _write(comm, layout, [(l, k, 0) for l, k in mine], fill, rooms)
        for volume in volumes:
            volume.counts.file.close()
        return f"{layout.place}: {len(volumes)} volumes, {timer.summary(comm)}"


def _task(params: CctwParams) -> Task:
    values = read_settings(params)
    if "outputData.dimensions" not in values:
        raise InputError("settings: expected outputData.dimensions, found nothing")
    frames = read_frames(params)
    require_some(params.inputs[0], frames.bad, frames.weight)
    part, parts = params.subset
    start, stop = block_range(frames.weight.size, parts, part)
    frames.weight[:start] = frames.weight[stop:] = 0.0
    n_h, n_k, n_l = (int(n) for n in values["outputData.dimensions"])
    if min(n_h, n_k, n_l) < 1 or max(n_h, n_k, n_l) >= 2**15:
        raise InputError(
            f"settings: outputData.dimensions: expected 1 to 32767 voxels along each axis, found "
            f"{n_h}, {n_k}, {n_l}"
        )
    chunks = values.get("outputData.hdfChunkSize")
    if chunks is not None and min(chunks) < 1:
        raise InputError(f"settings: outputData.hdfChunkSize: expected sizes, found {chunks}")
    compression = int(values.get("outputData.compression", 0))
    if compression > 9:
        raise InputError(
            f"settings: outputData.compression: expected at most 9, found {compression}"
        )
    x, y, z = (int(n) for n in chunks or (0, 0, 0))
    layout = layout_of(
        params, (n_l, n_k, n_h), (z, y, x) if chunks else None,
        compression,
    )  # fmt: skip
    _require_space(layout)
    n_frames, n_slow, n_fast = frames.raw.shape
    return Task(frames, find_sights(values, (n_slow, n_fast), n_frames), layout)


def _require_space(layout: Layout) -> None:
    """Raise `InputError` if the disk does not hold what takes its full room in any case."""
    needed = 0 if layout.old is None else layout.old.stat().st_size
    if layout.chunks is None:
        needed += len(layout.paths) * prod(layout.shape) * np.dtype("f4").itemsize
    file = layout.place.file
    require_disk(file.parent, needed, f"{file}", "outputData.dimensions, or another disk")


def _shared(task: Task | None) -> tuple[Binning, Layout]:
    assert task is not None  # on the root
    n_l, n_k, n_h = task.layout.shape
    binning = Binning(
        name=f"{task.layout.place}", raw=task.frames.raw, mask=task.frames.mask3d,
        shape=(n_h, n_k, n_l), scratch=task.layout.place.file.parent,
        advice="use more nodes, or a coarser grid (outputData.dimensions)",
    )  # fmt: skip
    return binning, task.layout


def _merged_layout(params: CctwParams) -> Layout:
    if not params.inputs:
        raise InputError("merge: expected volumes as inputs, found none")
    volumes = open_volumes([parse_place(text, "input") for text in params.inputs])
    compression = MERGED_COMPRESSION if params.compression is None else params.compression
    first = volumes[0].counts
    l, k, h = first.chunks or (CHUNK,) * 3
    layout = layout_of(params, first.shape, (l, k, h), compression)
    alone = [text for text, each in zip(params.inputs, volumes, strict=True) if each.norm is None]
    if 0 < len(alone) < len(volumes):
        log.warning(
            "%s: datasets alone, added as counts whose norm is 1 in every voxel, to volumes that "
            "have a norm (name the group of v and n instead)", ", ".join(alone),
        )  # fmt: skip
    for volume in volumes:
        volume.counts.file.close()
    return layout


def _filled(counts: F8, norm: F8) -> dict[str, F8]:
    ratio = np.divide(counts, norm, out=counts.copy(), where=norm != 0)
    return {schema.COUNTS: counts, schema.NORM: norm, RATIO: ratio}


def _write(
    comm: MPI.Intracomm, layout: Layout, corners: list[Corner],
    fill: Callable[[int], Mapping[str, F8]], rooms: list[Corner] | None,
) -> None:  # fmt: skip
    """Write and publish the output. Collective on ``comm``.

    Parameters
    ----------
    corners : list of tuple of int
        Of the parts of this rank.
    rooms : list of tuple of int
        First voxels of the chunks that this rank writes; None where ranks share chunks, which the
        root then writes.
    """
    target = layout.place.file
    own = target.with_name(f"{target.name}.{LOCKED}")  # nxmpi may write its own beside it
    kept: list[h5py.Dataset] = []  # until the file is closed

    def create(file: h5py.File) -> None:
        datasets = create_datasets(file, layout)
        if rooms is None:
            kept.extend(datasets)

    chunks = {} if layout.chunks is None else dict.fromkeys(layout.paths.values(), rooms or [])
    with unpublished_removed(comm, [own]):
        with create_file(
            comm, temporary(own), create, chunks, root_writes=rooms is None, like=layout.old
        ) as out:
            write_parts(out, layout.paths, "f4", corners, fill)
        on_root(comm, lambda: publish(temporary(own), target))
