"""Slices from frames, against the volume of the transform and a count of pixels in NumPy."""

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from mpi.scans import sums
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.errors import CollectiveError
from nxmpi.nexus import schema
from nxmpi.parallel.collective import all_or_none
from nxmpi.params import NormParams, OutputParams, ScanParams, SliceParams, TransformParams
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.slice import run_slice
from nxmpi.pipeline.transform import run_transform

RANKS = [1, 2, 3, 4, 7]
GRID = ((-3.0, 0.1, 3.0), (-4.0, 0.1, 4.0), (-4.0, 0.125, 4.0))
ALONG = ((1.0, 1.0, 0.0), (1.0, -1.0, 0.0), (0.0, 0.0, 1.0))
ONLY_F1 = (GRID[0], GRID[1], (4.6, 0.02, 4.7))


def make(comm, wrapper, params, *, norm=None, **binning):
    made = run_slice(
        comm, wrapper, params, ScanParams(), norm or NormParams(), TransformParams(**binning)
    )
    assert (made is None) == (comm.rank > 0)
    return made[0] if made else None


def transform(comm, wrapper, grid=GRID, axes=None, **params):
    run_transform(
        comm, wrapper, ScanParams(grid=grid, axes=axes), NormParams(), TransformParams(**params),
        OutputParams(),
    )  # fmt: skip


def assert_is_part(section, counts, norm):
    with np.errstate(invalid="ignore", divide="ignore"):
        intensity = np.where(norm > 0, counts / norm, np.nan)
        errors = np.where(norm > 0, np.sqrt(np.maximum(counts, 1)) / norm, np.nan)
    for found, wanted in (
        (section.sums["counts"], counts), (section.sums["norm"], norm),
        (section.intensity, intensity), (section.errors, errors),
    ):  # fmt: skip
        assert found.shape == wanted.shape
        assert found.tobytes() == np.ascontiguousarray(wanted).tobytes()
    assert (counts > 0).sum() > 50


@pytest.mark.parallel(RANKS)
def test_planes_and_boxes_are_parts_of_the_volume_to_the_bit(comm, scan):
    transform(comm, scan)
    cases = {
        "h k 0.5": np.s_[36], "h k -1": np.s_[24], "h 0.5 l": np.s_[:, 45],
        "-1.2 k l": np.s_[:, :, 18],
    }  # fmt: skip
    made = [make(comm, scan, SliceParams(plane=plane)) for plane in cases]
    masked = make(comm, scan, SliceParams(plane="h k 0.5", masked=True))
    box = make(comm, scan, SliceParams(box=(-1, 1, 0, 2, -0.5, 0.5)))
    with all_or_none(comm):
        if comm.rank == 0:
            counts, norm = sums(scan)
            for section, where in zip(made, cases.values(), strict=True):
                assert_is_part(section, counts[where], norm[where])
            where = np.s_[28:37, 40:61, 20:41]
            assert_is_part(box, counts[where], norm[where])
            counts, norm = sums(scan, schema.MASKED)
            assert_is_part(masked, counts[36], norm[36])


@pytest.mark.parallel(RANKS)
def test_a_plane_along_other_axes_and_of_split_pixels(comm, scan):
    grid = ((-2.0, 0.1, 2.0), (0.0, 0.25, 0.0), (-4.0, 0.125, 4.0))
    transform(comm, scan, grid=grid, axes=ALONG, split=(2, 1, 3))
    params = SliceParams(plane="h h l", ranges=(grid[0], None, grid[2]), thickness=0.25)
    section = make(comm, scan, params, split=(2, 1, 3))
    with all_or_none(comm):
        if comm.rank == 0:
            counts, norm = sums(scan)
            assert_is_part(section, counts[:, 0], norm[:, 0])
            assert [axis.name for axis in section.axes] == ["Ql", "Qh"]
            assert section.axes[1].label == "[1 1 0] (r.l.u.)"
            np.testing.assert_allclose(section.axes[1].values, np.arange(41) * 0.1 - 2)


