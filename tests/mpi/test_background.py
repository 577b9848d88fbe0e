"""A background subtracted from a combined volume, against plain NumPy."""

import shutil

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from mpi.scans import add_masks, sums
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.errors import CollectiveError
from nxmpi.nexus import schema
from nxmpi.nexus.process import read_inputs
from nxmpi.params import CombineParams, NormParams, OutputParams, ScanParams, TransformParams
from nxmpi.pipeline.combine import run_combine
from nxmpi.pipeline.transform import run_transform

RANKS = [1, 2, 3, 4, 7]
GRID = ((-3.0, 0.1, 3.0), (-4.0, 0.1, 4.0), (-4.0, 0.13, 4.0))
SCALE = 0.75


def transform(comm, wrapper, grid=GRID, **params):
    run_transform(
        comm, wrapper, ScanParams(grid=grid), NormParams(), TransformParams(**params),
        OutputParams(),
    )  # fmt: skip


@pytest.fixture
def can(comm, scan, shared_tmp_path):
    """Return a scan of one position, few counts everywhere, some pixels without any."""
    part = scan.relative_to(shared_tmp_path / "e")
    wrapper = shared_tmp_path / "can" / part
    if comm.rank == 0:
        shutil.copytree(shared_tmp_path / "e", shared_tmp_path / "can")
        with h5py.File(wrapper, "r+") as file:
            del file["f2"], file["f1"][schema.DATA_MASK]
        with h5py.File(schema.ScanFiles(wrapper).raw("f1"), "r+") as file:
            raw = file[schema.RAW_IN_FILE]
            raw[...] = np.random.default_rng(8).poisson(0.4, raw.shape)
    comm.barrier()  # the others are to see the copy
    return wrapper


def volume(wrapper, twin):
    with h5py.File(schema.ScanFiles(wrapper).combined(twin)) as file:
        group = file[schema.VOLUME]
        return {name: group[name][()] for name in group}, dict(group.attrs)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("masked", [False, True])
