"""Averages of volumes of split pixels, in which counts are fractions."""

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.nexus import schema
from nxmpi.params import (
    CombineParams,
    NormParams,
    OutputParams,
    ScanParams,
    SymmetrizeParams,
    TransformParams,
)
from nxmpi.pipeline.combine import run_combine
from nxmpi.pipeline.symmetrize import run_symmetrize
from nxmpi.pipeline.transform import run_transform
from nxmpi.simulate.presets import preset
from nxmpi.simulate.write import simulate

GRID = ((-2.0, 0.1, 2.0), (-2.0, 0.1, 2.0), (-2.0, 0.1, 2.0))
PARAMS, OUTPUT = SymmetrizeParams(laue="-1"), OutputParams()


def volume(path):
    with h5py.File(path) as file:
        group = file[schema.VOLUME]
        values = {name: data[()].astype(float) for name, data in group.items() if data.ndim == 3}
        return values, dict(group.attrs)


@pytest.fixture
def scan(comm, shared_tmp_path):
    """Return a scan with transforms of pixels in 3 x 3 x 1 and 2 x 1 x 1 parts."""
    wrapper = simulate(comm, shared_tmp_path / "e", preset("tiny"))
    for split, name in (((3, 3, 1), "f1"), ((2, 1, 1), "f2")):
        run_transform(
            comm, wrapper, ScanParams(grid=GRID, entries=(name,)), NormParams(),
            TransformParams(split=split), OUTPUT,
        )  # fmt: skip
    return wrapper


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("background", [False, True], ids=["counts", "less"])
def test_fractions_of_counts_are_averaged(comm, scan, twin, background):
    params = CombineParams(background=twin if background else None, background_scale=0.4)
    run_combine(comm, scan, params, OUTPUT)
    run_symmetrize(comm, scan, PARAMS, OUTPUT)
    files = schema.ScanFiles(scan)
    before, attributes = volume(files.combined(schema.REGULAR))
    found, after = volume(files.symmetrized(schema.REGULAR))
    assert attributes["count_parts"] == after["count_parts"] == 18
    weight = before["n"]
    counts = np.nan_to_num(before["v"]) * weight
    total, sums = weight + weight[::-1, ::-1, ::-1], counts + counts[::-1, ::-1, ::-1]
    middle = tuple(n // 2 for n in weight.shape)
    total[middle], sums[middle] = weight[middle], counts[middle]
    with np.errstate(invalid="ignore"):
        mean = sums / total
    np.testing.assert_allclose(found["data"], mean, rtol=2e-6, atol=1e-9)
    np.testing.assert_allclose(found["n"], total, rtol=1e-6)
    parallel_assert(bool((np.abs(counts - np.rint(counts)) > 0.05).sum() > 1000))
    if background:
        return
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = (counts - weight * mean) ** 2 / (weight * mean)
    wanted = terms + terms[::-1, ::-1, ::-1]
    told = (weight > 0) & (weight[::-1, ::-1, ::-1] > 0) & (sums > 0)
    told[middle] = False
    np.testing.assert_allclose(found["chi2"][told], wanted[told], rtol=1e-3, atol=1e-4)
    parallel_assert(bool(told.sum() > 200))


@pytest.mark.parallel([3])
def test_the_same_bits_on_one_rank(comm, scan, twin):
    run_combine(comm, scan, CombineParams(background=twin, background_scale=0.4), OUTPUT)
    run_symmetrize(comm, scan, PARAMS, OUTPUT)
    path = schema.ScanFiles(scan).symmetrized(schema.REGULAR)
    found, _ = volume(path)
    comm.barrier()  # before the root replaces what the others read
    same = True
    if comm.rank == 0:
        run_symmetrize(MPI.COMM_SELF, scan, PARAMS, OutputParams(overwrite=True))
        wanted, _ = volume(path)
        same = all(found[name].tobytes() == wanted[name].tobytes() for name in wanted)
    parallel_assert(same, participating=True)
