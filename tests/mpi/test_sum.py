"""Sums of repeated scans: frames against plain NumPy, and volumes against those of each scan."""

import shutil
from math import radians

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from mpi.scans import add_masks
from pytest_mpi import parallel_assert

from nxmpi.crystal.goniometer import rotation
from nxmpi.errors import CollectiveError
from nxmpi.nexus import schema
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.locks import step_lock
from nxmpi.parallel.publish import publish
from nxmpi.params import CombineParams, NormParams, OutputParams, ScanParams, TransformParams
from nxmpi.pipeline.combine import run_combine
from nxmpi.pipeline.sum import run_sum
from nxmpi.pipeline.transform import run_transform
from nxmpi.simulate.presets import preset
from nxmpi.simulate.write import simulate

RANKS = [1, 2, 3, 4, 7]
GRID = ((-3.0, 0.1, 3.0), (-4.0, 0.1, 4.0), (-4.0, 0.13, 4.0))
NAMES = ("f1", "f2")


@pytest.fixture
def scans(comm, shared_tmp_path):
    """Return three scans of the same, with other counts and fluxes."""
    first = simulate(comm, shared_tmp_path / "e", preset("tiny"))
    others = [first.with_name(f"triclinite_300K{letter}.nxs") for letter in "bc"]
    if comm.rank == 0:
        for i, path in enumerate(others, 2):
            copy(first, path, i)
    comm.barrier()  # the others are to see the copies
    return [first, *others]


def copy(first, path, seed):
    old, new = schema.ScanFiles(first), schema.ScanFiles(path)
    shutil.copy(first, path)
    shutil.copytree(old.folder, new.folder)
    rng = np.random.default_rng(seed)
    with h5py.File(path, "r+") as file:
        for name in NAMES:
            del file[name][schema.RAW]
            file[name][schema.RAW] = h5py.ExternalLink(
                f"{new.folder.name}/{name}.h5", schema.RAW_IN_FILE
            )
            file[name]["monitor1/data"][...] *= rng.uniform(0.3, 3)
            with h5py.File(new.raw(name), "r+") as raw:
                data = raw[schema.RAW_IN_FILE]
                counts = data[()]
                data[...] = np.where(counts < 0, counts, rng.poisson(3.0, counts.shape))


def frames(path, name, what=schema.RAW):
    with h5py.File(path) as file:
        return file[name][what][()]


def transform(comm, wrapper):
    run_transform(
        comm, wrapper, ScanParams(grid=GRID), NormParams(), TransformParams(), OutputParams()
    )


def volume(path, name, twin=schema.REGULAR):
    with h5py.File(schema.ScanFiles(path).transform(name, twin)) as file:
        return file[schema.VOLUME]["v"][()], file[schema.VOLUME]["n"][()]


