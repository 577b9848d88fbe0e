"""Repeated scans to a new one that is reduced like any other."""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError
from nxmpi.log import now
from nxmpi.nexus import schema, summed
from nxmpi.nexus.frames import StackReader
from nxmpi.nexus.mask import create_mask, link_mask
from nxmpi.nexus.process import write_process
from nxmpi.nexus.stack import read_pixel_mask
from nxmpi.nexus.values import entry_names, link_to, open_file, require_own
from nxmpi.nexus.wrapper import create_raw
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.h5 import create_file, edited, filters
from nxmpi.parallel.locks import publish_lock, step_lock
from nxmpi.parallel.progress import progress
from nxmpi.parallel.publish import (
    publish,
    require_folder,
    temporary,
    unpublished_removed,
)
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.inputs import file_input
from nxmpi.pipeline.matched import Part, match
from nxmpi.pipeline.reduce import BY_POSITION, STEPS
from nxmpi.stages.sum import add_frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import Frames
    from nxmpi.params import OutputParams

log = logging.getLogger(__name__)
TASK = "nxsum"
BATCH = 4
"""Frames that a rank adds at a time."""


def run_sum(
    comm: MPI.Intracomm, scans: list[Path], target: Path, tolerance: float, output: OutputParams
) -> None:
    """Add the frames, monitors and masks of scans up, into a new scan.

    Collective on ``comm``. Positions one after another, each over all ranks.

    Parameters
    ----------
    target : Path
        The new scan file, in the folder of the first scan.
    tolerance : float
        Largest distance between places of a pixel in two scans [pixels].

    Raises
    ------
    CollectiveError
        On every rank, if scans do not match, or a frame cannot be read.
    """
    timer, start_time, files = Timer(), now(), schema.ScanFiles(target)
    names = on_root(comm, lambda: _positions(scans, files))
    with _locked(comm, files.wrapper, names):
        with timer.part("compare"):
            parts = on_root(comm, lambda: _plan(scans, files, tolerance, output))
        written = [files.raw(part.name) for part in parts]
        written += [files.mask(part.name) for part in parts if part.masks]
        with unpublished_removed(comm, [*written, files.wrapper]):
            for part in parts:
                with timer.part("add"):
                    _add(comm, part, files, output)
            line = f"sum of {len(scans)} scans, {timer.summary(comm)}"
            on_root(comm, lambda: _publish(scans, files, parts, written, (start_time, line)))
    log.info("%s", line)


def _positions(scans: list[Path], files: schema.ScanFiles) -> tuple[str, ...]:
    """Return the positions of the first scan. Not collective: the root calls it."""
    paths = [scan.absolute() for scan in scans]
    if len(paths) < 2:
        raise InputError("sum: expected two scans or more")
    if len(set(paths)) < len(paths) or files.wrapper in paths:
        raise InputError("sum: expected scans that differ from each other and from the sum")
    if files.wrapper.parent != paths[0].parent or files.wrapper.suffix != ".nxs":
        raise InputError(f"{files.wrapper}: expected a .nxs file in the folder of {paths[0].name}")
    with open_file(paths[0]) as file:
        names = tuple(entry_names(file))
        for name in names:  # what is written into a copy of it must not end up elsewhere
            for path in (schema.RAW, f"{schema.REGULAR.group}/{schema.AXES[0]}"):
                require_own(file[name], path)
    return names


@contextmanager
def _locked(comm: MPI.Intracomm, wrapper: Path, names: tuple[str, ...]) -> Iterator[None]:
    """Keep other sums, and all steps of the new scan, waiting. Collective on ``comm``."""
    with ExitStack() as stack:
        for step in STEPS:
            for name in names if step in BY_POSITION else (schema.SHARED,):
                stack.enter_context(step_lock(comm, wrapper, name, step))
        yield


def _plan(
    scans: list[Path], files: schema.ScanFiles, tolerance: float, output: OutputParams
) -> list[Part]:  # fmt: skip
    """Return what is to be added. Not collective: the root calls it."""
    if not output.overwrite and (files.wrapper.exists() or _in_use(files.folder)):
        raise InputError(f"{files.wrapper}: exists already (--overwrite replaces it)")
    parts = match([scan.absolute() for scan in scans], tolerance)
    require_folder(files.folder)
    return parts


