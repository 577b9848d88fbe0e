"""Scan files as NXRefine and its users leave them: the same answer as the plain form gives."""

import dataclasses
import logging
import os

import h5py
import hdf5plugin
import numpy as np
import pytest
from mpi4py import MPI
from unit.plain_scan import (
    AXES,
    CELL,
    CELL_NAMES,
    DETECTOR,
    GONIOMETER,
    N_FRAMES,
    PHI,
    SHAPE,
    STEP,
    M,
    counts,
    replace,
    write_scan,
)

from nxmpi.errors import CollectiveError, InputError, SchemaError
from nxmpi.model import HKLGrid
from nxmpi.nexus.frames import StackReader
from nxmpi.params import NormParams, OutputParams, ScanParams, TransformParams
from nxmpi.pipeline.scan import read_scan
from nxmpi.pipeline.transform import run_transform

DET, GON, MONO = "f1/instrument/detector", "f1/instrument/goniometer", "f1/instrument/monochromator"
NORM = NormParams()
ALL = np.arange(N_FRAMES)


@pytest.fixture
def path(tmp_path):
    return write_scan(tmp_path)


@pytest.fixture
def plain(path):
    """Return what is read from the plain form."""
    return read_scan(path, ScanParams(), NORM).measured[0].position


@pytest.fixture
def change(path):
    """Return a function that replaces things in the scan file and reads it."""

    def apply(*changes, **attributes):
        with h5py.File(path, "r+") as file:
            for name, value in changes:
                replace(file, name, value, **attributes)
        return read(path)

    return apply


@pytest.fixture
def told(caplog):
    """Return a function that tells whether a line of the log holds all of some words."""
    caplog.set_level(logging.INFO, "nxmpi")
    logging.getLogger("nxmpi").propagate = True

    def holds(*words):
        return any(all(word in line for word in words) for line in caplog.messages)

    return holds


def read(path, **params):
    return read_scan(path, ScanParams(**params), NORM).measured[0].position


def read_frames(path):
    measured = read_scan(path, ScanParams(), NORM).measured[0]
    reader = StackReader(measured.raw, measured.mask, skip_bad_frames=False)
    frames, excluded, _ = reader.read(ALL)
    reader.close()
    return frames.reshape(N_FRAMES, *SHAPE), excluded


def volume(path, **params):
    """Return counts and norm of the scan, transformed."""
    norm, output = NormParams(), OutputParams(overwrite=True)
    run_transform(MPI.COMM_SELF, path, ScanParams(**params), norm, TransformParams(), output)
    with h5py.File(path.parent / "300K" / "f1_transform.nxs") as file:
        return file["entry/data/v"][()], file["entry/data/n"][()]


# --- the plain form


def test_plain_scan_is_read_as_it_was_written(path, plain):
    place = plain.geometry
    for name in ("distance", "pixel_size", "yaw", "pitch", "roll"):
        assert getattr(place.detector, name) == DETECTOR[name]
    assert place.detector.beam_center == (6.6, 5.2)
    assert place.detector.shape == SHAPE
    assert place.detector.orientation == ((0, -1, 0), (0, 0, 1), (-1, 0, 0))
    for name in ("theta", "omega", "chi"):
        assert getattr(place.goniometer, name) == GONIOMETER[name]
    assert place.goniometer.phi == tuple(PHI + STEP * k for k in range(N_FRAMES))
    assert place.goniometer.step == STEP
    assert place.wavelength == 0.7
    lattice = plain.sample.lattice
    assert tuple(getattr(lattice, name) for name in CELL_NAMES) == CELL
    half = np.radians(STEP / 2)  # M and the offset mean the start of a frame
    back = np.array([[np.cos(half), np.sin(half), 0], [-np.sin(half), np.cos(half), 0], [0, 0, 1]])
    np.testing.assert_allclose(place.goniometer.sample_offset, back @ [0.02, -0.03, 0.05])
    a, b, c = CELL[:3]
    ca, cb, cg = np.cos(np.radians(CELL[3:]))
    sg = np.sin(np.radians(CELL[5]))
    y = c * (ca - cb * cg) / sg
    A = np.array(
        [[a, b * cg, c * cb], [0, b * sg, y], [0, 0, np.sqrt(c * c * (1 - cb * cb) - y * y)]]
    )
    np.testing.assert_allclose(place.UB, back @ M @ np.linalg.inv(A), atol=1e-14)
    np.testing.assert_array_equal(read_frames(path)[0], counts())


# --- numbers, strings, attributes

SCALARS = [
    *(f"{DET}/{name}" for name in DETECTOR),
    *(f"{GON}/{name}" for name in GONIOMETER),
    f"{MONO}/wavelength",
    *(f"entry/sample/unitcell_{name}" for name in CELL_NAMES),
]


