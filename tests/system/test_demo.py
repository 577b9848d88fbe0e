"""The demo, from simulation to picture, against the model it was simulated with."""

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from system.mpi import run_nxmpi

from nxmpi.simulate.diffuse import voxel_mean
from nxmpi.simulate.truth import read_diffuse

REACH = 0.05
"""Distance from reciprocal-lattice points beyond which no Bragg peak of the demo adds counts
[1/Å]: five standard deviations of the widest ones."""


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Return the scan file of the demo, reduced on 2 ranks."""
    root = tmp_path_factory.mktemp("demo") / "experiment"
    done = run_nxmpi(2, "simulate", root, "--preset", "demo", timeout=300)
    assert done.returncode == 0, done.stderr
    (wrapper,) = root.glob("*/*/*.nxs")
    done = run_nxmpi(2, "reduce", wrapper, timeout=300)
    assert done.returncode == 0, done.stderr
    return wrapper


def test_diffuse_model_is_found_again_within_counting_errors(scan):
    (truth,) = scan.parent.glob("*/truth.h5")
    parameters, UB = read_diffuse(truth)
    with h5py.File(truth.with_name("transform.nxs"), "r") as file:
        data = file["entry/data"]
        intensity, norm = data["v"][()].astype(float), data["n"][()].astype(float)
        axes = [data[name][()] for name in ("Qh", "Qk", "Ql")]
    l, k, h = np.nonzero(norm > 0)
    hkl = np.stack([axes[0][h], axes[1][k], axes[2][l]], axis=-1)
    far = np.linalg.norm((hkl - np.rint(hkl)) @ UB.T, axis=1) > REACH
    some = np.random.default_rng(7).choice(np.flatnonzero(far), 10_000, replace=False)
    l, k, h, hkl = l[some], k[some], h[some], hkl[some]
    model = voxel_mean(parameters, UB, hkl, tuple(axis[1] - axis[0] for axis in axes))
    enough = np.flatnonzero(model * norm[l, k, h] >= 50)
    assert enough.size > 1000
    chosen = enough[:1000]
    where = l[chosen], k[chosen], h[chosen]
    residuals = (intensity[where] - model[chosen]) / np.sqrt(model[chosen] / norm[where])
    assert abs(residuals.mean()) < 0.1
    assert abs(residuals.std() - 1) < 0.1


def test_errors_are_the_square_root_of_the_variance(scan):
    (volume,) = scan.parent.glob("*/transform.nxs")
    with h5py.File(volume, "r") as file:
        v, n, errors = (file[f"entry/data/{name}"][()] for name in ("v", "n", "v_errors"))
    measured = n > 0
    assert np.isnan(v[~measured]).all()
    assert np.isnan(errors[~measured]).all()
    counts = np.rint(v[measured].astype(float) * n[measured])
    expected = np.sqrt(np.maximum(counts, 1)) / n[measured]
    np.testing.assert_allclose(errors[measured], expected, rtol=1e-5)  # stored as float32


def test_plot_is_drawn_of_the_reduced_scan(scan):
    picture = scan.with_name("picture.png")
    done = run_nxmpi(0, "plot", scan, "--output", picture)
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
