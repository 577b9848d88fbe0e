"""Averages over Laue groups of volumes less a background, which has no symmetry."""

import h5py
import numpy as np
import pytest
from mpi.scans import CELLS, scan_of_volume
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.errors import CollectiveError
from nxmpi.model import HKLGrid
from nxmpi.params import OutputParams, PdfParams, PunchParams, SymmetrizeParams, WindowParams
from nxmpi.pipeline.pdf import run_pdf
from nxmpi.pipeline.real_space import Choices
from nxmpi.pipeline.symmetrize import run_symmetrize

RANKS = [1, 2, 3, 4, 7]
N, STEP = 35, 0.1
"""Voxels along each axis: more than a chunk, and an odd number."""
SCALE = 0.75
AXIS = STEP * (np.arange(N) - N // 2)
OUTPUT = OutputParams()


def experiment(mean, level):
    """Return counts and norm of a scan and of its background, which is bright at large h."""
    rng = np.random.default_rng(int(1000 * mean))
    norm = rng.uniform(0.5, 3, (N, N, N)).astype("f4") * (rng.random((N, N, N)) > 0.3)
    norm_b = (rng.uniform(2, 4, (N, N, N)) * (rng.random((N, N, N)) > 0.1)).astype("f4")
    norm, norm_b = (np.where((norm > 0) & (norm_b > 0), n, np.float32(0)) for n in (norm, norm_b))
    empty = level * (1 + AXIS / AXIS.max()) * np.ones((N, N, N))
    return (
        rng.poisson(norm * (mean + SCALE * empty)), norm.astype("f8"),
        rng.poisson(norm_b * empty), norm_b.astype("f8"),
    )  # fmt: skip


def write(comm, root, symbol, made):
    """Write a scan with a combined volume, on the root, and return its path on all ranks."""

    def volume():
        n, d, n_b, d_b = made
        with np.errstate(invalid="ignore"):
            v = n / d - SCALE * n_b / d_b
        return {"v": v, "n": d, "counts": n, "background_counts": n_b, "background_norm": d_b}

    return scan_of_volume(comm, root, symbol, (AXIS,) * 3, volume, background_scale=SCALE)


def made_of(path, name="symm_transform.nxs", group="entry/data"):
    with h5py.File(path.parent / "300K" / name) as file:
        return {name: data[()] for name, data in file[group].items()}


def orbits_of(symbol):
    """Return the distinct images of each orbit of voxels, as places [l, k, h]."""
    grid = HKLGrid(origin=(AXIS[0],) * 3, step=(STEP,) * 3, shape=(N, N, N))
    group, seen, orbits = voxel_group(laue_operators(symbol), grid), set(), []
    for place in np.ndindex(N, N, N):
        if place not in seen:
            images = {tuple((one - group.low)[::-1]) for one in group.matrices @
                      (place[::-1] + group.low)}  # fmt: skip
            orbits.append(sorted(one for one in images if min(one) >= 0 and max(one) < N))
            seen.update(orbits[-1])
    return orbits


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(("mean", "level"), [(40.0, 20.0), (0.3, 0.2)])
@pytest.mark.parametrize("symbol", CELLS)
def test_means_are_weighted_by_the_norm_of_the_scan(comm, shared_tmp_path, symbol, mean, level):
    n, d, n_b, d_b = experiment(mean, level)
    path = write(comm, shared_tmp_path, symbol, (n, d, n_b, d_b))
    run_symmetrize(comm, path, SymmetrizeParams(), OUTPUT)
    wanted = {name: np.zeros((N, N, N)) for name in ("data", "n", "data_errors", "counts_variance")}
    several = 0
    for orbit in orbits_of(symbol):
        where = tuple(np.array([one for one in orbit if d[one] > 0], int).reshape(-1, 3).T)
        c, w, c_b, w_b = (values[where] for values in (n, d, n_b, d_b))
        several += len(c) > 2 and c.sum() == 0
        total, noise = w.sum(), (SCALE**2 * w**2 * c_b / w_b**2).sum()
        with np.errstate(invalid="ignore"):
            value = (c - SCALE * w * c_b / w_b).sum() / total
        floor = ((SCALE * w / w_b) ** 2).max(initial=0)
        spread = c.sum() + noise
        error = np.sqrt(max(c.sum(), 1) + (noise if c_b.any() else floor))
        for one in orbit:
            wanted["data"][one], wanted["n"][one] = value, total
            wanted["data_errors"][one] = error / total if total else np.nan
            wanted["counts_variance"][one] = spread
    found = made_of(path)
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=5e-7, atol=2e-6 * mean, err_msg=name)
    assert "background_scale" not in found
    assert several > 0 or mean > 1


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("symbol", CELLS)
def test_the_same_bits_on_any_number_of_ranks_up_to_real_space(comm, shared_tmp_path, symbol):
    made = experiment(5.0, 2.0)
    choices = Choices(punch=PunchParams(radius=0.1), window=WindowParams(), pdf=PdfParams())
    one, every = (
        write(comm, shared_tmp_path / name, symbol, made) for name in ("one", "every")
    )  # fmt: skip
    if comm.rank == 0:
        run_symmetrize(MPI.COMM_SELF, one, SymmetrizeParams(), OUTPUT)
        run_pdf(MPI.COMM_SELF, one, choices, OUTPUT)
    run_symmetrize(comm, every, SymmetrizeParams(), OUTPUT)
    run_pdf(comm, every, choices, OUTPUT)
    same = True
    if comm.rank == 0:
        for where in (("symm_transform.nxs", "entry/data"), ("pdf.nxs", "entry/pdf")):
            wanted, found = made_of(one, *where), made_of(every, *where)
            assert "data_errors" in found or "pdf_errors" in found
            same &= all(wanted[name].tobytes() == found[name].tobytes() for name in wanted)
    parallel_assert(same, participating=True)