def make(comm, scans, name="sum", **output):
    target = scans[0].with_name(f"triclinite_{name}.nxs")
    run_sum(comm, scans, target, 0.5, OutputParams(**output))
    return target


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("masked", [False, True])
def test_volumes_of_the_sum_are_the_sums_of_volumes(comm, scans, masked):
    if masked and comm.rank == 0:
        for path in scans:
            add_masks(path, 0.1)
    comm.barrier()  # the others are to see the masks
    target = make(comm, scans)
    for path in (*scans, target):
        transform(comm, path)
    with all_or_none(comm):
        for name in NAMES:
            for twin in (schema.REGULAR, schema.MASKED)[: 1 + masked]:
                parts = [volume(path, name, twin) for path in scans]
                counts, norm = volume(target, name, twin)
                np.testing.assert_array_equal(counts, sum(part[0] for part in parts))
                wanted = sum(part[1] for part in parts)
                np.testing.assert_allclose(norm, wanted, rtol=1e-7, atol=1e-8 * wanted.max())
                assert counts.sum() > 1e5
    run_combine(comm, target, CombineParams(), OutputParams())
    parallel_assert(schema.ScanFiles(target).combined(schema.REGULAR).exists())


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("dtype", ["int32", "uint16", "int64", "uint8"])
def test_frames_and_masks_are_those_of_plain_numpy(comm, scans, dtype):
    if comm.rank == 0:
        for seed, path in enumerate(scans):
            add_masks(path, 0.1, seed)
            for name in NAMES:
                alter(path, name, dtype, seed)
    comm.barrier()  # the others are to see that
    target = make(comm, scans, root_writes=dtype == "uint16")
    with all_or_none(comm):
        wide = {"int32": "int64", "uint16": "uint32", "int64": "int64", "uint8": "uint16"}[dtype]
        none = -1 if wide.startswith("i") else np.iinfo(wide).max
        for name in NAMES:
            parts = np.array([frames(path, name) for path in scans])
            bad = (parts == np.iinfo(dtype).max) if dtype[0] == "u" else parts < 0
            wanted = np.where(bad.any(axis=0), none, parts.astype(wide).sum(axis=0))
            found = frames(target, name)
            assert found.dtype == wide
            np.testing.assert_array_equal(found, wanted)
            assert 10 < bad.any(axis=0).sum() < wanted.size / 2
            masks = [frames(path, name, schema.DATA_MASK) != 0 for path in scans]
            mask = frames(target, name, schema.DATA_MASK)
            np.testing.assert_array_equal(mask, np.any(masks, axis=0))
            bad_pixels = f"{schema.DETECTOR}/{schema.PIXEL_MASK}"
            masks = [frames(path, name, bad_pixels) != 0 for path in scans]
            np.testing.assert_array_equal(
                frames(target, name, bad_pixels) != 0, np.any(masks, axis=0)
            )
            assert (masks[0] != masks[1]).any()


def alter(path, name, dtype, seed):
    """Give frames another type, with what is no count here and there, and a pixel masked."""
    rng = np.random.default_rng(seed)
    file_name = schema.ScanFiles(path).raw(name)
    with h5py.File(file_name, "r+") as file:
        counts = file[schema.RAW_IN_FILE][()]
        limit = min(np.iinfo(dtype).max - 1, 10**12)
        counts = np.clip(counts.astype(np.int64) * (1000 if limit > 10**9 else 1), 0, limit)
        counts[rng.random(counts.shape) < 0.02] = -2 if dtype[0] == "i" else np.iinfo(dtype).max
        counts[0, 0, :9] = limit
        del file[schema.RAW_IN_FILE]
        file.create_dataset(schema.RAW_IN_FILE, data=counts.astype(dtype), chunks=True)
    with h5py.File(path, "r+") as file:
        file[name][f"{schema.DETECTOR}/{schema.PIXEL_MASK}"][seed, 5] = 1


