"""Filling holes of 25³ voxels on one core: from the values of a volume to the filled one.

A reflection every 29 voxels, each a ball of 12.5 voxels around, cubic metric. Of a Laue group of
few operators nearly every hole has to be solved, of a larger one few.
"""

import argparse
import json
import time

import nxmpi  # noqa: F401 - before all that brings numba

import numpy as np  # isort: skip
from measure import MIB, memory
from mpi4py import MPI
from rich.console import Console
from rich.table import Table

from nxmpi.crystal.holes import find_holes
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.model import HKLGrid, Lattice
from nxmpi.params import PunchParams
from nxmpi.stages.fill import punch_and_fill

APART, RADIUS = 29, 12.5
"""Voxels between reflections, and from their middle to the end of a hole."""
TARGET = 10.0
"""For 5000 holes [s]."""


def measure(edge, laue):
    """Return times for edge³ holes, of which none is cut."""
    n = edge * APART
    step = 1 / APART
    grid = HKLGrid(origin=(-(n // 2) * step,) * 3, step=(step,) * 3, shape=(n,) * 3)
    length = 2 * np.pi  # 1 r.l.u. is 1/Å
    lattice = Lattice(a=length, b=length, c=length, alpha=90.0, beta=90.0, gamma=90.0)
    group = voxel_group(laue_operators(laue), grid)
    volume = np.random.default_rng(1).normal(5, 1, (n, n, n)).astype(np.float32)
    volume += volume[::-1, ::-1, ::-1]
    params = PunchParams(radius=RADIUS * step)
    started, cpu = time.perf_counter(), time.process_time()
    holes = find_holes(group, grid, lattice, "P 1", params)
    found = punch_and_fill(MPI.COMM_SELF, volume, 0, holes, params)
    return {
        "group": laue, "holes": found.report.holes, "voxels": found.report.voxels,
        "systems": found.report.factorizations,
        "time_s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu,
        "peak_MiB": memory("VmHWM") / MIB,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--edge", type=int, default=17, help="holes along each axis, an odd number")
    parser.add_argument("--groups", nargs="+", default=["-1", "mmm", "m-3m"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    measure(3, "-1")  # compiles
    rows = [measure(options.edge, laue) for laue in options.groups]
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(title=f"holes of 25³ voxels, one core; to reach for 5000: {TARGET:g} s")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(f"{x:.2f}" if isinstance(x, float) else f"{x}" for x in row.values()))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
