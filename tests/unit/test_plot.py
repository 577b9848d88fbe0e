"""The picture of a scan shows what is in the files, at the true angle."""

import h5py
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.errors import InputError, SchemaError
from nxmpi.model import Lattice, PeakFlag, Peaks
from nxmpi.nexus import schema
from nxmpi.nexus.mask import create_mask, link_mask
from nxmpi.nexus.peaks import write_peaks
from nxmpi.plot import marks, masks
from nxmpi.plot.figure import draw
from nxmpi.plot.frames import average_blocks, middle_frame, raw_frames, summed_frame
from nxmpi.plot.marks import read_marks
from nxmpi.plot.masks import masked_parts, used_frames
from nxmpi.plot.oblique import draw_plane, outline, plane_matrix
from nxmpi.plot.scales import UNMEASURED, between_peaks, logarithmic
from nxmpi.plot.scan import plot_scan, read_contents
from nxmpi.plot.slices import Plane

pytestmark = pytest.mark.parallel([1])

CELLS = {
    "orthorhombic": (5.0, 7.0, 9.0, 90.0, 90.0, 90.0),
    "hexagonal": (4.9, 4.9, 6.8, 90.0, 90.0, 120.0),
    "triclinic": (5.2, 6.5, 7.3, 80.0, 104.0, 112.0),
}
L, K, H = np.linspace(-2, 2, 9), np.linspace(-3, 3, 13), np.linspace(-1, 1, 5)
CENTRE = {"l": (4, slice(None), slice(None)), "k": (slice(None), 6, slice(None)),
          "h": (slice(None), slice(None), 2)}  # fmt: skip
PNG = b"\x89PNG\r\n\x1a\n"


def lattice_of(name):
    return Lattice(**dict(zip(Lattice.__slots__, CELLS[name], strict=True)))


@pytest.fixture(params=CELLS)
def cell(request):
    return request.param


@pytest.fixture
def volumes():
    """Return counts and norm of two positions, neither of which sees everything."""
    rng = np.random.default_rng(5)
    norm = rng.uniform(1, 2, (2, L.size, K.size, H.size))
    norm[0, :, :4], norm[1, :, -4:] = 0, 0
    norm[:, :, :, 0] = 0
    return rng.poisson(norm * 20).astype(float), norm


def write_volume(group, link, l=L):
    volume = group.create_group(schema.REGULAR.group)
    volume.attrs["signal"] = "data"
    for name, axis in zip(schema.AXES, (l, K, H), strict=True):
        volume[name] = axis
    volume["data"] = h5py.ExternalLink(link, f"/{schema.VOLUME}/{schema.COUNTS}")


def write_scan(folder, cell, *, frames=None):
    path = folder / "crystal_300K.nxs"
    (folder / "300K").mkdir()
    if frames is None:
        frames = np.random.default_rng(3).poisson(2, (7, 30, 20)).astype(np.int32)
    with h5py.File(path, "w") as file:
        sample = file.create_group(f"{schema.SHARED}/{schema.SAMPLE}")
        sample.update(dict(zip(schema.UNIT_CELL, CELLS[cell], strict=True)))
        sample[schema.FORMULA] = "K Mn O4"
        for name in ("f1", "f2"):
            with h5py.File(folder / "300K" / f"{name}.h5", "w") as raw:
                raw[schema.RAW_IN_FILE] = frames
            file[f"{name}/{schema.RAW}"] = h5py.ExternalLink(
                f"300K/{name}.h5", f"/{schema.RAW_IN_FILE}"
            )
            file[f"{name}/{schema.DETECTOR}/{schema.BEAM_CENTER_X}"] = 9.5
            file[f"{name}/{schema.DETECTOR}/{schema.BEAM_CENTER_Y}"] = 14.0
            file[f"{name}/{schema.DETECTOR}/{schema.ORIENTATION_MATRIX}"] = np.eye(3)
    return path


