"""What the frames step leaves in files: peaks, sums, mask; and the angles and radial sum of it."""

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
from nexusformat.nexus import nxload
from unit import plain_scan

from nxmpi.crystal.angles import polar_azimuth
from nxmpi.crystal.detector import parse_orientation, pixel_centres
from nxmpi.crystal.factors import polarization_factor, solid_angle
from nxmpi.crystal.goniometer import rotation
from nxmpi.crystal.radial import N_BINS, RadialSum, poni, radial_sum
from nxmpi.crystal.transmission import Transmission
from nxmpi.errors import InputError, SchemaError
from nxmpi.model import Detector, PeakFlag, Peaks
from nxmpi.nexus import schema
from nxmpi.nexus.mask import create_mask, link_mask
from nxmpi.nexus.peaks import COUNTED, read_peaks, write_peaks
from nxmpi.nexus.stack import find_stack
from nxmpi.nexus.sums import FrameSums, read_faults, read_sums, write_sums
from nxmpi.plot.frames import summed_frame

SHAPE, N_FRAMES = plain_scan.SHAPE, plain_scan.N_FRAMES
NXREFINE_COLUMNS = {"x", "y", "z", "intensity", "sigx", "sigy", "sigz"}
ORIENTATIONS = ("-y +z -x", "-y -z +x", "+z +y -x", "-z -y +x", "+y +z +x")


@pytest.fixture
def entry(tmp_path):
    with h5py.File(plain_scan.write_scan(tmp_path), "r+") as file:
        for name in ("entry", "f1"):
            file[name].attrs["NX_class"] = "NXentry"
        yield file["f1"]


def peaks(n):
    rng = np.random.default_rng(4)
    columns = {field.name: rng.uniform(1, 12, n) for field in fields(Peaks)}
    columns |= {name: rng.integers(0, 31, n) for name in COUNTED}
    return Peaks(**columns)


def assert_same(found, expected):
    for field in fields(Peaks):
        values = getattr(found, field.name)
        np.testing.assert_array_equal(values, getattr(expected, field.name), field.name)
        assert values.dtype == (np.int64 if field.name in COUNTED else np.float64)


def tilted(orientation="-y +z -x", **changes):
    values = {
        "shape": (150, 210), "pixel_size": 0.172, "distance": 30.0, "beam_center": (63.3, 91.8),
        "orientation": parse_orientation(orientation), "yaw": -29.6, "pitch": 4.0, "roll": -3.0,
    }  # fmt: skip
    return Detector(**(values | changes))


# --- peaks


@pytest.mark.parametrize("n", [0, 1, 7])
def test_peaks_are_read_as_written(entry, n):
    entry["peaks/old"] = 1.0
    polar, azimuth = np.full(n, 10.0), np.full(n, -20.0)
    write_peaks(entry, peaks(n), polar, azimuth, {"first": 0, "last": 8, "threshold": 50.0})
    assert_same(read_peaks(entry), peaks(n))
    group = entry["peaks"]
    assert group.attrs["NX_class"] == "NXreflections"
    assert dict(group.attrs).items() >= {"first": 0, "last": 8, "threshold": 50.0}.items()
    assert NXREFINE_COLUMNS.issubset(group)
    assert "old" not in group
    assert group["x_errors"].attrs["units"] == group["x"].attrs["units"] == "pixel"
    assert group["flags"].attrs["bits"] == "1 gap, 2 edge, 4 ends, 8 saturated, 16 overlap"
    assert ("polar_angle" in group) == ("azimuthal_angle" in group) == (n > 0)
    if n:
        np.testing.assert_array_equal(group["polar_angle"], polar)
        assert group["azimuthal_angle"].attrs["units"] == "degree"


