"""How images of voxels agree, and which are left out, against slow sums over orbits."""

import numpy as np
import pytest
from mpi.test_symmetrize import grid_of, planes_of, volume
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.crystal.metric import grid_metric, whole_metric
from nxmpi.model import Lattice
from nxmpi.stages.images import leave_out, residual_map
from nxmpi.stages.shells import compare_images
from nxmpi.stages.symmetrize import owned_planes, symmetrize

RANKS = [1, 2, 3, 4, 7]
CUBIC = Lattice(a=5.0, b=5.0, c=5.0, alpha=90.0, beta=90.0, gamma=90.0)
LATTICES = {
    "m-3m": CUBIC, "m-3": CUBIC,
    "R -3 m :R": Lattice(a=5.0, b=5.0, c=5.0, alpha=62.0, beta=62.0, gamma=62.0),
    "6/mmm": Lattice(a=5.0, b=5.0, c=7.0, alpha=90.0, beta=90.0, gamma=120.0),
    "-31m": Lattice(a=5.0, b=5.0, c=7.0, alpha=90.0, beta=90.0, gamma=120.0),
    "C 1 2/c 1": Lattice(a=5.0, b=6.0, c=7.0, alpha=90.0, beta=105.0, gamma=90.0),
}  # fmt: skip
SHAPE = (11, 11, 11)


