"""The same sums as CCTW 0.2.3 from the same frames, masks, weights and settings.

What CCTW made, and its command lines, are in tests/data/cctw.
"""

import shutil
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from system.mpi import run_nxmpi
from system.scans import contents, differences, run_in_one_job

REFERENCE = Path(__file__).parents[1] / "data" / "cctw"
ENTRIES = ("f1", "f2")
PREFIXES = ("", "masked_")


def read(path, name):
    with h5py.File(path) as file:
        return file[f"entry/data/{name}"][()].astype(float)


@pytest.fixture(
    scope="module",
    params=[(crystal, n) for crystal in ("orthorhombic", "triclinic") for n in (1, 3)],
    ids="{0[0]} on {0[1]} ranks".format,
)
def transformed(request, tmp_path_factory):
    """Return the folder of CCTW's results, and that of ours from the same input."""
    crystal, n = request.param
    scan = tmp_path_factory.mktemp(crystal) / "wrapper.nxs"
    source = REFERENCE / crystal
    for name in (
        "wrapper.nxs",
        *(f"{entry}{end}" for entry in ENTRIES for end in (".h5", "_mask.nxs")),
    ):
        shutil.copy(source / name, scan.parent)
    for entry in ENTRIES:
        settings = ("--settings", source / f"{entry}_transform.pars", "--voxels", "lower-edge")
        result = run_nxmpi(n, "transform", scan, *settings, "--entry", entry)
        assert result.returncode == 0, result.stderr
    return source, scan.parent / "wrapper"


@pytest.mark.parametrize("prefix", PREFIXES, ids=["all pixels", "masked"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_sums_of_a_position_are_those_of_cctw(transformed, entry, prefix):
    reference, folder = (path / f"{entry}_{prefix}transform.nxs" for path in transformed)
    counts, norm = read(reference, "v"), read(reference, "n")
    assert counts.sum() > 1e5
    np.testing.assert_array_equal(read(folder, "v"), counts)
    ours = read(folder, "n")
    np.testing.assert_array_equal(ours > 0, norm > 0)
    np.testing.assert_allclose(ours, norm, rtol=1e-6)  # CCTW adds in float32


def test_mask_leaves_something_out(transformed):
    _, folder = transformed
    sums = [read(folder / f"f1_{prefix}transform.nxs", "v").sum() for prefix in PREFIXES]
    assert 0 < sums[1] < sums[0]


@pytest.mark.parametrize("prefix", PREFIXES, ids=["all pixels", "masked"])
def test_ratio_of_the_sums_of_both_positions_is_what_cctw_merges(transformed, prefix):
    source, folder = transformed
    files = [folder / f"{entry}_{prefix}transform.nxs" for entry in ENTRIES]
    counts, norm = (sum(read(file, name) for file in files) for name in ("v", "n"))
    merged = np.divide(counts, norm, out=np.zeros_like(counts), where=norm > 0)
    expected = read(source / f"{prefix}transform.nxs", "v")
    assert (expected > 0).sum() > 1000
    np.testing.assert_allclose(merged, expected, rtol=2e-6)  # float32 through and through


def command(source, folder, entry, prefix):
    """Return the command line by which CCTW made the reference, but for the names of folders."""
    wrapper = f"{source / 'wrapper.nxs'}#/{entry}"
    mask3d = ["--mask3d", f"{wrapper}/data/data_mask"] if prefix else []
    return [
        "transform", "--script", f"{source / entry}_transform.pars",
        "--mask", f"{wrapper}/instrument/detector/pixel_mask", *mask3d,
        "--weights", f"{wrapper}/data/monitor_weight", f"{wrapper}/data/data",
        "--output", f"{folder / entry}_{prefix}transform.nxs#/entry/data", "--normalization", "0",
    ]  # fmt: skip


def merge(folder, prefix):
    inputs = [f"{folder / entry}_{prefix}transform.nxs#/entry/data" for entry in ENTRIES]
    output = f"{folder}/{prefix}transform.nxs#/entry/data/v"
    return ["merge", *inputs, "--normalization", "1", "-o", output]


@pytest.fixture(scope="module")
def made_by_nxcctw(tmp_path_factory):
    """Return what makes, once, the folder of what nxcctw makes on so many ranks."""
    folders = {}

    def make(crystal, n):
        if (crystal, n) not in folders:
            folder = tmp_path_factory.mktemp("nxcctw") / "made"
            folder.mkdir()
            source = REFERENCE / crystal
            lines = [command(source, folder, e, prefix) for e in ENTRIES for prefix in PREFIXES]
            lines += [merge(folder, prefix) for prefix in PREFIXES]
            commands = [(folder.parent / f"said-{i}", line) for i, line in enumerate(lines)]
            for ranks in run_in_one_job(n, commands, "nxcctw"):
                assert [rank.returncode for rank in ranks] == [0] * n, ranks[0].stderr
                assert not any(rank.stderr for rank in ranks)  # which NXRefine would call errors
            folders[crystal, n] = folder
        return folders[crystal, n]

    return make


@pytest.mark.parametrize("prefix", PREFIXES, ids=["all pixels", "masked"])
@pytest.mark.parametrize("crystal", ["orthorhombic", "triclinic"])
def test_nxcctw_makes_what_cctw_makes(made_by_nxcctw, crystal, prefix):
    source, folder = REFERENCE / crystal, made_by_nxcctw(crystal, 1)
    for entry in ENTRIES:
        ours, reference = (path / f"{entry}_{prefix}transform.nxs" for path in (folder, source))
        np.testing.assert_array_equal(read(ours, "v"), read(reference, "v"))
        np.testing.assert_allclose(read(ours, "n"), read(reference, "n"), rtol=1e-6)
        assert layout(ours) == layout(reference)
    ours, reference = (path / f"{prefix}transform.nxs" for path in (folder, source))
    assert (read(ours, "v") > 0).sum() > 1000
    np.testing.assert_allclose(read(ours, "v"), read(reference, "v"), rtol=1e-6)
    assert layout(ours) == layout(reference)


def layout(path):
    """Return names, types, chunks and compression of all there is."""
    found = {}

    def add(name, thing):
        found[name] = dict(thing.attrs)
        if isinstance(thing, h5py.Dataset):
            how = (thing.dtype.str, thing.shape, thing.chunks, thing.compression)
            found[name] |= {"how": (*how, thing.compression_opts, thing.fillvalue)}

    with h5py.File(path) as file:
        file.visititems(add)
    return found


@pytest.mark.parametrize("crystal", ["orthorhombic", "triclinic"])
def test_nxcctw_makes_the_same_bits_on_any_number_of_ranks(made_by_nxcctw, crystal):
    one, three = (made_by_nxcctw(crystal, n) for n in (1, 3))
    names = sorted(path.name for path in one.glob("*.nxs"))
    assert len(names) == 6
    assert names == sorted(path.name for path in three.iterdir())
    for name in names:
        assert not differences(contents(one / name), contents(three / name)), name


@pytest.mark.parametrize("prefix", PREFIXES, ids=["all pixels", "masked"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_nxcctw_makes_what_nxmpi_makes(transformed, made_by_nxcctw, entry, prefix):
    source, folder = transformed
    name = f"{entry}_{prefix}transform.nxs"
    for part in "vn":
        native = read(folder / name, part).astype(np.float32)
        np.testing.assert_array_equal(read(made_by_nxcctw(source.name, 3) / name, part), native)