@pytest.mark.parallel([1, 3])
def test_counts_are_those_of_the_pixels_that_are_in_the_plane(comm, scan):
    ranges = ((-2.0, 0.25, 2.0), (-3.0, 0.5, 3.0), None)
    params = SliceParams(plane="h+0.1 k 0.5h", ranges=ranges, thickness=0.4)
    section = make(comm, scan, params)
    wanted = np.zeros((13, 17), np.int64)
    for measured in read_scan(scan, ScanParams(), NormParams()).measured:
        position = measured.position
        with h5py.File(measured.raw.file) as file:
            frames = file[measured.raw.path][()]
        step = position.geometry.goniometer.step
        slow, fast = np.nonzero(~position.bad)
        for n, frame in enumerate(frames):
            phi = np.full(slow.size, position.geometry.goniometer.phi[n] + step / 2)
            h, k, l = pixel_to_hkl(position.geometry, fast + 0.5, slow + 0.5, phi).T
            # axes of the plane: u along 1 0 1/2, v along k, and w along 1/2 0 -1
            u, w = (h + l / 2) / 1.25, (h / 2 - l) / 1.25
            u0, w0 = 0.1 / 1.25, 0.05 / 1.25
            i, j = np.rint((u - u0 + 2) / 0.25).astype(int), np.rint((k + 3) / 0.5).astype(int)
            inside = (np.abs(w - w0) < 0.2) & (i >= 0) & (i < 17) & (j >= 0) & (j < 13)
            good = inside & (frame[slow, fast] >= 0)
            np.add.at(wanted, (j[good], i[good]), frame[slow, fast][good])
    with all_or_none(comm):
        if comm.rank == 0:
            np.testing.assert_array_equal(section.sums["counts"], wanted)
            assert wanted.sum() > 1000


@pytest.mark.parallel(RANKS)
def test_the_same_bits_as_on_one_rank_and_nothing_is_written(comm, scan):
    before = sorted((p, p.stat().st_mtime_ns) for p in scan.parents[2].rglob("*"))
    params = SliceParams(plane="h -h l", thickness=0.5)
    section = make(comm, scan, params)
    with all_or_none(comm):
        if comm.rank == 0:
            alone = make(MPI.COMM_SELF, scan, params, batch_frames=3)
            for found, wanted in zip(
                (section.intensity, section.errors, *section.sums.values()),
                (alone.intensity, alone.errors, *alone.sums.values()),
                strict=True,
            ):
                assert found.tobytes() == wanted.tobytes()
            assert np.isfinite(alone.intensity).sum() > 100
            assert sorted((p, p.stat().st_mtime_ns) for p in scan.parents[2].rglob("*")) == before


@pytest.mark.parallel([1, 3])
def test_slices_that_cannot_be(comm, scan):
    large = ((-9.0, 0.001, 9.0),) * 2
    for params, told in (
        (SliceParams(plane="h k 0", ranges=(*large, None)), r"at most \d+ voxels, found 18001 x"),
        (SliceParams(plane="h k"), "expected three of the kind"),
    ):
        with pytest.raises(CollectiveError, match=told):
            make(comm, scan, params)
    comm.barrier()  # all have read it
    if comm.rank == 0:
        with h5py.File(scan, "r+") as file:
            del file["f2"][schema.DATA_MASK]
    comm.barrier()  # the others are to see that
    with pytest.raises(CollectiveError, match=r"/f2/data/data_mask: expected a 3-D mask"):
        make(comm, scan, SliceParams(plane="h k 0", masked=True))


@pytest.mark.parallel([1, 3])
def test_a_plane_that_no_frame_reaches_is_an_error_that_says_where_frames_are(comm, scan):
    with pytest.raises(CollectiveError, match=r"l from 99 to 99; found them at h from -3\.\d+ to "):
        make(comm, scan, SliceParams(plane="h k 99"))


def files_of(scan):
    return sorted((p, p.stat().st_mtime_ns) for p in scan.parents[2].rglob("*.*") if p.is_file())


@pytest.mark.parallel([1, 3])
def test_a_grid_that_no_position_reaches_replaces_nothing(comm, scan):
    transform(comm, scan)
    before = files_of(scan)
    comm.barrier()
    far = ((90.0, 0.5, 99.0),) * 3
    with pytest.raises(CollectiveError, match="f1, f2 that reach the grid, h from 90 to 99"):
        transform(comm, scan, grid=far)
    comm.barrier()
    parallel_assert(before == files_of(scan))


@pytest.mark.parallel([1, 3])
def test_a_grid_that_one_position_of_two_reaches_is_made_with_a_warning(comm, scan, caplog):
    """The second ends at l = 4.5."""
    transform(comm, scan, grid=ONLY_F1)
    with all_or_none(comm):
        if comm.rank == 0:
            for name, some in (("f1", True), ("f2", False)):
                with h5py.File(schema.ScanFiles(scan).transform(name, schema.REGULAR)) as file:
                    assert file[schema.VOLUME][schema.NORM][()].any() == some
            assert "f2: none of its frames reaches the grid: all is 0" in caplog.text