def case(name, shape=SHAPE):
    """Return grid, group and the orbits of its voxels, as lists of places [l, k, h]."""
    grid = grid_of(shape, tuple(-(n // 2) for n in shape))
    group = voxel_group(laue_operators(name), grid)
    orbits, seen = [], set()
    for place in np.ndindex(grid.array_shape):
        if place in seen:
            continue
        images = {tuple(int(x) for x in one) for one in group.matrices @ (place[::-1] + group.low)}
        inside = [one for one in images if (one >= group.low).all() and (one <= group.high).all()]
        orbits.append([tuple(int(x) for x in (one - group.low)[::-1]) for one in inside])
        seen.update(orbits[-1])
    return grid, group, orbits


def whole(comm, values, group):
    """Return the volume [l, k, h] that ranks have the planes of, on all ranks."""
    own = {}
    first, stop = owned_planes(group, comm.size, comm.rank)
    for l in range(int(group.low[2]), int(group.high[2]) + 1):
        if first <= abs(l) < stop:
            own[l] = values[int(l < 0), abs(l) - first].copy()
    planes = {l: plane for part in comm.allgather(own) for l, plane in part.items()}
    return np.array([planes[l] for l in sorted(planes)])


def compared(comm, counts, norm, case, lattice):
    """Return the residual map of a volume and what shells say."""
    grid, group, _ = case
    planes = planes_of(counts, norm, group, comm.size, comm.rank)
    sums = symmetrize(comm, planes, group)
    metric = whole_metric(grid_metric(grid, lattice), group)
    shells = compare_images(comm, planes, sums, group, metric)
    return whole(comm, residual_map(comm, planes, sums, group), group), shells


def images_of(counts, norm, orbit):
    """Return counts, norm and place of the measured images of an orbit, and the mean."""
    places = [place for place in orbit if norm[place] > 0]
    c, n = (np.array([float(each[place]) for place in places]) for each in (counts, norm))
    return c, n, places, (c.sum() / n.sum() if places else np.nan)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", LATTICES)
def test_residuals_are_chi_squared_of_the_images_against_their_mean(comm, name):
    one = case(name)
    counts, norm = volume(SHAPE, 11)
    chi2, shells = compared(comm, counts, norm, one, LATTICES[name])
    wanted = np.full(counts.shape, np.nan)
    for orbit in one[2]:
        c, n, _, mean = images_of(counts, norm, orbit)
        if len(c) > 1 and c.sum() > 0:
            for place in orbit:
                wanted[place] = ((c / n - mean) ** 2 / (mean / n)).sum() / (len(c) - 1)
    np.testing.assert_allclose(chi2, wanted, rtol=1e-5, atol=1e-5)
    assert np.isfinite(wanted).sum() > 500
    for orbit in one[2]:
        assert len({chi2[place].tobytes() for place in orbit}) == 1
    alone, shells_alone = compared(MPI.COMM_SELF, counts, norm, one, LATTICES[name])
    same = chi2.tobytes() == alone.tobytes() and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(shells, shells_alone, strict=True)
    )
    parallel_assert(same, participating=True)


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("name", LATTICES)
def test_shells_are_sums_over_the_images_of_orbits_with_two_or_more(comm, name):
    one, lattice = case(name), LATTICES[name]
    counts, norm = volume(SHAPE, 12)
    _, shells = compared(comm, counts, norm, one, lattice)
    grid, group, orbits = one
    to_q = 2 * np.pi * reciprocal_matrix(lattice) * np.array(grid.step)
    corners = np.array(np.meshgrid(*[[-5, 5]] * 3)).reshape(3, -1)
    q_max = np.linalg.norm(to_q @ corners, axis=0).max()
    np.testing.assert_allclose(shells.edges, np.linspace(0, q_max, 21), rtol=1e-7, atol=1e-9)
    sums, freedom = np.zeros((20, 7)), np.zeros(20)
    for orbit in orbits:
        c, n, places, mean = images_of(counts, norm, orbit)
        if len(c) < 2:
            continue
        q = np.linalg.norm(to_q @ (np.array(places[0][::-1]) + group.low))
        shell = min(int(20 * q / q_max * (1 + 1e-9)), 19)
        difference = np.abs(c / n - mean)
        chi2 = ((c / n - mean) ** 2 * n / mean).sum() if c.sum() else 0.0
        sums[shell] += [
            1, len(c), difference.sum(), (c / n).sum(), (n * difference).sum(), c.sum(), chi2
        ]  # fmt: skip
        freedom[shell] += len(c) - 1 if c.sum() else 0
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(shells.orbits, sums[:, 0])
        np.testing.assert_array_equal(shells.voxels, sums[:, 1])
        np.testing.assert_allclose(shells.r_int, sums[:, 2] / sums[:, 3], rtol=1e-12)
        np.testing.assert_allclose(shells.r_weighted, sums[:, 4] / sums[:, 5], rtol=1e-12)
        np.testing.assert_allclose(shells.chi2, sums[:, 6] / freedom, rtol=1e-12)
    total = sums.sum(axis=0)
    np.testing.assert_allclose(
        shells.total, [total[2] / total[3], total[4] / total[5], total[6] / freedom.sum()],
        rtol=1e-12,
    )  # fmt: skip
    assert (shells.orbits > 0).sum() > 12


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("mean", [0.02, 0.3, 40.0])
@pytest.mark.parametrize("name", ["mmm", "m-3m"])
def test_chi_squared_of_poisson_counts_is_one_on_average(comm, name, mean):
    shape = (31, 31, 31)
    grid = grid_of(shape, (-15, -15, -15))
    group = voxel_group(laue_operators(name), grid)
    rng = np.random.default_rng(int(100 * mean))
    relative = rng.uniform(0.1, 2.0, shape) * (rng.random(shape) > 0.2)
    counts = rng.poisson(mean * relative)
    norm = np.rint(relative * 2.0**40).astype(np.int64)
    chi2, shells = compared(comm, counts, norm, (grid, group, None), CUBIC)
    told = np.isfinite(chi2)
    # an orbit of up to 48 images is as many voxels of the same value
    error = chi2[told].std() * np.sqrt(len(group.matrices) / told.sum())
    assert abs(chi2[told].mean() - 1) < 4 * error
    assert abs(shells.total[2] - 1) < 4 * error
    assert error < 0.1


@pytest.mark.parallel([1])
def test_images_that_are_off_by_two_times_their_error_say_so(comm):
    one = case("mmm")
    rng = np.random.default_rng(5)
    norm = np.full(SHAPE, 2**40)
    counts = rng.poisson(100.0 * np.exp(rng.normal(0, 0.2, SHAPE)))
    chi2, shells = compared(comm, counts, norm, one, CUBIC)
    assert 4 < np.nanmean(chi2) < 6.5  # 1 + 100 x 0.2², and the skew of the factors
    assert 0.1 < shells.total[0] < 0.25
    np.testing.assert_allclose(shells.total[0], shells.total[1], rtol=1e-9)  # the norms are alike


def with_outliers(name, orbits_of, mean, factor):
    """Return Poisson counts, norm, and which voxels were multiplied, one in each of some orbits."""
    _, _, orbits = orbits_of
    rng = np.random.default_rng(len(name))
    counts = rng.poisson(mean, SHAPE)
    norm = np.where(rng.random(SHAPE) > 0.1, 2**40, 0)
    counts[norm == 0] = 0
    off = np.zeros(SHAPE, bool)
    for orbit in orbits[::3]:
        places = images_of(counts, norm, orbit)[2]
        if places:
            off[places[int(rng.integers(len(places)))]] = True
    counts[off] = counts[off] * factor
    return counts, norm, off


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("factor", [100, 0], ids=["bright", "dark"])
@pytest.mark.parametrize("name", ["C 1 2/c 1", "m-3m", "-31m", "R -3 m :R"])
def test_one_image_that_is_off_is_left_out_of_three_or_more(comm, name, factor):
    one = case(name)
    _, group, orbits = one
    counts, norm, off = with_outliers(name, one, 80.0, factor)
    planes = planes_of(counts, norm, group, comm.size, comm.rank)
    found, n = leave_out(comm, planes, group, 6.0)
    gone = np.zeros(SHAPE, bool)
    for orbit in orbits:
        if len(images_of(counts, norm, orbit)[0]) >= 3:
            gone[tuple(np.array(orbit).T)] = off[tuple(np.array(orbit).T)]
    clean = planes_of(
        np.where(gone, 0, counts), np.where(gone, 0, norm), group, comm.size, comm.rank
    )
    wanted = symmetrize(comm, clean, group)
    same = all(a.tobytes() == b.tobytes() for a, b in zip(found, wanted, strict=True))
    parallel_assert(same and n == gone.sum(), participating=True)
    np.testing.assert_array_equal(planes.norm, clean.norm)
    assert gone.sum() > 15


@pytest.mark.parallel([1, 2])
def test_of_two_images_none_is_left_out(comm):
    _, group, _ = case("-1")
    rng = np.random.default_rng(3)
    counts, norm = rng.choice([1, 10**6], SHAPE), np.full(SHAPE, 2**40)
    planes = planes_of(counts, norm, group, comm.size, comm.rank)
    assert leave_out(comm, planes, group, 3.0)[1] == 0


@pytest.mark.parallel([1])
@pytest.mark.parametrize(
    ("images", "left_out"),
    [
        ([100] * 6 + [9000] * 2, [9000] * 2),
        ([100] * 5 + [9000, 900, 10], [9000, 900, 10]),
        ([100] * 4 + [9000] * 4, []),
        ([100] * 7 + [9000], [9000]),
        ([0] * 7 + [1], []),
        ([0] * 7 + [30], [30]),
        ([90, 95, 98, 100, 101, 105, 110, 112], []),
    ],
    ids=str,
)
def test_which_of_eight_images_are_left_out(comm, images, left_out):
    shape = (3, 3, 3)
    group = voxel_group(laue_operators("mmm"), grid_of(shape, (-1, -1, -1)))
    counts, norm = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    corners = (slice(None, None, 2),) * 3
    norm[corners] = 2**40
    counts[corners] = np.reshape(images, (2, 2, 2))
    planes = planes_of(counts, norm, group, 1, 0)
    sums, n = leave_out(comm, planes, group, 5.0)
    assert n == len(left_out)
    assert sums.counts.max() == sum(images) - sum(left_out)
    assert sums.images.max() == 8 - n


@pytest.mark.parallel([1])
@pytest.mark.parametrize("mean", [0.02, 0.5, 5.0])
@pytest.mark.parametrize("name", ["mmm", "m-3m"])
def test_chance_alone_leaves_hardly_any_out(comm, name, mean):
    shape = (41, 41, 41)
    group = voxel_group(laue_operators(name), grid_of(shape, (-20, -20, -20)))
    rng = np.random.default_rng(int(100 * mean))
    planes = planes_of(rng.poisson(mean, shape), np.full(shape, 2**40), group, 1, 0)
    assert leave_out(comm, planes, group, 4.5)[1] < 3e-5 * 41**3