@pytest.mark.parametrize(
    "form",
    [
        lambda x: np.array([x]),
        lambda x: np.array([[x]]),
        lambda x: np.array(x, ">f8"),
        lambda x: np.array([str(x).encode()]),
        str,
    ],
    ids=["length 1", "1 x 1", "big-endian", "array of text", "text"],
)
def test_number_in_any_form_is_the_same_number(path, plain, change, form):
    with h5py.File(path) as file:
        values = {name: float(file[name][()]) for name in SCALARS}
    found = change(*((name, form(value)) for name, value in values.items()))
    assert found.geometry == plain.geometry
    assert found.sample == plain.sample


def test_numbers_of_single_precision_or_whole_ones_are_numbers(plain, change):
    found = change((f"{DET}/distance", np.float32(61.0)), (f"{GON}/chi", np.int16(-88)))
    assert found.geometry == plain.geometry


@pytest.mark.parametrize("name", SCALARS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_number_that_is_none_is_an_error_that_names_it(change, name, value):
    with pytest.raises(SchemaError) as error:
        change((name, value))
    where = name.rpartition("/")[0] if "unitcell" in name else name
    assert where.removeprefix("f1/").removeprefix("entry/") in str(error.value)


@pytest.mark.parametrize("value", [np.array([1.0, 2.0]), np.array([]), "far"], ids=repr)
def test_what_is_not_one_number_is_an_error_that_names_it(change, value):
    with pytest.raises(SchemaError, match="/f1/instrument/detector/distance: expected one number"):
        change((f"{DET}/distance", value))


@pytest.mark.parametrize(
    "name", [f"{DET}/{name}" for name in ("distance", "pixel_size", "beam_center_x")]
    + [f"{MONO}/wavelength", f"{DET}/orientation_matrix", f"{GON}/phi"],
)  # fmt: skip
def test_measured_quantity_that_is_missing_is_an_error_that_names_it(change, name):
    with pytest.raises(SchemaError) as error:
        change((name, None))
    assert f"/{name}: expected" in str(error.value)


TEXTS = {
    "bytes": lambda text: np.bytes_(text),
    "text": lambda text: text,
    "array of bytes": lambda text: np.array([text.encode()]),
    "array of text": lambda text: np.array([text], h5py.string_dtype()),
    "longer than it is": lambda text: np.array(text.encode(), "S40"),
    "blanks around": lambda text: f" {text}  ",
}


@pytest.fixture(params=TEXTS)
def text(request):
    """Return a function that brings a string into a form that files have."""
    return TEXTS[request.param]


def test_string_in_any_form_is_the_same_string(plain, change, text):
    found = change(
        (f"{DET}/detector_orientation", text("-y +z -x")),
        ("entry/sample/space_group", text("P -1")),
    )
    assert found.geometry == plain.geometry
    assert found.sample == plain.sample


def test_attribute_in_any_form_is_the_same_attribute(path, plain, text):
    with h5py.File(path, "r+") as file:
        monitor = file["f1/monitor1"]
        monitor["backup"] = np.ones(N_FRAMES)
        monitor.attrs["signal"] = text("data")
        file["entry/sample/temperature"] = 90.0
        file["entry/sample/temperature"].attrs["units"] = text("C")
    found = read(path)
    np.testing.assert_array_equal(found.weight, plain.weight)
    assert found.sample.temperature == "90C"


def test_monitor_of_another_name_is_told_by_its_class_in_any_form(change, path, text):
    with h5py.File(path, "r+") as file:
        file.move("f1/monitor1", "f1/diode")
        file["f1/diode"].attrs["NX_class"] = text("NXmonitor")
    with pytest.raises(SchemaError, match="found only diode"):
        read(path)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(150.0, "150K"), (np.array([2.5]), "2.5K"), ("room", "room"), (np.nan, ""), (np.ones(5), "")],
    ids=str,
)
def test_temperature_that_is_no_number_stops_nothing(change, value, expected):
    assert change(("entry/sample/temperature", value)).sample.temperature == expected


# --- goniometer


@pytest.mark.parametrize("extra", [0, 4], ids=["as many", "more"])
def test_phi_of_every_frame_is_the_same_as_start_and_step(plain, change, extra):
    found = change((f"{GON}/phi", PHI + STEP * np.arange(N_FRAMES + extra)))
    assert found.geometry == plain.geometry


def test_uneven_phi_is_taken_frame_by_frame(change):
    phi = np.array([0, 2, 4, 6.5, 8, 10, 12, 13.5, 16.0])
    goniometer = change((f"{GON}/phi", phi)).geometry.goniometer
    np.testing.assert_array_equal(goniometer.phi, phi)
    assert goniometer.step == 2.0


