"""The transform to real space, against scipy's of the whole volume, and against cosines."""

import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert
from scipy import fft

from nxmpi.crystal.laue import VoxelGroup, laue_operators, voxel_group
from nxmpi.crystal.window import window_on, window_plane
from nxmpi.errors import CollectiveError
from nxmpi.model import HKLGrid, Lattice
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.slabs import chunked_slabs, even_slabs
from nxmpi.params import WindowParams
from nxmpi.stages.fourier import half_planes, to_full_slabs, transform

RANKS = [1, 2, 3, 4, 7]
GRIDS = {  # low and high voxel along h, k, l; sizes of the transform
    "odd": ((-6, -5, -4), (6, 5, 4), (13, 11, 9)),
    "even": ((-6, -5, -4), (5, 4, 3), (12, 10, 8)),
    "one side": ((-2, -7, -1), (9, 1, 6), (12, 9, 8)),
    "apart from 0": ((2, -9, 3), (6, -3, 9), (5, 7, 7)),
    "padded": ((-6, -5, -4), (6, 5, 4), (15, 21, 27)),
    "even in odd": ((-3, -2, -4), (4, 5, 1), (9, 15, 7)),
    "odd in even": ((-3, -2, -4), (3, 2, 4), (8, 6, 10)),
    "flat": ((-3, 0, -4), (3, 0, 4), (7, 1, 9)),
    "one plane": ((-3, -3, 0), (3, 3, 0), (7, 7, 1)),
}


def group_of(low, high):
    inversion = np.array([np.eye(3), -np.eye(3)], np.int64)
    return VoxelGroup(inversion, np.array(low), np.array(high))


def volume_of(low, high, seed=5):
    shape = tuple(b - a + 1 for a, b in zip(low, high, strict=True))[::-1]
    return np.random.default_rng(seed).normal(1.0, 1.0, shape)


def wanted_of(volume, low, sizes):
    """Return the transform of the whole volume, [z, y, x] from -(N // 2) on, by scipy."""
    whole = np.zeros(sizes[::-1])
    places = [np.arange(n) + a for n, a in zip(volume.shape, low[::-1], strict=True)]
    whole[np.ix_(*(p % n for p, n in zip(places, whole.shape, strict=True)))] = volume
    return fft.fftshift(fft.fftn(whole, norm="forward"))


def transformed(comm, volume, low, high, sizes, dtype=np.float64):
    start, stop = block_range(len(volume), comm.size, comm.rank)
    own = volume[start:stop].astype(dtype)
    return transform(comm, lambda i: own[i], group_of(low, high), sizes, dtype)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_real_parts_are_those_of_scipy(comm, name, dtype, error):
    low, high, sizes = GRIDS[name]
    volume = volume_of(low, high)
    wanted = wanted_of(volume, low, sizes)
    found = transformed(comm, volume, low, high, sizes, dtype)
    start, stop = half_planes(sizes, comm.size, comm.rank)
    middle = sizes[1] // 2
    parallel_assert(found.values.dtype == dtype)
    for y, plane in zip(range(start, stop), found.values, strict=True):
        at = middle + y if middle + y < sizes[1] else 0
        worst = np.abs(plane - wanted.real[:, at]).max()
        assert worst <= error * np.abs(wanted).max(), y
    top = np.abs(wanted).max()
    parallel_assert(abs(found.largest - np.abs(wanted.real).max()) <= error * top)
    parallel_assert(abs(found.imaginary - np.abs(wanted.imag).max()) <= error * top)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", GRIDS)
