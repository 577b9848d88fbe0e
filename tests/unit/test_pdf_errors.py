"""Errors of the ΔPDF, against sums orbit by orbit and the scatter of repetitions."""

import numpy as np
import pytest
from mpi4py import MPI
from scipy import fft

from nxmpi.crystal.laue import is_closed, laue_operators, voxel_group
from nxmpi.crystal.window import window_on, window_slab
from nxmpi.kernels.pdf_errors import stabilizer_orders
from nxmpi.model import HKLGrid, Lattice
from nxmpi.params import PdfParams, WindowParams
from nxmpi.stages.fourier import to_full_slabs
from nxmpi.stages.pdf import pdf
from nxmpi.stages.pdf_errors import pdf_errors, without_inverses

COMM = MPI.COMM_SELF
ANGLES = {"-3m1": 120.0, "-31m": 120.0, "6/mmm": 120.0, "6/m": 120.0}
GRIDS = {  # group; first and last voxel along h, k, l; sizes of the transform
    "-1": ((-3, -4, -2), (3, 4, 2), (7, 9, 5)),
    "2/m": ((-3, -4, -2), (3, 4, 2), (7, 9, 5)),
    "mmm": ((-4, -3, -5), (4, 3, 5), (9, 7, 11)),
    "4/m": ((-4, -4, -3), (4, 4, 3), (9, 9, 7)),
    "-3m1": ((-4, -4, -3), (4, 4, 3), (9, 9, 7)),
    "-31m": ((-4, -4, -3), (4, 4, 3), (11, 11, 7)),
    "6/mmm": ((-4, -4, -3), (4, 4, 3), (9, 9, 11)),
    "m-3": ((-4, -4, -4), (4, 4, 4), (9, 9, 9)),
    "m-3m": ((-4, -4, -4), (4, 4, 4), (9, 9, 9)),
    "R -3 m :R": ((-4, -4, -4), (4, 4, 4), (13, 13, 13)),
}
EVEN = {
    "-1": ((-3, -4, -2), (4, 3, 3), (8, 8, 6)),
    "4/mmm": ((-4, -4, -3), (3, 3, 2), (8, 8, 6)),
    "6/mmm": ((-4, -4, -3), (3, 3, 2), (8, 8, 10)),
    "m-3m": ((-4, -4, -4), (4, 4, 4), (12, 12, 12)),
}


class Setting:
    """A group on a grid, its window, and which orbit each voxel belongs to."""

    def __init__(self, name, low, high, sizes):
        shape = tuple(b - a + 1 for a, b in zip(low, high, strict=True))
        grid = HKLGrid(origin=tuple(0.5 * n for n in low), step=(0.5,) * 3, shape=shape)
        alpha = 70.0 if name.endswith(":R") else 90.0
        lattice = Lattice(
            a=5.0, b=5.0, c=5.0, alpha=alpha, beta=alpha, gamma=ANGLES.get(name, alpha)
        )
        self.group, self.sizes = voxel_group(laue_operators(name), grid), sizes
        window = window_on(WindowParams(), self.group, grid, lattice)
        self.weights = window_slab(window, 0, shape[2], np.float64)
        ranges = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
        h, k, l = np.meshgrid(*ranges, indexing="ij")
        voxels = np.stack([h, k, l], axis=-1).transpose(2, 1, 0, 3)
        images = voxels @ self.group.matrices.transpose(0, 2, 1)[:, None, None]
        keys = ((images[..., 0] * 999 + images[..., 1]) * 999 + images[..., 2]).max(axis=0)
        _, self.orbits = np.unique(keys, return_inverse=True)
        self.orbits = self.orbits.reshape(shape[::-1])
        self.order = (images == voxels).all(axis=-1).sum(axis=0)
        self.places = np.ix_(*(r % n for r, n in zip(ranges[::-1], sizes[::-1], strict=True)))

    def transformed(self, volume):
        """Return the transform of volumes, (..., n_l, n_k, n_h), by NumPy."""
        whole = np.zeros((*volume.shape[:-3], *self.sizes[::-1]))
        whole[(..., *self.places)] = volume
        axes = (-3, -2, -1)
        return fft.fftshift(fft.fftn(whole, axes=axes, norm="forward"), axes=axes).real

    def symmetric(self, rng, low=0.5, high=5.0):
        """Return numbers that are the same for all voxels of an orbit."""
        return rng.uniform(low, high, self.orbits.max() + 1)[self.orbits]

    def errors(self, variances, *, subtract_mean=False, precision="double"):
        """Return the errors at [z, y, x], and the general one."""
        params = PdfParams(subtract_mean=subtract_mean, precision=precision)
        found = pdf_errors(COMM, variances, self.weights, self.group, self.sizes, params)
        n_y = self.sizes[1]
        return to_full_slabs(COMM, found.values, self.sizes, [(0, n_y)]), found.general


def orbit_by_orbit(setting, variances, *, subtract_mean):
    """Return the errors from the transform of each orbit by itself."""
    total = 0.0
    measured = ~np.isnan(variances)
    window = np.where(measured, setting.weights, 0.0)
    of_window = setting.transformed(window)
    for orbit in range(setting.orbits.max() + 1):
        own = setting.orbits == orbit
        weight = np.where(own, window, 0.0)
        if not weight.any():
            continue
        change = setting.transformed(weight)
        if subtract_mean:
            change -= weight.sum() / window.sum() * of_window
        total = total + variances[own][0] * change**2
    return np.sqrt(total)


