"""The ΔPDF of volumes whose transform is known: cosines, Gaussians, short-range order, pairs."""

import itertools

import numpy as np
import pytest
from mpi4py import MPI

from nxmpi.crystal.lattice import direct_matrix, reciprocal_matrix
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.crystal.window import window_on, window_slab
from nxmpi.model import HKLGrid, Lattice
from nxmpi.nexus.volume import axis_values
from nxmpi.params import PdfParams, WindowParams
from nxmpi.stages.fourier import (
    half_planes,
    real_space_grid,
    to_full_slabs,
    transform_sizes,
)
from nxmpi.stages.pdf import pdf, weighted_mean

COMM = MPI.COMM_SELF
CELLS = {
    "-1": (5, 6, 7, 80, 95, 105), "mmm": (5, 6, 7, 90, 90, 90), "-3m1": (5, 5, 7, 90, 90, 120),
    "6/mmm": (5, 5, 8, 90, 90, 120), "4/mmm": (5, 5, 9, 90, 90, 90), "m-3m": (5, 5, 5, 90, 90, 90),
}  # fmt: skip


class Space:
    """A grid about 0 0 0 in reciprocal space, and what becomes of volumes on it."""

    def __init__(self, name, shape, step, window="none", spacing=None, axes=None, **support):
        self.lattice = Lattice(**dict(zip(Lattice.__slots__, map(float, CELLS[name]), strict=True)))
        origin = tuple(-(n // 2) * s for n, s in zip(shape, step, strict=True))
        axes = {} if axes is None else {"axes": axes}
        self.grid = HKLGrid(origin=origin, step=step, shape=shape, **axes)
        self.group = voxel_group(laue_operators(name), self.grid)
        self.sizes = transform_sizes(self.group, self.grid, self.lattice, spacing)
        on = window_on(WindowParams(window=window, **support), self.group, self.grid, self.lattice)
        self.weights = window_slab(on, 0, shape[2], np.float64)
        steps = [s * np.arange(-(n // 2), (n + 1) // 2) for n, s in zip(shape, step, strict=True)]
        h, k, l = np.meshgrid(*steps, indexing="ij")
        self.hkl = np.stack([h, k, l], axis=-1).transpose(2, 1, 0, 3)

    def pdf(self, volume, *, subtract_mean=False, precision="double"):
        params = PdfParams(subtract_mean=subtract_mean, precision=precision)
        made = pdf(COMM, volume, self.weights, self.group, self.sizes, params)
        assert made.real.residue <= (1e-12 if precision == "double" else 1e-5)
        return to_full_slabs(COMM, made.real.values, self.sizes, [(0, self.sizes[1])])

    def axes(self):
        """Return x, y, z in units of a, b, c."""
        real = real_space_grid(self.grid, self.sizes)
        return [axis_values(real, i) for i in range(3)]

    def at(self, *xyz):
        """Return the place, [z, y, x], of a vector in units of a, b, c."""
        places = []
        for axis, value in zip(self.axes(), xyz, strict=True):
            place = int(np.argmin(abs(axis - value)))
            assert abs(axis[place] - value) < 1e-9
            places.append(place)
        return tuple(places[::-1])

    def scale(self):
        """Return the mean of the window: what a cosine's peak is multiplied by."""
        return self.weights.sum() / np.prod(self.sizes)


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("subtract_mean", [False, True])
def test_a_cosine_along_h_is_two_positive_peaks(subtract_mean, precision):
    space = Space("mmm", (25, 15, 9), (0.04, 1 / 15, 1 / 9))  # one period of each axis
    volume = 1 + np.cos(2 * np.pi * 3 * space.hkl[..., 0])
    found = space.pdf(volume, subtract_mean=subtract_mean, precision=precision)
    wanted = np.zeros(found.shape)
    wanted[space.at(0, 0, 0)] = 0 if subtract_mean else 1
    wanted[space.at(3, 0, 0)] = wanted[space.at(-3, 0, 0)] = 0.5
    np.testing.assert_allclose(found, wanted, atol=1e-13 if precision == "double" else 1e-6)


@pytest.mark.parametrize("vector", [(3, 0, 0), (0, 2, 0), (0, 0, 1), (2, -1, 1), (-1, 3, 2)])
def test_peaks_are_at_the_vector_of_the_cosine(vector):
    space = Space("-1", (25, 15, 9), (0.04, 1 / 15, 1 / 9))
    found = space.pdf(np.cos(2 * np.pi * space.hkl @ np.array(vector)))
    wanted = np.zeros(found.shape)
    wanted[space.at(*vector)] = wanted[space.at(*(-n for n in vector))] = 0.5
    np.testing.assert_allclose(found, wanted, atol=1e-13)


def test_voxels_that_were_not_measured_count_as_windowed_out():
    space = Space("mmm", (25, 15, 9), (0.04, 1 / 15, 1 / 9), "tukey")
    volume = 2 + np.cos(2 * np.pi * 3 * space.hkl[..., 0])
    missing = np.random.default_rng(3).random(volume.shape) < 0.2
    missing |= missing[::-1, ::-1, ::-1]
    gone = np.where(missing, np.nan, volume)
    mean = weighted_mean(COMM, gone, space.weights)
    kept = np.where(missing, 0.0, space.weights)
    assert mean == pytest.approx((kept * volume).sum() / kept.sum(), rel=1e-14)
    found = space.pdf(gone, subtract_mean=True)
    assert abs(found[space.at(0, 0, 0)]) < 1e-15
    wanted = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(kept * (volume - mean)))).real
    np.testing.assert_allclose(found, wanted, atol=1e-14)


@pytest.mark.parametrize("spacing", [None, 0.35])
@pytest.mark.parametrize("window", ["none", "tukey", "gaussian"])
def test_parseval(window, spacing):
    space = Space("-1", (13, 21, 11), (0.25, 0.2, 0.5), window, spacing)
    rng = np.random.default_rng(1)
    volume = rng.normal(1.0, 1.0, space.hkl.shape[:3])
    volume += volume[::-1, ::-1, ::-1]
    found = space.pdf(volume)
    n = np.prod(space.sizes)
    power = ((volume * space.weights) ** 2).sum() / n
    assert (found**2).sum() == pytest.approx(power, rel=1e-12)
    assert found[space.at(0, 0, 0)] == pytest.approx((volume * space.weights).sum() / n, rel=1e-12)


@pytest.mark.parametrize("name", ["-1", "6/mmm", "mmm"])
def test_a_gaussian_of_q_is_a_gaussian_of_the_other_width(name):
    # exp(-Q M Q / 2) becomes exp(-r inv(M) r / 2) / sqrt(det M), both in Cartesian Å
    space = Space(name, (41, 41, 41), (0.1, 0.1, 0.1))
    wide = np.diag([3.0, 5.0, 4.0] if name != "6/mmm" else [3.5, 3.5, 4.5])
    if name == "-1":
        wide += [[0, 0.6, -0.4], [0.6, 0, 0.3], [-0.4, 0.3, 0]]
    Q = 2 * np.pi * space.hkl @ reciprocal_matrix(space.lattice).T
    found = space.pdf(np.exp(-np.einsum("...i,ij,...j", Q, wide, Q) / 2))
    x, y, z = space.axes()
    xyz = np.stack(np.meshgrid(z, y, x, indexing="ij")[::-1], axis=-1)
    r = xyz @ direct_matrix(space.lattice).T
    top = found[space.at(0, 0, 0)]
    wanted = np.exp(-np.einsum("...i,ij,...j", r, np.linalg.inv(wide), r) / 2)
    np.testing.assert_allclose(found / top, wanted, atol=2e-3)
    # the height: one voxel of reciprocal space by the integral of the Gaussian
    volume = (2 * np.pi) ** 3 * np.prod(space.grid.step) * np.linalg.det(
        reciprocal_matrix(space.lattice)
    )  # fmt: skip
    height = np.sqrt((2 * np.pi) ** 3 / np.linalg.det(wide)) / volume / np.prod(space.sizes)
    assert top == pytest.approx(height, rel=2e-3)
    near = np.where(wanted > 0.02, found / top, 0.0)
    second = np.einsum("zyx,zyxi,zyxj->ij", near, r, r) / near.sum()
    cut = np.where(wanted > 0.02, wanted, 0.0)
    true = np.einsum("zyx,zyxi,zyxj->ij", cut, r, r) / cut.sum()
    np.testing.assert_allclose(second, true, atol=0.02 * np.trace(true) / 3)


def images_of(group, vector):
    """Return the lattice vectors that are equivalent to one; they turn as g^T r."""
    return {tuple(int(n) for n in matrix.T @ np.array(vector)) for matrix in group.matrices}


@pytest.mark.parametrize("window", ["none", "tukey", "blackman", "gaussian", "lanczos"])
@pytest.mark.parametrize("name", ["m-3m", "6/mmm"])
def test_short_range_order_returns_its_parameters(name, window):
    # Warren-Cowley: I = Σ alpha_lmn cos 2π(h l + k m + l n), alpha_000 = 1, over whole periods.
    # A peak is the window's own mean high. What other peaks add there is small in a range of
    # 12 zones, more for windows that end abruptly.
    error = 0.02 if window in ("gaussian", "lanczos") else 0.01
    space = Space(name, (73, 73, 73), (12 / 73,) * 3, window)
    first = {(0, 0, 0): 1.0, (1, 0, 0): -0.18, (1, 1, 0): 0.11, (2, 0, 0): 0.06, (1, 1, 1): -0.03}
    if name == "6/mmm":
        first = {(0, 0, 0): 1.0, (1, 0, 0): -0.2, (0, 0, 1): 0.12, (1, 1, 0): 0.07, (1, 0, 1): 0.04}
    alphas = {image: a for v, a in first.items() for image in images_of(space.group, v)}
    assert len(alphas) > 20
    volume = sum(a * np.cos(2 * np.pi * space.hkl @ np.array(v)) for v, a in alphas.items())
    found = space.pdf(volume) / space.scale()
    for vector, alpha in alphas.items():
        assert found[space.at(*vector)] == pytest.approx(alpha, rel=error), vector
    assert abs(found[space.at(2, 1, 0)]) < 1e-3
    assert abs(found[space.at(3, 0, 0)]) < 1e-3


def test_a_volume_whose_order_is_random_has_the_mean_alone():
    space = Space("m-3m", (39, 39, 39), (2 / 13,) * 3, "tukey")
    found = space.pdf(np.full((39, 39, 39), 7.0), subtract_mean=True)
    assert abs(found).max() < 1e-14


@pytest.mark.parametrize("contrast", [0.5, -0.5])
def test_size_effect_is_a_signed_triplet(contrast):
    # Two atoms along a are strong (A) or weak (B) at random: AA is d + e apart, BB d - e, AB d.
    # Of ΔI = <|F|²> - <f>² |1 + exp(2πi h d)|² the vectors between the two are A²/4 at d + e, B²/4
    # at d - e, and AB/2 - <f>² < 0 at d
    A, B = 1 + contrast, 1 - contrast
    mean = (A + B) / 2
    d, e = 3.0, 0.5
    space = Space("mmm", (80, 5, 5), (0.1, 0.2, 0.2))  # real space in steps of a / 8
    h = space.hkl[..., 0]
    apart = {(A, A): d + e, (B, B): d - e, (A, B): d, (B, A): d}
    volume = sum(
        abs(one + other * np.exp(2j * np.pi * h * x)) ** 2 / 4 for (one, other), x in apart.items()
    )
    volume -= mean**2 * abs(1 + np.exp(2j * np.pi * h * d)) ** 2
    found = space.pdf(volume)
    assert found[space.at(0, 0, 0)] == pytest.approx(2 * contrast**2, abs=1e-12)
    for sign in (1, -1):
        line = {x: found[space.at(sign * x, 0, 0)] for x in (d - e, d, d + e)}
        assert line[d - e] == pytest.approx(B**2 / 4, abs=1e-12)
        assert line[d + e] == pytest.approx(A**2 / 4, abs=1e-12)
        assert line[d] == pytest.approx(A * B / 2 - mean**2, abs=1e-12)
        assert line[d] < 0 < min(line[d - e], line[d + e])
        assert (line[d + e] > line[d - e]) == (contrast > 0)
    peaks = [0.0, *line, *(-x for x in line)]
    rest = np.delete(found[2, 2], [space.at(x, 0, 0)[2] for x in peaks])
    assert abs(rest).max() < 1e-12


@pytest.mark.parametrize("spacing", [0.31, 0.2])
@pytest.mark.parametrize("name", CELLS)
def test_sizes_reach_the_spacing_with_fast_odd_numbers(name, spacing):
    shape = (15, 15, 15) if name == "m-3m" else (13, 15, 9)
    axis = {"-1": (0.2, 0.25, 0.1), "mmm": (0.2, 0.25, 0.1)}.get(name, (0.2, 0.2, 0.2))
    space = Space(name, shape, axis, spacing=spacing)
    lengths = (space.lattice.a, space.lattice.b, space.lattice.c)
    fast = [3**i * 5**j * 7**k for i, j, k in itertools.product(range(8), range(6), range(5))]
    wanted = [
        min(m for m in fast if m >= n and length / (m * s) <= spacing)
        for n, s, length in zip(shape, axis, lengths, strict=True)
    ]
    if name not in ("-1", "mmm"):
        wanted[0] = wanted[1] = max(wanted[:2])
    assert space.sizes == tuple(wanted)
    plain = transform_sizes(space.group, space.grid, space.lattice, None)
    assert plain == (shape if name in ("-1", "mmm", "m-3m") else (15, 15, 9))


def test_axes_of_real_space_are_dual_to_those_of_the_grid():
    diagonal = ((1.0, 1.0, 0.0), (1.0, -1.0, 0.0), (0.0, 0.0, 1.0))
    space = Space("4/mmm", (25, 25, 9), (0.04, 0.04, 1 / 9), axes=diagonal)
    places = space.hkl  # along the grid's axes
    hkl = places @ np.array(diagonal)
    found = space.pdf(np.cos(2 * np.pi * hkl @ np.array([3, 1, 2])))
    wanted = np.zeros(found.shape)
    # x = r·(110) = 4 and y = r·(1-10) = 2 of the dual axes (1/2 1/2 0), (1/2 -1/2 0)
    wanted[space.at(4, 2, 2)] = wanted[space.at(-4, -2, -2)] = 0.5
    np.testing.assert_allclose(found, wanted, atol=1e-13)


@pytest.mark.parametrize("n", [8, 9])
def test_coordinates_are_those_of_fftfreq(n):
    grid = HKLGrid(origin=(-1.0, -2.0, -1.5), step=(0.25, 0.5, 0.3), shape=(n, n, n))
    sizes = (n, n + 1, n + 2)
    real = real_space_grid(grid, sizes)
    assert real.shape == sizes
    for i, (size, step) in enumerate(zip(sizes, grid.step, strict=True)):
        axis, wanted = axis_values(real, i), np.fft.fftshift(np.fft.fftfreq(size, step))
        np.testing.assert_allclose(axis, wanted, rtol=1e-14, atol=1e-15)
        assert axis[size // 2] == 0
    assert half_planes(sizes, 1, 0) == (0, (n + 1) // 2 + 1)


def test_of_a_volume_without_inversion_the_real_part_is_kept_and_the_rest_told():
    space = Space("mmm", (25, 5, 5), (0.04, 0.2, 0.2))
    h = 2 * np.pi * 3 * space.hkl[..., 0]
    made = pdf(
        COMM, np.cos(h) + 0.25 * np.sin(h), space.weights, space.group, space.sizes,
        PdfParams(precision="double", subtract_mean=False),
    )  # fmt: skip
    assert made.real.largest == pytest.approx(0.5, rel=1e-12)
    assert made.real.imaginary == pytest.approx(0.125, rel=1e-12)
    assert made.real.residue == pytest.approx(0.25, rel=1e-12)
