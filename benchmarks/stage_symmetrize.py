"""One run of symmetrize on a volume in memory, under mpiexec: prints a line of JSON."""

import argparse
import json
import time
from contextlib import contextmanager

import nxmpi  # noqa: F401 - before all that brings numba

import numpy as np  # isort: skip
from measure import MIB, Measured, memory
from mpi4py import MPI

from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.crystal.metric import grid_metric, whole_metric
from nxmpi.model import HKLGrid, Lattice
from nxmpi.parallel.timing import Timer
from nxmpi.stages.images import leave_out, residual_map
from nxmpi.stages.planes import own_ranges
from nxmpi.stages.shells import compare_images
from nxmpi.stages.symmetrize import Planes, owned_planes, symmetrize

ANGLES = {"6/mmm": 120.0, "-31m": 120.0}
TOUCHED = 3
"""Shares of memory that are touched beforehand, see `touch_memory`."""


def read_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("group", help="Laue class, such as m-3m")
    parser.add_argument("--grid", type=int, default=601, help="voxels along each axis")
    parser.add_argument("--outliers", type=float, help="standard deviations")
    parser.add_argument("--plain", action="store_true", help="flips and transposes of NumPy")
    return parser.parse_args()


def make_case(n, name):
    """Return grid, lattice and group."""
    angle = ANGLES.get(name, 90.0)
    lattice = Lattice(a=5.0, b=5.0, c=5.0, alpha=90.0, beta=90.0, gamma=angle)
    step = 20.0 / (n - 1)
    grid = HKLGrid(origin=(-10.0,) * 3, step=(step,) * 3, shape=(n,) * 3)
    return grid, lattice, voxel_group(laue_operators(name), grid)


def make_plane(n, l):
    """Return counts and norm of a plane, (n, n) int64; of a tenth of the voxels there are none."""
    rng = np.random.default_rng([3, l + n])
    norm = rng.integers(2**40, 2**44, (n, n)) * (rng.random((n, n)) > 0.1)
    return np.where(norm > 0, rng.integers(0, 9, (n, n)), 0), norm


def touch_memory(n_bytes):
    """Write to memory and give it back: a virtual machine may get it only then, at a high price."""
    np.ones(n_bytes, np.uint8)


def make_planes(comm, group):
    """Return the planes of this rank."""
    n = int(group.high[0] - group.low[0]) + 1
    first, stop = owned_planes(group, comm.size, comm.rank)
    planes = Planes(first, *(np.zeros((2, stop - first, n, n), np.int64) for _ in range(2)))
    for side, a, b in own_ranges(group, comm.size, comm.rank):
        for l in range(a, b):
            place = side, abs(l) - first
            planes.counts[place], planes.norm[place] = make_plane(n, l)
    return planes


def plain(name, volume):
    """Return the sum over mmm or m-3m, special voxels as often as operators lead to them."""
    total = volume
    for axis in range(3):
        total = total + np.flip(total, axis)
    if name == "m-3m":
        orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        total = sum(np.transpose(total, order) for order in orders)
    return total


def run_plain(options):
    n = options.grid
    touch_memory(TOUCHED * 16 * n**3)
    counts, norm = (np.empty((n, n, n), np.int64) for _ in range(2))
    for l in range(n):
        counts[l], norm[l] = make_plane(n, l - n // 2)
    measured = Measured()
    share = counts.nbytes + norm.nbytes
    sums = [plain(options.group, each) for each in (counts, norm, (norm > 0).view(np.int8))]
    cpu, wall = measured.times()
    without = measured.resident - share
    return {
        "parts": {"sums": wall}, "cpu": {"sums": cpu}, "counts": counts_at(n, sums[0]),
        "peak_by_share": (memory("VmHWM") - without) / share,
    }  # fmt: skip


def counts_at(n, counts):
    """Return the sum at a voxel of l >= 0 that is on no mirror."""
    return int(counts[n // 2 + n // 9, n // 2 + n // 5, n // 2 + n // 7])


def run_stage(comm, options):
    grid, lattice, group = make_case(options.grid, options.group)
    warm = make_case(9, options.group)
    work(comm, make_planes(comm, warm[2]), warm, options.outliers)
    touch_memory(TOUCHED * 16 * options.grid**3 // comm.size)
    comm.barrier()
    planes = make_planes(comm, group)
    share = planes.counts.nbytes + planes.norm.nbytes
    comm.barrier()
    measured = Measured()
    without = measured.resident - share
    timer, cpu, counts, shells, n = work(comm, planes, (grid, lattice, group), options.outliers)
    rows = comm.allgather((dict(timer.parts), cpu, (memory("VmHWM") - without) / share))
    return {
        "parts": {name: max(row[0][name] for row in rows) for name in timer.parts},
        "cpu": {name: sum(row[1][name] for row in rows) for name in cpu},
        "peak_by_share": max(row[2] for row in rows), "share_MiB": share / MIB,
        "counts": counts, "chi2": shells.total[2], "left_out": n,
    }  # fmt: skip


def work(comm, planes, case, outliers):
    """Return clock and CPU time of the parts, a sum, shells, and how many were left out."""
    grid, lattice, group = case
    timer, cpu, left_out = Timer(), {}, 0

    @contextmanager
    def part(name):
        start = time.process_time()
        with timer.part(name):
            yield
        cpu[name] = time.process_time() - start

    with part("all of it"):
        with part("sums"):
            if outliers is None:
                sums = symmetrize(comm, planes, group)
            else:
                sums, left_out = leave_out(comm, planes, group, outliers)
        with part("shells"):
            metric = whole_metric(grid_metric(grid, lattice), group)
            shells = compare_images(comm, planes, sums, group, metric)
        with part("residuals"):
            residual_map(comm, planes, sums, group)
    n = grid.shape[0]
    where, own = n // 9 - planes.first, sums.counts[0]
    found = int(own[where, n // 2 + n // 5, n // 2 + n // 7]) if 0 <= where < len(own) else 0
    return timer, cpu, max(comm.allgather(found)), shells, left_out


def main():
    options, comm = read_options(), MPI.COMM_WORLD
    found = run_plain(options) if options.plain else run_stage(comm, options)
    if comm.rank == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
