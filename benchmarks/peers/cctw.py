"""CCTW, where it is installed, or nxcctw, on the frames of `case.py`: prints a line of JSON.

Run in the folder above, as `python -m peers.cctw`. CCTW knows a factor of each frame, but none
of the pixels; all else is the same.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import nxmpi  # noqa: F401 - before scipy: see nxmpi/__init__.py

import h5py  # isort: skip
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
from case import LATTICE, N_PIXELS, SHAPE, STORED, make_grid, make_position
from measure import MIB, speeds

from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.reciprocal import offset_to_file

BLOCK = 50
"""Voxels along each axis of a block of CCTW's volume, as NXRefine sets it."""


def settings_of(position, grid):
    """Return the settings of CCTW, by name, for a position and a grid of centred voxels."""
    geometry = position.geometry
    detector, goniometer = geometry.detector, geometry.goniometer
    cell = [getattr(LATTICE, name) for name in ("a", "b", "c")]
    angles = np.radians([getattr(LATTICE, name) for name in ("alpha", "beta", "gamma")])
    step = np.array(grid.step)
    radians = {
        "orientErrorDetPitch": detector.pitch, "orientErrorDetRoll": detector.roll,
        "orientErrorDetYaw": detector.yaw, "orientErrorGonPitch": goniometer.theta,
        "omegaNom": goniometer.omega, "chiNom": goniometer.chi, "phiNom": goniometer.phi[0],
        "phiStep": goniometer.step,
    }  # fmt: skip
    zeros = (
        "twoThetaCorrection", "twoThetaNom", "twoThetaStep", "omegaCorrection", "omegaStep",
        "chiCorrection", "chiStep", "phiCorrection",
    )  # fmt: skip
    parameters = {
        "pixelSize": detector.pixel_size, "wavelength": geometry.wavelength,
        "distance": detector.distance, "unitCell": [*cell, *angles.tolist()],
        # phi0 + k step is the middle of frame k there, its beginning here
        "ubMat": (rotation(2, goniometer.step / 2) @ np.array(geometry.UB)).tolist(),
        "oMat": np.array(detector.orientation).tolist(), "oVec": [0, 0, 0],
        "det0x": detector.beam_center[0], "det0y": detector.beam_center[1],
        "xTrans": list(offset_to_file(goniometer.sample_offset, goniometer.step)),
        **{name: float(np.radians(angle)) for name, angle in radians.items()},
        **dict.fromkeys(zeros, 0),
        # voxels begin at their coordinate there, and have it in their middle here
        "gridOrigin": (np.array(grid.origin) - step / 2).tolist(),
        "gridBasis": np.eye(3).tolist(), "gridDim": whole(1 / step), "gridOffset": [0, 0, 0],
        "extraFlip": False,
    }  # fmt: skip
    return {
        **{f"parameters.{name}": value for name, value in parameters.items()},
        "inputData.chunkSize": [SHAPE[1], SHAPE[0], 1],
        "outputData.dimensions": list(grid.shape), "outputData.chunkSize": [BLOCK] * 3,
        "outputData.hdfChunkSize": [BLOCK] * 3, "outputData.compression": 0,
        "transformer.transformOptions": 0, "transformer.oversampleX": 1,
        "transformer.oversampleY": 1, "transformer.oversampleZ": 1,
    }  # fmt: skip


def whole(values):
    """Return numbers as integers, which they must be for CCTW."""
    if not np.allclose(values, np.rint(values)):
        sys.exit(f"expected a whole number of voxels per r.l.u., found {values}")
    return [round(value) for value in values]


def write_settings(path, settings):
    lines = [f"{name} = {json.dumps(value)};\n" for name, value in settings.items()]
    path.write_text("".join(lines))


def write_input(folder, position):
    """Write uncompressed frames, pixel mask and factors of frames into one file; return it."""
    path = folder / f"cctw-{position.n_frames}.h5"
    if not path.exists():
        frames = np.load(folder / "frames.npy", mmap_mode="r").reshape(STORED, *SHAPE)
        with h5py.File(path, "w") as file:
            shape = (position.n_frames, *SHAPE)
            data = file.create_dataset("data", shape, frames.dtype, chunks=(1, *SHAPE))
            for k in range(position.n_frames):
                data[k] = frames[k % STORED]
            file["mask"] = position.bad.astype(np.int8)
            file["weight"] = position.weight
    return path


def counts_in(path):
    """Return the sum of counts in a volume."""
    with h5py.File(path) as file:
        volume = file["entry/data/v"]
        return sum(float(volume[where].sum(dtype=float)) for where in volume.iter_chunks())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="that case.py wrote")
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--grid", type=int, default=1001, help="voxels along each axis")
    parser.add_argument("--threads", type=int, default=1, help="-j of cctw, which works in n - 1")
    parser.add_argument("--program", default="cctw", help="or nxcctw, or a path")
    options = parser.parse_args()
    position = make_position(options.frames)
    source = write_input(options.folder, position)
    settings, target = options.folder / "cctw.pars", options.folder / "cctw-volume.nxs"
    write_settings(settings, settings_of(position, make_grid(options.grid)))
    target.unlink(missing_ok=True)
    command = [
        options.program, "transform", "--script", settings, "--mask", f"{source}#/mask",
        "--weights", f"{source}#/weight", f"{source}#/data", "--output", f"{target}#/entry/data",
        "--normalization", "0", "-j", options.threads,
    ]  # fmt: skip
    start = time.perf_counter()
    done = subprocess.run([str(word) for word in command], capture_output=True, check=False)
    wall = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode or not target.exists():
        said = f"{done.stdout.decode()}{done.stderr.decode()}"
        sys.exit(f"{options.program}: status {done.returncode}\n{said}")
    cores = max(options.threads - 1, 1)
    print(json.dumps({
        **speeds(options.frames * N_PIXELS, used.ru_utime + used.ru_stime, wall, cores),
        "peak_MiB": used.ru_maxrss / 1024, "read_MiB": source.stat().st_size / MIB,
        "written_MiB": target.stat().st_size / MIB, "counts": counts_in(target),
    }))  # fmt: skip
    target.unlink()


if __name__ == "__main__":
    main()
