"""Combined volumes and files of volumes, on any number of ranks and by both ways of writing."""

import logging

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from mpi.scans import sums
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.errors import CollectiveError
from nxmpi.nexus import schema
from nxmpi.params import CombineParams, NormParams, OutputParams, ScanParams, TransformParams
from nxmpi.pipeline.combine import run_combine
from nxmpi.pipeline.transform import run_transform
from nxmpi.stages.combine import combine

RANKS = [1, 2, 3, 4, 7]
GRIDS = {
    "small": ((-3.0, 0.1, 3.0), (-4.0, 0.1, 4.0), (-4.0, 0.13, 4.0)),
    "of one chunk": ((-1.0, 0.5, 1.0), (-1.0, 0.5, 1.0), (-1.0, 0.5, 1.0)),
    "of one plane": ((-3.0, 0.1, 3.0), (-4.0, 0.1, 4.0), (0.0, 0.13, 0.0)),
}


def transform(comm, wrapper, grid="small", **output):
    scan_params = ScanParams(grid=GRIDS[grid])
    run_transform(
        comm, wrapper, scan_params, NormParams(), TransformParams(), OutputParams(**output)
    )


def datasets(path):
    found = {}
    with h5py.File(path, "r") as file:
        for group in file[schema.SHARED].values():
            found |= {data.name: (data.dtype, data[()].tobytes()) for data in group.values()}
    return found


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("grid", list(GRIDS))
@pytest.mark.parametrize("root_writes", [False, True])
def test_files_hold_what_one_rank_writes(comm, scan, twin, grid, root_writes):
    transform(comm, scan, grid, root_writes=root_writes)
    run_combine(comm, scan, CombineParams(), OutputParams(root_writes=root_writes))
    if comm.rank == 0:
        transform(MPI.COMM_SELF, twin, grid, root_writes=True, compression="gzip")
        output = OutputParams(root_writes=True, compression="none")
        run_combine(MPI.COMM_SELF, twin, CombineParams(), output)
        files, wanted = schema.ScanFiles(scan), schema.ScanFiles(twin)
        pairs = [
            pair
            for kind in (schema.REGULAR, schema.MASKED)
            for pair in (
                (files.transform("f1", kind), wanted.transform("f1", kind)),
                (files.transform("f2", kind), wanted.transform("f2", kind)),
                (files.combined(kind), wanted.combined(kind)),
            )
        ]
        differing = [one.name for one, two in pairs if datasets(one) != datasets(two)]
    parallel_assert(comm.rank > 0 or not differing, participating=True)
    parallel_assert(not list(scan.parent.rglob(".*")))


@pytest.mark.parallel([1, 3])
def test_combined_volume_is_the_ratio_of_sums_in_plain_numpy(comm, scan):
    transform(comm, scan)
    run_combine(comm, scan, CombineParams(), OutputParams())
    files = schema.ScanFiles(scan)
    for twin in (schema.REGULAR, schema.MASKED):
        counts, norm = sums(scan, twin)
        with h5py.File(files.combined(twin), "r") as file:
            found = {name: part[()] for name, part in file[schema.VOLUME].items()}
        with np.errstate(invalid="ignore", divide="ignore"):
            intensity = (counts / norm).astype("f4")
            errors = (np.sqrt(np.maximum(counts, 1)) / norm).astype("f4")
        errors[norm == 0] = np.nan
        parallel_assert(np.array_equal(found[schema.COUNTS], intensity, equal_nan=True))
        parallel_assert(np.array_equal(found[schema.ERRORS], errors, equal_nan=True))
        parallel_assert(np.array_equal(found[schema.NORM], norm.astype("f4")))


