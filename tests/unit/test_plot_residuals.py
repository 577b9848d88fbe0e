"""What a picture says of an orientation is what the peaks in the file say."""

import h5py
import numpy as np
import pytest
from unit.test_plot import add_peaks, panel, words, write_scan

from nxmpi.errors import SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.peaks import read_indices, write_indices
from nxmpi.plot import residuals
from nxmpi.plot.figure import draw
from nxmpi.plot.reflections import read_reflections
from nxmpi.plot.scan import plot_scan, read_contents

pytestmark = pytest.mark.parallel([1])

VECTORS, PLACES, TURNS = "Predicted less observed", r"$\Delta x$ and", r"$\Delta\phi$ over"
OFF = np.array([0.0, 0.01, 0.02, 0.4, np.nan])
GRAIN = np.array([1, 1, 2, 0, 0])
RESIDUALS = np.array(
    [[0.1, -0.2, 0.5], [0.3, 0.4, -1.0], [np.nan] * 3, [np.nan] * 3, [np.nan] * 3]
)  # fmt: skip
START, STEP = 30.0, -0.2
PHI = START + STEP * 0.5
"""Of all peaks, which are in the middle of the first frame."""


def add_indices(path, hkl, residuals, grain, attributes, entry="f1"):
    with h5py.File(path, "r+") as file:
        phi = file.require_group(f"{entry}/{schema.GONIOMETER}").create_dataset("phi", data=START)
        phi.attrs["step"] = STEP
        write_indices(file[entry], hkl, residuals, grain, attributes)


@pytest.fixture
def scan(tmp_path):
    """Return a scan with five peaks: two of a crystal, one of another, two of none."""
    path = write_scan(tmp_path, "hexagonal")
    add_peaks(path, [0] * 5)
    hkl = np.array([[1, -2, 3]] * 5) + np.zeros((5, 3))
    hkl[:, 1] -= OFF
    hkl[:, 0] += 0.5 * OFF
    add_indices(path, hkl, RESIDUALS, GRAIN, {schema.INDEXED: 0.75})
    return path


def lines_of(axes):
    """Return the points of a panel by marker and colour, without those of the legend."""
    return [
        (line.get_marker(), np.column_stack(line.get_data()))
        for line in axes.lines
        if line.get_marker() != "None" and len(line.get_xdata())
    ]


def test_columns_are_read_as_they_were_written(scan):
    with h5py.File(scan) as file:
        found = read_indices(file["f1"])
        assert read_indices(file["f2"]) is None
    np.testing.assert_array_equal(found.residuals, RESIDUALS)
    np.testing.assert_array_equal(found.grain, GRAIN)
    np.testing.assert_allclose(found.hkl[3], [1.2, -2.4, 3])
    assert np.isnan(found.hkl[4, 0])
    assert found.fraction == 0.75


@pytest.mark.parametrize("missing", [*schema.INDICES, *schema.RESIDUALS, schema.GRAIN])
def test_without_one_of_the_columns_there_is_no_orientation_yet(scan, missing):
    with h5py.File(scan, "r+") as file:
        del file[f"f1/{schema.PEAKS}/{missing}"]
        assert read_indices(file["f1"]) is None
    assert read_contents(scan).reflections == "not there yet\nnxmpi orient crystal_300K.nxs"


def test_columns_that_do_not_fit_the_peaks_are_refused(scan):
    with h5py.File(scan, "r+") as file:
        del file[f"f1/{schema.PEAKS}/{schema.GRAIN}"]
        file[f"f1/{schema.PEAKS}/{schema.GRAIN}"] = GRAIN[:-1]
    with pytest.raises(SchemaError, match="columns of one length"):
        read_contents(scan)


def test_reflections_are_in_pixels_from_corners_and_in_degrees(scan):
    with h5py.File(scan) as file:
        found = read_reflections(file["f1"], None)
    np.testing.assert_array_equal(found.x, [4.5, 3.5, 2.5, 1.5, 0.5])  # the strongest first
    np.testing.assert_array_equal(found.y, [7.5, 6.5, 5.5, 4.5, 3.5])
    np.testing.assert_allclose(found.phi, PHI)
    np.testing.assert_allclose(found.residuals, RESIDUALS[::-1] * [1, 1, STEP])
    np.testing.assert_allclose(found.off, OFF[::-1], atol=1e-12)
    np.testing.assert_array_equal(found.grain, GRAIN[::-1])
    assert found.shape == (8, 5)  # as far as there are peaks


def test_phi_of_peaks_is_that_of_each_frame_where_it_is_known(scan):
    with h5py.File(scan, "r+") as file:
        del file[f"f1/{schema.GONIOMETER}/phi"]
        file[f"f1/{schema.GONIOMETER}/phi"] = [10.0, 11.0, 12.0, 15.0, 16.0]
        file[f"f1/{schema.PEAKS}/z"][...] = [0.0, 1.25, 3.0, 3.25, 4.0]
        found = read_reflections(file["f1"], None)
    np.testing.assert_allclose(found.phi[::-1], [10.5, 11.75, 15.5, 15.75, 16.5])