def test_no_bit_depends_on_the_number_of_ranks(comm, name):
    low, high, sizes = GRIDS[name]
    volume = volume_of(low, high)
    for dtype in (np.float64, np.float32):
        alone = transformed(MPI.COMM_SELF, volume, low, high, sizes, dtype)
        found = transformed(comm, volume, low, high, sizes, dtype)
        start, stop = half_planes(sizes, comm.size, comm.rank)
        parallel_assert(np.array_equal(found.values, alone.values[start:stop]))
        parallel_assert(found[1:] == alone[1:])


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("round_bytes", [1, 2**26])
def test_slabs_of_all_of_real_space(comm, name, round_bytes, monkeypatch):
    monkeypatch.setattr("nxmpi.stages.fourier.ROUND", round_bytes)
    low, high, sizes = GRIDS[name]
    volume = volume_of(low, high)
    wanted = wanted_of(volume, low, sizes).real
    half = transformed(comm, volume, low, high, sizes).values
    n = sizes[1]
    for slabs in (even_slabs(n, comm.size), chunked_slabs(n, comm.size, 4)):
        start, stop = slabs[comm.rank]
        found = to_full_slabs(comm, half, sizes, slabs)
        parallel_assert(found.shape == (sizes[2], stop - start, sizes[0]))
        error = np.abs(found - wanted[:, start:stop]).max(initial=0)
        parallel_assert(error <= 1e-12 * np.abs(wanted).max())


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("sizes", [(11, 11, 11), (15, 13, 21)], ids=str)
def test_a_cosine_is_a_pair_of_positive_peaks(comm, sizes):
    low, high = (-5, -5, -5), (5, 5, 5)
    h = np.arange(-5, 6)
    volume = np.broadcast_to(1 + np.cos(2 * np.pi * 3 * h / sizes[0]), (11, 11, 11))
    half = transformed(comm, np.ascontiguousarray(volume), low, high, sizes)
    found = to_full_slabs(comm, half.values, sizes, even_slabs(sizes[1], comm.size))
    parallel_assert(half.residue <= 1e-12)
    start, stop = even_slabs(sizes[1], comm.size)[comm.rank]
    line = found[sizes[2] // 2, max(0, min(sizes[1] // 2 - start, stop - start - 1))]
    if sizes == (11, 11, 11):
        peaks = {(y + start, x): found[z, y, x] for z, y, x in np.argwhere(np.abs(found) > 1e-12)}
        true = {(5, 5): 1.0, (5, 2): 0.5, (5, 8): 0.5}
        parallel_assert(set(peaks) == {at for at in true if start <= at[0] < stop})
        assert all(abs(true[at] - value) < 1e-12 for at, value in peaks.items())
    elif start <= sizes[1] // 2 < stop:
        assert set(np.argsort(line)[-3:]) == {7 - 3, 7, 7 + 3}


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", ["-1", "mmm", "6/mmm", "m-3m"])
def test_symmetric_input_has_no_imaginary_part_and_a_symmetric_transform(comm, name):
    cell = {"6/mmm": (90, 90, 120)}.get(name, (90, 90, 90))
    lattice = Lattice(
        **dict(zip(Lattice.__slots__, (5.0, 5.0, 5.0, *map(float, cell)), strict=True))
    )
    grid = HKLGrid(origin=(-2.0,) * 3, step=(0.5,) * 3, shape=(9,) * 3)
    group = voxel_group(laue_operators(name), grid)
    window = window_on(WindowParams(window="gaussian"), group, grid, lattice)
    start, _ = block_range(9, comm.size, comm.rank)
    found = transform(
        comm, lambda i: window_plane(window, start + i - 4), group, (9, 9, 9), np.float64
    )
    parallel_assert(found.residue <= 1e-12)
    whole = to_full_slabs(comm, found.values, (9, 9, 9), [(0, 9)] * comm.size)
    x, y, z = np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij")
    at = np.stack([x, y, z], axis=-1)
    for matrix in group.matrices:
        image = (at @ matrix + 4) % 9  # r' = g^T r
        error = np.abs(
            whole[tuple(image[..., ::-1].reshape(-1, 3).T)] - whole[z + 4, y + 4, x + 4].ravel()
        )
        parallel_assert(error.max() < 1e-14)


@pytest.mark.parallel([2, 3])
def test_a_failure_on_one_rank_is_raised_on_all(comm):
    def plane_of(i):
        if comm.rank == comm.size - 1:
            raise ValueError("no plane")
        return np.zeros((9, 9))

    with pytest.raises(CollectiveError, match="no plane"):
        transform(comm, plane_of, group_of((-4,) * 3, (4,) * 3), (9, 9, 9), np.float32)
