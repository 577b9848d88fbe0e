"""The demo, from simulation to picture, against the model it was simulated with."""

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from scipy.spatial import cKDTree
from system.mpi import run_nxmpi

from nxmpi.simulate.diffuse import voxel_mean
from nxmpi.simulate.truth import read_diffuse, read_peaks

REACH = 0.05
"""Distance from reciprocal-lattice points beyond which no Bragg peak of the demo adds counts
[1/Å]: five standard deviations of the widest ones."""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Return the scan file of the demo, its frames gone through on 2 ranks."""
    root = tmp_path_factory.mktemp("demo") / "experiment"
    done = run_nxmpi(2, "simulate", root, "--preset", "demo", timeout=300)
    assert done.returncode == 0, done.stderr
    (wrapper,) = root.glob("*/*/*.nxs")
    done = run_nxmpi(2, "frames", wrapper, timeout=300)
    assert done.returncode == 0, done.stderr
    return wrapper


@pytest.fixture(scope="module")
def scan(searched):
    """Return the scan file of the demo, reduced on 2 ranks."""
    done = run_nxmpi(2, "reduce", searched, timeout=300)
    assert done.returncode == 0, done.stderr
    return searched


def places(peaks):
    """Return x, y, z of peaks, (n, 3)."""
    return np.stack([peaks[name] for name in "xyz"], axis=-1)


@pytest.mark.parametrize("entry", ["f1", "f2", "f3"])
def test_bragg_peaks_are_found_where_they_are(searched, entry):
    (truth,) = searched.parent.glob("*/truth.h5")
    true = read_peaks(truth, entry)
    with h5py.File(searched) as file:
        found = {name: values[()] for name, values in file[entry]["peaks"].items()}
    single = found["flags"] == 0
    distance, nearest = cKDTree(places(true)).query(places(found)[single])
    right = distance < 0.5  # others overlap with a neighbour
    assert np.mean(right) > 0.95
    assert np.median(distance) < 0.05
    off = found["intensity"][single] - true["recorded"][nearest]
    pulls = off / found["intensity_errors"][single]
    assert abs(np.mean(np.clip(pulls[right], -5, 5))) < 0.2
    assert np.median(abs(pulls[right])) == pytest.approx(0.6745, abs=0.1)  # of normal errors
    strong = (true["recorded"] > 200) & (true["z"] > 0) & (true["z"] < 179)
    distance, _ = cKDTree(places(found)).query(places(true)[strong])
    assert np.mean(distance < 1) > 0.94


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


def test_correlation_vectors_are_found_with_their_signs(scan):
    (truth,) = scan.parent.glob("*/truth.h5")
    parameters, UB = read_diffuse(truth)
    cell = np.linalg.inv(UB)  # rows: a, b, c
    with h5py.File(truth.with_name("pdf.nxs")) as file:
        data = file["entry/pdf"]
        pdf, errors = data["pdf"][()], data["pdf_errors"][()]
        z, y, x = (data[name][()] for name in "zyx")
        assert np.allclose(
            [data[n].attrs["scaling_factor"] for n in "xyz"], np.linalg.norm(cell, axis=1)
        )
    grid = np.stack(np.broadcast_arrays(x, y[:, None], z[:, None, None]), axis=-1)
    rest = np.linalg.norm(grid @ cell, axis=-1) > 2.5
    found = []
    for vector, alpha in zip(parameters.vectors, parameters.alphas, strict=True):
        l, k, h = (
            np.abs(axis - v).argmin() for axis, v in zip((z, y, x), vector[::-1], strict=True)
        )
        value = pdf[l, k, h]
        assert np.sign(value) == np.sign(alpha)
        assert abs(value) > 20 * errors[l, k, h]
        found.append(value / alpha)
        for sign in (1, -1):
            rest &= np.linalg.norm((grid - sign * vector) @ cell, axis=-1) > 1.0
    assert np.max(found) < 2 * np.min(found)  # wide holes change the sizes
    smallest = min(abs(np.array(found) * parameters.alphas))
    assert np.abs(pdf[rest]).max() < smallest / 2


def test_plot_is_drawn_of_the_reduced_scan(scan):
    picture = scan.with_name("picture.png")
    done = run_nxmpi(0, "plot", scan, "--output", picture)
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
