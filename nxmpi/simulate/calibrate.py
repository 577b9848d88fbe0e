"""The rates of a machine, measured by the program's own steps on a simulated scan."""

from __future__ import annotations

import logging
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nxmpi.errors import NxmpiError
from nxmpi.model import HKLGrid
from nxmpi.nexus import schema
from nxmpi.nexus.frames import StackReader
from nxmpi.parallel.arrays import bcast_array
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.timing import Timer
from nxmpi.params import (
    CombineParams,
    FramesParams,
    NormParams,
    OutputParams,
    PdfParams,
    PunchParams,
    ScanParams,
    SymmetrizeParams,
    TransformParams,
    WindowParams,
)
from nxmpi.pipeline.combine import run_combine
from nxmpi.pipeline.pdf import run_pdf
from nxmpi.pipeline.rates import Rates
from nxmpi.pipeline.real_space import Choices
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.searched import frame_tables, read_searched
from nxmpi.pipeline.symmetrize import run_symmetrize
from nxmpi.pipeline.transform import run_transform, tables_of
from nxmpi.simulate.presets import preset
from nxmpi.simulate.write import simulate
from nxmpi.stages.bricks import BRICK_BYTES
from nxmpi.stages.frames import frames_pass
from nxmpi.stages.tables import covered_bricks
from nxmpi.stages.transform import NoStore, Workspace, transform

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpi4py import MPI

    from nxmpi.simulate.experiment import Experiment

log = logging.getLogger(__name__)
BLOCK = 128 * 2**20
"""That is written, read and sent, in pieces of a few MiB [bytes]."""
PIECE = 4 * 2**20
LIMIT = 300.0
"""Of a step of a tiny scan, which may have to be compiled [s]."""
ENVIRONMENT = ("OMPI_", "PMIX_", "PRTE_", "PMI_", "SLURM_")
"""Begins the names of variables that tie a process to a job of MPI."""
STEP = """
import sys
from mpi4py import MPI
from nxmpi.cli.main import run
from nxmpi.parallel.timing import peak_memory
status = run(MPI.COMM_WORLD)
print(peak_memory(), file=sys.__stdout__)
sys.exit(status)
"""


class Size(NamedTuple):
    """How large the simulated scan is."""

    frames: int = 24
    voxels: int = 241
    """Along each axis."""


def calibrate(comm: MPI.Intracomm, folder: Path, size: Size | None = None) -> Rates:
    """Return the rates of this machine, with files in a folder. Collective on ``comm``.

    What ranks share, such as memory and disk, is shared as it would be: rates are of one of so
    many ranks. All files are removed.

    Parameters
    ----------
    size : Size, optional
        Of the scan; larger ones are more like real scans.

    Raises
    ------
    CollectiveError
        On every rank, if the folder cannot be written, or a step fails.
    """
    size = size or Size()
    with _folder(comm, folder) as scratch:
        base = on_root(comm, lambda: _memory_of_steps(scratch))
        log.info("memory of a rank before it works: measured")
        write, read = on_root(comm, lambda: _disk(scratch))
        log.info("disk: measured")
        wrapper = simulate(comm, scratch / "scan", experiment_of(size))
        log.info("a scan of %d frames: simulated", size.frames)
        pixels = _frames(comm, wrapper)
        voxels = _volumes(comm, wrapper, size)
        return Rates(
            where=f"{platform.node()}, {comm.size} ranks, {folder.absolute()}",
            when=datetime.now(UTC).date().isoformat(),
            frames=pixels["frames"], transform=pixels["transform"],
            combine=voxels["combine"], symmetrize=voxels["symmetrize"], fourier=voxels["fourier"],
            pack=voxels["pack"], ratio=voxels["ratio"], write=write, read=read,
            send=_send(comm), base=base,
        )  # fmt: skip


@contextmanager
def _folder(comm: MPI.Intracomm, folder: Path) -> Iterator[Path]:
    """Give a new folder; the root removes it. Collective on ``comm``."""
    made: list[tempfile.TemporaryDirectory[str]] = []

    def make() -> Path:
        made.append(tempfile.TemporaryDirectory(prefix=".nxmpi-calibrate-", dir=folder))
        return Path(made[0].name)

    path = on_root(comm, make)
    try:
        yield path
    finally:
        for each in made:
            each.cleanup()


def experiment_of(size: Size) -> Experiment:
    """Return one position of frames of real size, few of them, and a small grid."""
    named = preset("pilatus2m")
    n = size.voxels
    grid = HKLGrid(origin=(-10.0,) * 3, step=(20 / (n - 1),) * 3, shape=(n, n, n))
    positions = (replace(named.positions[0], n_frames=size.frames),)
    return replace(named, positions=positions, grid=grid)


def _memory_of_steps(folder: Path) -> dict[str, float]:
    """Return the peaks of processes that do the steps of a tiny scan. Not collective."""
    root = folder / "tiny"
    _run("simulate", str(root), "--preset", "tiny")
    (wrapper,) = root.glob("*/*/*_300K.nxs")
    _run("reduce", str(wrapper))  # compiles what is not compiled yet
    steps = ("frames", "orient", "transform", "combine", "symmetrize", "pdf")
    return {step: _run("reduce", str(wrapper), "--only", step) for step in steps}


