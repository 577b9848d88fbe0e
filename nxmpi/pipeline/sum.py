"""Repeated scans to a new one that is reduced like any other."""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.displacement import differences, displacement
from nxmpi.errors import InputError
from nxmpi.model import Geometry
from nxmpi.nexus import schema, summed
from nxmpi.nexus.frames import Stack, StackReader, find_stack, read_pixel_mask
from nxmpi.nexus.geometry import (
    has_orientation,
    read_detector,
    read_goniometer,
    read_sample,
    read_UB,
    read_wavelength,
)
from nxmpi.nexus.mask import create_mask, link_mask
from nxmpi.nexus.process import Process, write_process
from nxmpi.nexus.values import entry_names, link_to, open_file
from nxmpi.nexus.wrapper import create_raw
from nxmpi.parallel.arrays import largest
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.h5 import create_file, edited, filters
from nxmpi.parallel.progress import progress
from nxmpi.parallel.publish import publish, require_folder, temporary, unpublished_removed
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.inputs import file_input
from nxmpi.pipeline.scan import read_stacks
from nxmpi.pipeline.transmissions import mean_transmissions
from nxmpi.pipeline.wrapper import now
from nxmpi.stages.sum import add_frames, summed_type

if TYPE_CHECKING:
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import F8, Frames
    from nxmpi.params import OutputParams

log = logging.getLogger(__name__)
TASK = "nxsum"
BATCH = 4
"""Frames that a rank adds at a time."""
WAVELENGTH = 1e-3
"""Relative difference that is tolerated, however small the detector."""
UNKNOWN = as_matrix(np.eye(3) / 10)
"""In the place of UB where a scan has none."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A position of all scans."""

    name: str
    raw: list[Stack]
    masks: list[Stack]
    """One of each scan, or none."""
    dtype: np.dtype[np.generic]
    """Of the sum."""
    values: dict[str, F8]
    """What stands in the new scan at paths where the first has its own."""


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


def _plan(
    scans: list[Path], files: schema.ScanFiles, tolerance: float, output: OutputParams
) -> list[Part]:  # fmt: skip
    """Return what is to be added. Not collective: the root calls it."""
    paths = [scan.absolute() for scan in scans]
    if len(set(paths)) < 2:
        raise InputError("sum: expected two scans or more")
    if len(set(paths)) < len(paths) or files.wrapper in paths:
        raise InputError("sum: expected scans that differ from each other and from the sum")
    if files.wrapper.parent != paths[0].parent or files.wrapper.suffix != ".nxs":
        raise InputError(f"{files.wrapper}: expected a .nxs file in the folder of {paths[0].name}")
    if not output.overwrite and (files.wrapper.exists() or _in_use(files.folder)):
        raise InputError(f"{files.wrapper}: exists already (--overwrite replaces it)")
    with ExitStack() as stack:
        opened = [stack.enter_context(open_file(path)) for path in paths]
        names = entry_names(opened[0])
        for file in opened[1:]:
            if entry_names(file) != names:
                raise InputError(
                    f"{file.filename}: expected positions {', '.join(names)} as in "
                    f"{paths[0].name}, found {', '.join(entry_names(file))}"
                )
        parts = [_plan_position([file[name] for file in opened], tolerance) for name in names]
    require_folder(files.folder)
    return parts


def _in_use(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _plan_position(entries: list[h5py.Group], tolerance: float) -> Part:
    name = entries[0].name.strip("/")
    found = [read_stacks(entry) for entry in entries]
    raw = [stack for stack, _ in found]
    oriented = all(has_orientation(entry) for entry in entries)
    geometries = [
        _geometry(entry, stack, n, oriented=oriented)
        for entry, (stack, n) in zip(entries, found, strict=True)
    ]
    for entry, (stack, n), geometry in zip(entries[1:], found[1:], geometries[1:], strict=True):
        where = f"{entry.file.filename}:/{name}"
        if (stack.shape, n) != (raw[0].shape, found[0][1]):
            raise InputError(
                f"{where}: expected frames of shape {raw[0].shape}, {found[0][1]} used, as in "
                f"{entries[0].file.filename}, found {stack.shape}, {n} used"
            )
        first, other = geometries[0].wavelength, geometry.wavelength
        if abs(other / first - 1) > WAVELENGTH:
            raise InputError(
                f"{where}/{schema.WAVELENGTH}: expected {first:g} Å as in "
                f"{entries[0].file.filename}, found {other:g} Å"
            )
        apart = displacement(geometries[0], geometry)
        told = "; ".join(differences(geometries[0], geometry))
        if not apart <= tolerance:
            raise InputError(
                f"{where}: expected pixels within {tolerance:g} pixels of where they are in "
                f"{entries[0].file.filename}, found {apart:.3g}: {told}"
            )
        if told:
            log.info("%s: up to %.3g pixels from the first scan: %s", where, apart, told)
    with_mask = [entry.get(schema.DATA_MASK, getlink=True) is not None for entry in entries]
    masks = []
    if all(with_mask):
        masks = [find_stack(entry, schema.DATA_MASK) for entry in entries]
    elif any(with_mask):
        log.warning("%s: only some of the scans have a 3-D mask; the sum is made without", name)
    saturations = [summed.saturation(entry) for entry in entries]
    limit = None if None in saturations else int(max(s for s in saturations if s is not None))
    dtype = summed_type([np.dtype(stack.dtype) for stack in raw], limit)
    values = summed.summed_values(entries) | mean_transmissions(entries, found[0][1])
    return Part(name=name, raw=raw, masks=masks, dtype=dtype, values=values)


def _geometry(entry: h5py.Group, raw: Stack, n_frames: int, *, oriented: bool) -> Geometry:
    goniometer, UB = read_goniometer(entry, n_frames), UNKNOWN
    if oriented:
        UB = as_matrix(read_UB(entry, goniometer.step, read_sample(entry).lattice))
    return Geometry(
        wavelength=read_wavelength(entry), detector=read_detector(entry, raw.shape[1:]),
        goniometer=goniometer, UB=UB,
    )  # fmt: skip


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
                process = Process(
                    task=TASK, start_time=start_time, end_time=now(), note=note, inputs=inputs
                )
                write_process(entry, process)
    for path in written:
        publish(temporary(path), path)
    publish(temporary(files.wrapper), files.wrapper)
