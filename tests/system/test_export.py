"""``nxmpi export`` writes one file, on any number of ranks, or says once why not."""

import h5py
import numpy as np
import pytest
from system.mpi import error_lines, run_nxmpi

from nxmpi.model import HKLGrid, Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.volume import REAL, VolumeFile, create_volume

LATTICE = Lattice(a=5.0, b=5.0, c=8.0, alpha=90.0, beta=90.0, gamma=120.0)


@pytest.fixture
def pdf(tmp_path):
    """Return the file of a small 3D-ΔPDF, and its values."""
    grid = HKLGrid(origin=(-0.5,) * 3, step=(0.25,) * 3, shape=(5, 5, 5))
    file = VolumeFile(
        path=tmp_path / "pdf.nxs", grid=grid, lattice=LATTICE, title="PDF", dtype="f4",
        fills={schema.PDF_SIGNAL: np.nan}, attributes={}, space=REAL,
    )  # fmt: skip
    values = np.arange(125, dtype=np.float32).reshape(5, 5, 5)
    with h5py.File(file.path, "w") as data:
        create_volume(data, file, {})
        data[f"{schema.PDF_VOLUME}/{schema.PDF_SIGNAL}"][...] = values
    return file.path, values


@pytest.mark.parametrize("n", [0, pytest.param(3, marks=pytest.mark.full)])
def test_one_file_is_written_once(pdf, n):
    path, values = pdf
    target = path.with_name("pdf_pdf.npz")
    result = run_nxmpi(n, "export", path, "--format", "numpy")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{target}: data[z, y, x], lengths, angles, cell\n"
    with np.load(target) as file:
        assert np.array_equal(file["data"], values)

    result = run_nxmpi(n, "export", path, "--format", "numpy")
    assert result.returncode != 0
    assert error_lines(result) == [
        f"Error: {target}: expected no file of this name, found one; --overwrite"
    ]
    result = run_nxmpi(n, "export", path, "--format", "numpy", "--overwrite")
    assert result.returncode == 0, result.stderr
    assert sorted(one.name for one in path.parent.iterdir()) == ["pdf.nxs", "pdf_pdf.npz"]


def test_what_is_not_there_is_told_once(pdf):
    path, _ = pdf
    result = run_nxmpi(3, "export", path, "--format", "yell", "--dataset", "fill")
    assert result.returncode != 0
    assert error_lines(result) == [f"Error: {path}:/entry/pdf: expected one of pdf, found fill"]