@pytest.mark.parallel([2])
@pytest.mark.parametrize(("mean", "level"), [(30.0, 3.0), (30.0, 60.0), (8.0, 8.0)])
@pytest.mark.parametrize("symbol", CELLS)
def test_chi_squared_is_one_on_average_and_the_mean_is_the_crystals(
    comm, shared_tmp_path, symbol, mean, level
):  # fmt: skip
    made = experiment(mean, level)
    path = write(comm, shared_tmp_path, symbol, made)
    run_symmetrize(comm, path, SymmetrizeParams(), OUTPUT)
    found = made_of(path)
    told = np.isfinite(found["chi2"])
    order = {"P 6/m m m": 24, "P m -3 m": 48, "C 1 2/c 1": 4}[symbol]
    error = found["chi2"][told].std() * np.sqrt(order / told.sum())
    bias = 0.004  # counts of the background stand for their expectation in its variance
    assert abs(found["chi2"][told].mean() - 1) < 4 * error + bias
    shells = made_of(path, group="entry/image_agreement")
    assert abs(np.nanmean(shells["chi2"]) - 1) < 0.1
    off = (found["data"] - mean) * found["n"]
    good, spread = found["n"] > 0, found["counts_variance"].sum(dtype=float)
    assert abs(off[good].sum(dtype=float)) < 4 * np.sqrt(order * spread)
    squared = (off[good].astype(float) ** 2).sum() / spread
    assert abs(squared - 1) < 5 * np.sqrt(2 * order / good.sum())


@pytest.mark.parallel([2])
def test_errors_of_real_space_come_from_the_variance_of_the_counts(comm, shared_tmp_path):
    """Parseval: far from symmetry elements the variance is that of all voxels by a common factor.

    The factor comes from the same volume with counts that nothing was subtracted from.
    """
    n, d, n_b, d_b = experiment(0.2, 0.1)
    choices = Choices(punch=PunchParams(radius=0.01), window=WindowParams(), pdf=PdfParams())
    squared, sums = [], []
    for name, counts in (("less", n_b), ("nothing", np.zeros_like(n_b))):
        path = write(comm, shared_tmp_path / name, "C 1 2/c 1", (n, d, counts, d_b))
        run_symmetrize(comm, path, SymmetrizeParams(), OUTPUT)
        run_pdf(comm, path, choices, OUTPUT)
        errors, found = made_of(path, "pdf.nxs", "entry/pdf")["pdf_errors"], made_of(path)
        squared.append(float(np.median(errors)) ** 2)
        weights = 1 / found["data_weights"].astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            variance = found["counts_variance"] / found["n"].astype(float) ** 2
        sums.append(np.nansum(weights**2 * variance))
    parallel_assert(bool(sums[0] > 1.05 * sums[1]))
    parallel_assert(bool(abs(squared[0] / squared[1] / (sums[0] / sums[1]) - 1) < 0.01))


@pytest.mark.parallel([1, 3])
def test_images_are_not_left_out_of_what_is_less_a_background(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P m -3 m", experiment(5.0, 2.0))
    with pytest.raises(CollectiveError, match=r"transform.nxs:/entry/data: expected counts alone"):
        run_symmetrize(comm, path, SymmetrizeParams(outliers=5.0), OUTPUT)
