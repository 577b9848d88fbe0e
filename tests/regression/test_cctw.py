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