@pytest.mark.parametrize("values", [PHI + 4.0 * np.arange(N_FRAMES)], ids=["a step scan"])
def test_rotation_during_a_frame_is_that_of_the_attribute(change, told, values):
    goniometer = change((f"{GON}/phi", values), step=STEP).geometry.goniometer
    np.testing.assert_array_equal(goniometer.phi, values)
    assert goniometer.step == STEP
    assert told("/f1/instrument/goniometer/phi: phi has steps of 4°", "that 2° are turned")


def test_phi_shorter_than_the_frames_is_an_error(change):
    with pytest.raises(SchemaError, match=r"goniometer/phi: expected phi of 9 frames, found 8"):
        change((f"{GON}/phi", np.arange(8.0)))


@pytest.mark.parametrize("form", [np.array([STEP]), np.float32(STEP), 2], ids=repr)
def test_step_in_any_form_is_the_same_step(plain, change, form):
    assert change((f"{GON}/phi", np.array([PHI])), step=form).geometry == plain.geometry


def test_phi_without_a_step_is_an_error(change):
    with pytest.raises(SchemaError, match="goniometer/phi: expected an attribute 'step'"):
        change((f"{GON}/phi", PHI))


@pytest.mark.parametrize("value", [PHI + STEP * np.array([*range(8), np.nan]), np.array([np.nan])])
def test_phi_that_is_no_number_is_an_error(change, value):
    with pytest.raises(SchemaError, match="goniometer/phi: expected"):
        change((f"{GON}/phi", value), step=STEP)


@pytest.mark.parametrize("older", ["goniometer_pitch", "gonpitch"])
def test_theta_is_found_under_its_older_names(plain, change, older):
    found = change((f"{GON}/theta", None), (f"{GON}/{older}", 1.5))
    assert found.geometry == plain.geometry


def test_present_name_of_theta_counts_before_older_ones(plain, change):
    assert change((f"{GON}/goniometer_pitch", 77.0)).geometry == plain.geometry


@pytest.mark.parametrize("name", ["theta", "omega", "chi"])
def test_missing_angle_of_the_goniometer_is_0_and_said(plain, change, told, name):
    found = change((f"{GON}/{name}", None))
    goniometer = dataclasses.replace(plain.geometry.goniometer, **{name: 0.0})
    assert found.geometry.goniometer == goniometer
    assert told(f"/f1: no instrument/goniometer/{name}, taking 0")


def test_missing_results_of_refinement_are_0(plain, change, told):
    names = [f"{DET}/{name}" for name in ("yaw", "pitch", "roll")]
    names += [f"{GON}/{name}" for name in ("xs", "ys", "zs")]
    found = change(*((name, None) for name in names)).geometry
    detector = dataclasses.replace(plain.geometry.detector, yaw=0.0, pitch=0.0, roll=0.0)
    assert found.detector == detector
    assert found.goniometer.sample_offset == (0, 0, 0)
    assert not told("taking 0")


LOST = {"soft": h5py.SoftLink("/nowhere"), "external": h5py.ExternalLink("gone.h5", "/data")}


@pytest.mark.parametrize("link", LOST)
@pytest.mark.parametrize(
    "name",
    [
        f"{DET}/yaw", f"{DET}/pixel_mask", f"{DET}/detector_orientation", f"{GON}/chi", GON,
        f"{GON}/xs", "f1/monitor1", "f1/monitor1/data", "f1/data/frame_number",
        "f1/instrument/attenuator", "f1/instrument/attenuator/attenuator_transmission",
        "f1/frame_sums/transmission",
    ],
)  # fmt: skip
def test_what_a_lost_link_led_to_is_not_taken_as_absent(path, name, link):
    with h5py.File(path, "r+") as file:
        replace(file, name, None)
        file[name] = LOST[link]
    told = "gone.h5:/data, which does not exist" if link == "external" else "to /nowhere, which"
    with pytest.raises(SchemaError, match=rf":/{name}.*: expected .* a link .*{told}"):
        read_scan(path, ScanParams(), NormParams())


# --- detector


@pytest.mark.parametrize("dtype", [float, int, np.int8])
def test_orientation_may_be_a_matrix(plain, change, dtype):
    matrix = np.array([[0, -1, 0], [0, 0, 1], [-1, 0, 0]], dtype)
    assert change((f"{DET}/detector_orientation", matrix)).geometry == plain.geometry


def test_missing_orientation_is_that_of_nxrefine_and_said(plain, change, told):
    assert change((f"{DET}/detector_orientation", None)).geometry == plain.geometry
    assert told("/f1: no detector_orientation, taking -y +z -x")


@pytest.mark.parametrize(
    "value", ["-y +z", "", np.zeros((3, 3)), np.full((3, 3), np.nan), np.eye(2), 5.0], ids=repr
)
def test_orientation_that_is_none_is_an_error(change, value):
    with pytest.raises(SchemaError, match=r"/f1/instrument/detector.*orientation"):
        change((f"{DET}/detector_orientation", value))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int32, np.float64, ">i4"])
