"""A combined volume of a cubic crystal, Bragg peaks on a smooth background, as a scan on disk."""

import json
import sys
from pathlib import Path

import numpy as np

import nxmpi  # noqa: F401 - before all that brings numba
from nxmpi.model import HKLGrid, Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.values import put
from nxmpi.nexus.volume import SHOWN, VolumeFile, create_volume, write_volume_group

SYMBOL, EDGE = "P m -3 m", 5.0
REACH = 10.0
"""Largest index on every axis."""


def write_case(folder, n):
    """Write a scan file with a combined volume of n voxels an axis; return its path."""
    import h5py

    lattice = Lattice(a=EDGE, b=EDGE, c=EDGE, alpha=90.0, beta=90.0, gamma=90.0)
    step = 2 * REACH / (n - 1)
    grid = HKLGrid(origin=(-REACH,) * 3, step=(step,) * 3, shape=(n,) * 3)
    path = Path(folder) / "alloy" / "cubic" / "alloy_300K.nxs"
    data = path.parent / "300K" / "transform.nxs"
    data.parent.mkdir(parents=True)
    volume = VolumeFile(
        path=data, grid=grid, lattice=lattice, title="cubic", dtype="f4", attributes={},
        fills={schema.COUNTS: np.nan, schema.NORM: 0.0, schema.ERRORS: np.nan},
    )  # fmt: skip
    axis = np.linspace(-REACH, REACH, n, dtype=np.float32)
    near = (axis - np.rint(axis)) ** 2
    wave = np.cos(2 * np.pi * axis)
    rng = np.random.default_rng(3)
    with h5py.File(data, "w") as file:
        create_volume(file, volume, {})
        for l in range(n):
            norm = rng.uniform(5, 50, (n, n)).astype(np.float32)
            norm[rng.random((n, n)) < 0.1] = 0
            mean = 3 - 0.4 * (wave[l] + wave[:, None] + wave)
            mean += 500 * np.exp(-(near[l] + near[:, None] + near) / (2 * 0.03**2))
            counts = rng.poisson(mean * norm).astype(np.float32)
            with np.errstate(invalid="ignore"):
                file[f"{schema.VOLUME}/{schema.COUNTS}"][l] = counts / norm
            file[f"{schema.VOLUME}/{schema.NORM}"][l] = norm
    with h5py.File(path, "w") as file:
        sample = file.create_group(f"{schema.SHARED}/{schema.SAMPLE}")
        for name, value in zip(schema.UNIT_CELL, (EDGE,) * 3 + (90.0,) * 3, strict=True):
            put(sample, name, value)
        put(sample, schema.SPACE_GROUP, SYMBOL)
        file[f"f1/{schema.SAMPLE}"] = sample
        for entry in (schema.SHARED, "f1"):  # NXRefine averages what the positions have
            write_volume_group(file[entry], schema.REGULAR.group, volume, "benchmark", SHOWN)
    return path


if __name__ == "__main__":
    print(json.dumps({"scan": str(write_case(sys.argv[1], int(sys.argv[2])))}))
