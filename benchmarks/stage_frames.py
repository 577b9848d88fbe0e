"""One run of the pass over frames, or of reading them, under mpiexec: prints a line of JSON.

On a position of the preset `pilatus2m`: 1679 x 1475 pixels, int32, bitshuffle-LZ4.
"""

import argparse
import json
import resource
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import nxmpi  # noqa: F401 - before numba: see nxmpi/__init__.py

import h5py  # isort: skip
import numpy as np
from mpi4py import MPI

from nxmpi.nexus.frames import StackReader
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.timing import Timer
from nxmpi.params import FramesParams, NormParams, OutputParams, ScanParams
from nxmpi.pipeline import frames as pipeline
from nxmpi.pipeline.searched import frame_tables, read_searched
from nxmpi.simulate.presets import preset
from nxmpi.simulate.write import simulate
from nxmpi.stages.frames import frames_pass
from nxmpi.stages.search import UNIT

ONCE = ("tables", "gather")
"""Parts whose cost does not depend on the number of frames."""
WARM_UP = 36
"""Frames, which are enough for all that is compiled to be called."""


class CpuTimer(Timer):
    """Seconds of the calling thread's CPU instead of the clock's."""

    last = None

    def __init__(self):
        super().__init__()
        CpuTimer.last = self

    @contextmanager
    def part(self, name):
        start = time.thread_time()
        try:
            yield
        finally:
            self.parts[name] += time.thread_time() - start


class Measured:
    """CPU time of the process and of its main thread, clock, parts."""

    def __init__(self, comm):
        comm.Barrier()
        self.cpu, self.thread = time.process_time(), time.thread_time()
        self.wall = time.perf_counter()

    def stop(self, parts):
        """Return seconds; what no part has is another thread's reading, or the rest."""
        cpu, thread = time.process_time() - self.cpu, time.thread_time() - self.thread
        parts = {**parts, "other threads": cpu - thread, "rest": thread - sum(parts.values())}
        return {"cpu": cpu, "wall": time.perf_counter() - self.wall, "parts": parts}


class InMemory:
    """Frames that are there already, and come again after the last of them."""

    chunk_frames = 1
    masked = False

    def __init__(self, frames, start):
        self.frames, self.start, self.dtype = frames, start, frames.dtype

    def read(self, numbers):
        first = (int(numbers[0]) - self.start) % len(self.frames)
        data = self.frames[first : first + numbers.size]
        if len(data) < numbers.size:
            data = np.concatenate([data, self.frames[: numbers.size - len(data)]])
        return data, np.empty((0, 0), np.int8), np.empty(0, np.int64)


def own_frames(comm, n_frames):
    """Return the frames that the pass asks a rank for, [start, stop)."""
    start, stop = block_range(-(-n_frames // UNIT), comm.size, comm.rank)
    return min(UNIT * start, n_frames), min(UNIT * stop + 1, n_frames)


def find_position(scan):
    return read_searched(scan, ScanParams(), NormParams(), FramesParams())[0]


def run_simulate(comm, options):
    named = preset("pilatus2m")
    positions = (replace(named.positions[0], n_frames=options.frames),)
    return str(simulate(comm, options.path, replace(named, positions=positions), overwrite=True))


def run_read(comm, options):
    """Read all frames into one buffer of a batch, as the pass does or by h5py alone."""
    raw = find_position(options.path).raw
    n, size = raw.shape[0], FramesParams().batch_frames
    buffer = np.empty((size, raw.shape[1] * raw.shape[2]), raw.dtype)
    reader = StackReader(raw, None, skip_bad_frames=False)
    file = h5py.File(raw.file)

    def by_reader(numbers):
        reader.read(numbers, buffer)

    def by_h5py(numbers):
        out = buffer[: numbers.size].reshape(-1, *raw.shape[1:])
        file[raw.path].read_direct(out, np.s_[numbers[0] : numbers[-1] + 1])

    read = by_h5py if options.h5py else by_reader
    batches = np.split(np.arange(n), range(size, n, size))
    read(batches[0])
    measured = Measured(comm)
    for numbers in batches:
        read(numbers)
    return n * buffer.shape[1], measured.stop({}), 0


def run_memory(comm, options):
    """Go through frames that are in memory, several times as if they were more."""
    position = find_position(options.path)
    params = FramesParams()
    tables, _ = frame_tables(position, params)
    stored = tables.n_frames
    tables = replace(tables, n_frames=options.times * stored)
    start, stop = own_frames(comm, tables.n_frames)
    numbers = np.arange(start, min(stop, start + stored)) % stored
    reader = StackReader(position.raw, None, skip_bad_frames=False)
    frames = np.empty((numbers.size, tables.bad.size), reader.dtype)
    for run in np.split(np.arange(numbers.size), np.flatnonzero(np.diff(numbers) != 1) + 1):
        reader.read(numbers[run], frames[run[0] : run[-1] + 1])
    reader.close()
    few = replace(tables, n_frames=min(WARM_UP, tables.n_frames))
    warm_up = InMemory(frames, own_frames(comm, few.n_frames)[0])
    frames_pass(comm, few, warm_up, params, Timer())
    timer, measured = CpuTimer(), Measured(comm)
    frames_pass(comm, tables, InMemory(frames, start), params, timer)
    return tables.n_frames * tables.bad.size, measured.stop(timer.parts), frames.nbytes


def run_file(comm, options):
    output, norm, params = OutputParams(overwrite=True), NormParams(), FramesParams()
    pipeline.Timer = CpuTimer
    few = ScanParams(first_frame=0, last_frame=WARM_UP - 1)
    pipeline.run_frames(comm, options.path, few, norm, params, output)
    measured = Measured(comm)
    pipeline.run_frames(comm, options.path, ScanParams(), norm, params, output)
    seconds = measured.stop(CpuTimer.last.parts)
    raw = find_position(options.path).raw
    return int(np.prod(raw.shape)), seconds, 0


def peak():
    """Return the most memory that this process had so far [MiB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(comm, pixels, seconds, held, base):
    """Return the figures of all ranks together, on the root."""
    everyone = comm.gather((seconds, peak() - held / 2**20))
    if everyone is None:
        return None
    cpu = sum(each["cpu"] for each, _ in everyone)
    wall = max(each["wall"] for each, _ in everyone)
    parts = {
        name: sum(each["parts"].get(name, 0.0) for each, _ in everyone) / cpu
        for name in everyone[0][0]["parts"]
    }
    return {
        "ranks": comm.size, "pixels": pixels, "Mpixel_per_cpu_s": pixels / cpu / 1e6,
        "Mpixel_per_cpu_s_of_frames": pixels / cpu / (1 - sum(parts.get(n, 0) for n in ONCE)) / 1e6,
        "Mpixel_per_s_and_core": pixels / wall / comm.size / 1e6, "parts": parts,
        "peak_MiB": max(each for _, each in everyone), "base_MiB": base,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["simulate", "read", "memory", "file"])
    parser.add_argument("path", type=Path, help="scan file; folder to simulate in")
    parser.add_argument("--frames", type=int, default=144, help="to simulate")
    parser.add_argument("--times", type=int, default=1, help="frames in memory come again")
    parser.add_argument("--h5py", action="store_true", help="read by h5py alone")
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    base = peak()
    if options.what == "simulate":
        result = {"scan": run_simulate(comm, options)}
    else:
        run = {"read": run_read, "memory": run_memory, "file": run_file}[options.what]
        result = report(comm, *run(comm, options), base)
    if comm.rank == 0:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
