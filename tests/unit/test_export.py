"""Volumes for other programs, read back by other libraries."""

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
        if space == "real":
            np.testing.assert_allclose(file["lengths"], [5, 5, 8])
            np.testing.assert_allclose(file["angles"], [90, 90, 120])
        else:
            expected = 2 * np.pi / np.array([5 * np.sin(np.pi / 3), 5 * np.sin(np.pi / 3), 8])
            np.testing.assert_allclose(file["lengths"], expected)
            np.testing.assert_allclose(file["angles"], [90, 90, 60])


def test_yell_has_hkl_order_and_even_numbers(volume):
    path, values, _ = volume
    target, told = written(path, "yell", output=path.with_name("experiment.h5"))
    with h5py.File(target) as file:
        assert file.attrs["filetype"] == "Yell 1.0"
        data = file["data"][()]
    assert data.shape == (8, 10, 12)
    assert np.array_equal(data, np.nan_to_num(values[:12, :10, :8].transpose(2, 1, 0)))
    assert told.startswith("DiffuseScatteringGrid -0.4 -1 -1.5 0.1 0.2 0.25 8 10 12;")
    assert data[4, 5, 6] == values[6, 5, 4]  # 0 0 0 at n / 2


def test_map_is_read_by_others(volume):
    path, values, space = volume
    target, told = written(path, "ccp4map")
    assert told == "1 voxels that were not measured are 0"
    with mrcfile.open(target) as file:
        assert np.array_equal(file.data, np.nan_to_num(values))
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
    with pytest.raises(InputError):
        written(path.with_name("missing") / "x.nxs", "ccp4map")