def test_peaks_of_nxrefine_are_read(entry):
    for name in NXREFINE_COLUMNS:
        entry[f"peaks/{name}"] = np.arange(5.0)
    found = read_peaks(entry)
    np.testing.assert_array_equal(found.sigz, np.arange(5))
    for name in ("x_error", "intensity_error", "background"):
        assert np.isnan(getattr(found, name)).all()
    for name in COUNTED:
        np.testing.assert_array_equal(getattr(found, name), np.zeros(5, np.int64))
    entry["peaks/npixels"] = np.full(5, 12.0)
    np.testing.assert_array_equal(read_peaks(entry).n_pixels, np.full(5, 12))


def test_peaks_that_cannot_be_used_are_refused(entry):
    with pytest.raises(SchemaError, match=r"/f1/peaks: expected a list of peaks .*found nothing"):
        read_peaks(entry)
    for name in ("x", "y", "intensity"):
        entry[f"peaks/{name}"] = np.arange(5.0)
    with pytest.raises(SchemaError, match="/f1/peaks/z: expected a column"):
        read_peaks(entry)
    entry["peaks/z"] = np.arange(4.0)
    with pytest.raises(SchemaError, match="columns of one length"):
        read_peaks(entry)
    with pytest.raises(InputError, match="one value a peak"):
        replace(peaks(3), x=np.zeros(2))


def test_flags_are_bits():
    assert [bit.value for bit in PeakFlag] == [1, 2, 4, 8, 16]


# --- angles


def nxrefine_angles(detector, x, y):
    """Return polar and azimuthal angle as NXRefine 0.1.1 computes them."""
    Oi = np.linalg.inv(np.array(detector.orientation))
    D = rotation(0, detector.roll) @ rotation(1, detector.pitch) @ rotation(2, detector.yaw)
    v = Oi @ np.array([x - detector.beam_center[0], y - detector.beam_center[1], np.zeros(x.size)])
    radius = np.linalg.norm(detector.pixel_size * D @ v, axis=0)
    return np.degrees(np.arctan(radius / detector.distance)), np.degrees(np.arctan2(-v[1], v[2]))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_angles_are_nxrefines_where_nothing_is_tilted(orientation):
    flat = tilted(orientation, yaw=0.0, pitch=0.0, roll=0.0)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, 210, 50), rng.uniform(0, 150, 50)
    expected = nxrefine_angles(flat, x + 0.5, y + 0.5)  # its places are from the beam centre
    np.testing.assert_allclose(polar_azimuth(flat, x, y), expected, atol=1e-9)


def test_angles_of_a_tilted_detector_are_those_of_its_points():
    v = pixel_centres(tilted())
    y, x = np.mgrid[:150, :210]
    polar, azimuth = polar_azimuth(tilted(), x, y)
    length = np.linalg.norm(v, axis=-1)
    np.testing.assert_allclose(np.cos(np.radians(polar)), v[..., 0] / length)
    np.testing.assert_allclose(np.sin(np.radians(polar)) * np.sin(np.radians(azimuth)) * length,
                               -v[..., 1])  # fmt: skip


# --- the radial sum


def integrator(detector, wavelength=0.7):
    from pyFAI.detectors import Detector as PyfaiDetector
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    place, p = poni(detector), detector.pixel_size / 1e3
    return AzimuthalIntegrator(
        place.distance, place.poni1, place.poni2, *place.rotations, wavelength=wavelength / 1e10,
        detector=PyfaiDetector(p, p, max_shape=detector.shape, orientation=place.orientation),
    )  # fmt: skip


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pyfai_sees_the_same_detector(orientation):
    detector = tilted(orientation)
    v = pixel_centres(detector)
    pyfai = integrator(detector)
    two_theta = np.arctan2(np.hypot(v[..., 1], v[..., 2]), v[..., 0])
    found = pyfai.center_array(shape=detector.shape, unit="2th_rad")
    np.testing.assert_allclose(found, two_theta, rtol=0, atol=1e-9)
    along, up, across = pyfai.calc_pos_zyx(corners=False)  # of single precision
    np.testing.assert_allclose(np.stack([along, -across, up], -1) * 1e3, v, rtol=0, atol=1e-5)
    polarization = pyfai.polarization(factor=0.99, shape=detector.shape)
    np.testing.assert_allclose(polarization_factor(v, 0.99), polarization, atol=1e-6)
    relative = solid_angle(detector, v) / (detector.pixel_size / poni(detector).distance / 1e3) ** 2
    np.testing.assert_allclose(pyfai.solidAngleArray(shape=detector.shape), relative, rtol=1e-6)


