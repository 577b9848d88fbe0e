"""Combined volumes to symmetrized ones in files, on any number of ranks."""

import h5py
import numpy as np
import pytest
from mpi.scans import CELLS, scan_of_volume
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.errors import CollectiveError, InputError
from nxmpi.params import OutputParams, SymmetrizeParams
from nxmpi.pipeline.symmetrize import run_symmetrize

RANKS = [1, 2, 3, 4, 7]
N = 41
"""Voxels along each axis: more than a chunk, and an odd number."""
PARAMS, OUTPUT = SymmetrizeParams(), OutputParams()


def write(comm, root, symbol, start=-2.0, steps=(0.1, 0.1, 0.1)):
    """Write a scan with a combined volume, on the root, and return its path on all ranks."""
    axes = [start + step * np.arange(N) for step in steps]
    return scan_of_volume(comm, root, symbol, axes, volume)


def volume():
    counts, norm = sums()
    with np.errstate(invalid="ignore"):
        return {"v": counts / norm, "n": norm}


def sums():
    """Return counts and norm, [l, k, h]; of a third of the voxels there are none."""
    rng = np.random.default_rng(7)
    norm = rng.uniform(0.5, 900, (N, N, N)).astype(np.float32) * (rng.random((N, N, N)) > 0.3)
    return np.where(norm > 0, rng.poisson(4.0, (N, N, N)), 0), norm


def made(path):
    with h5py.File(path.parent / "300K" / "symm_transform.nxs") as file:
        return {name: data[()] for name, data in file["entry/data"].items()}


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("symbol", CELLS)
def test_the_same_bits_on_any_number_of_ranks(comm, shared_tmp_path, symbol):
    one = write(comm, shared_tmp_path / "one", symbol)
    every = write(comm, shared_tmp_path / "every", symbol)
    if comm.rank == 0:
        run_symmetrize(MPI.COMM_SELF, one, PARAMS, OUTPUT)
    (target,) = run_symmetrize(comm, every, PARAMS, OUTPUT)
    same = True
    if comm.rank == 0:
        wanted, found = made(one), made(every)
        same = all(wanted[name].tobytes() == found[name].tobytes() for name in wanted)
        assert target == every.parent / "300K" / "symm_transform.nxs"
    parallel_assert(same, participating=True)
    assert run_symmetrize(comm, every, PARAMS, OUTPUT) == []


@pytest.mark.parallel([1])
def test_intensities_and_errors_are_those_of_the_sums_over_images(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "C 1 2/c 1")
    run_symmetrize(comm, path, PARAMS, OUTPUT)
    counts, norm = (values.astype(np.float64) for values in sums())
    images = [  # unique axis b: 2/m; all voxels off the planes and axes are four
        (slice(None),) * 3, (slice(None, None, -1),) * 3,
        (slice(None, None, -1), slice(None), slice(None, None, -1)),
        (slice(None), slice(None, None, -1), slice(None)),
    ]  # fmt: skip
    c, w = (sum(values[image] for image in images) for values in (counts, norm))
    n = sum((norm > 0)[image] for image in images)
    found = made(path)
    middle = N // 2
    with np.errstate(invalid="ignore", divide="ignore"):
        intensity, errors = c / w, np.sqrt(np.maximum(c, 1)) / w
    np.testing.assert_allclose(found["data"], np.where(w > 0, intensity, np.nan), rtol=1e-6)
    # on the mirror and the axis, each distinct voxel is an image once, and variances are larger
    special = np.zeros_like(norm, bool)
    special[:, middle], special[middle, :, middle] = True, True
    off = ~special & (w > 0)
    np.testing.assert_allclose(found["data_errors"][off], errors[off], rtol=1e-6)
    np.testing.assert_array_equal(found["redundancy"][~special], n[~special])
    on = special.copy()
    on[middle, middle, middle] = False
    on &= w > 0
    half = np.sqrt(np.maximum(c[on] / 2, 1)) / (w[on] / 2)
    np.testing.assert_allclose(found["data_errors"][on], half, rtol=1e-6)
    np.testing.assert_array_equal(found["redundancy"][on], n[on] / 2)


