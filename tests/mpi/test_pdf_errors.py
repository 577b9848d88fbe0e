"""ΔPDF and its errors are the same, to the bit, on any number of ranks and nodes."""

import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.crystal.window import window_on, window_plane, window_slab
from nxmpi.errors import CollectiveError
from nxmpi.model import HKLGrid, Lattice
from nxmpi.parallel.decompose import block_range
from nxmpi.params import PdfParams, WindowParams
from nxmpi.stages import pdf_errors as stage
from nxmpi.stages.fourier import half_planes
from nxmpi.stages.pdf import pdf, weighted_mean
from nxmpi.stages.pdf_errors import pdf_errors

RANKS = [1, 2, 3, 4, 7]
CUBIC = Lattice(a=5.0, b=5.0, c=5.0, alpha=90.0, beta=90.0, gamma=90.0)
HEXAGONAL = Lattice(a=5.0, b=5.0, c=6.0, alpha=90.0, beta=90.0, gamma=120.0)
SETTINGS = {
    "mmm": (CUBIC, (9, 7, 11), (9, 7, 11)),
    "6/mmm": (HEXAGONAL, (9, 9, 5), (15, 15, 5)),
    "m-3m": (CUBIC, (9, 9, 9), (9, 9, 9)),
    "4/m": (CUBIC, (8, 8, 4), (8, 8, 6)),
}


def setting(name):
    lattice, shape, sizes = SETTINGS[name]
    origin = tuple(-0.5 * (n // 2) for n in shape)
    grid = HKLGrid(origin=origin, step=(0.5,) * 3, shape=shape)
    group = voxel_group(laue_operators(name), grid)
    window = window_on(WindowParams(window="gaussian"), group, grid, lattice)
    rng = np.random.default_rng(2)
    volume = rng.normal(5.0, 2.0, shape[::-1])
    volume[rng.random(volume.shape) < 0.1] = np.nan
    return group, sizes, window, volume


def slabs_of(comm, window, volume, dtype=np.float64):
    start, stop = block_range(len(volume), comm.size, comm.rank)
    return volume[start:stop].astype(dtype), window_slab(window, start, stop, dtype)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("precision", ["single", "double"])
@pytest.mark.parametrize("name", SETTINGS)
def test_pdf_is_the_same_to_the_bit(comm, name, precision):
    group, sizes, window, volume = setting(name)
    params = PdfParams(precision=precision)
    alone = pdf(MPI.COMM_SELF, *slabs_of(MPI.COMM_SELF, window, volume), group, sizes, params)
    found = pdf(comm, *slabs_of(comm, window, volume), group, sizes, params)
    start, stop = half_planes(sizes, comm.size, comm.rank)
    parallel_assert(np.array_equal(found.real.values, alone.real.values[start:stop]))
    parallel_assert(found.mean == alone.mean)
    parallel_assert(found.real[1:] == alone.real[1:])


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", SETTINGS)
def test_windows_and_means_are_the_same_to_the_bit(comm, name):
    _, _, window, volume = setting(name)
    slab, weights = slabs_of(comm, window, volume)
    whole = np.array([window_plane(window, l + window.low[2]) for l in range(len(volume))])
    start, stop = block_range(len(volume), comm.size, comm.rank)
    parallel_assert(np.array_equal(weights, whole[start:stop]))
    known = ~np.isnan(volume)
    wanted = (volume * whole)[known].sum() / whole[known].sum()
    parallel_assert(abs(weighted_mean(comm, slab, weights) - wanted) < 1e-14 * abs(wanted))


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("subtract_mean", [False, True])
@pytest.mark.parametrize("where", ["one node", "two nodes", "no room"])
@pytest.mark.parametrize("name", SETTINGS)
def test_errors_are_the_same_to_the_bit(comm, name, where, subtract_mean, monkeypatch):
    group, sizes, window, volume = setting(name)
    variances = np.abs(volume)
    params = PdfParams(subtract_mean=subtract_mean)
    alone = pdf_errors(
        MPI.COMM_SELF, *slabs_of(MPI.COMM_SELF, window, variances), group, sizes, params
    )
    if where == "two nodes":
        monkeypatch.setattr(
            stage, "node_of", lambda comm: MPI.Intracomm(comm.Split(comm.rank % 3 == 1))
        )
        monkeypatch.setattr(stage, "ROUND", 1)
    elif where == "no room":
        monkeypatch.setattr(stage, "has_room", lambda n_bytes: comm.rank == 0)
    found = pdf_errors(comm, *slabs_of(comm, window, variances), group, sizes, params)
    start, stop = half_planes(sizes, comm.size, comm.rank)
    parallel_assert(np.array_equal(found.values, alone.values[start:stop]))
    parallel_assert(found.general == alone.general > 0)


@pytest.mark.parallel(RANKS)
def test_a_volume_without_measured_voxels_is_refused_on_all(comm):
    group, sizes, window, volume = setting("mmm")
    slab, weights = slabs_of(comm, window, np.full_like(volume, np.nan))
    with pytest.raises(CollectiveError, match="expected measured voxels under the window"):
        pdf(comm, slab, weights, group, sizes, PdfParams())
    kept = pdf(comm, slab, weights, group, sizes, PdfParams(subtract_mean=False))
    parallel_assert(not kept.real.values.any())
    parallel_assert(kept.real.residue == 0.0)
