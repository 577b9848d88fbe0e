"""Peaks of a real crystal, in frames of 0.02 counts per pixel, against another program's UB."""

import json
import shutil

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.nexus.geometry import read_geometry, read_sample
from nxmpi.nexus.peaks import read_peaks
from nxmpi.nexus.stack import find_stack
from nxmpi.params import FramesParams, NormParams, OutputParams, ScanParams
from nxmpi.pipeline.frames import run_frames


@pytest.fixture(scope="module")
def indexed(lcysteine, tmp_path_factory):
    """Return, by sweep, whether each found peak is within 0.15 of whole indices."""
    folder = tmp_path_factory.mktemp("lcysteine") / "copy"
    shutil.copytree(lcysteine, folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    wrapper = folder / "lcysteine" / "i19" / "lcysteine_100K.nxs"
    norm = NormParams(monitor=False)
    run_frames(MPI.COMM_SELF, wrapper, ScanParams(), norm, FramesParams(), OutputParams())
    found = {}
    with h5py.File(wrapper) as file:
        for name in ("f1", "f2", "f3", "f4"):
            entry = file[name]
            n_frames, *shape = find_stack(entry).shape
            geometry = read_geometry(entry, tuple(shape), n_frames, read_sample(entry))
            peaks, goniometer = read_peaks(entry), geometry.goniometer
            phi = goniometer.phi[0] + (peaks.z + 0.5) * goniometer.step
            hkl = pixel_to_hkl(geometry, peaks.x + 0.5, peaks.y + 0.5, phi)
            found[name] = (np.abs(hkl - np.round(hkl)) < 0.15).all(axis=1)
    return found


def test_all_peaks_that_can_be_indexed_are_found(indexed, lcysteine):
    reference = json.loads((lcysteine / "reference.json").read_text())["entries"]
    for name, here in indexed.items():
        assert here.sum() >= reference[name]["naive_indexed"], name


def test_little_else_is_found(indexed):
    together = np.concatenate(list(indexed.values()))
    assert together.mean() >= 0.95  # of random points, 0.027
