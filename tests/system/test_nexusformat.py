"""A reduced scan as nexusformat, and so NeXpy, sees it."""

from datetime import datetime
from math import acos, cos, degrees, pi, radians, sin, sqrt

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from nexusformat.nexus import NXdata, nxopen

import nxmpi

VOLUMES = [
    (entry, group) for entry in ("f1", "f2", "entry") for group in ("transform", "masked_transform")
]
DATA_FILES = {
    "f1.h5": "data",
    "f1_transform.nxs": "v",
    "f2_masked_transform.nxs": "v",
    "transform.nxs": "v",
    "masked_transform.nxs": "v",
    "symm_transform.nxs": "data",
    "masked_symm_transform.nxs": "data",
}
REAL_FILES = ("total_pdf.nxs", "masked_total_pdf.nxs", "pdf.nxs", "masked_pdf.nxs")
CELL = (5.1, 6.3, 7.2, 83.0, 97.0, 105.0)


@pytest.fixture(scope="module")
def scan(reduced, tmp_path_factory):
    """Return a tiny scan with a 3-D mask, reduced."""
    return reduced.copy(tmp_path_factory.mktemp("nexusformat") / "e")


@pytest.fixture(scope="module")
def root(scan):
    return nxopen(scan.wrapper)


def in_hdf5(scan, entry, group, name):
    """Return a dataset of a volume without the help of any link."""
    prefix = "" if entry == "entry" else f"{entry}_"
    with h5py.File(scan.data / f"{prefix}{group}.nxs") as file:
        return file[f"entry/data/{name}"][()]


@pytest.mark.parametrize(("entry", "group"), VOLUMES)
def test_signal_and_weights_are_those_in_the_data_file(scan, root, entry, group):
    data = root[entry][group]
    assert isinstance(data, NXdata)
    counts, norm = (in_hdf5(scan, entry, group, name) for name in ("v", "n"))
    assert data.nxsignal.nxname == "data"
    assert data.nxsignal.shape == (41, 41, 31)
    assert np.nansum(counts) > 0
    np.testing.assert_array_equal(data.nxsignal.nxvalue, counts)
    np.testing.assert_array_equal(data.nxweights.nxvalue, norm)


@pytest.mark.parametrize(("entry", "group"), VOLUMES)
def test_axes_are_l_k_h_with_their_values_and_scales(root, entry, group):
    axes = root[entry][group].nxaxes
    assert [axis.nxname for axis in axes] == ["Ql", "Qk", "Qh"]
    for axis, last in zip(axes, (4.0, 4.0, 3.0), strict=True):
        expected = np.linspace(-last, last, round(2 * last / 0.2) + 1)
        np.testing.assert_allclose(axis.nxvalue, expected, atol=1e-12)
    a, b, c = CELL[:3]
    alpha, beta, gamma = (radians(angle) for angle in CELL[3:])
    square = 1 - cos(alpha) ** 2 - cos(beta) ** 2 - cos(gamma) ** 2
    volume = a * b * c * sqrt(square + 2 * cos(alpha) * cos(beta) * cos(gamma))
    lengths = [a * b * sin(gamma), a * c * sin(beta), b * c * sin(alpha)]  # of c*, b*, a*
    scales = [axis.attrs["scaling_factor"] for axis in axes]
    np.testing.assert_allclose(scales, 2 * pi * np.array(lengths) / volume)


def reciprocal_angle(opposite, one, other):
    """Return the angle of the reciprocal cell that belongs to the first of three angles."""
    p, q, r = (radians(angle) for angle in (opposite, one, other))
    return degrees(acos((cos(q) * cos(r) - cos(p)) / (sin(q) * sin(r))))


