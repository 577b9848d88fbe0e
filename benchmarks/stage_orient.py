"""Peaks simulated into a scan file, or oriented, on one rank: prints a line of JSON."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import nxmpi  # noqa: F401 - before scipy: see nxmpi/__init__.py

import h5py  # isort: skip
import numpy as np
from launch import HERE
from mpi4py import MPI
from scipy.spatial.transform import Rotation

from nxmpi.crystal.lattice import direct_matrix, reciprocal_matrix
from nxmpi.crystal.reciprocal import UB_to_file
from nxmpi.model import Lattice
from nxmpi.nexus.geometry import read_sample
from nxmpi.params import OrientParams, OutputParams
from nxmpi.pipeline.crystal_search import seen_with
from nxmpi.pipeline.orient import run_orient
from nxmpi.pipeline.peaked import crystal_of, read_peaked
from nxmpi.stages.cell import find_cell
from nxmpi.stages.orient import orient
from nxmpi.stages.refine import refine_orientations

sys.path.insert(0, str(HERE.parent / "tests"))
from unit.peaks_scan import NAMES, STEP, Crystal, peaks_of, random_rotation, write_scan

POSITIONS = ("f1", "f2", "f3")
CELL = (8.1, 9.3, 10.7, 90.0, 90.0, 90.0)
"""Orthorhombic: only with an orthogonal cell is NXRefine's B, inv(A), the reciprocal one."""
OFF = np.array([1.003, 0.997, 1.003, 1.0, 1.0, 1.0])
"""The cell in the file, to the true one."""
TURNED = 0.3
"""The orientation in the file, from the true one [degrees]."""
DISTANCE = 1200.0
"""All of the detector is within the 10 degrees of NXRefine's default `polar_max` [mm]."""
CLASSES = {
    "sample": "NXsample", "instrument": "NXinstrument", "data": "NXdata", "peaks": "NXdata",
    "instrument/detector": "NXdetector", "instrument/goniometer": "NXgoniometer",
    "instrument/monochromator": "NXmonochromator",
}  # fmt: skip


def run_simulate(options):
    """Write a scan whose cell and orientation are a little off; all else in it is true."""
    n = [len(part) for part in np.array_split(np.arange(options.peaks), len(POSITIONS))]
    U = random_rotation(options.seed)
    crystal = Crystal(cell=CELL, space_group="P m m m", U=U, distance=DISTANCE)
    peaks = [peaks_of(crystal, i, options.seed, n=n[i])[0] for i in range(len(POSITIONS))]
    cell = np.array(CELL) * OFF
    lattice = Lattice(**dict(zip(NAMES, cell.tolist(), strict=True)))
    axis = np.random.default_rng([options.seed, 99]).normal(size=3)
    turn = Rotation.from_rotvec(np.radians(options.turned) * axis / np.linalg.norm(axis))
    UB = turn.as_matrix() @ U @ reciprocal_matrix(lattice)
    M = UB_to_file(UB, STEP, direct_matrix(lattice))
    scan = write_scan(options.path, crystal, peaks, cell=cell, orientation=M)
    with h5py.File(scan, "r+") as file:
        complete(file)
    return {"scan": str(scan), "peaks": sum(len(columns["x"]) for columns in peaks)}


def complete(file):
    """Add what NXRefine needs to find groups by their class and to hold the cell's symmetry."""
    file["entry"].attrs["NX_class"] = "NXentry"
    file["entry/sample"].attrs["NX_class"] = "NXsample"
    file["entry/sample/unit_cell_group"] = "orthorhombic"
    file["entry/sample/lattice_centring"] = "P"
    for name in POSITIONS:
        file[name].attrs["NX_class"] = "NXentry"
        for path, group in CLASSES.items():
            file[f"{name}/{path}"].attrs["NX_class"] = group
        file[f"{name}/data"].attrs["signal"] = "data"


def run_orienting(options):
    """Return the seconds of each part, called once before that, and the cell that is found."""
    comm, params = MPI.COMM_SELF, OrientParams()
    with h5py.File(options.path) as file:
        positions = read_peaked(file, list(POSITIONS), needs_cell=True)
    lattice, symbol = crystal_of(positions[0], params)
    geometries = tuple(each.geometry for each in positions)
    seen, before = seen_with(geometries, positions), tuple(each.UB for each in positions)
    found = orient(comm, seen, lattice, symbol, before)
    parts = {
        "indexing, known cell": lambda: orient(comm, seen, lattice, symbol, before),
        "indexing, unknown cell": lambda: find_cell(comm, seen),
        "refinement": lambda: refine_orientations(
            seen, geometries, lattice, symbol, found, params.free
        ),
    }
    result = {name: seconds(part) for name, part in parts.items()}
    with tempfile.TemporaryDirectory(prefix="nxmpi-orient-") as folder:
        scans = iter([copied(options.path, Path(folder) / name) for name in ("first", "second")])
        result["all of it"] = seconds(
            lambda: run_orient(comm, next(scans), params, OutputParams(overwrite=True))
        )
        with h5py.File(copied_scan(options.path, Path(folder) / "second")) as file:
            cell = read_sample(file[POSITIONS[0]]).lattice
            used = sum(int((file[f"{name}/peaks/grain"][()] == 1).sum()) for name in POSITIONS)
    return {"parts": result, "cell": [getattr(cell, name) for name in NAMES], "used": used}


def copied(scan, folder):
    """Return a copy of a scan file, with its data, in a folder that is made."""
    shutil.copytree(scan.parents[2], folder)
    return copied_scan(scan, folder)


def copied_scan(scan, folder):
    return folder / scan.relative_to(scan.parents[2])


def seconds(part):
    part()
    cpu, wall = time.process_time(), time.perf_counter()
    part()
    return {"cpu_s": time.process_time() - cpu, "time_s": time.perf_counter() - wall}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["simulate", "orient"])
    parser.add_argument("path", type=Path, help="scan file; folder to simulate in")
    parser.add_argument("--peaks", type=int, default=800, help="to simulate, at 3 positions")
    parser.add_argument("--turned", type=float, default=TURNED, help="orientation's error, degrees")
    parser.add_argument("--seed", type=int, default=0, help="of crystal, peaks and their errors")
    options = parser.parse_args()
    run = {"simulate": run_simulate, "orient": run_orienting}[options.what]
    print(json.dumps(run(options)))


if __name__ == "__main__":
    main()