@pytest.mark.parallel(RANKS)
def test_refined_scales_and_all_that_follows_are_those_of_one_rank(comm, scan, twin):
    params = CombineParams(refine_scale=True)
    transform(comm, scan)
    run_combine(comm, scan, params, OutputParams())
    files, wanted = schema.ScanFiles(scan), schema.ScanFiles(twin)
    if comm.rank == 0:
        transform(MPI.COMM_SELF, twin)
        run_combine(MPI.COMM_SELF, twin, params, OutputParams())
    comm.barrier()  # the others are to see the files
    for kind in (schema.REGULAR, schema.MASKED):
        found = datasets(files.combined(kind))
        parallel_assert(found == datasets(wanted.combined(kind)))
        parallel_assert(f"/{schema.SHARED}/{schema.AGREEMENT}/{schema.CHI2}" in found)


@pytest.mark.parallel([1, 3])
def test_norms_are_multiplied_by_the_refined_scales_that_are_recorded(comm, scan):
    transform(comm, scan)
    files = schema.ScanFiles(scan)
    if comm.rank == 0:
        with h5py.File(files.transform("f2", schema.REGULAR), "r+") as file:
            file[schema.VOLUME][schema.NORM][...] *= 4.0  # as if the beam had been weaker
    comm.barrier()  # the others are to see that
    run_combine(comm, scan, CombineParams(refine_scale=True), OutputParams())
    with h5py.File(scan, "r") as file:
        task = f"{schema.SHARED}/{schema.WORKFLOW}/{schema.REGULAR.combine_task}"
        record, note = file[f"{task}/{schema.OVERLAPS}"], file[f"{task}/note/data"].asstr()[()]
        scales, errors = record["scale"][()], record["scale_errors"][()]
        ratio = record["ratio"][0, 1]
    parallel_assert(scales[0] == 1)
    parallel_assert(errors[0] == 0)
    parallel_assert(abs(scales[1] - 0.25) < 0.05)
    parallel_assert(0 < errors[1] < 0.05)
    parallel_assert(abs(ratio - 1) < 0.1)  # of what the scales leave
    parallel_assert(f"f1 1, f2 {scales[1]:.5f} ± {errors[1]:.5f}" in note)
    counts, norm = 0.0, 0.0
    for name, scale in zip(("f1", "f2"), scales, strict=True):
        with h5py.File(files.transform(name, schema.REGULAR), "r") as file:
            counts = counts + file[schema.VOLUME][schema.COUNTS][()]
            norm = norm + file[schema.VOLUME][schema.NORM][()] * scale
    with h5py.File(files.combined(schema.REGULAR), "r") as file:
        found = {name: part[()] for name, part in file[schema.VOLUME].items()}
    with np.errstate(invalid="ignore", divide="ignore"):
        intensity = (counts / norm).astype("f4")
    parallel_assert(np.array_equal(found[schema.COUNTS], intensity, equal_nan=True))
    parallel_assert(np.array_equal(found[schema.NORM], norm.astype("f4")))


@pytest.mark.parallel([1, 3])
def test_another_choice_of_scales_makes_the_volume_again(comm, scan):
    transform(comm, scan)
    plain, refined = CombineParams(), CombineParams(refine_scale=True)
    for params, is_due in ((plain, True), (plain, False), (refined, True), (refined, False),
                           (plain, True)):  # fmt: skip
        written = run_combine(comm, scan, params, OutputParams())
        parallel_assert(bool(written) == is_due)


@pytest.mark.parallel([1, 3])
def test_a_scale_without_overlap_is_a_failure_that_names_the_position(comm, scan):
    transform(comm, scan)
    files = schema.ScanFiles(scan)
    if comm.rank == 0:
        with h5py.File(files.transform("f2", schema.REGULAR), "r+") as file:
            for name in (schema.COUNTS, schema.NORM):
                file[schema.VOLUME][name][...] = 0
    comm.barrier()  # the others are to see that
    wanted = r"300K.nxs:/transform: .* no overlap that connects f2 with f1"
    with pytest.raises(CollectiveError, match=wanted):
        run_combine(comm, scan, CombineParams(refine_scale=True), OutputParams())
    parallel_assert(not files.combined(schema.REGULAR).exists())
    run_combine(comm, scan, CombineParams(), OutputParams())
    parallel_assert(files.combined(schema.REGULAR).exists())