def add_volume(path, owner, name, counts, norm, l=L):
    with h5py.File(path.parent / "300K" / name, "w") as file:
        file[f"{schema.VOLUME}/{schema.COUNTS}"] = counts
        if norm is not None:
            file[f"{schema.VOLUME}/{schema.NORM}"] = norm
    with h5py.File(path, "r+") as file:
        write_volume(file.require_group(owner), f"300K/{name}", l)


def add_positions(path, volumes):
    counts, norm = volumes
    for i, entry in enumerate(("f1", "f2")):
        add_volume(path, entry, f"{entry}_transform.nxs", counts[i], norm[i])


def add_combined(path, volumes, *, keep_norm=True):
    counts, norm = (array.sum(axis=0) for array in volumes)
    with np.errstate(invalid="ignore"):
        intensity = np.where(norm > 0, counts / norm, np.nan if keep_norm else 0)
    add_volume(path, "entry", "transform.nxs", intensity, norm if keep_norm else None)


def add_peaks(path, flags, entry="f1"):
    """Write peaks at x = 0, 1, …, each stronger than the one before it."""
    n = len(flags)
    values = np.arange(n, dtype=float)
    columns = dict.fromkeys(schema.PEAK_COLUMNS, np.zeros(n))
    counted = dict.fromkeys(("n_pixels", "maximum"), np.ones(n, np.int64))
    columns |= {"x": values, "y": values + 3, "intensity": values + 1, **counted}
    peaks = Peaks(**columns | {"flags": np.array(flags, np.int64)})
    with h5py.File(path, "r+") as file:
        write_peaks(file[entry], peaks, values, values, {})


def add_curves(path, entry="f1", n_frames=7, names=(schema.TRANSMISSION_RAW, schema.Q)):
    angles = np.linspace(1, 40, 50)
    curves = {
        schema.TRANSMISSION: {
            schema.TRANSMISSION: np.linspace(0.9, 1.1, n_frames),
            schema.TRANSMISSION_RAW: np.r_[np.nan, np.linspace(0.8, 1.2, n_frames - 1)],
        },
        schema.RADIAL_SUM: {
            schema.RADIAL_SUM: np.r_[0.0, np.geomspace(1000, 10, 49)],
            schema.POLAR_ANGLE: angles,
            schema.Q: angles / 10,
        },
    }
    with h5py.File(path, "r+") as file:
        for group, columns in curves.items():
            for name, values in columns.items():
                if name in names or name not in (schema.TRANSMISSION_RAW, schema.Q):
                    file[f"{entry}/{schema.SUMS}/{group}/{name}"] = values


def add_mask(path, written, shape=(7, 30, 20), entry="f1"):
    """Write a mask as the frames step does: only of the frames where something is masked."""
    target = path.parent / "300K" / f"{entry}_mask.nxs"
    with h5py.File(target, "w") as file:
        create_mask(file, shape, None, {"compression": "gzip"}, {})
        for number, rows in written.items():
            file[schema.MASK][number, :rows] = 1
    with h5py.File(path, "r+") as file:
        link_mask(file[entry], target)


def panel(figure, title):
    """Return the panel whose title starts so."""
    (axes,) = (axes for axes in figure.axes if axes.get_title().startswith(title))
    return axes


def words(axes):
    legend = axes.get_legend()
    texts = [*axes.texts, *([legend.get_title(), *legend.get_texts()] if legend else [])]
    return "\n".join(text.get_text() for text in texts)


def ratio(counts, norm):
    with np.errstate(invalid="ignore"):
        return counts / norm


@pytest.mark.parametrize("keep_norm", [True, False], ids=["with norm", "without norm"])
def test_planes_are_those_of_the_combined_volume(tmp_path, volumes, keep_norm):
    path = write_scan(tmp_path, "hexagonal")
    add_positions(path, volumes)
    add_combined(path, volumes, keep_norm=keep_norm)
    contents = read_contents(path)
    counts, norm = (array.sum(axis=0) for array in volumes)
    for plane in contents.planes:
        where = CENTRE[plane.normal]
        np.testing.assert_array_equal(plane.values, ratio(counts, norm)[where])
        assert plane.has_zero
        assert plane.value == 0
    assert [plane.indices for plane in contents.planes] == ["hk", "hl", "kl"]
    assert [plane.u.size for plane in contents.planes] == [H.size, H.size, K.size]
    expected = np.where(norm[4] > 0, norm[4], np.nan)
    np.testing.assert_array_equal(contents.coverage.values, expected)
    assert contents.subtitle.startswith("combined from f1, f2")