def test_intensity_and_errors_are_those_of_plain_numpy(comm, scan, can, masked):
    if masked and comm.rank == 0:
        add_masks(can, 0.2)
    comm.barrier()  # the others are to see the mask
    for wrapper in (scan, can):
        transform(comm, wrapper)
    params = CombineParams(background=can, background_scale=SCALE)
    run_combine(comm, scan, params, OutputParams())
    for twin in (schema.REGULAR, schema.MASKED):
        N, D = sums(scan, twin)
        N_b, D_b = sums(can, twin if masked else schema.REGULAR)
        found, attributes = volume(scan, twin)
        both = (D > 0) & (D_b > 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            wanted = np.where(both, N / D - SCALE * (N_b / D_b), np.nan)
            noise = np.maximum(N, 1) / D**2 + SCALE**2 * np.maximum(N_b, 1) / D_b**2
        errors = np.where(both, np.sqrt(noise), np.nan)
        np.testing.assert_allclose(found["v"], wanted, rtol=2e-7)
        np.testing.assert_allclose(found["v_errors"], errors, rtol=2e-7)
        for name, values in (
            ("n", D), ("counts", N), ("background_counts", N_b), ("background_norm", D_b),
        ):  # fmt: skip
            np.testing.assert_array_equal(found[name], np.where(both, values, 0).astype("f4"))
        assert attributes["background_scale"] == SCALE
        parallel_assert(0 < both.sum() < (D > 0).sum())  # and so something is left out
        parallel_assert((N_b[both] == 0).any())
        with h5py.File(scan) as file:
            note = file[f"entry/nxworkflow/{twin.combine_task}/note/data"].asstr()[()]
        lacking, measured = int(((D > 0) & (D_b == 0)).sum()), int((D > 0).sum())
        assert f"{lacking} of {measured} voxels" in note


@pytest.mark.parallel(RANKS)
def test_the_same_bits_as_on_one_rank(comm, scan, can):
    for wrapper in (scan, can):
        transform(comm, wrapper)
    params = CombineParams(background=can, background_scale=SCALE)
    run_combine(comm, scan, params, OutputParams())
    twins = (schema.REGULAR, schema.MASKED)
    found = [volume(scan, twin)[0] for twin in twins]
    comm.barrier()  # before the root replaces what the others read
    if comm.rank == 0:
        run_combine(MPI.COMM_SELF, scan, params, OutputParams(overwrite=True))
        wanted = [volume(scan, twin)[0] for twin in twins]
        same = all(
            one[name].tobytes() == two[name].tobytes()
            for one, two in zip(found, wanted, strict=True)
            for name in two
        )
    parallel_assert(comm.rank > 0 or same)


@pytest.mark.parallel([1, 3])
def test_a_scan_is_nothing_more_than_itself(comm, scan, twin):
    for wrapper in (scan, twin):
        transform(comm, wrapper)
    run_combine(comm, scan, CombineParams(background=twin), OutputParams())
    found, _ = volume(scan, schema.REGULAR)
    measured = found["n"] > 0
    parallel_assert(measured.any())
    np.testing.assert_array_equal(found["v"][measured], 0)


@pytest.mark.parallel([1, 3])
def test_scales_of_a_background_are_refined_as_those_of_the_scan(comm, scan, twin):
    for wrapper in (scan, twin):
        if comm.rank == 0:
            with h5py.File(wrapper, "r+") as file:
                file["f2/monitor1/data"][...] *= 2
        comm.barrier()  # the others are to see that
        transform(comm, wrapper)
    params = CombineParams(background=twin, refine_scale=True)
    run_combine(comm, scan, params, OutputParams())
    found, _ = volume(scan, schema.REGULAR)
    measured = found["n"] > 0
    parallel_assert(measured.any())
    np.testing.assert_array_equal(found["v"][measured], 0)
    with h5py.File(scan) as file:
        note = file["entry/nxworkflow/nxcombine/note/data"].asstr()[()]
    assert "its scales: f1 1, f2 0.5" in note or "its scales: f1 1, f2 0.4" in note


@pytest.mark.parallel([1, 3])
def test_another_background_or_scale_makes_the_volume_again_without_a_transform(comm, scan, can):
    for wrapper in (scan, can):
        transform(comm, wrapper)
    before = {path: path.stat().st_mtime_ns for path in scan.parent.rglob("f*_transform.nxs")}
    none, one, two = (
        CombineParams(),
        CombineParams(background=can),
        CombineParams(background=can, background_scale=2.0),
    )
    for params, is_due in ((none, True), (one, True), (one, False), (two, True), (two, False),
                           (none, True), (none, False), (one, True)):  # fmt: skip
        written = run_combine(comm, scan, params, OutputParams())
        parallel_assert(bool(written) == is_due)
    for path, changed in before.items():
        assert path.stat().st_mtime_ns == changed
    comm.barrier()  # all have looked
    transform(comm, can, split=(2, 1, 1))  # the background's transform, made in another way
    parallel_assert(bool(run_combine(comm, scan, one, OutputParams())))
    with h5py.File(scan) as file:
        background = read_inputs(file["entry"], "nxcombine")["background"]
    assert background["scan"] == can.name
    assert background["scale"] == 1.0


@pytest.mark.parallel([1, 3])
def test_backgrounds_that_do_not_fit_are_refused(comm, scan, can):
    transform(comm, scan)
    with pytest.raises(CollectiveError, match=r"expected a background that is not the scan itself"):
        run_combine(comm, scan, CombineParams(background=scan), OutputParams())
    params = CombineParams(background=can)
    with pytest.raises(CollectiveError, match=r"300K.nxs: expected nxtransform of all .* of f1"):
        run_combine(comm, scan, params, OutputParams())
    transform(comm, can, grid=(*GRID[:2], (-4.0, 0.1, 4.0)))
    with pytest.raises(CollectiveError, match=r"/f1/transform: expected a background on the grid"):
        run_combine(comm, scan, params, OutputParams())
    transform(comm, can, voxels="lower-edge")
    with pytest.raises(CollectiveError, match=r"expected centred voxels .* found them lower-edge"):
        run_combine(comm, scan, params, OutputParams())
    transform(comm, can)
    comm.barrier()  # the root has published it
    if comm.rank == 0:
        schema.ScanFiles(can).transform("f1", schema.REGULAR).unlink()
    with pytest.raises(CollectiveError, match=r"f1_transform.nxs: expected a transform"):
        run_combine(comm, scan, params, OutputParams())
    absent = CombineParams(background=can.with_name("none.nxs"))
    with pytest.raises(CollectiveError, match=r"none.nxs: expected a file, found none"):
        run_combine(comm, scan, absent, OutputParams())
    parallel_assert(not schema.ScanFiles(scan).combined(schema.REGULAR).exists())