def _run(*args: str) -> float:
    """Run a command in a process of its own; return the peak of its memory [bytes]."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(ENVIRONMENT)
    }
    kept = {n: v for n, v in os.environ.items() if n.startswith("OMPI_ALLOW_")}
    result = subprocess.run(
        [sys.executable, "-c", STEP, *args], env=environment | kept, capture_output=True,
        text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    if result.returncode:
        raise NxmpiError(f"nxmpi {' '.join(args)}: {result.stderr.strip()[-300:]}")
    return float(result.stdout.split()[-1])


def _disk(folder: Path) -> tuple[float, float]:
    """Return how fast bytes come to disk and from there [1/s]. Not collective."""
    piece = np.random.default_rng(0).bytes(PIECE)
    path = folder / "block"
    with path.open("wb") as file:
        start = time.perf_counter()
        for _ in range(BLOCK // PIECE):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        write = BLOCK / (time.perf_counter() - start)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with path.open("rb") as file:
        start = time.perf_counter()
        while file.read(PIECE):
            pass
        read = BLOCK / (time.perf_counter() - start)
    path.unlink()
    return write, read


def _send(comm: MPI.Intracomm) -> float:
    """Return how fast the root sends to the others, or to itself [1/s]. Collective on ``comm``."""
    block = np.ones(BLOCK, np.uint8)
    start = time.perf_counter()
    if comm.size == 1:
        block.copy()
    else:
        bcast_array(comm, block if comm.rank == 0 else None)
    seconds = max(comm.allgather(time.perf_counter() - start))
    return float(BLOCK / seconds)


def _frames(comm: MPI.Intracomm, wrapper: Path) -> dict[str, float]:
    """Return the rates of pixels, by the stages alone. Collective on ``comm``."""
    params, scan_params, norm = FramesParams(), ScanParams(), NormParams()
    binning = TransformParams()
    with all_or_none(comm):
        (searched,) = read_searched(wrapper, scan_params, norm, params)
        tables, _ = frame_tables(searched, params)
        scan = read_scan(wrapper, scan_params, norm)
        (measured,) = scan.measured
        tiles = tables_of(scan.grid, measured, binning)
    n_pixels = math.prod(searched.raw.shape)
    found = {}
    for name in ("frames", "transform"):
        best = math.inf
        for _ in range(2):  # the first brings kernels and files into memory
            reader = StackReader(measured.raw, None, skip_bad_frames=False, n_rooms=2)
            comm.barrier()
            start = time.perf_counter()
            if name == "frames":
                frames_pass(comm, tables, reader, params, Timer())
            else:
                workspace = Workspace(store=NoStore(), timer=Timer())
                transform(comm, tiles, reader, binning, workspace)
            best = min(best, max(comm.allgather(time.perf_counter() - start)))
            reader.close()
        found[name] = n_pixels / best / comm.size
        log.info("%s: %.3g pixels/s a rank", name, found[name])
    return found


def _volumes(comm: MPI.Intracomm, wrapper: Path, size: Size) -> dict[str, float]:
    """Return the rates of voxels, by whole steps less what files take. Collective on ``comm``."""
    files, output = schema.ScanFiles(wrapper), OutputParams()
    scan_params, norm, params = ScanParams(mask=False), NormParams(), TransformParams()
    run_transform(comm, wrapper, scan_params, norm, params, output)

    def covered() -> int:
        scan = read_scan(wrapper, scan_params, norm)
        return covered_bricks(tables_of(scan.grid, scan.measured[0], params))

    n_bytes = on_root(comm, covered) * BRICK_BYTES * 2
    ratio = on_root(comm, lambda: files.transform("f1", schema.REGULAR).stat().st_size) / n_bytes
    n_voxels, n_ranks = size.voxels**3, comm.size
    combining = math.inf
    for again in (False, True):  # the first brings kernels and files into memory
        start = time.perf_counter()
        run_combine(comm, wrapper, CombineParams(), replace(output, overwrite=again))
        combining = min(combining, time.perf_counter() - start)
    # of combining, most is to pack three numbers for each two that are read
    pack = 0.75 * n_bytes / combining / n_ranks
    start = time.perf_counter()
    run_symmetrize(comm, wrapper, SymmetrizeParams(), output)
    averaging = time.perf_counter() - start
    choices = Choices(punch=PunchParams(), window=WindowParams(), pdf=PdfParams())
    start = time.perf_counter()
    run_pdf(comm, wrapper, choices, output)
    transforming = time.perf_counter() - start

    def rate(voxels: float, seconds: float, written: float) -> float:
        left = max(seconds - written / pack / n_ranks, 0.2 * seconds)
        return voxels / left / n_ranks

    found = {
        "pack": pack, "ratio": min(ratio, 1.0), "combine": n_bytes / 16 / combining / n_ranks,
        "symmetrize": rate(n_voxels, averaging, 17 * n_voxels),
        "fourier": rate(4 * n_voxels, transforming, 41 * n_voxels),
    }  # fmt: skip
    for name in ("combine", "symmetrize", "fourier"):
        log.info("%s: %.3g voxels/s a rank", name, found[name])
    return on_root(comm, lambda: found)