def test_any_value_but_0_masks_a_pixel(change, dtype):
    mask = np.zeros(SHAPE)
    mask[3, 5], mask[7, 1] = 1, 100
    found = change((f"{DET}/pixel_mask", mask.astype(dtype)))
    np.testing.assert_array_equal(np.argwhere(found.bad), [[3, 5], [7, 1]])


@pytest.mark.parametrize("kept", [False, True])
def test_hot_and_dead_pixels_that_were_found_are_left_out(path, told, kept):
    mask, hot, dead = (np.zeros(SHAPE, np.int8) for _ in range(3))
    mask[0, 0] = hot[0, 0] = hot[3, 5] = dead[7, 1] = 1
    with h5py.File(path, "r+") as file:
        for name, values in (("pixel", mask), ("hot_pixel", hot), ("dead_pixel", dead)):
            replace(file, f"{DET}/{name}_mask", values)
    found = read_scan(path, ScanParams(), NormParams(hot_pixels=kept)).measured[0].position.bad
    expected = mask != 0 if kept else (mask | hot | dead) != 0
    np.testing.assert_array_equal(found, expected)
    assert told("f1: 2 hot or dead pixels are left out") != kept


def test_pixel_mask_of_another_shape_is_an_error(change):
    with pytest.raises(SchemaError, match=r"pixel_mask: expected the shape of the frames"):
        change((f"{DET}/pixel_mask", np.zeros(SHAPE[::-1], np.int8)))


# --- sample


@pytest.mark.parametrize(
    "vectors",
    [
        {"unit_cell": CELL},
        {"unit_cell": [CELL]},
        {"unit_cell_abc": CELL[:3], "unit_cell_alphabetagamma": CELL[3:]},
    ],
    ids=["six", "1 x 6", "three and three"],
)
def test_unit_cell_may_be_a_vector(plain, change, vectors):
    scalars = [(f"entry/sample/unitcell_{name}", None) for name in CELL_NAMES]
    vectors = [(f"entry/sample/{name}", np.array(values)) for name, values in vectors.items()]
    found = change(*scalars, *vectors)
    assert found.sample == plain.sample
    assert found.geometry == plain.geometry


@pytest.mark.parametrize(
    ("name", "value"),
    [("unit_cell", np.ones(5)), ("unitcell_b", None), ("unitcell_c", -7.2)],
    ids=["five", "one missing", "negative"],
)
def test_unit_cell_that_is_none_is_an_error(change, name, value):
    with pytest.raises(SchemaError, match="sample: expected a unit cell"):
        change((f"entry/sample/{name}", value))


LINKS = {
    "absent": None,
    "soft": h5py.SoftLink("/entry/sample"),
    "relative": h5py.SoftLink("crystal"),
    "broken": h5py.SoftLink("/nowhere"),
    "external": h5py.ExternalLink("300K/sample.h5", "quartz"),
    "broken external": h5py.ExternalLink("gone.h5", "quartz"),
}


@pytest.mark.parametrize("link", LINKS)
def test_sample_is_found_through_any_link_or_in_the_shared_entry(path, plain, link):
    with h5py.File(path, "r+") as file:
        with h5py.File(path.parent / "300K" / "sample.h5", "w") as other:
            file.copy("entry/sample", other, "quartz")
        file.copy("entry/sample", file["f1"], "crystal")
        replace(file, "f1/sample", None)
        if LINKS[link] is not None:
            file["f1/sample"] = LINKS[link]
        if link in {"relative", "external"}:
            del file["entry/sample"]
    assert read(path).sample == plain.sample


@pytest.mark.parametrize("name", ["entry/sample", "entry"])
def test_scan_without_a_sample_is_an_error(change, name):
    with pytest.raises(SchemaError, match="/entry/sample: expected a sample with its unit cell"):
        change(("f1/sample", None), (name, None))


@pytest.mark.parametrize("name", ["instrument", "instrument/goniometer", "instrument/detector/yaw"])
@pytest.mark.parametrize("kind", ["soft", "external"])
def test_anything_may_be_a_link(path, plain, name, kind):
    with h5py.File(path, "r+") as file, h5py.File(path.parent / "300K" / "all.h5", "w") as other:
        file.copy(f"f1/{name}", other, "it")
        file.move(f"f1/{name}", "elsewhere")
    links = {
        "soft": h5py.SoftLink("/elsewhere"),
        "external": h5py.ExternalLink("300K/all.h5", "it"),
    }
    with h5py.File(path, "r+") as file:
        file[f"f1/{name}"] = links[kind]
    assert read(path).geometry == plain.geometry


# --- raw frames


