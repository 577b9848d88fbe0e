"""One run of the transform, under mpiexec: prints a line of JSON.

A detector of 1679 x 1475 pixels with module gaps, 0.1 degrees a frame, all factors of the norm,
onto 1001^3 voxels. Frames repeat a smaller set, in memory or in a bitshuffle-LZ4 file.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import nxmpi  # noqa: F401 - before numba: see nxmpi/__init__.py

import h5py  # isort: skip
import numpy as np
from mpi4py import MPI

from nxmpi.crystal.detector import as_matrix, parse_orientation
from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.model import Detector, Geometry, Goniometer, HKLGrid, Lattice, Position
from nxmpi.nexus.frames import Stack, StackReader
from nxmpi.parallel.checkpoint import Checkpoint
from nxmpi.parallel.h5 import filters
from nxmpi.parallel.timing import Timer
from nxmpi.params import TransformParams
from nxmpi.stages.cost import bytes_sent, memory
from nxmpi.stages.tables import bcast_tables, build_tables, pixel_factors
from nxmpi.stages.transform import Workspace, transform

SHAPE = (1679, 1475)
STORED = 32
"""Different frames; the scan repeats them."""


def make_position(n_frames):
    lattice = Lattice(a=10, b=10, c=10, alpha=90, beta=90, gamma=90)
    detector = Detector(
        shape=SHAPE, pixel_size=0.172, distance=650.0, beam_center=(700.3, 800.7),
        orientation=parse_orientation("-y +z -x"), yaw=0.1, pitch=0.2, roll=0.3,
    )  # fmt: skip
    goniometer = Goniometer(
        theta=0.0, omega=0.0, chi=-90.0, phi=tuple(0.1 * k for k in range(n_frames)), step=0.1
    )
    UB = rotation(0, 20) @ rotation(1, 33) @ reciprocal_matrix(lattice)
    bad = np.zeros(SHAPE, bool)
    for row in range(195, SHAPE[0], 212):
        bad[row : row + 17] = True
    bad[:, 487:494] = bad[:, 981:988] = True
    return Position(
        name="f1", sample=None, n_frames=n_frames, first_frame=0, last_frame=n_frames - 1,
        geometry=Geometry(
            wavelength=0.2, detector=detector, goniometer=goniometer, UB=as_matrix(UB)
        ),
        bad=bad, weight=1 + 0.05 * np.cos(np.arange(n_frames) / 40), factors={},
    )  # fmt: skip


class Repeated:
    """Frames that repeat those of another source."""

    masked = False
    chunk_frames = 1
    dtype = np.dtype(np.int32)

    def __init__(self, frames=None, reader=None):
        self.frames, self.reader = frames, reader

    def read(self, numbers):
        first = int(numbers[0]) % STORED
        wanted = np.arange(first, min(first + numbers.size, STORED))
        if self.reader is not None:
            data = self.reader.read(wanted)[0]
            if wanted.size < numbers.size:
                rest = self.reader.read(np.arange(numbers.size - wanted.size))[0]
                data = np.concatenate([data, rest])
        else:
            data = self.frames[(first + np.arange(numbers.size)) % STORED]
        return data, np.empty((0, 0), np.int8), np.empty(0, np.int64)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=64, help="per rank")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--memory", type=float, default=0.0, help="GiB per rank; 0 = no limit")
    parser.add_argument("--from-file", action="store_true")
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    n_frames = options.frames * comm.size
    grid = HKLGrid(origin=(-10.0,) * 3, step=(0.02,) * 3, shape=(1001,) * 3)
    frames = np.random.default_rng(1).poisson(2.0, (STORED, SHAPE[0] * SHAPE[1])).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        reader = Repeated(frames=frames)
        if options.from_file:
            reader = Repeated(reader=open_file(Path(folder) / "frames.h5", frames))
            del frames
        position = make_position(n_frames)
        tables = None
        if comm.rank == 0:
            factor = pixel_factors(
                position.geometry, polarization=0.99, solid_angle_unit=(0.172 / 650) ** 2
            )
            tables = build_tables(position, factor, grid, "centred")
        tables = bcast_tables(comm, tables)
        params = TransformParams(
            batch_frames=options.batch, memory=int(options.memory * 2**30), checkpoint=1e9
        )

        def run(first):
            """Transform the frames from ``first`` on, as if the others had no weight."""
            tables.scales[:first] = 0.0
            workspace = Workspace(store=Checkpoint(Path(folder) / "none", ""), timer=Timer())
            cpu, wall = time.process_time(), time.perf_counter()
            result = transform(comm, tables, reader, params, workspace)
            return result, workspace.timer, time.process_time() - cpu, time.perf_counter() - wall

        scales = tables.scales.copy()
        run(n_frames - comm.size)  # compiles
        tables.scales[:] = scales
        before = rss()
        result, timer, cpu, wall = run(0)
        report(comm, options, tables, result, (timer, cpu, wall, before))


def open_file(path, frames):
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "data", data=frames.reshape(-1, *SHAPE), chunks=(1, *SHAPE), **filters("bitshuffle-lz4")
        )
    raw = Stack(
        file=path, path="data", shape=(STORED, *SHAPE), dtype="<i4", chunk_frames=1, identity=(0, 0)
    )
    return StackReader(raw, None, skip_bad_frames=False)


def rss():
    """Return the memory in use now, without what only the past needed [bytes]."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


def report(comm, options, tables, result, measured):
    timer, cpu, wall, before = measured
    pixels = SHAPE[0] * SHAPE[1] * options.frames
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    batch = min(options.batch, options.frames) * SHAPE[0] * SHAPE[1] * 4
    formula = (
        memory(int(result.kept.volume.used[0]), result.kept.array_shape, tables.pixels.size, batch)
        - 36 * tables.pixels.size
    )  # the tables were there before
    sent = result.kept.sent
    parts = {name: seconds / wall for name, seconds in timer.parts.items()}
    rows = comm.gather(
        (pixels / cpu / 1e6, pixels / wall / 1e6, parts, peak, formula, sent.bytes,
         bytes_sent(sent.bricks, sent.voxels))
    )  # fmt: skip
    if rows is None:
        return
    cpus, walls, shares, peaks, formulas, sents, expected = zip(*rows, strict=True)
    print(json.dumps({
        "ranks": comm.size, "frames": options.frames, "batch": options.batch,
        "from_file": options.from_file, "memory": options.memory,
        "Mpixel_per_cpu_s": float(np.mean(cpus)), "Mpixel_per_s_and_core": float(min(walls)),
        "read": float(np.mean([s.get("read", 0.0) for s in shares])),
        "bin": float(np.mean([s.get("bin", 0.0) for s in shares])),
        "exchange": float(np.mean([s.get("exchange", 0.0) for s in shares])),
        "peak_MiB": max(peaks) / 2**20, "peak_formula_MiB": max(formulas) / 2**20,
        "sent_MiB": sum(sents) / 2**20, "sent_formula_MiB": sum(expected) / 2**20,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
