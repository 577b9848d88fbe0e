"""Volumes for other programs, read back by other libraries."""

import tracemalloc

import h5py
import mrcfile
import numpy as np
import pytest
from iotbx.map_manager import map_manager

from nxmpi.errors import InputError
from nxmpi.model import HKLGrid, Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.volume import REAL, RECIPROCAL, VolumeFile, create_volume
from nxmpi.pipeline.export import export

LATTICE = Lattice(a=5.0, b=5.0, c=8.0, alpha=90.0, beta=90.0, gamma=120.0)
SHAPE = (9, 11, 13)
"""Along h, k, l."""
STEPS = (0.1, 0.2, 0.25)
CELL = (5, 5, 8, 90, 90, 120)


def make(folder, values, origin, steps):
    """Return the file of a volume of reciprocal space."""
    grid = HKLGrid(origin=origin, step=steps, shape=values.shape[::-1])
    file = VolumeFile(
        path=folder / "made.nxs", grid=grid, lattice=LATTICE, title="volume", dtype="f4",
        fills={"data": np.nan}, attributes={},
    )  # fmt: skip
    with h5py.File(file.path, "w") as data:
        create_volume(data, file, {})
        data[f"{schema.VOLUME}/data"][...] = values
    return file.path


@pytest.fixture(params=["reciprocal", "real"])
def volume(request, tmp_path):
    """Return the file of a volume, its values [l, k, h], and of which space it is."""
    grid = HKLGrid(
        origin=tuple(-(n // 2) * s for n, s in zip(SHAPE, STEPS, strict=True)), step=STEPS,
        shape=SHAPE,
    )  # fmt: skip
    is_real = request.param == "real"
    names = (schema.PDF_SIGNAL, schema.PDF_ERRORS) if is_real else ("data", "fill")
    file = VolumeFile(
        path=tmp_path / "volume.nxs", grid=grid, lattice=LATTICE, title="volume", dtype="f4",
        fills=dict.fromkeys(names, np.nan), attributes={}, space=REAL if is_real else RECIPROCAL,
    )  # fmt: skip
    values = np.random.default_rng(3).normal(size=SHAPE[::-1]).astype(np.float32)
    values[1, 2, 3] = np.nan
    with h5py.File(file.path, "w") as data:
        create_volume(data, file, {})
        data[f"{file.space.group}/{names[0]}"][...] = values
        data[f"{file.space.group}/{names[1]}"][...] = values + 1
    return file.path, values, request.param


def written(path, kind, dataset=None, output=None, overwrite=False):
    return export(path, kind, dataset=dataset, output=output, overwrite=overwrite)


def test_numpy_has_values_axes_and_cell(volume):
    path, values, space = volume
    target, _ = written(path, "numpy")
    with np.load(target) as file:
        assert np.array_equal(file["data"], values, equal_nan=True)
        names = ("x", "y", "z") if space == "real" else ("Qh", "Qk", "Ql")
        for name, n, step in zip(names, SHAPE, STEPS, strict=True):
            np.testing.assert_allclose(file[name], step * np.arange(-(n // 2), n // 2 + 1))
        np.testing.assert_allclose(file["cell"], CELL)
        if space == "real":
            np.testing.assert_allclose(file["lengths"], [5, 5, 8])
            np.testing.assert_allclose(file["angles"], [90, 90, 120])
        else:
            expected = 2 * np.pi / np.array([5 * np.sin(np.pi / 3), 5 * np.sin(np.pi / 3), 8])
            np.testing.assert_allclose(file["lengths"], expected)
            np.testing.assert_allclose(file["angles"], [90, 90, 60])


def test_yell_has_its_grid_hkl_order_and_even_numbers(volume):
    path, values, space = volume
    target, told = written(path, "yell", output=path.with_name("experiment.h5"))
    with h5py.File(target) as file:
        assert file.attrs["filetype"] == "Yell 1.0"
        kind = h5py.check_string_dtype(file["format"].dtype)
        assert (kind.encoding, kind.length, file["format"].shape) == ("ascii", None, ())
        assert file["format"][()] == b"Yell 1.0"
        assert file["is_direct"][()] == (space == "real")
        assert file["is_direct"].shape == ()
        np.testing.assert_allclose(file["lower_limits"], [-0.4, -1, -1.5])
        np.testing.assert_allclose(file["step_sizes"], STEPS)
        np.testing.assert_allclose(file["unit_cell"], CELL)
        data = file["data"][()]
    assert data.shape == (8, 10, 12)
    assert np.array_equal(data, np.nan_to_num(values[:12, :10, :8].transpose(2, 1, 0)))
    assert data[4, 5, 6] == values[6, 5, 4]  # 0 0 0 at n / 2
    last = "Cell 5 5 8 90 90 120; 1 voxels without a value are 0"
    grid = "DiffuseScatteringGrid -0.4 -1 -1.5 0.1 0.2 0.25 8 10 12; "
    assert told == (last if space == "real" else grid + last)


@pytest.mark.parametrize(("n_l", "first", "kept"), [(65, -32, 64), (64, -32, 64), (65, -10, 65)])
def test_yell_keeps_all_but_the_last_plane_of_odd_numbers_about_zero(tmp_path, n_l, first, kept):
    values = np.arange(n_l, dtype=np.float32)[:, None, None] * np.ones((1, 3, 1), np.float32)
    path = make(tmp_path, values, (0.0, -0.5, 0.25 * first), (0.5, 0.5, 0.25))
    target, _ = written(path, "yell")
    with h5py.File(target) as file:
        assert np.array_equal(file["data"], values[:kept, :2].transpose(2, 1, 0))


def test_map_is_read_by_others(volume):
    path, values, space = volume
    target, told = written(path, "ccp4map")
    assert told == "1 voxels without a value are 0"
    filled = np.nan_to_num(values)
    with mrcfile.open(target) as file:
        assert np.array_equal(file.data, filled)
        found = [float(file.header[name]) for name in ("dmin", "dmax", "dmean", "rms")]
    wide = filled.astype(np.float64)
    np.testing.assert_allclose(found, [wide.min(), wide.max(), wide.mean(), wide.std()], rtol=1e-6)
    assert mrcfile.validate(target)
    read = map_manager(str(target))
    cell = read.unit_cell().parameters()
    lengths = (5, 5, 8) if space == "real" else 2 * np.pi / np.array([4.330127, 4.330127, 8])
    extents = [n * s * x for n, s, x in zip(SHAPE, STEPS, lengths, strict=True)]
    np.testing.assert_allclose(cell[:3], extents, rtol=1e-6)
    np.testing.assert_allclose(cell[3:], (90, 90, 120 if space == "real" else 60))
    assert read.origin_shift_grid_units == (0, 0, 0)
    assert read.map_data().origin() == (-4, -5, -6)
    assert read.map_data()[1, 2, 3] == pytest.approx(values[9, 7, 5])


def test_map_refuses_voxels_between_its_places(tmp_path):
    path = make(tmp_path, np.ones((4, 3, 3), np.float32), (-0.5, -0.5, -0.375), (0.5, 0.5, 0.25))
    with pytest.raises(InputError, match=r"Ql: expected voxels at whole .*, found -0\.375"):
        written(path, "ccp4map")
    assert list(tmp_path.glob(".*")) == []


def test_statistics_of_a_map_of_many_planes(tmp_path):
    values = np.random.default_rng(1).normal(7, 2, size=(70, 3, 5)).astype(np.float32)
    target, _ = written(make(tmp_path, values, (0.0, 0.0, 0.0), (0.1,) * 3), "ccp4map")
    wide = values.astype(np.float64)
    with mrcfile.open(target) as file:
        assert np.array_equal(file.data, values)
        np.testing.assert_allclose(
            [float(file.header.dmean), float(file.header.rms)], [wide.mean(), wide.std()], rtol=1e-6
        )


def test_what_is_not_finite_is_zero(tmp_path):
    values = np.ones((3, 3, 3), np.float32)
    values[0, 0, 0], values[1, 1, 1] = np.inf, np.nan
    path = make(tmp_path, values, (-0.5,) * 3, (0.5,) * 3)
    target, told = written(path, "ccp4map")
    assert told == "2 voxels without a value are 0"
    with mrcfile.open(target) as file:
        assert file.data.sum() == 25
        assert file.data[0, 0, 0] == file.data[1, 1, 1] == 0


def test_thickness_of_a_single_plane_is_kept(tmp_path):
    path = make(tmp_path, np.ones((1, 3, 3), np.float32), (-0.5, -0.5, 1.5), (0.5, 0.5, 0.25))
    target, _ = written(path, "ccp4map")
    with mrcfile.open(target) as file:
        assert int(file.header.nzstart) == 6
        np.testing.assert_allclose(float(file.header.cella.z), 0.25 * 2 * np.pi / 8, rtol=1e-6)


@pytest.mark.parametrize("kind", ["yell", "numpy", "ccp4map"])
def test_a_few_planes_are_in_memory_at_a_time(tmp_path, kind):
    values = np.ones((320, 60, 60), np.float32)
    path = make(tmp_path, values, (-15.0, -15.0, -80.0), (0.5,) * 3)
    written(path, kind, overwrite=True)
    tracemalloc.start()
    written(path, kind, overwrite=True)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 0.8 * values.nbytes


def test_other_datasets_and_files_that_are_there(volume):
    path, values, space = volume
    name = "pdf_errors" if space == "real" else "fill"
    target, _ = written(path, "numpy", name)
    assert target.name == f"volume_{name}.npz"
    with np.load(target) as file:
        assert np.array_equal(file["data"], values + 1, equal_nan=True)
    with pytest.raises(InputError, match=r"volume_.*npz: expected no file of this name"):
        written(path, "numpy", name)
    assert written(path, "numpy", name, overwrite=True)[0] == target
    with pytest.raises(InputError, match=r"expected one of .*, found nothing_like_it"):
        written(path, "numpy", "nothing_like_it")


def test_what_is_no_volume_is_refused(tmp_path):
    path = tmp_path / "other.nxs"
    with h5py.File(path, "w") as file:
        file["entry/value"] = 1.0
    with pytest.raises(InputError, match=r"other\.nxs: expected a volume"):
        written(path, "numpy")
    with pytest.raises(InputError, match=r"none\.nxs"):
        written(tmp_path / "none.nxs", "yell")
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.ones((3, 3))
    with pytest.raises(InputError, match=r"entry/data: expected three dimensions, found data"):
        written(path, "numpy")


def test_axes_that_say_nothing_are_refused(tmp_path):
    path = make(tmp_path, np.ones((3, 3, 3), np.float32), (-0.5,) * 3, (0.5,) * 3)
    with h5py.File(path, "r+") as file:
        del file["entry/data/Qk"].attrs["scaling_factor"]
    with pytest.raises(InputError, match=r"found 2 of the former, 3 angles"):
        written(path, "numpy")
    with h5py.File(path, "r+") as file:
        file["entry/data"].attrs["axes"] = ["Qh", "Qk", "Ql"]
    with pytest.raises(InputError, match=r"expected the axes Ql, Qk, Qh or .*, found Qh, Qk, Ql"):
        written(path, "numpy")


def test_nothing_is_left_behind_where_it_cannot_be_written(volume):
    path, _, _ = volume
    with pytest.raises(InputError, match=r"x\.npz: expected a folder .*/missing, found none"):
        written(path, "numpy", output=path.parent / "missing" / "x.npz")
    with pytest.raises(InputError, match=r"expected another file than that of the volume"):
        written(path, "numpy", output=path, overwrite=True)
    with h5py.File(path) as file:
        assert schema.SHARED in file
    assert [one.name for one in path.parent.iterdir()] == [path.name]
