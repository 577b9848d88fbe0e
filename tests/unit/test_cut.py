"""Lines and boxes out of volumes, against sums over voxels one by one."""

import csv
from itertools import product

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from mpi4py import MPI
from nexusformat.nexus import nxload

from nxmpi.cli.cut import cut
from nxmpi.cli.slice import slice_
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.errors import CollectiveError, InputError
from nxmpi.model import HKLGrid, Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.volume import REAL, VolumeFile, create_volume
from nxmpi.params import CutParams
from nxmpi.pipeline.cut import run_cut, volume_file
from nxmpi.pipeline.section import require_replaceable, save_section
from nxmpi.plot.section import plot_section

LATTICE = Lattice(a=5.0, b=5.5, c=7.0, alpha=80.0, beta=95.0, gamma=120.0)
GRID = HKLGrid(origin=(-2.0, -1.0, -3.0), step=(0.1, 0.125, 0.2), shape=(41, 17, 38))
SHAPE = GRID.array_shape
PLACES = np.stack(
    np.meshgrid(*(o + s * np.arange(n) for o, s, n in
                  zip(GRID.origin, GRID.step, GRID.shape, strict=True)), indexing="ij")
).T  # fmt: skip


def sums(seed=1):
    rng = np.random.default_rng(seed)
    norm = (rng.uniform(0.5, 900, SHAPE) * (rng.random(SHAPE) > 0.2)).astype(np.float32)
    return np.where(norm > 0, rng.poisson(2.0, SHAPE), 0), norm.astype(float)


def write(path, arrays, grid=GRID, space=None, attributes=None, lattice=LATTICE):
    """Write a volume whose first array is the signal."""
    volume = VolumeFile(
        path=path, grid=grid, lattice=lattice, title="Ni Si2 300K", dtype="f4",
        fills=dict.fromkeys(arrays, 0.0), attributes=attributes or {},
    )  # fmt: skip
    volume = volume._replace(space=space) if space else volume
    with h5py.File(path, "w") as file:
        create_volume(file, volume, {})
        for name, values in arrays.items():
            file[volume.space.group][name][...] = values
    return path


@pytest.fixture
def combined(tmp_path):
    counts, norm = sums()
    with np.errstate(invalid="ignore", divide="ignore"):
        arrays = {"v": counts / norm, "n": norm, "v_errors": np.sqrt(np.maximum(counts, 1)) / norm}
    return write(tmp_path / "transform.nxs", arrays)


def slow_line(first, last, step, width, B):
    """Return the bin of each voxel, -1 off the line, one by one."""
    first, way = np.array(first), np.subtract(last, first)
    unit = way * step / np.abs(way).max()
    n = int(np.floor(np.abs(way).max() / step + 1e-6)) + 1
    bins = np.full(SHAPE, -1)
    for index in np.ndindex(SHAPE):
        point, line = B @ (PLACES[index] - first), B @ unit
        along = point @ line / (line @ line)
        off = np.linalg.norm(point - along * line)
        if off <= width / 2 * (1 + 1e-6) and 0 <= np.floor(along + 0.5 + 1e-6) < n:
            bins[index] = int(np.floor(along + 0.5 + 1e-6))
    return bins, n


@pytest.mark.parametrize(
    ("first", "last", "step", "width"),
    [
        ((-2, 0, 0), (2, 0, 0), None, None),
        ((-1.9, -0.5, -2), (1.5, 0.9, 2.2), None, 0.3),
        ((1, 0.25, 4), (-1, 0.25, -4), 0.5, 0.25),
        ((0, 0.5, 0), (0, -0.5, 0), 0.07, 0.1),
    ],
)
def test_lines_hold_the_voxels_that_are_near_by_true_lengths(combined, first, last, step, width):
    section, _ = run_cut(combined, CutParams(line=(first, last), step=step, width=width))
    B = 2 * np.pi * reciprocal_matrix(LATTICE)
    main = int(np.argmax(np.abs(np.subtract(last, first))))
    edge = max(np.linalg.norm(B, axis=0) * GRID.step)
    bins, n = slow_line(first, last, step or GRID.step[main], width or edge, B)
    counts, norm = sums()
    wanted = [
        [sum(values[(bins == i) & (norm > 0)]) for i in range(n)]
        for values in (counts, norm, np.ones(SHAPE))
    ]
    np.testing.assert_array_equal(section.sums["counts"], wanted[0])
    np.testing.assert_allclose(section.sums["norm"], wanted[1], rtol=1e-13)
    np.testing.assert_array_equal(section.sums["voxels"], wanted[2])
    c, w = section.sums["counts"], section.sums["norm"]
    assert (w > 0).sum() > n / 2
    assert (c > 1).any()
    with np.errstate(invalid="ignore", divide="ignore"):
        np.testing.assert_allclose(section.intensity, c / w, rtol=1e-13)
        errors = np.where(w > 0, np.sqrt(np.maximum(c, 1)) / w, np.nan)
    np.testing.assert_allclose(section.errors, errors, rtol=1e-13)
    axis = section.axes[0]
    assert axis.name == ("Qh", "Qk", "Ql")[main]
    sign = np.sign(last[main] - first[main])
    np.testing.assert_allclose(
        axis.values, first[main] + sign * (step or GRID.step[main]) * np.arange(n), atol=1e-12
    )