def write_raw(path, data=None, name="f1.h5", **storage):
    """Write the raw frames anew."""
    with h5py.File(path.parent / "300K" / name, "w") as file:
        file.create_dataset("entry/data/data", data=counts() if data is None else data, **storage)


TYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    ">i2", ">u4", ">i8",
]  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
def test_frames_of_any_type_give_the_same_volume(path, dtype):
    data = counts() % 2 if dtype == "bool" else counts()
    data[0, 3, 4] = data.max()
    write_raw(path, data)
    expected = volume(path)
    assert expected[0].sum() > 100
    write_raw(path, data.astype(dtype))
    np.testing.assert_array_equal(volume(path), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", ">u2"])
def test_all_ones_and_negative_values_stand_for_nothing(path, dtype):
    data = counts().astype(dtype)
    marked = data.copy()
    marked[2, 4, 5] = marked[5, 1, 1] = -1 if np.dtype(dtype).kind == "i" else np.iinfo(dtype).max
    if np.dtype(dtype).kind == "i":
        marked[7, 3, 2] = -2
    with h5py.File(path, "r+") as file:
        axes = {f"f1/transform/{name}": np.array([-40.0, 0.0, 40.0]) for name in AXES}
        for name, values in axes.items():
            replace(file, name, values)
    write_raw(path, marked)
    found, norm = volume(path)
    left_out = data[marked != data].sum()
    assert left_out > 0
    assert found.sum() == data.sum() - left_out
    write_raw(path, data)
    assert volume(path)[1].sum() > norm.sum()


STORAGE = {
    "contiguous": {},
    "one by one": {"chunks": (1, *SHAPE)},
    "in blocks": {"chunks": (4, *SHAPE)},
    "all in one": {"chunks": (N_FRAMES, *SHAPE)},
    "in tiles": {"chunks": (2, 5, 6)},
    "gzip": {"chunks": (1, *SHAPE), "compression": "gzip", "shuffle": True},
    "lzf": {"chunks": (3, *SHAPE), "compression": "lzf", "fletcher32": True},
    "bitshuffle-lz4": {"chunks": (1, *SHAPE), **hdf5plugin.Bitshuffle(cname="lz4")},
    "bitshuffle-zstd": {"chunks": (2, *SHAPE), **hdf5plugin.Bitshuffle(cname="zstd")},
    "lz4": {"chunks": (1, *SHAPE), **hdf5plugin.LZ4()},
    "zstd": {"chunks": (1, *SHAPE), **hdf5plugin.Zstd()},
    "blosc": {"chunks": (1, *SHAPE), **hdf5plugin.Blosc(cname="lz4hc")},
    "blosc2": {"chunks": (1, *SHAPE), **hdf5plugin.Blosc2()},
}


@pytest.mark.parametrize("storage", STORAGE)
def test_frames_are_read_however_they_are_stored(path, storage):
    write_raw(path, **STORAGE[storage])
    np.testing.assert_array_equal(read_frames(path)[0], counts())


def test_frames_may_be_in_the_scan_file_itself(path, plain):
    with h5py.File(path, "r+") as file:
        replace(file, "f1/data/data", counts())
    np.testing.assert_array_equal(read_frames(path)[0], counts())
    assert read(path).geometry == plain.geometry


@pytest.mark.parametrize("absolute", [False, True], ids=["relative", "absolute"])
def test_links_may_lead_to_links(path, monkeypatch, tmp_path, absolute):
    write_raw(path, name="raw_0001.h5")
    target = "raw_0001.h5"
    with h5py.File(path.parent / "300K" / "f1.h5", "w") as master:
        folder = path.parent / "300K"
        name = str(folder / target) if absolute else target
        master["entry/data/frames"] = h5py.ExternalLink(name, "/entry/data/data")
        master["entry/data/data"] = h5py.SoftLink("frames")
    monkeypatch.chdir(tmp_path)  # relative to the file, wherever the program is started
    np.testing.assert_array_equal(read_frames(path.relative_to(tmp_path))[0], counts())


def write_virtual(path, layout):
    with h5py.File(path.parent / "300K" / "f1.h5", "w", libver=("earliest", "v110")) as file:
        file.create_virtual_dataset("entry/data/data", layout, fillvalue=0)


def virtual_layout(path, names=("a.h5", "b.h5"), dataset="entry/data/data"):
    layout = h5py.VirtualLayout((N_FRAMES, *SHAPE), np.int32)
    for name, (start, stop) in zip(names, ((0, 5), (5, N_FRAMES)), strict=True):
        write_raw(path, counts()[start:stop], name, chunks=(1, *SHAPE), compression="gzip")
        shape = (stop - start, *SHAPE)
        layout[start:stop] = h5py.VirtualSource(name, dataset, shape, np.int32)
    return layout


def test_virtual_dataset_is_read_through_its_sources(path, monkeypatch, tmp_path):
    write_virtual(path, virtual_layout(path))
    np.testing.assert_array_equal(read_frames(path)[0], counts())
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(read_frames(path.relative_to(tmp_path))[0], counts())


def test_virtual_dataset_without_one_of_its_sources_is_an_error(path):
    write_virtual(path, virtual_layout(path))
    (path.parent / "300K" / "b.h5").unlink()
    with pytest.raises(InputError, match=r"b\.h5: expected a file, found none"):
        read(path)


def test_virtual_dataset_whose_source_lacks_the_frames_is_an_error(path):
    write_virtual(path, virtual_layout(path, dataset="entry/data/frames"))
    with pytest.raises(SchemaError, match=r"\.h5:/entry/data/frames: expected a source of"):
        read(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((N_FRAMES, *SHAPE)), "expected integer counts, found float64"),
        (np.zeros(SHAPE, np.int32), "expected 3 dimensions"),
    ],
    ids=["floating point", "one frame without a number"],
)
def test_data_that_are_no_frames_are_an_error(path, data, message):
    write_raw(path, data)
    with pytest.raises(SchemaError, match=message):
        read(path)