@pytest.mark.parametrize(("entry", "group"), VOLUMES)
def test_angles_are_those_of_the_reciprocal_cell_from_gamma_to_alpha(root, entry, group):
    alpha, beta, gamma = CELL[3:]
    expected = [
        reciprocal_angle(gamma, alpha, beta),
        reciprocal_angle(beta, alpha, gamma),
        reciprocal_angle(alpha, beta, gamma),
    ]
    np.testing.assert_allclose(root[entry][group].attrs["angles"], expected)


@pytest.mark.parametrize(("entry", "group"), VOLUMES)
def test_title_names_sample_temperature_and_what_it_is(root, entry, group):
    title = root[entry][group].nxtitle
    assert title.startswith("Ca Si O3 300K")
    assert title.endswith("Masked Transform" if "masked" in group else "Transform")


@pytest.mark.parametrize("group", ["transform", "masked_transform"])
def test_combined_volume_is_the_ratio_of_sums_with_its_errors(scan, root, group):
    combined = root["entry"][group]
    counts, norm = (
        sum(in_hdf5(scan, entry, group, name) for entry in ("f1", "f2")) for name in ("v", "n")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = counts / norm
        errors = np.sqrt(np.maximum(counts, 1)) / norm
    seen = norm > 0
    assert (~seen).any()
    assert (counts[seen] == 0).any()
    values, sigma = combined.nxsignal.nxvalue, combined.nxerrors.nxvalue
    np.testing.assert_allclose(values[seen], expected[seen], rtol=1e-6)  # float32
    np.testing.assert_allclose(sigma[seen], errors[seen], rtol=1e-6)
    assert np.isnan(values[~seen]).all()


def test_plane_is_found_by_its_coordinate(root):
    data = root["entry/transform"]
    plane = data[0.0]
    assert [axis.nxname for axis in plane.nxaxes] == ["Qk", "Qh"]
    np.testing.assert_array_equal(plane.nxsignal.nxvalue, data.nxsignal.nxvalue[20])


def test_default_of_the_scan_is_the_pdf(root):
    assert root.get_default().nxpath == "/entry/masked_pdf"
    assert root.plottable_data.nxsignal is not None
    for name in ("f1", "f2"):
        assert root[name].get_default().nxpath == f"/{name}/masked_transform"


@pytest.mark.parametrize("prefix", ["", "masked_"])
def test_symmetrized_volume_shows_what_was_punched_and_filled(scan, root, prefix):
    data = root["entry"][f"symm_{prefix}transform"]
    with h5py.File(scan.data / f"{prefix}symm_transform.nxs") as file:
        made = {name: values[()] for name, values in file["entry/data"].items()}
    assert data.nxsignal.nxname == "data"
    assert data.nxweights.nxname == "data_weights"
    links = {"data": "data", "data_errors": "data_errors", "data_weights": "data_weights",
             "filled_data": "fill", "punched_data": "punch"}  # fmt: skip
    for shown, name in links.items():
        np.testing.assert_array_equal(data[shown].nxvalue, made[name])
    holes = np.isnan(made["punch"]) & np.isfinite(made["data"])
    assert holes.any()
    kept = np.isfinite(made["punch"])
    assert np.array_equal(made["fill"][kept], made["data"][kept])
    outside = np.isinf(made["data_weights"])
    assert outside.any()
    assert made["data_weights"][20, 20, 15] == 1


@pytest.mark.parametrize("group", ["total_pdf", "pdf", "total_masked_pdf", "masked_pdf"])
def test_real_space_has_axes_in_units_of_the_cell(root, group):
    data = root["entry"][group]
    assert data.nxsignal.nxname == "pdf"
    assert [axis.nxname for axis in data.nxaxes] == ["z", "y", "x"]
    for axis, n, length in zip(data.nxaxes, (41, 41, 31), CELL[2::-1], strict=True):
        np.testing.assert_allclose(axis.nxvalue, np.arange(-(n // 2), n // 2 + 1) / (n * 0.2))
        assert axis.attrs["scaling_factor"] == pytest.approx(length)
    np.testing.assert_allclose(data.attrs["angles"], CELL[:2:-1])
    assert data.nxtitle.startswith("Ca Si O3 300K")
    assert data.nxtitle.endswith("PDF")
    values = data.nxsignal.nxvalue
    assert np.array_equal(values, values[::-1, ::-1, ::-1])
    assert (data.nxerrors is None) == group.startswith("total")


@pytest.mark.parametrize("name", DATA_FILES)
def test_every_data_file_has_something_to_plot(scan, name):
    file = nxopen(scan.data / name)
    default = file.get_default()
    assert default.nxpath == "/entry/data"
    assert default.nxsignal.nxname == DATA_FILES[name]
    assert file.plottable_data is default
    assert default["title"].nxvalue
    assert [len(axis) for axis in default.nxaxes] == list(default.nxsignal.shape)


@pytest.mark.parametrize("name", REAL_FILES)
def test_every_file_of_real_space_has_something_to_plot(scan, name):
    file = nxopen(scan.data / name)
    default = file.get_default()
    assert default.nxpath == "/entry/pdf"
    assert file.plottable_data is default
    assert default.nxsignal.nxname == "pdf"
    assert default["title"].nxvalue.endswith("PDF")
    assert [len(axis) for axis in default.nxaxes] == list(default.nxsignal.shape)


@pytest.mark.parametrize("name", [name for name in DATA_FILES if name.endswith("transform.nxs")])
def test_volume_of_a_data_file_has_axes_and_title_of_its_own(scan, name):
    data = nxopen(scan.data / name)["entry/data"]
    assert [axis.nxname for axis in data.nxaxes] == ["Ql", "Qk", "Qh"]
    assert data.nxtitle.startswith("Ca Si O3 300K")
    assert len(data.attrs["angles"]) == 3


def test_every_group_of_data_in_the_scan_is_plottable_and_has_a_title(root):
    groups = [node for node in root.walk() if node.nxclass == "NXdata"]
    assert len(groups) > 8
    for group in groups:
        assert group.plottable_data is group
        assert group["title"].nxvalue


OF_POSITION = ("nxmax", "nxfind", "nxtransform", "nxmasked_transform")
TASKS = [
    (entry, task, place)
    for entry, names in {
        "f1": OF_POSITION, "f2": OF_POSITION,
        "entry": ("nxcombine", "nxmasked_combine", "nxsymmetrize", "nxmasked_symmetrize",
                  "nxpdf", "nxmasked_pdf"),
    }.items()
    for place, task in enumerate(names, 1)
]  # fmt: skip


@pytest.mark.parametrize(("entry", "task", "place"), TASKS)
def test_every_step_is_recorded_as_a_process(root, entry, task, place):
    workflow = root[entry]["nxworkflow"]
    assert workflow.nxclass == "NXcollection"
    record = workflow[task]
    assert record.nxclass == "NXprocess"
    assert record["program"].nxvalue == task
    assert record["version"].nxvalue == f"nxmpi v{nxmpi.__version__}"
    assert record["sequence_index"].nxvalue == place
    assert record["pid"].nxvalue > 0
    start, end = (
        datetime.fromisoformat(record[name].nxvalue) for name in ("start_time", "end_time")
    )
    assert start.tzinfo is not None
    assert start <= end
    assert record["note"].nxclass == "NXnote"
    assert record["note/type"].nxvalue == "text/plain"
    assert len(record["note/data"].nxvalue) > 20
    assert record["parameters"].nxclass == "NXparameters"
    assert record["parameters/program"].nxvalue == f"nxmpi {nxmpi.__version__}"
    assert root[entry][task].nxclass == "NXprocess"  # where older programs look


def test_parameters_of_a_step_can_be_read(root):
    parameters = root["f1/nxworkflow/nxtransform/parameters"]
    assert parameters["last_frame"].nxvalue == 10
    assert parameters["polarization"].nxvalue == pytest.approx(0.99)
    assert parameters["voxels"].nxvalue == "centred"