def test_before_combining_the_first_position_is_shown(tmp_path, volumes):
    path = write_scan(tmp_path, "hexagonal")
    add_positions(path, volumes)
    counts, norm = volumes
    for entry, i in ((None, 0), ("f1", 0), ("f2", 1)):
        contents = read_contents(path, entry)
        np.testing.assert_array_equal(contents.planes[0].values, ratio(counts[i], norm[i])[4])
        assert contents.subtitle.startswith(f"position f{i + 1}")


def test_a_position_asked_for_is_shown_after_combining_too(tmp_path, volumes):
    path = write_scan(tmp_path, "hexagonal")
    add_positions(path, volumes)
    add_combined(path, volumes)
    counts, norm = volumes
    contents = read_contents(path, "f2")
    np.testing.assert_array_equal(contents.planes[2].values, ratio(counts[1], norm[1])[:, :, 2])


def test_a_grid_without_zero_is_cut_in_its_middle_and_says_so(tmp_path, volumes):
    path = write_scan(tmp_path, "hexagonal")
    counts, norm = volumes
    add_volume(path, "f1", "f1_transform.nxs", counts[0], norm[0], l=L + 5)
    plane = read_contents(path).planes[0]
    assert not plane.has_zero
    assert plane.value == 5.0
    np.testing.assert_array_equal(plane.values, ratio(counts[0], norm[0])[4])
    texts = [axes.get_title() for axes in draw(read_contents(path), None).axes]
    assert "$hk$, $l = 5$ (the grid has no 0)" in texts


@pytest.mark.parametrize("normal", ["l", "k", "h"])
def test_lengths_and_angles_on_paper_are_those_of_B(cell, normal):
    lattice = lattice_of(cell)
    axes = {"l": (K, H), "k": (L, H), "h": (L, K)}[normal]
    values = np.ones((axes[0].size, axes[1].size))
    plane = Plane(normal=normal, value=0.0, has_zero=True, u=axes[1], v=axes[0], values=values)
    corners = outline(plane)
    hkl = np.zeros((4, 3))
    hkl[:, ["hkl".index(index) for index in plane.indices]] = corners
    space = hkl @ reciprocal_matrix(lattice).T
    paper = corners @ plane_matrix(lattice, plane.indices).T
    for i in range(4):
        np.testing.assert_allclose(
            np.linalg.norm(paper - paper[i], axis=1),
            np.linalg.norm(space - space[i], axis=1), rtol=1e-12, atol=1e-12,
        )  # fmt: skip
    assert (corners.min(axis=0) < [axes[1][0], axes[0][0]]).all()  # voxels are centred
    panel = Figure().add_axes((0, 0, 1, 1))
    image = draw_plane(panel, plane, lattice, logarithmic([values], None), None)
    drawn = (image.get_transform() - panel.transData).transform(corners)
    np.testing.assert_allclose(drawn, paper, rtol=1e-12, atol=1e-12)
    left, right, bottom, top = image.get_extent()
    np.testing.assert_allclose([[left, bottom], [right, top]], corners[[0, 2]])


def test_reciprocal_axes_of_a_hexagonal_crystal_are_drawn_at_60_degrees():
    h, k = plane_matrix(lattice_of("hexagonal"), "hk").T
    assert h[1] == pytest.approx(0)
    assert np.degrees(np.arctan2(k[1], k[0])) == pytest.approx(60)
    assert np.linalg.norm(h) == pytest.approx(np.linalg.norm(k))


def test_unmeasured_voxels_are_neutral_grey(tmp_path, volumes):
    path = write_scan(tmp_path, "hexagonal")
    add_positions(path, volumes)
    contents = read_contents(path)
    (image,) = draw(contents, None).axes[0].images
    np.testing.assert_array_equal(image.get_array().mask, np.isnan(contents.planes[0].values))
    assert image.get_array().mask.any()
    assert tuple(image.get_cmap().get_bad()) == to_rgba(UNMEASURED)


