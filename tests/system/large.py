"""Simulate a scan of one position of real size: large.py FOLDER FRAMES VOXELS."""

import sys
from pathlib import Path

from mpi4py import MPI

from nxmpi.simulate.calibrate import Size, experiment_of
from nxmpi.simulate.write import simulate

folder, frames, voxels = sys.argv[1:]
size = Size(int(frames), int(voxels))
sys.stdout.write(f"{simulate(MPI.COMM_WORLD, Path(folder), experiment_of(size))}\n")