def test_raw_file_that_is_gone_is_an_error_that_names_it(path):
    (path.parent / "300K" / "f1.h5").unlink()
    with pytest.raises(SchemaError, match=r"300K/f1\.h5:/entry/data/data, which does not exist"):
        read(path)


def test_frame_that_cannot_be_read_is_an_error_or_left_out(path):
    write_raw(path, chunks=(1, *SHAPE), compression="gzip")
    raw = path.parent / "300K" / "f1.h5"
    with h5py.File(raw) as file:
        chunk = file["entry/data/data"].id.get_chunk_info(4)
    with raw.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(os.urandom(chunk.size))
    with pytest.raises(InputError, match=r"expected frame 4 to be readable"):
        read_frames(path)
    stack = read_scan(path, ScanParams(), NORM).measured[0].raw
    frames, _, bad = StackReader(stack, None, skip_bad_frames=True).read(ALL)
    assert list(bad) == [4]
    np.testing.assert_array_equal(frames.reshape(8, *SHAPE), np.delete(counts(), 4, axis=0))


@pytest.mark.parametrize(("numbers", "used"), [(12, 9), (7, 7)], ids=["more", "fewer"])
def test_frames_are_the_fewer_of_those_there_and_those_counted(change, told, numbers, used):
    found = change(("f1/data/frame_number", np.arange(numbers)))
    assert found.n_frames == used
    assert found.last_frame == used - 1
    assert told("/f1: frame_number counts", f"{numbers} frames, the data have 9: taking {used}")


def test_gap_in_the_frames_is_told_where_phi_is_a_scalar(change, told):
    gap = ("f1/data/frame_number", np.array([0, 1, 2, 3, 4, 20, 21, 22, 23]))
    text = "/f1: frame_number is not consecutive: from 0 to 4, then from 20 on; phi is taken as"
    change((f"{GON}/phi", np.arange(9) * 0.1), gap, step=0.1)
    assert not told("frame_number")
    change((f"{GON}/phi", 0.0), step=0.1)
    assert told(text)


@pytest.mark.parametrize("numbers", [range(9), range(100, 109)])
def test_frames_that_are_consecutive_have_no_gap(change, told, numbers):
    change(("f1/data/frame_number", np.array(numbers)))
    assert not told("frame_number")


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, ">i2", np.int32])
def test_mask_of_any_type_excludes_where_it_is_not_0(path, dtype):
    wanted = np.random.default_rng(2).random((N_FRAMES, *SHAPE)) < 0.3
    value = 256 if np.dtype(dtype).itemsize > 1 else 1
    with h5py.File(path.parent / "300K" / "f1_mask.nxs", "w") as file:
        file["entry/mask"] = (wanted * value).astype(dtype)
    with h5py.File(path, "r+") as file:
        file["f1/data/data_mask"] = h5py.ExternalLink("300K/f1_mask.nxs", "/entry/mask")
    excluded = read_frames(path)[1]
    assert excluded.dtype == np.int8
    np.testing.assert_array_equal(excluded.reshape(wanted.shape) != 0, wanted)


# --- parameters and where they come from

VALUES = {"first_frame": 2, "last_frame": 6, "norm": 20000.0, "polarization": 0.5}


def write_ini(path, **values):
    folder = path.parents[2] / "tasks"
    folder.mkdir()
    lines = [f"{name} = {value}" for name, value in values.items()]
    (folder / "settings.ini").write_text("\n".join(["[nxreduce]", *lines]))


def write_group(file, path, **values):
    group = file.require_group(path)
    for name, value in values.items():
        group[name] = value