def test_bragg_peaks_do_not_set_the_colours():
    axis = np.linspace(-3, 3, 61)
    whole = np.isclose(axis, np.rint(axis))
    values = np.where(whole[:, None] & whole, 1e6, 1.0)
    plane = Plane(normal="l", value=0.0, has_zero=True, u=axis, v=axis, values=values)
    assert logarithmic([between_peaks(plane)], None).vmax < 10
    assert logarithmic([between_peaks(plane)], 123.0).vmax == 123.0


def test_planes_without_any_signal_have_a_scale():
    assert logarithmic([], None).vmax == 1
    assert logarithmic([np.full((3, 3), np.nan)], None).vmax == 1
    assert logarithmic([np.zeros((3, 3))], None).vmax == 1


@pytest.mark.parametrize("done", ["nothing", "positions", "combined"])
def test_a_picture_is_written_after_any_step(tmp_path, cell, volumes, done):
    path = write_scan(tmp_path, cell)
    if done != "nothing":
        add_positions(path, volumes)
    if done == "combined":
        add_combined(path, volumes)
        add_peaks(path, [0, PeakFlag.GAP])
        add_curves(path)
        add_mask(path, {1: 3})
    before = set(tmp_path.iterdir())
    output = tmp_path / "picture.png"
    plot_scan(path, output)
    assert output.read_bytes().startswith(PNG)
    assert output.stat().st_size > 10_000
    assert set(tmp_path.iterdir()) - before == {output}


def test_what_is_not_there_is_named_by_its_command(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    contents = read_contents(path)
    assert contents.planes == ["not there yet\nnxmpi transform crystal_300K.nxs"] * 3
    assert "nxmpi frames crystal_300K.nxs" in read_contents(path, masked=True).coverage
    with h5py.File(path, "r+") as file:
        del file[f"f1/{schema.DETECTOR}/{schema.ORIENTATION_MATRIX}"]
    assert "nxmpi orient crystal_300K.nxs" in read_contents(path).coverage


def test_raw_frames_out_of_reach_leave_the_volume(tmp_path, volumes):
    path = write_scan(tmp_path, "hexagonal")
    add_positions(path, volumes)
    add_mask(path, {1: 3})
    (tmp_path / "300K" / "f1.h5").unlink()
    contents = read_contents(path)
    assert contents.findings.masked_parts.most == (1, pytest.approx(10))
    assert contents.findings.masked == contents.frame
    assert isinstance(contents.planes[0], Plane)
    assert contents.frame == contents.summed == "raw frames\ncannot be reached"
    plot_scan(path, tmp_path / "picture.png")


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.uint32])
def test_pixels_that_say_nothing_are_left_out(tmp_path, dtype):
    frames = np.full((5, 6, 8), 4, dtype)
    frames[2, 1, 1] = dtype(-1) if dtype is np.int32 else np.iinfo(dtype).max
    frames[:, 3, 3] = frames[2, 1, 1]
    path = write_scan(tmp_path, "hexagonal", frames=frames)
    with h5py.File(path, "r+") as file:
        mask = np.zeros((6, 8), np.int8)
        mask[5] = 1
        file[f"f1/{schema.DETECTOR}/{schema.PIXEL_MASK}"] = mask
        frame = middle_frame(file["f1"], raw_frames(file["f1"]), masked=False)
        total = summed_frame(file["f1"], raw_frames(file["f1"]))
    expected = np.full((6, 8), 4.0)
    expected[5] = expected[1, 1] = expected[3, 3] = np.nan
    np.testing.assert_array_equal(frame.values, expected)
    expected = np.full((6, 8), 20.0)
    expected[1, 1] = 16
    expected[5] = expected[3, 3] = np.nan
    np.testing.assert_array_equal(total.values, expected)
    assert (frame.title, total.title) == ("Frame 2 of 5", "Sum of all 5 frames")