def test_axes_that_are_not_perpendicular_have_no_poni():
    oblique = ((0.0, -1.0, 0.0), (0.0, 0.3, 1.0), (-1.0, 0.0, 0.0))
    with pytest.raises(InputError, match="perpendicular"):
        poni(replace(tilted(), orientation=oblique))


def test_radial_sum_of_an_isotropic_pattern_is_the_pattern():
    detector = tilted()
    v = pixel_centres(detector)
    two_theta = np.degrees(np.arctan2(np.hypot(v[..., 1], v[..., 2]), v[..., 0]))
    reference = (detector.pixel_size / poni(detector).distance / 1e3) ** 2
    factor = polarization_factor(v, 0.9) * solid_angle(detector, v) / reference
    bad = np.zeros(detector.shape, bool)
    bad[40] = True
    summed = np.rint(1e7 * np.exp(-two_theta / 10) * factor).astype(np.int64)
    summed[bad] = -1
    found = radial_sum(detector, 0.7, summed, bad, polarization_factor(v, 0.9))
    assert found.polar_angle.shape == found.intensity.shape == (N_BINS,)
    filled = found.intensity > 0
    assert filled.sum() > 1000
    expected = 1e7 * np.exp(-found.polar_angle / 10)
    np.testing.assert_allclose(found.intensity[filled], expected[filled], rtol=2e-3)
    sine = np.sin(np.radians(found.polar_angle / 2))
    np.testing.assert_allclose(found.Q, 4 * np.pi * sine / 0.7)


# --- sums


def frame_sums(**changes):
    rng = np.random.default_rng(6)
    bad, hot, dead = rng.random((3, *SHAPE)) < 0.1
    by_frame = rng.uniform(0.5, 1.5, (3, N_FRAMES))
    values = {
        "summed_data": rng.integers(0, 10**12, SHAPE), "maximum_data": rng.integers(0, 99, SHAPE),
        "summed_frames": rng.integers(0, 10**12, N_FRAMES), "bad": bad, "hot": hot,
        "dead": dead, "maximum": 98, "first_frame": 1, "last_frame": 7,
        "transmission": Transmission(by_frame[0], 7.5, by_frame[1], by_frame[2]),
        "radial": RadialSum(*rng.random((3, 20))), "polarization": rng.random(SHAPE),
    }  # fmt: skip
    return FrameSums(**(values | changes))


def test_sums_are_read_as_written(entry):
    sums = frame_sums()
    write_sums(entry, frame_sums(summed_data=np.zeros(SHAPE, np.int64)), "f1")
    write_sums(entry, sums, "f1")
    found = read_sums(entry)
    np.testing.assert_array_equal(found["summed_data"], sums.summed_data)
    np.testing.assert_array_equal(found["maximum_data"], sums.maximum_data)
    np.testing.assert_array_equal(found["summed_frames"], sums.summed_frames)
    np.testing.assert_array_equal(found["partial_frames"], sums.transmission.frame_sums)
    np.testing.assert_array_equal(found["transmission"], sums.transmission.values)
    np.testing.assert_array_equal(found["transmission_raw"], sums.transmission.raw / 7.5)
    np.testing.assert_array_equal(found["radial_sum"], sums.radial.intensity)
    np.testing.assert_array_equal(found["Q"], sums.radial.Q)
    np.testing.assert_array_equal(read_faults(entry, SHAPE), sums.hot | sums.dead)
    dead = entry["instrument/detector/dead_pixel_mask"]
    np.testing.assert_array_equal(dead[()], sums.dead.astype(np.int8))
    assert entry["frame_sums/transmission/transmission"].attrs["median"] == 7.5
    assert dict(entry["data"].attrs) == {"maximum": 98, "first": 1, "last": 7}
    assert not entry["instrument/detector/pixel_mask"][()].any()
    np.testing.assert_allclose(entry["instrument/detector/polarization"], sums.polarization,
                               atol=1e-6)  # fmt: skip
    assert summed_frame(entry, None).title == "Sum of all frames (stored)"
    with pytest.raises(SchemaError, match="hot_pixel_mask: expected the shape of the frames"):
        read_faults(entry, (3, 3))