def test_boxes_leave_the_axes_that_are_wanted(combined):
    counts, norm = sums()
    part = np.s_[13:18, 6:11, 20:31]  # l -0.4 to 0.4, k -0.25 to 0.25, h 0 to 1
    box = (0, 1, -0.25, 0.25, -0.4, 0.4)
    cases = {(): (0, 1), ("h",): (0, 1), ("l",): (1, 2), ("k", "l"): (2,), ("h", "k", "l"): ()}
    for along, gone in cases.items():
        section, _ = run_cut(combined, CutParams(box=box, along=along))
        np.testing.assert_array_equal(section.sums["counts"], counts[part].sum(axis=gone))
        np.testing.assert_allclose(section.sums["norm"], norm[part].sum(axis=gone), rtol=1e-12)
        assert section.intensity.shape == tuple(len(axis.values) for axis in section.axes)
    np.testing.assert_allclose(section.axes[2].values, np.linspace(0, 1, 11), atol=1e-12)


def test_transforms_of_positions_are_counts(tmp_path):
    counts, norm = sums()
    for name, attributes in (("f1_masked_transform.nxs", {}), ("own.nxs", {"norm_unit": 0.1})):
        path = write(tmp_path / name, {"v": counts, "n": norm}, attributes=attributes)
        section, _ = run_cut(path, CutParams(box=(-2, 2, -1, 1, -3, 4.4)))
        assert section.sums["counts"].sum() == counts.sum()
        wanted = counts.sum(axis=(0, 1)) / norm.sum(axis=(0, 1))
        np.testing.assert_allclose(section.intensity, wanted, rtol=1e-12)