@pytest.mark.parallel([1, 3])
def test_what_is_in_the_new_scan(comm, scans):
    transform(comm, scans[0])
    run_combine(comm, scans[0], CombineParams(), OutputParams())
    comm.barrier()  # the root has published it
    if comm.rank == 0:
        for i, path in enumerate(scans):
            with h5py.File(path, "r+") as file:
                file["f1/instrument/detector/saturation_value"] = 1000.0
                file["f2/instrument/filter/transmission/transmission"][...] *= 1 - 0.2 * i
                file["f1/instrument/attenuator/attenuator_transmission"][...] = 0.5 - 0.1 * i
                file["f1/peaks/x"] = np.arange(3)
                file["f1/data"].attrs["maximum"] = 7
                file["f1/frame_sums/transmission"] = np.ones(11)
    comm.barrier()  # the others are to see that
    target = make(comm, scans)
    with all_or_none(comm), h5py.File(target) as file:
        opened = [h5py.File(path) for path in scans]
        monitors = [each["f1/monitor1/data"][()] for each in opened]
        np.testing.assert_allclose(file["f1/monitor1/data"][()], sum(monitors))
        # norm of each frame: monitor x attenuator x filter
        fluxes = [m * (0.5 - 0.1 * i) for i, m in enumerate(monitors)]
        found = (
            file["f1/monitor1/data"][()]
            * file["f1/instrument/attenuator"]["attenuator_transmission"][()]
        )
        np.testing.assert_allclose(found[1:-1], sum(fluxes)[1:-1])
        path = "f2/instrument/filter/transmission/transmission"
        fluxes = [each["f2/monitor1/data"][()] * each[path][()] for each in opened]
        found = file["f2/monitor1/data"][()] * file[path][()]
        np.testing.assert_allclose(found[1:-1], sum(fluxes)[1:-1], rtol=1e-6)
        time = "f1/instrument/detector/frame_time"
        assert file[time][()] == pytest.approx(3 * opened[0][time][()])
        assert file[time].attrs["units"] == "s"
        assert file["f1/instrument/detector/saturation_value"][()] == 3000
        assert frames(target, "f1").dtype == np.int32  # as the saturation tells
        matrix = "f1/instrument/detector/orientation_matrix"
        np.testing.assert_array_equal(file[matrix][()], opened[0][matrix][()])
        np.testing.assert_array_equal(file["f1/transform/Qh"], opened[0]["f1/transform/Qh"])
        for gone in ("f1/peaks", "f1/frame_sums", "f1/transform/data", "entry/transform",
                     "entry/agreement", "entry/nxcombine", "entry/nxworkflow", "f1/nxtransform",
                     "f1/nxworkflow/nxtransform"):  # fmt: skip
            assert file.get(gone, getlink=True) is None, gone
        assert "maximum" not in file["f1/data"].attrs
        assert file["f1/nxsum/program"][()] == b"nxsum"
        assert b"300Kc.nxs" in file["f1/nxsum/parameters/scan_3"][()]
        for each in opened:
            each.close()


@pytest.mark.parallel([1, 3])
def test_scans_whose_monitors_lie_in_other_files_keep_them(comm, scans):
    paths = ("f1/monitor1", "f2/instrument/detector/frame_time", "f2/instrument/filter")
    before = {}
    if comm.rank == 0:
        for i, path in enumerate(scans):
            shared = path.with_name(f"shared{i}.h5")
            with h5py.File(path, "r+") as file, h5py.File(shared, "w") as other:
                for n, name in enumerate(paths):
                    file.copy(name, other, f"{n}")
                    del file[name]
                    file[name] = h5py.ExternalLink(shared.name, f"/{n}")
            before[shared] = shared.read_bytes()
    comm.barrier()  # the others are to see that
    target = make(comm, scans)
    with all_or_none(comm):
        assert before or comm.rank
        assert all(shared.read_bytes() == data for shared, data in before.items())
        with h5py.File(target) as file:
            opened = [h5py.File(path) for path in scans]
            for name in (f"{paths[0]}/data", paths[1]):
                expected = sum(each[name][()] for each in opened)
                np.testing.assert_allclose(file[name][()], expected)
                assert file[name].file.filename == str(target)
            for each in opened:
                each.close()


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(
    ("path", "change", "told"),
    [
        ("f2/instrument/monochromator/wavelength", 1.01, r"/wavelength: expected 0.7 Å .* 0.707 Å"),
        ("f1/instrument/detector/beam_center_x", 1.05, r"/f1: .* detector beam_center"),
        ("f1/instrument/goniometer/chi", 1.01, r"/f1: .* goniometer chi -90 and -90.9"),
        ("f1/instrument/goniometer/phi", 0.5, r"/f1: .* goniometer phi -10 to 10 and -5 to 15"),
        ("f1/instrument/detector/orientation_matrix", None, r"orientation .* turned by 3.000"),
        ("f1/data/frame_number", None, r"/f1: expected frames of shape \(11, 48, 64\), 11 used"),
        ("f2", None, r"300Kc.nxs: expected positions f1, f2 as in .*300K.nxs, found f1"),
        ("f1/monitor1", None, r"300Kc.nxs:/f1/monitor1: expected a monitor .* found none"),
        ("f1/instrument/detector/frame_time", None, r"/frame_time: expected a number, as in the"),
    ],
)
def test_scans_that_differ_are_refused(comm, scans, path, change, told):
    if comm.rank == 0:
        with h5py.File(scans[2], "r+") as file:
            if change is not None:
                file[path][...] *= change
            elif path.endswith("matrix"):
                turn = rotation(1, 3.0)
                assert np.isclose(turn[0, 0], np.cos(radians(3)))
                file[path][...] = turn @ file[path][()]
            else:
                del file[path]
                if path.endswith("number"):
                    file[path] = np.arange(9)
    comm.barrier()  # the others are to see that
    with pytest.raises(CollectiveError, match=told):
        make(comm, scans)
    files = schema.ScanFiles(scans[0].with_name("triclinite_sum.nxs"))
    comm.barrier()  # the root has cleared up
    parallel_assert(not files.wrapper.exists())
    parallel_assert(not [*files.folder.rglob("*")])