def write_parent(path, name="quartz_scans.nxs", **values):
    with h5py.File(path.parent / name, "w") as parent:
        write_group(parent, "entry/nxscans/settings", **values)
    return path.parent / name


def used(path, **params):
    """Return the parameters that a scan was read with."""
    measured = read_scan(path, ScanParams(**params), NORM).measured[0]
    position, norm = measured.position, measured.norm
    return {
        "first_frame": position.first_frame,
        "last_frame": position.last_frame,
        "norm": float(norm.origins["monitor"].split(" / ")[1]),
        "polarization": norm.pixels.polarization,
    }


def test_each_parameter_comes_from_the_most_binding_source(path, told):
    write_ini(path, first=5, last=5, norm=500.0, polarization=0.05)
    parent = write_parent(path, last_frame=6, norm=600.0, polarization=0.06)
    with h5py.File(path, "r+") as file:
        write_group(file, "entry/nxreduce", norm=700.0, last_frame=7)  # not read: there is a parent
    found = used(path, polarization=0.09)
    assert found == {"first_frame": 5, "last_frame": 6, "norm": 600.0, "polarization": 0.09}
    assert told("first_frame = 5, from", "tasks/settings.ini")
    assert told("last_frame = 6, from", str(parent))
    assert told("norm = 600.0, from", str(parent))
    assert told("polarization = 0.09, from the command line")
    assert told("monitor = None, by default")


def test_scan_without_a_parent_has_parameters_of_its_own(path, told):
    write_ini(path, first=1, norm=500.0)
    with h5py.File(path, "r+") as file:
        write_group(file, "entry/nxreduce", norm=700.0, polarization="0.7")
    expected = {"first_frame": 1, "last_frame": 8, "norm": 700.0, "polarization": 0.7}
    assert used(path) == expected
    assert told("norm = 700.0, from", "quartz_300K.nxs:/entry/nxreduce")
    assert told("last_frame = 8, by default")


@pytest.mark.parametrize("name", ["quartz_scans.nxs", "other.nxs", "../parents/p.nxs"])
def test_parent_is_the_one_that_the_scan_names_else_the_usual(path, name):
    (path.parents[1] / "parents").mkdir()
    write_parent(path, **VALUES | {"norm": 1.0})
    (path.parent / name).unlink(missing_ok=True)
    write_parent(path, name, **VALUES)
    if name != "quartz_scans.nxs":
        with h5py.File(path, "r+") as file:
            file["entry/nxscans/parent"] = name
    assert used(path) == VALUES


def test_parent_that_is_named_and_gone_is_an_error(change):
    with pytest.raises(InputError, match=r"nxscans/parent: expected the parent scan, found gone"):
        change(("entry/nxscans/parent", "gone.nxs"))


def test_parent_may_be_the_scan_itself(path):
    with h5py.File(path, "r+") as file:
        file["entry/nxscans/parent"] = path.name
        write_group(file, "entry/nxscans/settings", **VALUES)
        for name, values in AXES.items():
            file[f"entry/nxscans/transform/{name}"] = values * 2
    assert used(path) == VALUES
    assert read_scan(path, ScanParams(), NORM).grid.step == (0.2, 0.2, 0.4)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: np.array([x]),
        str,
        lambda x: np.bytes_(str(x)),
        lambda x: np.array([f"{x:.1f}"], "S9"),
    ],
    ids=["length 1", "text", "bytes", "array of text"],
)
def test_parameter_in_any_form_is_the_same_parameter(path, form):
    write_parent(path, **{name: form(value) for name, value in VALUES.items()})
    assert used(path) == VALUES


@pytest.mark.parametrize("value", ["", "None", "none"])
def test_parameter_that_says_nothing_is_left_to_the_next_source(path, value):
    write_ini(path, first=value, norm=500.0)
    assert used(path)["first_frame"] == 0
    assert used(path)["norm"] == 500.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("first_frame", "soon"), ("norm", -1.0), ("norm", np.nan), ("polarization", 99.0),
     ("polarization", np.nan), ("last_frame", np.nan)],
)  # fmt: skip
def test_parameter_that_makes_no_sense_is_an_error_that_names_it(path, name, value):
    write_parent(path, **{name: value})
    with pytest.raises(InputError, match=name):
        read(path)


@pytest.mark.parametrize("text", [b"first = 3", b"[nxreduce]\n\xff\xfe = 1"], ids=["bare", "bytes"])
def test_settings_that_are_no_settings_are_an_error(path, text):
    write_ini(path)
    (path.parents[2] / "tasks" / "settings.ini").write_bytes(text)
    with pytest.raises(InputError, match=r"settings\.ini: expected settings as INI"):
        read(path)


# --- frames used


