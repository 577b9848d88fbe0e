"""Maps of agreement in files and in the picture are those that were found."""

import h5py
import numpy as np
import pytest
from unit.test_plot import add_combined, add_positions, panel, write_scan

from nxmpi.model import Agreement, HKLGrid
from nxmpi.nexus import schema
from nxmpi.nexus.agreement import link_agreement, write_agreement, write_numbers
from nxmpi.nexus.process import write_process
from nxmpi.nexus.volume import VolumeFile
from nxmpi.pipeline.agreement import describe_agreement
from nxmpi.plot.figure import draw
from nxmpi.plot.scan import plot_scan, read_contents

pytestmark = pytest.mark.parallel([1])

NAMES = ("f1", "f2")
GRID = HKLGrid(origin=(-0.8, -1.6, -0.8), step=(0.8, 0.8, 0.8), shape=(3, 5, 3))


def agreement():
    """Return what two positions may be like: the second has too little, the more the larger h."""
    rng = np.random.default_rng(3)
    shape = GRID.array_shape
    falling = np.broadcast_to(np.linspace(1, 0.8, shape[2]), shape)
    maps = {
        "chi2": rng.uniform(0.9, 1.1, shape), "chi2_errors": np.full(shape, 0.1),
        "bright_difference": rng.uniform(0, 1, shape),
        "ratio_f1": 1 + 0 * falling, "ratio_f1_errors": np.full(shape, 0.01),
        "ratio_f2": falling, "ratio_f2_errors": np.full(shape, 0.01),
    }  # fmt: skip
    pair = np.array([[np.nan, 1.1], [0.9, np.nan]])
    return Agreement(
        names=NAMES, scales=np.array([1, 0.9]), scale_errors=np.array([0, 0.002]), chi2=1.25,
        chi2_error=0.01, disagreeing=0.03, voxels=np.array([[0, 4321], [4321, 0]]), ratio=pair,
        ratio_errors=pair / 100, scatter=pair / 50, pair_chi2=pair, bright=pair / 2, map_grid=GRID,
        maps={name: values.astype("f4") for name, values in maps.items()},
    )  # fmt: skip


@pytest.fixture
def scan(tmp_path):
    """Return a scan with a combined volume and maps, and what is in them."""
    path = write_scan(tmp_path, "orthorhombic")
    norm = np.ones((2, 9, 13, 5))
    add_positions(path, (norm * 20, norm))
    add_combined(path, (norm * 20, norm))
    found, file = agreement(), tmp_path / "300K" / "transform.nxs"
    volume = VolumeFile(
        path=file, grid=GRID, lattice=None, title="K Mn O4", fills={}, dtype="f4", attributes={}
    )
    with h5py.File(file, "r+") as data:
        write_agreement(data, volume, found, {})
    with h5py.File(path, "r+") as wrapper:
        entry = wrapper[schema.SHARED]
        link_agreement(entry, schema.REGULAR, volume, found)
        note = f"a line\n{describe_agreement(found, refined=True)}"
        write_process(entry, "nxcombine", {}, start_time="", note=note)
        write_numbers(entry[f"{schema.WORKFLOW}/nxcombine"], found)
    return path, found


def test_panels_show_the_planes_of_the_maps_and_the_position_that_differs(scan):
    path, found = scan
    contents = read_contents(path)
    maps = contents.agreement
    assert maps.position == "f2"
    for plane, name in ((maps.chi2, "chi2"), (maps.ratio, "ratio_f2"),
                        (maps.bright, "bright_difference")):  # fmt: skip
        np.testing.assert_array_equal(plane.values, found.maps[name][1])
        assert plane.value == 0
    figure = draw(contents, None)
    for title in (r"$\chi^2$ per degree", "f2 over the others", "Difference in bright"):
        assert panel(figure, title).images
    written = "\n".join(text.get_text() for text in figure.texts)
    assert "f1 1, f2 0.90000 ± 0.00200" in written
    assert "f1 / f2" in written
    plot_scan(path, path.with_suffix(".png"))


def test_the_table_tells_each_pair():
    text = describe_agreement(agreement(), refined=False)
    row = next(line for line in text.splitlines() if "f1 / f2" in line)
    assert row.split() == ["f1", "/", "f2", "4321", "1.10000", "0.01100", "2.2", "%", "1.100",
                           "55.0", "%"]  # fmt: skip
    assert "per degree of freedom: 1.25 (1 ± 0.01 if positions agree); 3 % of the cubes" in text
    assert "scales" not in text


def test_before_combining_the_command_is_named(tmp_path):
    path = write_scan(tmp_path, "orthorhombic")
    assert read_contents(path).agreement == f"not there yet\nnxmpi combine {path.name}"


def test_maps_in_the_file_are_data_with_axes_and_the_numbers_say_what_they_are(scan):
    path, found = scan
    with h5py.File(path.parent / "300K" / "transform.nxs", "r") as file:
        group = file[f"{schema.SHARED}/{schema.AGREEMENT}"]
        assert group.attrs["NX_class"] == "NXdata"
        assert group.attrs["signal"] == "chi2"
        assert list(group.attrs["axes"]) == list(schema.AXES)
        assert list(group.attrs["auxiliary_signals"]) == [
            "bright_difference", "ratio_f1", "ratio_f2",
        ]  # fmt: skip
        np.testing.assert_allclose(group["Qk"][()], [-1.6, -0.8, 0, 0.8, 1.6], atol=1e-12)
        for name, values in found.maps.items():
            np.testing.assert_array_equal(group[name][()], values)
    with h5py.File(path, "r") as wrapper:
        record = wrapper[f"{schema.SHARED}/{schema.WORKFLOW}/nxcombine/{schema.OVERLAPS}"]
        assert list(record["positions"][()]) == [b"f1", b"f2"]
        np.testing.assert_array_equal(record["scale"][()], found.scales)
        np.testing.assert_array_equal(record["ratio"][()], found.ratio)
        assert "row's position" in record["ratio"].attrs["long_name"]