@pytest.mark.parametrize("name", GRIDS)
def test_orders_of_stabilizers_are_counted(name):
    setting = Setting(name, *GRIDS[name])
    found = np.empty(setting.orbits.shape, np.int64)
    for i, plane in enumerate(found):
        low = setting.group.low
        stabilizer_orders(setting.group.matrices, low, int(low[2]) + i, plane)
    np.testing.assert_array_equal(found, setting.order)
    assert found.max() == len(setting.group.matrices)


@pytest.mark.parametrize("name", ["-1", "-3m1", "6/mmm", "m-3m"])
def test_of_pairs_of_inverses_one_is_kept(name):
    matrices = laue_operators(name)
    kept, times = without_inverses(matrices)
    assert times.sum() == len(matrices)
    whole = [m for m, n in zip(kept, times, strict=True) for _ in range(n)]
    others = np.rint(np.linalg.inv(kept[times == 2])).astype(np.int64)
    every = {m.tobytes() for m in [*kept, *others]}
    assert len(whole) == len(every) == len(matrices)
    assert is_closed(np.concatenate([kept, others]))


@pytest.mark.parametrize("subtract_mean", [False, True])
@pytest.mark.parametrize(
    ("name", "grid"), [*GRIDS.items(), *EVEN.items()], ids=lambda value: str(value)
)
def test_errors_are_those_of_the_sum_over_orbits(name, grid, subtract_mean):
    setting = Setting(name, *grid)
    rng = np.random.default_rng(3)
    variances = setting.symmetric(rng)
    kind = rng.integers(0, 8, setting.orbits.max() + 1)[setting.orbits]
    variances[(kind == 0) & (setting.orbits > 0)] = 0.0  # filled
    variances[(kind == 1) & (setting.orbits > 0)] = np.nan
    found, _ = setting.errors(variances, subtract_mean=subtract_mean)
    wanted = orbit_by_orbit(setting, variances, subtract_mean=subtract_mean)
    np.testing.assert_allclose(found**2, wanted**2, atol=1e-13 * wanted.max() ** 2)
    single, _ = setting.errors(
        variances.astype(np.float32), subtract_mean=subtract_mean, precision="single"
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single**2, wanted**2, atol=1e-5 * wanted.max() ** 2)


@pytest.mark.parametrize("name", ["-1", "mmm", "-3m1", "6/mmm", "m-3m"])
def test_errors_are_the_scatter_of_200_repetitions(name):
    n = {"-1": 15, "m-3m": 19}.get(name, 17)
    low, high = (-(n // 2),) * 3, (n // 2,) * 3
    setting = Setting(name, low, high, (n,) * 3)
    rng = np.random.default_rng(11)
    true = setting.symmetric(rng, 2.0, 20.0)
    sizes = np.bincount(setting.orbits.ravel())
    mean_of_orbit = np.bincount(setting.orbits.ravel(), true.ravel()) / sizes
    repetitions = []
    for _ in range(200):
        counts = rng.poisson(true)  # each voxel by itself; then averaged over its orbit
        average = np.bincount(setting.orbits.ravel(), counts.ravel()) / sizes
        repetitions.append(average[setting.orbits] * setting.weights)
    scatter = setting.transformed(np.array(repetitions)).std(axis=0, ddof=1)
    found, general = setting.errors((mean_of_orbit / sizes)[setting.orbits])
    ratio = found / scatter
    assert abs(np.median(ratio) - 1) < 0.02
    middle = n // 2
    z, y, x = np.indices(ratio.shape) - middle
    order = np.zeros(ratio.shape, int)
    for matrix in setting.group.matrices:
        image = np.stack([x, y, z], axis=-1) @ matrix
        order += (image == np.stack([x, y, z], axis=-1)).all(axis=-1)
    assert (np.diff(np.unique(order)) > 0).all()
    for kind in np.unique(order):  # origin, axes, mirrors, the rest
        # a repetition has 200 values, so each ratio is off by about 1/20; images of a place are
        # no repetitions, so as many places count as are different
        own = ratio[order == kind]
        independent = max(1.0, own.size * kind / len(setting.group.matrices) / 2)
        assert abs(own.mean() - 1) < 5 / np.sqrt(2 * 200 * independent), kind
    assert found[middle, middle, middle] / general == pytest.approx(
        np.sqrt(len(setting.group.matrices)), rel=1e-9
    )
    far = (order == order.min()) & (abs(x) + abs(y) + abs(z) > middle)
    assert np.median(found[far]) == pytest.approx(general, rel=0.25)
    assert np.sqrt(np.median(found[far] ** 2)) < found[middle, middle, middle]


def test_the_error_of_the_mean_is_that_of_repetitions_of_the_whole_step():
    setting = Setting("m-3m", (-5,) * 3, (5,) * 3, (11,) * 3)
    rng = np.random.default_rng(4)
    sizes = np.bincount(setting.orbits.ravel())
    found, _ = setting.errors((9.0 / sizes)[setting.orbits], subtract_mean=True)
    maps = []
    for _ in range(1000):
        average = rng.normal(50.0, 3.0 / np.sqrt(sizes))[setting.orbits]
        made = pdf(
            COMM, average, setting.weights, setting.group, (11,) * 3, PdfParams(precision="double")
        )
        maps.append(to_full_slabs(COMM, made.real.values, (11,) * 3, [(0, 11)]))
    scatter = np.std(maps, axis=0, ddof=1)
    assert scatter[5, 5, 5] < 1e-12
    assert found[5, 5, 5] < 1e-6
    away = scatter > 1e-12
    ratio = found[away] / scatter[away]
    assert abs(np.median(ratio) - 1) < 0.03
    assert abs(ratio - 1).max() < 0.3
    kept, _ = setting.errors((9.0 / sizes)[setting.orbits])
    assert kept[5, 5, 6] > 1.2 * found[5, 5, 6]  # what it would be with the mean known beforehand