@pytest.mark.parallel(RANKS)
def test_volume_that_one_rank_cannot_open_is_a_failure_on_all(comm, scan, monkeypatch):
    transform(comm, scan)
    before = sorted(scan.parent.rglob("*")) if comm.rank == 0 else []
    if comm.rank == comm.size - 1:
        monkeypatch.setattr("nxmpi.pipeline.sources.open_volume", lambda path: 1 / 0)
    with pytest.raises(CollectiveError, match="ZeroDivisionError"):
        run_combine(comm, scan, CombineParams(), OutputParams())
    parallel_assert(comm.rank > 0 or sorted(scan.parent.rglob("*")) == before)


@pytest.mark.parallel([1, 3])
def test_position_that_was_not_transformed_is_named(comm, scan):
    with pytest.raises(CollectiveError, match=r"expected nxtransform of all .* none of f1, f2"):
        run_combine(comm, scan, CombineParams(), OutputParams())


@pytest.mark.parallel([1, 3])
def test_positions_on_other_grids_are_not_combined(comm, scan):
    transform(comm, scan)
    params = ScanParams(entries=("f2",), grid=GRIDS["of one chunk"])
    run_transform(comm, scan, params, NormParams(), TransformParams(), OutputParams())
    with pytest.raises(CollectiveError, match=r"/f2/transform: expected the grid of f1, "):
        run_combine(comm, scan, CombineParams(), OutputParams())


@pytest.mark.parallel([1, 3])
def test_a_grid_that_no_position_reaches_is_not_combined(comm, scan, caplog):
    logging.getLogger("nxmpi").propagate = True
    grid = ((50.0, 0.1, 55.0),) * 3
    for name in ("f1", "f2"):  # each by itself, as tasks of an array of jobs do
        params = ScanParams(grid=grid, entries=(name,))
        run_transform(comm, scan, params, NormParams(), TransformParams(), OutputParams())
        assert comm.rank or f"{name}: none of its frames reaches the grid: all is" in caplog.text
    with pytest.raises(CollectiveError, match="expected a position that reaches the grid"):
        run_combine(comm, scan, CombineParams(), OutputParams())
    comm.barrier()  # the root has cleared up
    parallel_assert(not schema.ScanFiles(scan).combined(schema.REGULAR).exists())


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(
    ("params", "norm", "voxels", "told"),
    [
        ({}, {"monitor": False}, "centred", r"monitor none, not in units of \d+ counts"),
        ({"norm": 1000.0}, {}, "centred", r"monitor in units of 1000 counts, not in units of \d+"),
        ({"polarization": 0.5}, {}, "centred", "polarization 0.5, not 0.99"),
        ({}, {"air": 0.01}, "centred", "air 0.01 per mm, not none"),
        ({}, {}, "lower-edge", "voxels lower-edge, not centred"),
    ],
)
def test_positions_whose_norms_differ_are_not_combined(comm, scan, params, norm, voxels, told):
    transform(comm, scan)
    params = ScanParams(grid=GRIDS["small"], entries=("f2",), **params)
    engine = TransformParams(voxels=voxels)
    run_transform(comm, scan, params, NormParams(**norm), engine, OutputParams())
    with pytest.raises(CollectiveError, match=f"/f2: expected .* like that of f1, found {told}"):
        run_combine(comm, scan, CombineParams(), OutputParams())


@pytest.mark.parallel(1)
def test_voxel_without_counts_has_the_error_of_one_and_one_never_measured_none(comm):
    intensity, norm, errors = combine(
        [np.array([0.0, 0.0, 3.0]), np.array([0.0, 0.0, 1.0])],
        [np.array([0.0, 2.0, 1.0]), np.array([0.0, 2.0, 3.0])],
    )
    assert np.array_equal(intensity, [np.nan, 0.0, 1.0], equal_nan=True)
    assert np.array_equal(norm, [0.0, 4.0, 4.0])
    assert np.array_equal(errors, [np.nan, 0.25, 0.5], equal_nan=True)