def test_arrows_point_from_what_was_observed_to_what_was_predicted(scan):
    figure = draw(read_contents(scan), None)
    axes = panel(figure, VECTORS)
    (arrows,) = axes.collections
    np.testing.assert_array_equal(arrows.get_offsets(), [[1.5, 4.5], [0.5, 3.5]])
    # a tenth of the shorter side, 2 pixels, is 4 times the longest; the next round number is 2
    np.testing.assert_allclose(np.column_stack([arrows.U, arrows.V]), [[0.6, 0.8], [0.2, -0.4]])
    np.testing.assert_allclose(arrows.get_array(), [0.2, -0.1])
    assert arrows.norm.vmin == -arrows.norm.vmax
    assert (arrows.angles, arrows.scale_units, arrows.scale) == ("xy", "xy", 1.0)
    assert words(axes) == "arrows 2 × as long"
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 20), (0, 30))
    assert axes.get_xlim() == panel(figure, "Sum of").get_xlim()
    assert axes.get_ylim() == panel(figure, "Sum of").get_ylim()


def test_residuals_over_phi_are_in_pixels_and_degrees(scan):
    figure = draw(read_contents(scan), None)
    for title, values in ((PLACES, [[0.3, 0.1], [0.4, -0.2]]), (TURNS, [[0.2, -0.1]])):
        axes = panel(figure, title)
        drawn = lines_of(axes)
        assert [marker for marker, _ in drawn] == ["."] * len(values)
        for (_, points), column in zip(drawn, values, strict=True):
            np.testing.assert_allclose(points, np.column_stack([[PHI] * 2, column]))
        low, high = axes.get_ylim()
        assert low < np.min(values)
        assert high > np.max(values)
    assert words(panel(figure, PLACES)) == (
        "\nmedian $|\\Delta x|$ 0.2\nmedian $|\\Delta y|$ 0.3"
    )  # fmt: skip
    assert panel(figure, PLACES).get_ylabel() == r"$\Delta x$, $\Delta y$ (pixels)"
    assert panel(figure, TURNS).get_ylabel() == r"$\Delta \phi$ (degrees)"


def test_indexed_peaks_are_told_from_others_and_counted(scan):
    axes = panel(draw(read_contents(scan), None), "3 of 5 peaks indexed, 75 % of strong")
    first, other, none = axes.collections
    for points, places, off in (
        (first, [[1.5, 4.5], [0.5, 3.5]], [0.01, 0.0]), (other, [[2.5, 5.5]], [0.02]),
        (none, [[3.5, 6.5]], [0.4]),
    ):  # fmt: skip
        np.testing.assert_array_equal(points.get_offsets(), places)
        np.testing.assert_allclose(points.get_array(), off, atol=1e-12)
        assert (points.norm.vmin, points.norm.vmax) == (0, 0.5)
    assert words(axes) == "\nindexed\nof another crystal\nnot indexed"


def test_a_few_large_residuals_do_not_hide_the_others(tmp_path, monkeypatch):
    path = write_scan(tmp_path, "hexagonal")
    n = 200
    add_peaks(path, [0] * n)
    found = np.tile([0.01, -0.01, 0.05], (n, 1))
    found[7] = [-3.0, 4.0, 2.0]
    add_indices(path, np.ones((n, 3)), found, np.ones(n, int), {})
    monkeypatch.setattr(residuals, "MOST_MARKED", 195)
    figure = draw(read_contents(path), None)
    (arrows,) = panel(figure, VECTORS).collections
    length = np.hypot(arrows.U, arrows.V)
    assert length.size == 195
    far = np.flatnonzero(arrows.get_offsets()[:, 0] == 7.5)
    assert length[far] == pytest.approx(1.5 * np.median(length))
    assert arrows.U[far] / arrows.V[far] == pytest.approx(-0.75)
    assert words(panel(figure, VECTORS)) == (
        "arrows 50 × as long\nof the strongest 195\n1 cut short"
    )  # fmt: skip
    upper = panel(figure, PLACES)
    assert upper.get_title().endswith(", 2 farther out")
    assert {marker: len(points) for marker, points in lines_of(upper)} == {".": 199, "^": 1, "v": 1}
    assert upper.get_ylim()[1] < 0.1
    assert panel(figure, "200 of 200 peaks indexed").get_title().endswith("indexed")


@pytest.mark.parametrize("n", [0, 5])
def test_a_position_without_any_indexed_peak_says_so(tmp_path, n):
    path = write_scan(tmp_path, "hexagonal")
    add_peaks(path, [0] * n)
    unknown = np.full((n, 3), np.nan)
    add_indices(path, unknown, unknown, np.zeros(n, int), {schema.INDEXED: 0.0})
    figure = draw(read_contents(path), None)
    for title in (VECTORS, PLACES, TURNS):
        assert words(panel(figure, title)) == "no peaks indexed"
    assert panel(figure, f"0 of {n} peaks indexed, 0 % of strong")
    plot_scan(path, tmp_path / "picture.png")


def test_residuals_of_exactly_zero_are_drawn(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    add_peaks(path, [0] * 3)
    add_indices(path, np.ones((3, 3)), np.zeros((3, 3)), np.ones(3, int), {})
    plot_scan(path, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").exists()


def test_before_the_orientation_its_command_is_named(tmp_path):
    path = write_scan(tmp_path, "hexagonal")
    steps = ["not there yet", f"nxmpi frames {path.name}", f"nxmpi orient {path.name}"]
    assert read_contents(path).reflections == "\n".join(steps)
    add_peaks(path, [0, 0])  # as another program leaves them
    figure = draw(read_contents(path), None)
    for title in (VECTORS, PLACES, TURNS, "Indexed peaks"):
        assert words(panel(figure, title)) == f"not there yet\nnxmpi orient {path.name}"


def test_a_picture_of_an_oriented_scan_is_written(scan):
    output = scan.with_suffix(".png")
    plot_scan(scan, output)
    assert output.stat().st_size > 10_000
    plot_scan(scan, output, entry="f2")