def _in_use(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _add(comm: MPI.Intracomm, part: Part, files: schema.ScanFiles, output: OutputParams) -> None:
    """Write the sum of the frames of a position, and its mask. Collective on ``comm``."""
    n_frames, *shape = part.raw[0].shape
    start, stop = block_range(n_frames, comm.size, comm.rank)
    storage = filters(output.compression)
    numbers = [(n, 0, 0) for n in range(start, stop)]

    def create(file: h5py.File) -> None:
        create_raw(file, part.raw[0].shape, part.dtype.str, 1, storage)

    def create_excluded(file: h5py.File) -> None:
        create_mask(file, part.raw[0].shape, None, storage, {})

    with all_or_none(comm):
        readers = [
            StackReader(raw, part.masks[i] if part.masks else None, skip_bad_frames=False)
            for i, raw in enumerate(part.raw)
        ]
    with ExitStack() as stack:
        bar = stack.enter_context(progress(comm, "sum", stop - start, "frames"))
        targets = {schema.RAW_IN_FILE: (files.raw(part.name), create)}
        if part.masks:
            targets[schema.MASK] = (files.mask(part.name), create_excluded)
        outputs = {
            path: stack.enter_context(
                create_file(comm, temporary(file), make, {path: numbers},
                            root_writes=output.root_writes)
            )
            for path, (file, make) in targets.items()
        }  # fmt: skip
        for i in range(largest(comm, -(-(stop - start) // BATCH))):
            first, last = (min(start + BATCH * j, stop) for j in (i, i + 1))
            with all_or_none(comm):
                pieces = _added(readers, (first, last), part)
            where = (slice(first, last), slice(0, shape[0]), slice(0, shape[1]))
            for path, out in outputs.items():
                out.write_round({path: (where, pieces[path].reshape(-1, *shape))})
            bar.advance(last - first)
    for reader in readers:
        reader.close()


def _added(readers: list[StackReader], frames: tuple[int, int], part: Part) -> dict[str, Frames]:
    """Return sums and masks of frames, (n, n_pixels)."""
    numbers = np.arange(*frames)
    n_pixels = int(np.prod(part.raw[0].shape[1:]))
    if not numbers.size:
        empty = np.empty((0, n_pixels), part.dtype)
        return {schema.RAW_IN_FILE: empty, schema.MASK: empty.astype(np.int8)}
    read = [reader.read(numbers) for reader in readers]
    result = {schema.RAW_IN_FILE: add_frames([data for data, _, _ in read], part.dtype)}
    if part.masks:
        excluded = np.any([mask != 0 for _, mask, _ in read], axis=0)
        result[schema.MASK] = excluded.astype(np.int8)
    return result


def _publish(
    scans: list[Path], files: schema.ScanFiles, parts: list[Part], written: list[Path],
    record: tuple[str, str],
) -> None:  # fmt: skip
    """Make the scan file, and give all files their names. Not collective: the root calls it."""
    start_time, note = record
    with ExitStack() as stack:
        opened = [stack.enter_context(open_file(path)) for path in scans]
        shutil.copyfile(scans[0], temporary(files.wrapper))
        with edited(temporary(files.wrapper)) as file:
            file.attrs.pop("default", None)
            summed.clear_results(file[schema.SHARED])
            for part in parts:
                entry, sources = file[part.name], [each[part.name] for each in opened]
                summed.clear_results(entry)
                entry.attrs["default"] = schema.DATA
                summed.put_values(entry, part.values)
                shape = part.raw[0].shape[1:]
                summed.put_pixel_mask(entry, [read_pixel_mask(each, shape) for each in sources])
                data = schema.RAW.rpartition("/")[2]
                link_to(entry[schema.DATA], data, files.raw(part.name), schema.RAW_IN_FILE)
                if part.masks:
                    link_mask(entry, files.mask(part.name))
                inputs = {
                    f"scan_{i}": {"scan": str(path), **file_input(raw)}
                    for i, (path, raw) in enumerate(zip(scans, part.raw, strict=True), 1)
                }
                write_process(entry, TASK, inputs, start_time=start_time, note=note)
    with publish_lock(files.wrapper):
        files.wrapper.unlink(missing_ok=True)  # never one beside the frames of another sum
        for path in _results(files, [part.name for part in parts]):
            path.unlink(missing_ok=True)
        for path in written:
            publish(temporary(path), path)
        publish(temporary(files.wrapper), files.wrapper)


def _results(files: schema.ScanFiles, names: list[str]) -> list[Path]:
    """Return what may be there of an earlier sum, besides its frames."""
    twins = (schema.REGULAR, schema.MASKED)
    whole = (files.combined, files.symmetrized, files.total_pdf, files.pdf)
    return [
        *(files.mask(name) for name in names),
        *(files.transform(name, twin) for name in names for twin in twins),
        *(of(twin) for of in whole for twin in twins),
    ]