def test_frames_outside_of_those_used_have_no_weight_and_add_nothing(path, plain):
    found = read(path, first_frame=2, last_frame=6)
    assert (found.first_frame, found.last_frame) == (2, 6)
    assert (found.weight[2:7] == plain.weight[2:7]).all()
    assert (found.weight[:2] == 0).all()
    assert (found.weight[7:] == 0).all()
    expected = volume(path, first_frame=2, last_frame=6)
    data = counts()
    data[:2] = data[7:] = 99
    write_raw(path, data)
    np.testing.assert_array_equal(volume(path, first_frame=2, last_frame=6), expected)
    assert expected[0].sum() < volume(path)[0].sum()


def test_weight_of_a_frame_is_the_monitor_over_its_norm(plain):
    monitor = np.linspace(90000, 70000, N_FRAMES)
    monitor[0], monitor[-1] = monitor[1], monitor[-2]
    np.testing.assert_allclose(plain.weight, monitor / 50000.0)


def test_last_frame_beyond_the_frames_is_clipped_and_said(path, plain, told):
    found = read(path, last_frame=3640)
    assert found.last_frame == 8
    np.testing.assert_array_equal(found.weight, plain.weight)
    assert told("f1: last frame 3640 is beyond the last there is, 8")


@pytest.mark.parametrize(("first", "last"), [(5, 4), (9, None), (-1, None), (0, -1)])
def test_range_without_frames_is_an_error(path, first, last):
    with pytest.raises(InputError, match="expected first_frame from 0 to last_frame"):
        read(path, first_frame=first, last_frame=last)


# --- grid


def test_grid_is_that_of_the_command_line_then_parent_then_scan_then_geometry(path, told):
    own = HKLGrid(origin=(-2.0, -2.0, -3.0), step=(0.1, 0.1, 0.2), shape=(41, 41, 31))
    assert read_scan(path, ScanParams(), NORM).grid == own
    assert told("grid from /f1/transform")

    with h5py.File(write_parent(path), "r+") as parent:
        for name, values in AXES.items():
            parent[f"entry/nxscans/transform/{name}"] = values * 2
    parents = HKLGrid(origin=(-4.0, -4.0, -6.0), step=(0.2, 0.2, 0.4), shape=(41, 41, 31))
    assert read_scan(path, ScanParams(), NORM).grid == parents
    assert told("grid from", "quartz_scans.nxs")

    axes = ((-1, 0.5, 1), (-2, 0.5, 2), (0, 0.25, 1))
    asked = HKLGrid(origin=(-1.0, -2.0, 0.0), step=(0.5, 0.5, 0.25), shape=(5, 9, 5))
    assert read_scan(path, ScanParams(grid=axes), NORM).grid == asked


def test_grid_may_be_that_of_the_masked_transform(path):
    with h5py.File(path, "r+") as file:
        file.move("f1/transform", "f1/masked_transform")
    assert read_scan(path, ScanParams(), NORM).grid.shape == (41, 41, 31)


def test_scan_without_a_grid_has_one_from_the_geometry(path, told):
    with h5py.File(path, "r+") as file:
        del file["f1/transform"]
    grid = read_scan(path, ScanParams(), NORM).grid
    assert told("grid from the geometry")
    x, y = np.array([0, 14, 0, 14]) - 6.6, np.array([0, 0, 12, 12]) - 5.2
    two_theta = np.arctan(np.hypot(x, y).max() * 1.3 / 61.0)
    G_max = 2 * np.sin(two_theta / 2) / 0.7  # the tilts are small
    for axis, (n, length) in enumerate(zip(grid.shape, CELL[:3], strict=True)):
        assert n % 2 == 1
        assert 500 <= n <= 1700
        assert grid.origin[axis] == pytest.approx(-grid.step[axis] * (n // 2))
        assert -grid.origin[axis] >= 0.8 * G_max * length * 0.99


def test_axes_of_single_precision_give_the_same_grid(path):
    expected = read_scan(path, ScanParams(), NORM).grid
    with h5py.File(path, "r+") as file:
        for name, values in AXES.items():
            replace(file, f"f1/transform/{name}", values.astype(np.float32))
    assert read_scan(path, ScanParams(), NORM).grid == expected


# --- what is not there at all


def test_file_that_is_missing_or_none_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match=r"none\.nxs: expected a file, found none"):
        read(tmp_path / "none.nxs")
    (tmp_path / "text.nxs").write_text("not HDF5")
    with pytest.raises(InputError, match=r"text\.nxs: expected an HDF5 file"):
        read(tmp_path / "text.nxs")


def test_scan_without_positions_is_an_error(change):
    with pytest.raises(SchemaError, match="expected entries of detector positions, such as f1"):
        change(("f1", None))


def test_error_of_reading_is_told_on_all_ranks_alike(path):
    with pytest.raises(CollectiveError, match="expected one of f1"):
        volume(path, entries=("f9",))