def test_sums_are_where_nxrefine_looks(entry):
    write_sums(entry, frame_sums(), "f1")
    for name in ("summed_data", "summed_frames", "radial_sum"):
        assert entry[name] == entry[f"frame_sums/{name}"]
    write_sums(entry, frame_sums(transmission=None, radial=None, polarization=None), "f1")
    assert "radial_sum" not in entry
    assert set(read_sums(entry)) == {"summed_data", "maximum_data", "summed_frames"}


def test_nexusformat_plots_every_group(entry):
    sums = frame_sums()
    write_sums(entry, sums, "f1")
    write_peaks(entry, peaks(3), np.ones(3), np.ones(3), {})
    path = entry.file.filename
    entry.file.close()
    found = nxload(path)["f1"]
    for name, group in found["frame_sums"].entries.items():
        assert group.nxclass == "NXdata"
        assert group.nxsignal.nxname == name
        assert group.nxtitle.endswith("of f1")
        assert [axis.shape[0] for axis in group.nxaxes] == list(group.nxsignal.shape)
    for group in (found["summed_data"], found["frame_sums/summed_data"]):
        values = group.nxsignal.nxvalue
        np.testing.assert_array_equal(np.ma.getmaskarray(values), sums.bad | sums.hot)
        np.testing.assert_array_equal(np.ma.getdata(values), sums.summed_data)
    partial = found["summed_frames/partial_frames"].nxvalue
    np.testing.assert_array_equal(partial, sums.transmission.frame_sums)
    assert found["peaks"].nxclass == "NXreflections"


def test_sums_of_nxrefine_are_read(entry):
    entry["summed_data/summed_data"] = np.ones(SHAPE)
    entry["summed_frames/summed_frames"] = np.ones(N_FRAMES)
    entry["summed_frames/partial_frames"] = np.zeros(N_FRAMES)
    assert set(read_sums(entry)) == {"summed_data", "summed_frames", "partial_frames"}
    assert not read_faults(entry, SHAPE).any()


# --- the mask


@pytest.mark.parametrize("chunks", [None, (3, 5, 14), (20, 12, 14)])
def test_a_new_mask_excludes_nothing(entry, tmp_path, chunks):
    path = schema.ScanFiles(tmp_path / "quartz" / "label" / "quartz_300K.nxs").mask("f1")
    shape = (N_FRAMES, *SHAPE)
    with h5py.File(path, "w") as file:
        create_mask(file, shape, chunks, {"compression": "gzip"}, {schema.FINGERPRINT: "key"})
        file[schema.MASK][2, 3] = 1
    link_mask(entry, path)
    link_mask(entry, path)
    link = entry["data"].get("data_mask", getlink=True)
    assert (link.filename, link.path) == ("300K/f1_mask.nxs", "/entry/mask")
    mask = entry["data/data_mask"]
    assert (mask.dtype, mask.shape, mask.fillvalue) == (np.int8, shape, 0)
    assert mask.chunks == {None: (1, *SHAPE), (3, 5, 14): (3, 5, 14)}.get(chunks, shape)
    assert mask[()].sum() == SHAPE[1]
    assert mask.attrs[schema.FINGERPRINT] == "key"
    assert mask.parent.attrs["NX_class"] == "NXentry"
    assert find_stack(entry, schema.DATA_MASK).file == path