@pytest.mark.parallel([1])
def test_what_is_shown_in_the_scan_file(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P 6/m m m")
    run_symmetrize(comm, path, PARAMS, OUTPUT)
    with h5py.File(path) as file:
        group = file["entry/symm_transform"]
        assert [*group.attrs["axes"]] == ["Ql", "Qk", "Qh"]
        assert group.attrs["signal"] == "data"
        np.testing.assert_allclose(group.attrs["angles"], [60, 90, 90], atol=1e-9)
        assert group["data"].shape == group["weights"].shape == group["chi2"].shape == (N, N, N)
        shells = file["entry/image_agreement"]
        assert (shells.attrs["signal"], *shells.attrs["axes"]) == ("r_int", "Q")
        assert shells["Q"].shape == shells["r_int"].shape == shells["chi2"].shape == (20,)
        assert file["entry/nxworkflow/nxsymmetrize/program"][()] == b"nxsymmetrize"
        note = file["entry/nxworkflow/nxsymmetrize/note/data"][()].decode()
        assert "24 operators, R_int 0." in note
        assert "left out" not in note
    with h5py.File(path.parent / "300K" / "symm_transform.nxs") as file:
        assert "by images less one" in file["entry/data/chi2"].attrs["long_name"]
        np.testing.assert_array_equal(file["entry/image_agreement/orbits"], shells_of(path))


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(
    ("symbol", "values", "laue", "told"),
    [
        ("P 6/m m m", {"steps": (0.1, 0.05, 0.1)}, None, r"steps that the symmetry maps"),
        ("P 6/m m m", {"start": -2.03}, None, r"0 to be the centre of a voxel"),
        ("P m -3 m", {"start": -1.0}, None, r"the same range about 0 .*\(-3 to 3 would do\)"),
        ("P 6/m m m", {}, "7/m", r"space group: expected a symbol or number, found '7/m'"),
    ],
)
def test_grids_and_groups_that_do_not_fit_are_refused(
    comm, shared_tmp_path, symbol, values, laue, told
):
    path = write(comm, shared_tmp_path, symbol, **values)
    before = comm.bcast(sorted(path.parent.rglob("*")))
    with pytest.raises(CollectiveError, match=told):
        run_symmetrize(comm, path, SymmetrizeParams(laue=laue), OUTPUT)
    assert comm.bcast(sorted(path.parent.rglob("*"))) == before


@pytest.mark.parallel([3])
def test_without_a_combined_volume_the_way_to_it_is_told(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "C 1 2/c 1")
    if comm.rank == 0:
        (path.parent / "300K" / "transform.nxs").unlink()
    comm.barrier()  # the others are to see it
    with pytest.raises(CollectiveError, match="expected a combined volume, found none"):
        run_symmetrize(comm, path, PARAMS, OUTPUT)


@pytest.mark.parallel([1])
def test_a_laue_class_may_be_named(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P m -3 m")
    run_symmetrize(comm, path, SymmetrizeParams(laue="4/mmm"), OUTPUT)
    tetragonal = made(path)["redundancy"].max()
    run_symmetrize(comm, path, PARAMS, OUTPUT)
    assert tetragonal == 16
    assert made(path)["redundancy"].max() > 24


def shells_of(path):
    """Return the orbits in shells, as the scan file has them."""
    with h5py.File(path) as file:
        return file["entry/image_agreement/orbits"][()]


@pytest.mark.parallel([1])
def test_agreement_of_images_is_that_of_a_plain_sum(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "C 1 2/c 1")
    run_symmetrize(comm, path, SymmetrizeParams(laue="-1"), OUTPUT)
    counts, norm = (values.astype(np.float64) for values in sums())
    other = (slice(None, None, -1),) * 3
    pairs = (norm > 0) & (norm[other] > 0)
    pairs[N // 2, N // 2, N // 2] = False
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (counts + counts[other]) / (norm + norm[other])
        difference = np.abs(counts / norm - mean)
        each = difference**2 * norm / mean
        chi2 = np.where(pairs & (mean > 0), each + each[other], np.nan)
        r_int = difference[pairs].sum() / (counts / norm)[pairs].sum()
    np.testing.assert_allclose(made(path)["chi2"], chi2, rtol=1e-4, atol=1e-4)
    with h5py.File(path) as file:
        shells = file["entry/image_agreement"]
        assert shells["voxels"][()].sum() == pairs.sum() == 2 * shells["orbits"][()].sum()
        note = file["entry/nxworkflow/nxsymmetrize/note/data"][()].decode()
    assert float(note.split("R_int ")[1].split()[0]) == pytest.approx(r_int, rel=1e-3)


@pytest.mark.parallel([1, 3])
def test_outliers_are_left_out_when_that_is_asked_for(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P m -3 m")
    bright = (12, 15, 9)
    if comm.rank == 0:
        with h5py.File(path.parent / "300K" / "transform.nxs", "r+") as file:
            file["entry/data/v"][bright], file["entry/data/n"][bright] = 50.0, 100.0
    comm.barrier()  # the others are to see it
    run_symmetrize(comm, path, PARAMS, OUTPUT)
    before = made(path)
    assert run_symmetrize(comm, path, SymmetrizeParams(outliers=6.0), OUTPUT) != []
    assert run_symmetrize(comm, path, SymmetrizeParams(outliers=6.0), OUTPUT) == []
    after = made(path)
    assert before["redundancy"][bright] - after["redundancy"][bright] == 1
    assert after["data"][bright] < 0.2 * before["data"][bright]
    with h5py.File(path.parent / "300K" / "symm_transform.nxs") as file:
        n = file["entry/data"].attrs["left_out_images"]
        lost = before["redundancy"].sum() - after["redundancy"].sum()
        assert n >= 1
        assert lost >= 48
    with h5py.File(path) as file:
        note = file["entry/nxworkflow/nxsymmetrize/note/data"][()].decode()
    assert f"{n} images left out beyond 6 sigma" in note


@pytest.mark.parallel([1])
@pytest.mark.parametrize("outliers", [0.0, -3.0, float("nan"), float("inf")])
def test_deviations_that_are_none_are_refused(comm, outliers):
    with pytest.raises(InputError, match="outliers: expected a number above 0"):
        SymmetrizeParams(outliers=outliers)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize(
    ("cell", "laue"),
    [
        ((5, 5, 5, 70, 70, 70), "R -3 m"),  # hexagonal axes
        ((5, 6, 7, 90, 90, 90), "P m -3 m"),
        ((5, 5, 7, 90, 90, 120), "4/mmm"),
        ((5, 6, 7, 90, 90, 110), "2/m"),  # unique axis b
        ((5, 5, 5, 90, 90, 90), "23"),
    ],
)
def test_a_cell_without_the_symmetry_is_refused(comm, shared_tmp_path, cell, laue):
    path = write(comm, shared_tmp_path, "P m -3 m")
    if comm.rank == 0:
        with h5py.File(path, "r+") as file:
            for name, value in zip(("a", "b", "c", "alpha", "beta", "gamma"), cell, strict=True):
                file[f"entry/sample/unitcell_{name}"][...] = value
    comm.Barrier()
    with pytest.raises(CollectiveError, match=r"expected a (cell with the symmetry|class)"):
        run_symmetrize(comm, path, SymmetrizeParams(laue=laue), OUTPUT)


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data["v"].__setitem__((3, 4, 5), 0.123456), "to be counts"),
        (lambda data: data["v"].__setitem__((3, 4, 5), np.inf), "to be counts"),
        (lambda data: shortened(data), "expected the shape of the axes"),
    ],
    ids=["a part of a count", "infinite", "shape"],
)
def test_what_are_no_counts_is_refused_with_the_file(comm, shared_tmp_path, change, message):
    path = write(comm, shared_tmp_path, "P m -3 m")
    if comm.rank == 0:
        with h5py.File(path.parent / "300K" / "transform.nxs", "r+") as file:
            file["entry/data/n"][3, 4, 5] = 7.0
            change(file["entry/data"])
    comm.Barrier()
    with pytest.raises(CollectiveError, match=rf"transform\.nxs.*{message}"):
        run_symmetrize(comm, path, PARAMS, OUTPUT)


def shortened(data):
    values = data["n"][1:]
    del data["n"]
    data["n"] = values


@pytest.mark.parallel([1])
def test_nan_is_not_measured_whatever_the_norm(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P m -3 m")
    with h5py.File(path.parent / "300K" / "transform.nxs", "r+") as file:
        file["entry/data/v"][20, 20, 20] = np.nan
        file["entry/data/n"][20, 20, 20] = 5.0
    run_symmetrize(comm, path, PARAMS, OUTPUT)
    assert np.isnan(made(path)["data"][20, 20, 20])
    assert made(path)["redundancy"][20, 20, 20] == 0


@pytest.mark.parallel([1])
def test_another_cell_makes_it_again(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P m -3 m")
    run_symmetrize(comm, path, PARAMS, OUTPUT)
    with h5py.File(path, "r+") as file:
        for name in "abc":
            file[f"entry/sample/unitcell_{name}"][...] = 6.0
    assert len(run_symmetrize(comm, path, PARAMS, OUTPUT)) == 1
    with h5py.File(path.parent / "300K" / "symm_transform.nxs") as file:
        assert file["entry/data/Qh"].attrs["scaling_factor"] == pytest.approx(2 * np.pi / 6)


@pytest.mark.parallel([1, 3])
def test_too_little_memory_is_told_before_anything_is_read(comm, shared_tmp_path, monkeypatch):
    path = write(comm, shared_tmp_path, "P m -3 m")
    monkeypatch.setattr("nxmpi.parallel.memory.available_memory", lambda comm: 10**6)
    with pytest.raises(CollectiveError, match=r"symm_transform.nxs: expected \S+ \wB of memory"):
        run_symmetrize(comm, path, PARAMS, OUTPUT)
    parallel_assert(not (path.parent / "300K" / "symm_transform.nxs").exists())
