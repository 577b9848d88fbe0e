"""An experiment to files."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.symmetry import laue_group, space_group_info
from nxmpi.errors import InputError
from nxmpi.nexus import schema, wrapper
from nxmpi.nexus.orientation import write_orientation
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.h5 import create_file, filters
from nxmpi.parallel.publish import publish, publish_hdf5, publish_text, temporary
from nxmpi.simulate.experiment import entry_name, geometry
from nxmpi.simulate.factors import frame_factors
from nxmpi.simulate.frames import FrameTables, bcast_tables, build_tables, simulated_frame
from nxmpi.simulate.peaks import TruePeaks, true_peaks
from nxmpi.simulate.pixels import masked_pixels
from nxmpi.simulate.settings import settings_text
from nxmpi.simulate.truth import write_scan_truth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import h5py
    from mpi4py import MPI

    from nxmpi._typing import Frames
    from nxmpi.simulate.experiment import Experiment

log = logging.getLogger(__name__)
BATCH = 8
"""Frames a rank computes before it hands them on; more where chunks hold more."""


def simulate(
    comm: MPI.Intracomm, directory: Path, experiment: Experiment, *, overwrite: bool = False
) -> Path:
    """Write an experiment in NXRefine's layout, and its truth beside the frames.

    Collective on ``comm``: one broadcast of tables a position, then rounds in which each rank
    computes a batch of frames and the root writes all. The files do not depend on the number
    of ranks.

    Parameters
    ----------
    directory : Path
        Of the experiment.
    overwrite : bool
        Replace the simulated scan that is there, with all that was made from it.

    Returns
    -------
    Path
        The scan file; it appears when all the rest is complete.

    Raises
    ------
    CollectiveError
        If the directory is in use and not to be overwritten, or cannot be written.
    """
    files = scan_files(directory, experiment)
    peaks: list[TruePeaks] = []

    def begin() -> None:
        _prepare(directory, files, overwrite=overwrite)
        peaks.extend(true_peaks(experiment, i) for i in range(len(experiment.positions)))
        _write_beside(files, experiment, peaks)

    on_root(comm, begin)
    for index in range(len(experiment.positions)):
        tables = None
        with all_or_none(comm):
            if comm.rank == 0:
                tables = build_tables(experiment, index, peaks[index])
        target = files.raw(entry_name(index))
        _write_frames(comm, target, experiment, index, bcast_tables(comm, tables))
    on_root(comm, lambda: _write_wrapper(files, experiment))
    log.info("%s: %d positions", files.wrapper, len(experiment.positions))
    return files.wrapper


def scan_files(directory: Path, experiment: Experiment) -> schema.ScanFiles:
    """Return where the files of an experiment are."""
    folder = directory / experiment.name / experiment.label
    return schema.ScanFiles(folder / f"{experiment.name}_{experiment.scan}.nxs")


def _prepare(directory: Path, files: schema.ScanFiles, *, overwrite: bool) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: expected a directory to make, found a file")
    if directory.exists() and any(directory.iterdir()):
        if not overwrite:
            raise InputError(f"{directory}: exists already (--overwrite replaces it)")
        if not files.truth().exists() and _is_in_use(files):
            raise InputError(
                f"{directory}: holds no simulation of {files.wrapper.name}, but other data, "
                "which are not overwritten"
            )
    files.wrapper.unlink(missing_ok=True)
    if files.folder.exists():
        shutil.rmtree(files.folder)
    files.folder.mkdir(parents=True)
    files.settings.parent.mkdir(exist_ok=True)


def _is_in_use(files: schema.ScanFiles) -> bool:
    folder = files.folder.iterdir() if files.folder.is_dir() else ()
    names = [path.name for path in folder if not path.name.startswith(".")]
    return files.wrapper.exists() or files.settings.exists() or bool(names)


def _write_beside(
    files: schema.ScanFiles, experiment: Experiment, peaks: list[TruePeaks]
) -> None:  # fmt: skip
    """Write truth and settings; the truth first, as it marks what may be overwritten."""
    publish_hdf5(files.truth(), lambda file: write_scan_truth(file, experiment, peaks))
    publish_text(files.settings, settings_text(experiment))


def _write_frames(
    comm: MPI.Intracomm, target: Path, experiment: Experiment, index: int, tables: FrameTables
) -> None:  # fmt: skip
    """Write the raw frames of a position. Collective on ``comm``."""
    n_frames, shape = len(tables.scales), tables.bad.shape
    storage = filters(experiment.compression)

    def create(file: h5py.File) -> None:
        wrapper.create_raw(
            file, (n_frames, *shape), experiment.dtype, experiment.chunk_frames, storage
        )

    with create_file(comm, temporary(target), create, {}, root_writes=True) as output:
        for start, stop in _rounds(n_frames, experiment.chunk_frames, comm.size, comm.rank):
            data: Frames = np.empty((stop - start, *shape), experiment.dtype)
            with all_or_none(comm):
                for i in range(stop - start):
                    data[i] = simulated_frame(experiment, index, tables, start + i)
            slab = (slice(start, stop), slice(0, shape[0]), slice(0, shape[1]))
            output.write_round({schema.RAW_IN_FILE: (slab, data)})
    on_root(comm, lambda: publish(temporary(target), target))


def _rounds(n_frames: int, chunk_frames: int, size: int, rank: int) -> Iterator[tuple[int, int]]:
    """Yield the frames of a rank in each round: whole chunks, in the order of the file.

    All ranks have the same number of rounds; some are empty for some.
    """
    batch = chunk_frames * max(BATCH // chunk_frames, 1)
    for first in range(0, n_frames, batch * size):
        start = min(first + rank * batch, n_frames)
        yield start, min(start + batch, n_frames)


def _write_wrapper(files: schema.ScanFiles, experiment: Experiment) -> None:
    group = space_group_info(experiment.space_group).group()
    texts = {
        schema.NAME: experiment.name,
        schema.LABEL: experiment.label,
        schema.FORMULA: experiment.chemical_formula,
        schema.SPACE_GROUP: str(space_group_info(experiment.space_group)),
        schema.LAUE_GROUP: laue_group(experiment.space_group),
        schema.CENTRING: group.conventional_centring_type_symbol(),
        schema.CELL_GROUP: group.crystal_system().lower(),
    }

    def create(file: h5py.File) -> None:
        shared = wrapper.create_shared(file)
        wrapper.write_sample(shared, experiment.lattice, texts, experiment.temperature)
        for index, setting in enumerate(experiment.positions):
            name, place = entry_name(index), geometry(experiment, index)
            factors = frame_factors(experiment, index)
            entry = wrapper.create_position(file, name, files.raw(name), place)
            wrapper.write_instrument(
                entry, place, masked_pixels(experiment, index), setting.frame_time
            )
            if experiment.orientation:
                write_orientation(entry, place, experiment.lattice)
            if experiment.monitor:
                wrapper.write_monitor(entry, factors.monitor)
            if setting.attenuator is not None:
                wrapper.write_attenuator(entry, setting.attenuator)
            if setting.filter is not None:
                wrapper.write_filter(entry, factors.filter)
            if experiment.grid is not None:
                wrapper.write_suggested_grid(entry, experiment.grid)

    publish_hdf5(files.wrapper, create)
