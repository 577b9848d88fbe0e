"""Combined volumes to symmetrized ones in files, on any number of ranks."""

import h5py
import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.errors import CollectiveError
from nxmpi.params import OutputParams, SymmetrizeParams
from nxmpi.pipeline.symmetrize import run_symmetrize

RANKS = [1, 2, 3, 4, 7]
CELLS = {
    "P 6/m m m": (5, 5, 7, 90, 90, 120), "P m -3 m": (5, 5, 5, 90, 90, 90),
    "C 1 2/c 1": (5, 6, 7, 90, 105, 90),
}  # fmt: skip
N = 41
"""Voxels along each axis: more than a chunk, and an odd number."""
PARAMS, OUTPUT = SymmetrizeParams(), OutputParams()


def write(comm, root, symbol, start=-2.0, steps=(0.1, 0.1, 0.1)):
    """Write a scan with a combined volume, on the root, and return its path on all ranks."""
    path = root / "quartz" / "label" / "quartz_300K.nxs"
    if comm.rank == 0:
        (path.parent / "300K").mkdir(parents=True)
        counts, norm = sums()
        with h5py.File(path.parent / "300K" / "transform.nxs", "w") as file:
            with np.errstate(invalid="ignore"):
                file["entry/data/v"] = (counts / norm).astype(np.float32)
            file["entry/data/n"] = norm.astype(np.float32)
        with h5py.File(path, "w") as file:
            sample = file.create_group("entry/sample")
            names = ("a", "b", "c", "alpha", "beta", "gamma")
            for name, value in zip(names, CELLS[symbol], strict=True):
                sample[f"unitcell_{name}"] = float(value)
            sample["space_group"] = symbol
            file["f1/sample"] = sample
            for axis, step in zip(("Qh", "Qk", "Ql"), steps, strict=True):
                file[f"entry/transform/{axis}"] = start + step * np.arange(N)
    return comm.bcast(path)


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
        assert group["data"].shape == group["weights"].shape == (N, N, N)
        assert file["entry/nxworkflow/nxsymmetrize/program"][()] == b"nxsymmetrize"


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