@pytest.mark.parallel([1, 3])
def test_calls_that_make_no_sense_and_small_differences(comm, scans):
    target = scans[0].with_name("triclinite_sum.nxs")
    for some, where, told in (
        (scans[:1], target, "expected two scans or more"),
        ([*scans, scans[0]], target, "differ from each other"),
        (scans[:1] * 2, target, "differ from each other"),
        (scans, scans[1], "differ from each other and from the sum"),
        (scans, scans[0].parents[1] / "sum.nxs", "in the folder of triclinite_300K.nxs"),
        ([*scans, target.with_name("none.nxs")], target, "none.nxs: expected a file"),
    ):
        with pytest.raises(CollectiveError, match=told):
            run_sum(comm, some, where, 0.5, OutputParams())
    comm.barrier()  # all have failed
    if comm.rank == 0:
        with h5py.File(scans[1], "r+") as file:
            file["f1/instrument/detector/beam_center_x"][...] += 0.2
    comm.barrier()  # the others are to see that
    make(comm, scans)
    with pytest.raises(CollectiveError, match=r"exists already \(--overwrite"):
        make(comm, scans)
    before = frames(target, "f1")
    old = schema.ScanFiles(target).combined(schema.MASKED)
    if comm.rank == 0:
        old.touch()
    comm.barrier()  # all have read it
    make(comm, scans[:2], overwrite=True)
    parallel_assert(not np.array_equal(before, frames(target, "f1")))
    parallel_assert(not old.exists())
    with pytest.raises(CollectiveError, match=r"within 0.1 pixels .* found 0.\d+: detector beam"):
        run_sum(comm, scans, target, 0.1, OutputParams(overwrite=True))


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("name", ["f1/data", "f2/transform"])
def test_a_group_of_another_file_is_not_written_into(comm, scans, name):
    if comm.rank == 0:
        with h5py.File(scans[0], "r+") as file, h5py.File(scans[0].with_name("x.h5"), "w") as other:
            file.move(name, "moved")
            file.copy("moved", other, "there", expand_external=False)
            file[name] = h5py.ExternalLink("x.h5", "/there")
    comm.barrier()  # the others are to see that
    with pytest.raises(CollectiveError, match=rf"{name}: expected a group of this file"):
        make(comm, scans)


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("step", [("f2", "transform"), ("f1", "frames"), ("entry", "pdf")])
def test_sum_that_is_worked_on_is_left_alone(comm, scans, step):
    target = scans[0].with_name("triclinite_sum.nxs")
    with (
        step_lock(comm, target, *step),
        pytest.raises(CollectiveError, match=rf"{' '.join(step)} is being computed by"),
    ):
        make(comm, scans)
    parallel_assert(not target.exists())
    make(comm, scans)


@pytest.mark.parallel([1, 3])
def test_sum_that_could_not_be_published_whole_has_no_scan_file(comm, scans, monkeypatch):
    target = scans[0].with_name("triclinite_sum.nxs")
    make(comm, scans)
    published = []

    def fails(written, path):
        if published:
            raise OSError("no more")
        published.append(path)
        publish(written, path)

    monkeypatch.setattr("nxmpi.pipeline.sum.publish", fails)
    with pytest.raises(CollectiveError, match="no more"):
        make(comm, scans[:2], overwrite=True)
    comm.barrier()
    parallel_assert(not target.exists())
    monkeypatch.undo()
    make(comm, scans[:2], overwrite=True)
    parallel_assert(target.exists())