def test_backgrounds_are_weighted_as_the_scan_is(tmp_path):
    (counts, norm), (empty, flux) = sums(1), sums(2)
    empty *= np.random.default_rng(9).random(SHAPE) < 0.3  # bins without any count too
    both, scale = (norm > 0) & (flux > 0), 0.6
    counts, norm, empty, flux = (np.where(both, x, 0.0) for x in (counts, norm, empty, flux))
    with np.errstate(invalid="ignore", divide="ignore"):
        level = empty / flux
        v = np.where(both, counts / norm - scale * level, np.nan)
    arrays = {"v": v, "n": norm, "v_errors": np.ones(SHAPE), "counts": counts,
              "background_counts": empty, "background_norm": flux}  # fmt: skip
    path = write(tmp_path / "transform.nxs", arrays, attributes={"background_scale": scale})
    section, _ = run_cut(path, CutParams(box=(-2, 2, 0, 0.125, 0, 0.2), along=("h",)))
    part = np.s_[15:17, 8:10]
    D = norm[part].sum(axis=(0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(norm[part] * v[part], axis=(0, 1)) / D
        noise = np.nansum((norm / flux)[part] ** 2 * empty[part], axis=(0, 1)) / D**2
        n_b = empty[part].sum(axis=(0, 1))
        most = np.nanmax((norm / flux)[part] ** 2, axis=(0, 1), initial=0, where=both[part])
        noise[n_b == 0] = (most / D**2)[n_b == 0]
        errors = np.sqrt(np.maximum(counts[part].sum(axis=(0, 1)), 1) / D**2 + scale**2 * noise)
    errors[D == 0] = np.nan
    assert (n_b[D > 0] == 0).any()
    np.testing.assert_allclose(section.intensity, mean, rtol=1e-6)
    np.testing.assert_allclose(section.errors, errors, rtol=1e-9)
    assert (D > 0).sum() > 35
    assert section.notes["background_scale"] == scale


def test_averages_less_a_background_bring_the_variance_of_their_counts(tmp_path):
    counts, norm = sums(3)
    spread = np.where(norm > 0, 1.5 * counts, 0.0)
    spread[:, :, :10] = 0  # bins in which no count fell
    with np.errstate(invalid="ignore", divide="ignore"):
        data = np.where(norm > 0, (counts - 2.3) / norm, np.nan)
    arrays = {"data": data, "n": norm, "data_errors": np.ones(SHAPE), "counts_variance": spread}
    path = write(tmp_path / "symm_transform.nxs", arrays)
    section, _ = run_cut(path, CutParams(box=(-2, 2, -1, 1, -3, 4.4), along=("h",)))
    total = norm.sum(axis=(0, 1))
    wanted = np.where(norm > 0, counts - 2.3, 0.0).sum(axis=(0, 1)) / total
    np.testing.assert_allclose(section.intensity, wanted, rtol=1e-5)
    variance = np.where(np.arange(SHAPE[2]) < 10, 1, spread.sum(axis=(0, 1)))
    np.testing.assert_allclose(section.errors, np.sqrt(variance) / total, rtol=1e-6)


def test_volumes_of_real_space_are_weighted_by_their_errors(tmp_path):
    rng = np.random.default_rng(4)
    values, errors = rng.normal(size=SHAPE), rng.uniform(0.1, 2.0, SHAPE).astype("f4")
    path = write(tmp_path / "pdf.nxs", {"pdf": values, "pdf_errors": errors}, space=REAL)
    box = CutParams(box=(-2, 2, -1, 1, -3, 4.4), along=("z",))
    section, _ = run_cut(path, box)
    weight = 1 / errors.astype(float) ** 2
    wanted = (weight * values).sum(axis=(1, 2)) / weight.sum(axis=(1, 2))
    np.testing.assert_allclose(section.intensity, wanted, rtol=1e-4)
    np.testing.assert_allclose(section.errors, weight.sum(axis=(1, 2)) ** -0.5, rtol=1e-12)
    path = write(tmp_path / "plain.nxs", {"pdf": values}, space=REAL)
    section, _ = run_cut(path, box)
    single = values.astype("f4").astype(float)
    np.testing.assert_allclose(section.intensity, single.mean(axis=(1, 2)), atol=1e-12)
    scatter = single.std(axis=(1, 2), ddof=1) / np.sqrt(41 * 17)
    np.testing.assert_allclose(section.errors, scatter, rtol=1e-9)


def test_ends_of_lines_are_hkl_on_grids_along_other_axes(tmp_path):
    grid = HKLGrid(origin=GRID.origin, step=GRID.step, shape=GRID.shape,
                   axes=((1, 1, 0), (1, -1, 0), (0, 0, 1)))  # fmt: skip
    counts, norm = sums()
    path = write(tmp_path / "f1_transform.nxs", {"v": counts, "n": norm}, grid=grid, lattice=None)
    section, lattice = run_cut(path, CutParams(line=((-1, -1, 0), (1, 1, 0)), width=0.01))
    np.testing.assert_array_equal(section.sums["counts"], counts[15, 8, 10:31])
    assert lattice is None


def test_files_of_a_cut(combined, tmp_path):
    section, lattice = run_cut(combined, CutParams(line=((-2, 0, 0), (2, 0, 0)), width=0.2))
    save_section(tmp_path / "line.csv", section)
    with (tmp_path / "line.csv").open() as file:
        lines = [line for line in file if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    assert len(rows) == 41
    np.testing.assert_allclose([float(r["intensity"]) for r in rows], section.intensity, rtol=1e-8)
    assert {float(row["Ql"]) for row in rows} == {0.0}
    save_section(tmp_path / "line.nxs", section)
    data = nxload(tmp_path / "line.nxs").entry.data
    assert data.nxsignal.nxname == "intensity"
    np.testing.assert_array_equal(data.nxsignal.nxvalue, section.intensity)
    np.testing.assert_array_equal(data.nxerrors.nxvalue, section.errors)
    assert [axis.nxname for axis in data.nxaxes] == ["Qh"]
    for along in (("h",), ("h", "l"), ("h", "k", "l")):
        params = CutParams(box=(-1, 1, -1, 1, -1, 1), along=along)
        part, _ = run_cut(combined, params)
        save_section(tmp_path / "box.nxs", part)
        data = nxload(tmp_path / "box.nxs").entry.data
        assert data.nxsignal.shape == tuple(axis.shape[0] for axis in data.nxaxes)
        angles = np.ravel(data.nxangles if data.nxangles is not None else [])
        assert len(angles) == (0, 1, 3)[len(along) - 1]
        if len(along) == 2:  # between h and l
            a, b = reciprocal_matrix(LATTICE).T[[0, 2]]
            cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            np.testing.assert_allclose(np.cos(np.radians(angles)), cosine, rtol=1e-9)
        for shown in (lattice, None):
            plot_section(part, shown, tmp_path / "box.png")
            assert (tmp_path / "box.png").read_bytes()[:4] == b"\x89PNG"
    assert not list(tmp_path.glob(".*"))


def test_only_earlier_cuts_are_replaced(combined, tmp_path):
    section, _ = run_cut(combined, CutParams(box=(0, 1, 0, 1, 0, 1)))
    for name in ("line.nxs", "line.csv"):
        path = tmp_path / name
        require_replaceable(path)
        save_section(path, section)
        require_replaceable(path)
    (tmp_path / "notes.csv").write_text("T,I\n1,2\n")
    (tmp_path / "notes.nxs").write_text("# scan: text\n")
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        file.create_group("entry/data").attrs["signal"] = "intensity"
        file.create_group("f1")
    for path in (combined, *(tmp_path / name for name in ("notes.csv", "notes.nxs", "scan.nxs"))):
        with pytest.raises(InputError, match="or a slice or cut to replace, found another"):
            require_replaceable(path)


@pytest.mark.parametrize(
    ("command", "words"), [(cut, ["--box", *"010101"]), (slice_, ["--plane", "h k 0"])]
)
def test_a_volume_is_not_replaced_by_what_is_cut_out_of_it(combined, command, words):
    before = combined.read_bytes()
    words = [str(combined), *words, "--output", str(combined)]
    result = CliRunner().invoke(command, words, obj=MPI.COMM_SELF)
    assert isinstance(result.exception, CollectiveError), result.output
    assert "or a slice or cut to replace" in str(result.exception)
    assert combined.read_bytes() == before


def test_what_cannot_be_cut(combined, tmp_path):
    for params, told in (
        (
            CutParams(box=(5, 6, 0, 1, 0, 1)),
            "expected voxel centres from 5 to 6 along Qh, found them ",
        ),
        (
            CutParams(line=((-1, 0, 0.5), (1, 0, 0.5)), width=0.01),
            r"expected voxel centres from "
            r"0\.4\d+ to 0\.5\d+ along Ql, found none \(steps of 0\.2; a larger --width\)",
        ),
        (
            CutParams(box=(0.52, 0.58, 0, 1, 0, 1)),
            r"from 0\.52 to 0\.58 along Qh, found none "
            r"\(steps of 0\.1\)",
        ),
        (CutParams(line=((0, 0, 0), (0, 0, 0))), "found the same place twice"),
        (CutParams(box=(0, 1, 0, 1, 0, 1), along=("x",)), "expected of h, k, l, found x"),
    ):
        with pytest.raises(InputError, match=told):
            run_cut(combined, params)
    (tmp_path / "text.nxs").write_text("no volume")
    with pytest.raises(InputError, match="expected an HDF5 file"):
        run_cut(tmp_path / "text.nxs", CutParams(box=(0, 1, 0, 1, 0, 1)))
    with h5py.File(tmp_path / "empty.nxs", "w"):
        pass
    with pytest.raises(InputError, match="expected a volume, found none"):
        run_cut(tmp_path / "empty.nxs", CutParams(box=(0, 1, 0, 1, 0, 1)))
    for values in ({}, {"box": (0,) * 6, "width": 1.0}, {"line": ((0, 0, 0), (1, 0, 0)),
                   "along": ("h",)}, {"line": ((0, 0, 0), (1, 0, 0)), "step": 0.0}):  # fmt: skip
        with pytest.raises(InputError):
            CutParams(**values)


def test_which_volume_of_a_scan_is_taken(tmp_path):
    path = tmp_path / "s" / "l" / "s_300K.nxs"
    (path.parent / "300K").mkdir(parents=True)
    with h5py.File(path, "w") as file:
        for name in ("entry", "f1", "f2"):
            file.create_group(name)
    files = schema.ScanFiles(path)
    regular, masked = schema.REGULAR, schema.MASKED
    for target in (
        files.combined(regular),
        files.symmetrized(masked),
        files.transform("f2", masked),
    ):
        h5py.File(target, "w").close()
    assert volume_file(path, None, masked=False, symmetrized=False) == files.combined(regular)
    assert volume_file(path, None, masked=True, symmetrized=True) == files.symmetrized(masked)
    f2 = files.transform("f2", masked)
    assert volume_file(path, "f2", masked=True, symmetrized=False) == f2
    assert volume_file(f2, None, masked=False, symmetrized=False) == f2
    for entry, choices, told in (
        ("f3", (False, False), "expected one of f1, f2"), ("f1", (False, True), "found both"),
        (None, (True, False), "expected masked_transform.nxs to be made"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=told):
            volume_file(path, entry, masked=choices[0], symmetrized=choices[1])
    for entry, is_masked in product((None, "f1"), (False, True)):
        if entry or is_masked:
            with pytest.raises(InputError, match="expected a scan file to choose from"):
                volume_file(f2, entry, masked=is_masked, symmetrized=False)