def test_frames_excluded_by_the_mask_are_left_out_on_demand(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    with h5py.File(path, "r+") as file:
        mask = np.zeros((7, 30, 20), np.int8)
        mask[3, 10:20] = 1
        file[f"f1/{schema.DATA_MASK}"] = mask
        raw = raw_frames(file["f1"])
        assert np.isnan(middle_frame(file["f1"], raw, masked=True).values[10:20]).all()
        assert np.isfinite(middle_frame(file["f1"], raw, masked=False).values).all()


def test_a_stored_sum_is_preferred_and_many_frames_are_sampled(tmp_path):
    path = write_scan(tmp_path, "hexagonal", frames=np.ones((250, 4, 3), np.int32))
    with h5py.File(path, "r+") as file:
        total = summed_frame(file["f1"], raw_frames(file["f1"]))
        assert total.title == "Sum of 100 of 250 frames"
        np.testing.assert_array_equal(total.values, np.full((4, 3), 100.0))
        file[f"f1/{schema.FRAME_SUMS[0]}"] = np.full((4, 3), 250)
        stored = summed_frame(file["f1"], raw_frames(file["f1"]))
    assert stored.title == "Sum of all frames (stored)"
    np.testing.assert_array_equal(stored.values, np.full((4, 3), 250.0))


def test_peaks_are_circled_where_they_are_and_counted(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    add_peaks(path, [0, PeakFlag.GAP, 0, PeakFlag.EDGE | PeakFlag.OVERLAP, 0])
    axes = panel(draw(read_contents(path), None), "Sum of all 7 frames")
    assert words(axes) == "peaks\n3 whole\n2 flagged"
    whole, flagged = (line for line in axes.lines if line.get_marker() == "o")
    assert whole.get_fillstyle() == flagged.get_fillstyle() == "none"
    assert whole.get_color() != flagged.get_color()
    for line, centres in ((whole, [4.5, 2.5, 0.5]), (flagged, [3.5, 1.5])):
        np.testing.assert_array_equal(line.get_xdata(), centres)  # of pixels, from their corners
        np.testing.assert_array_equal(line.get_ydata(), np.array(centres) + 3)


def test_of_many_peaks_the_strongest_are_marked(tmp_path, monkeypatch):
    path = write_scan(tmp_path, "hexagonal")
    add_peaks(path, [PeakFlag.ENDS] * 4 + [0] * 6)
    monkeypatch.setattr(marks, "MOST_MARKED", 7)
    with h5py.File(path) as file:
        found = read_marks(file["f1"])
    np.testing.assert_array_equal(np.sort(found.x), np.arange(3, 10) + 0.5)
    assert (found.n_whole, found.n_flagged) == (6, 4)
    axes = panel(draw(read_contents(path), None), "Sum of")
    assert words(axes) == "strongest 7 of\n6 whole\n4 flagged"


def test_an_empty_list_of_peaks_is_no_missing_step(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    add_peaks(path, [])
    axes = panel(draw(read_contents(path), None), "Sum of")
    assert words(axes) == "no peaks found\n0 whole\n0 flagged"


def test_findings_that_are_not_there_are_named_by_their_command(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    figure = draw(read_contents(path), None)
    for title in ("Sum of", "Transmission", "Masked part", "Frame and its mask", "Radial sum"):
        assert "nxmpi frames crystal_300K.nxs" in words(panel(figure, title))
    add_curves(path, "f2")  # another position's are not this one's
    figure = draw(read_contents(path), None)
    assert "nxmpi frames" in words(panel(figure, "Transmission"))


def test_transmission_is_that_of_all_positions_with_raw_values_of_one(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    add_curves(path, "f1")
    add_curves(path, "f2", 9)
    for entry, n_frames in ((None, 7), ("f2", 9)):
        axes = panel(draw(read_contents(path, entry), None), "Transmission")
        lines = {line.get_label(): line.get_ydata() for line in axes.lines}
        name = entry or "f1"
        assert set(lines) == {"f1", "f2", f"{name}, not filtered"}
        np.testing.assert_array_equal(lines["f1"], np.linspace(0.9, 1.1, 7))
        np.testing.assert_array_equal(lines["f2"], np.linspace(0.9, 1.1, 9))
        assert lines[f"{name}, not filtered"].size == n_frames
        assert axes.get_xlim() == (-0.5, 8.5)
        assert axes.get_ylim()[1] > 1.1


def test_transmission_that_is_constant_is_drawn_flat(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    add_curves(path, names=())
    with h5py.File(path, "r+") as file:
        file[f"f1/{schema.SUMS}/{schema.TRANSMISSION}/{schema.TRANSMISSION}"][...] = 1
    low, high = panel(draw(read_contents(path), None), "Transmission").get_ylim()
    assert low < 0.98 < 1.02 < high


@pytest.mark.parametrize(
    ("names", "label", "last"),
    [((schema.Q,), "$|Q|$  (Å$^{-1}$)", 4.0), ((), r"$2\theta$  (degrees)", 40.0)],
    ids=["Q", "two_theta"],
)
def test_radial_sum_is_logarithmic_along_what_the_file_has(tmp_path, names, label, last):
    path = write_scan(tmp_path, "hexagonal")
    add_curves(path, names=names)
    axes = panel(draw(read_contents(path), None), "Radial sum")
    assert (axes.get_xlabel(), axes.get_yscale()) == (label, "log")
    (line,) = axes.lines
    assert line.get_xdata()[-1] == pytest.approx(last)
    assert line.get_ydata().size == 49  # an empty bin has no logarithm


def test_masked_part_of_each_frame_is_that_of_the_mask(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    add_mask(path, {1: 3, 4: 15, 5: 6})
    contents = read_contents(path)
    parts = contents.findings.masked_parts
    assert parts.is_complete
    np.testing.assert_array_equal(parts.frames, np.arange(7))
    np.testing.assert_allclose(parts.percent, [0, 10, 0, 0, 50, 20, 0])
    figure = draw(contents, None)
    (line,) = panel(figure, "Masked part of each frame").lines
    np.testing.assert_array_equal(line.get_ydata(), parts.percent)
    axes = panel(figure, "Frame 4 of 7, 50 % masked")
    assert words(axes).endswith("3-D mask")
    opacity = axes.images[1].get_array()[..., 3]
    np.testing.assert_array_equal(opacity > 0, np.arange(30)[:, None] < np.full(20, 15))


def test_frames_that_are_not_used_are_not_the_ones_of_which_most_is_masked(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    add_mask(path, {0: 30, 2: 3, 6: 30})
    with h5py.File(path, "r+") as file:
        file[f"f1/{schema.DATA}"].attrs.update({schema.FIRST_USED: 1, schema.LAST_USED: 5})
        assert used_frames(file["f1"], 7) == range(1, 6)
    parts = read_contents(path).findings.masked_parts
    assert parts.is_complete
    assert parts.most == (2, pytest.approx(10))
    np.testing.assert_array_equal(parts.frames, np.arange(1, 6))


def test_a_mask_of_nothing_shows_the_middle_frame_and_says_so(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    add_mask(path, {})
    figure = draw(read_contents(path), None)
    assert words(panel(figure, "Masked part")) == "nothing masked"
    axes = panel(figure, "Frame 3 of 7, nothing masked")
    assert len(axes.images) == 1


class CountedReads:
    """A dataset that counts the frames read of it."""

    def __init__(self, dataset):
        self._dataset, self.n_read = dataset, 0

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def __getitem__(self, where):
        block = self._dataset[where]
        self.n_read += len(block)
        return block


def test_of_a_large_mask_only_some_frames_are_read(tmp_path, monkeypatch):
    path = write_scan(tmp_path, "hexagonal")
    rng = np.random.default_rng(1)
    with h5py.File(path, "r+") as file:
        mask = file.create_dataset("f1/m", (400, 30, 20), "i1", chunks=(1, 30, 20),
                                   compression="gzip")  # fmt: skip
        for number in range(0, 400, 2):
            mask[number, :3] = 1
        mask[77] = rng.integers(0, 2, (30, 20))  # takes most room in the file
        truth = 100 * np.mean(mask[()], axis=(1, 2))
        monkeypatch.setattr(masks, "MOST_PIXELS", 20 * 600)
        counted = CountedReads(mask)
        parts = masked_parts(counted, range(400))
    assert 10 < counted.n_read <= 20
    assert not parts.is_complete
    assert parts.most == (77, pytest.approx(truth[77]))
    np.testing.assert_allclose(parts.percent, truth[parts.frames])
    assert np.isin(np.arange(1, 77, 2), parts.frames).all()  # never written, so not read


@pytest.mark.parametrize("chunks", [None, (4, 30, 20), (1, 10, 20)])
def test_masks_of_other_programs_are_read_too(tmp_path, chunks):
    values = np.zeros((7, 30, 20), np.int8)
    values[6, :6], values[2] = 1, -1
    path = write_scan(tmp_path, "hexagonal")
    with h5py.File(path, "r+") as file:
        file.create_dataset(f"f1/{schema.DATA_MASK}", data=values, chunks=chunks)
    parts = read_contents(path).findings.masked_parts
    np.testing.assert_allclose(parts.percent, [0, 0, 100, 0, 0, 0, 20])


def test_a_mask_of_another_shape_is_not_drawn(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    add_mask(path, {1: 3}, shape=(7, 20, 30))
    findings = read_contents(path).findings
    assert findings.masked == findings.masked_parts == "mask and raw frames\ndiffer in shape"


def test_hot_pixels_are_left_out_of_pictures(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    hot = np.zeros((30, 20), np.int8)
    hot[4, 5] = 1
    with h5py.File(path, "r+") as file:
        file[f"f1/{schema.DETECTOR}/{schema.HOT_PIXELS}"] = hot
    add_mask(path, {2: 1})
    contents = read_contents(path)
    for picture in (contents.frame, contents.summed, contents.findings.masked):
        np.testing.assert_array_equal(np.isnan(picture.values), hot == 1)


def test_a_crystal_without_a_cell_as_yet_is_plotted(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    with h5py.File(path, "r+") as file:
        for name in schema.UNIT_CELL:
            del file[f"{schema.SHARED}/{schema.SAMPLE}/{name}"]
    assert read_contents(path).lattice is None


def test_blocks_are_averaged_over_what_they_have():
    values = np.array([[1.0, 3.0, 7.0], [np.nan, 2.0, np.nan], [np.nan, np.nan, 5.0]])
    np.testing.assert_array_equal(average_blocks(values, 2), [[2.0, 7.0], [np.nan, 5.0]])


def test_a_file_that_is_no_scan_gives_one_line(tmp_path):
    output = tmp_path / "picture.png"
    with pytest.raises(InputError, match=r"nothing\.nxs: expected"):
        plot_scan(tmp_path / "nothing.nxs", output)
    (tmp_path / "text.nxs").write_text("no HDF5")
    with pytest.raises(InputError, match="HDF5"):
        plot_scan(tmp_path / "text.nxs", output)
    with h5py.File(tmp_path / "parent.nxs", "w") as file:
        file.create_group("entry")
    with pytest.raises(SchemaError, match="f1"):
        plot_scan(tmp_path / "parent.nxs", output)
    path = write_scan(tmp_path, "hexagonal")
    with pytest.raises(InputError, match="expected one of f1, f2"):
        plot_scan(path, output, entry="f9")
    assert not output.exists()


def test_a_volume_whose_axes_do_not_fit_is_refused(tmp_path, volumes):
    path = write_scan(tmp_path, "hexagonal")
    add_volume(path, "f1", "f1_transform.nxs", volumes[0][0], volumes[1][0], l=L[:-1])
    with pytest.raises(SchemaError, match="Ql"):
        read_contents(path)


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    with pytest.raises(InputError, match="cannot be written"):
        plot_scan(path, tmp_path / "missing" / "picture.png")
    with pytest.raises(InputError, match=r"ends in \.png"):
        plot_scan(path, tmp_path / "picture.pdf")
