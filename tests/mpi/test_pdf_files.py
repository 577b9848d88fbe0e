"""Symmetrized volumes to real space in files, on any number of ranks."""

import shutil

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from mpi.scans import CELLS, scan_of_volume
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.errors import CollectiveError
from nxmpi.params import OutputParams, PdfParams, PunchParams, SymmetrizeParams, WindowParams
from nxmpi.pipeline.pdf import run_pdf
from nxmpi.pipeline.real_space import Choices
from nxmpi.pipeline.symmetrize import run_symmetrize

RANKS = [1, 2, 3, 4, 7]
N = 41
"""Voxels along each axis: more than a chunk, and an odd number."""
AXIS = -2 + 0.1 * np.arange(N)
CHOICES = Choices(
    punch=PunchParams(radius=0.3, satellites=((0.5, 0, 0),), satellite_radius=0.2),
    window=WindowParams(), pdf=PdfParams(),
)  # fmt: skip
FILES = ("symm_transform.nxs", "total_pdf.nxs", "pdf.nxs")
OUTPUT = OutputParams()


def write(comm, root, symbol):
    """Write a scan with a combined volume, on the root, and return its path on all ranks."""
    return scan_of_volume(comm, root, symbol, (AXIS,) * 3, volume)


def volume():
    rng = np.random.default_rng(7)
    norm = rng.uniform(1, 900, (N, N, N)).astype(np.float32) * (rng.random((N, N, N)) > 0.3)
    norm[19:22, 19:22, 19:22] = 0  # the direct beam
    bragg = np.exp(-((AXIS - np.rint(AXIS)) ** 2) / (2 * 0.05**2))
    mean = 3 + 200 * bragg * bragg[:, None] * bragg[:, None, None]
    with np.errstate(invalid="ignore"):
        return {"v": rng.poisson(mean * norm) / norm, "n": norm}


def made(path):
    found = {}
    for name in FILES:
        with h5py.File(path.parent / "300K" / name) as file:
            file.visititems(
                lambda where, item, name=name: (
                    found.update({(name, where): item[()]})
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
    return found


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("symbol", CELLS)
def test_the_same_bits_on_any_number_of_ranks(comm, shared_tmp_path, symbol):
    one = write(comm, shared_tmp_path / "one", symbol)
    every = write(comm, shared_tmp_path / "every", symbol)
    for single, path in ((MPI.COMM_SELF, one), (comm, every)):
        if single is comm or comm.rank == 0:
            run_symmetrize(single, path, SymmetrizeParams(), OUTPUT)
            targets = run_pdf(single, path, CHOICES, OUTPUT)
    same = True
    if comm.rank == 0:
        wanted, found = made(one), made(every)
        same = wanted.keys() == found.keys() and all(
            np.asarray(wanted[key]).tobytes() == np.asarray(found[key]).tobytes() for key in wanted
        )
        assert [target.name for target in targets] == list(FILES)
    parallel_assert(same, participating=True)
    assert run_pdf(comm, every, CHOICES, OUTPUT) == []
    assert run_symmetrize(comm, every, SymmetrizeParams(), OUTPUT) == []


@pytest.mark.parallel([1, 2])
def test_other_parameters_make_it_again_and_symmetrize_too(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P m -3 m")
    run_symmetrize(comm, path, SymmetrizeParams(), OUTPUT)
    run_pdf(comm, path, CHOICES, OUTPUT)
    first = made(path)
    other = Choices(punch=PunchParams(radius=0.5), window=CHOICES.window, pdf=CHOICES.pdf)
    comm.Barrier()
    assert len(run_pdf(comm, path, other, OUTPUT)) == 3
    second = made(path)
    parallel_assert(first.keys() == second.keys())
    changed = {
        name for (_, name), values in second.items()
        if np.asarray(first[_, name]).tobytes() != np.asarray(values).tobytes()
    }  # fmt: skip
    parallel_assert(
        changed == {"entry/data/fill", "entry/data/punch", "entry/pdf/pdf", "entry/pdf/pdf_errors"}
    )
    comm.Barrier()
    run_symmetrize(comm, path, SymmetrizeParams(laue="-1"), OUTPUT)
    with h5py.File(path.parent / "300K" / FILES[0]) as file:
        parallel_assert("fill" not in file["entry/data"])
    comm.Barrier()
    parallel_assert(len(run_pdf(comm, path, other, OUTPUT)) == 3)


@pytest.mark.parallel([1])
def test_holes_are_empty_in_punch_and_filled_in_fill(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P m -3 m")
    run_symmetrize(comm, path, SymmetrizeParams(), OUTPUT)
    run_pdf(comm, path, CHOICES, OUTPUT)
    found = {name.rpartition("/")[2]: values for (_, name), values in made(path).items()}
    axis = found["Qh"]
    a_star = 2 * np.pi / 5
    whole = (np.rint(axis) - axis) * a_star
    holes = whole**2 + whole[:, None] ** 2 + whole[:, None, None] ** 2 <= 0.3**2 * (1 + 1e-9)
    half = (np.abs(np.abs(axis - np.rint(axis)) - 0.5)) * a_star
    for one in range(3):
        parts = [whole**2] * 3
        parts[one] = half**2
        satellite = parts[0] + parts[1][:, None] + parts[2][:, None, None]
        holes |= satellite <= 0.2**2 * (1 + 1e-9)
    kept = np.isfinite(found["punch"])
    assert not (kept & holes).any()
    assert np.array_equal(found["punch"][~holes], found["data"][~holes], equal_nan=True)
    assert np.isfinite(found["fill"][holes]).all()
    assert found["fill"][holes].max() < 10  # no Bragg peak


@pytest.mark.parallel([1, 2])
def test_a_volume_that_is_not_symmetrized_is_refused(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P m -3 m")
    with pytest.raises(CollectiveError, match=r"symm_transform\.nxs: expected a symmetrized"):
        run_pdf(comm, path, CHOICES, OUTPUT)
    parallel_assert(not list((path.parent / "300K").glob(".*")))


@pytest.mark.parallel([2])
def test_files_are_what_direct_sums_say(comm, shared_tmp_path):
    """Three different axes, a centring, a radius from the settings, other window and spacing."""
    path = write(comm, shared_tmp_path, "C 1 2/c 1")
    if comm.rank == 0:
        with h5py.File(path, "r+") as file:
            for name, value in zip("abc", (5.0, 6.0, 7.0), strict=True):
                file[f"entry/sample/unitcell_{name}"][...] = value
            file["entry/sample/unitcell_beta"][...] = 90.0
            del file["entry/sample/space_group"]
            file["entry/sample/space_group"] = "I m m m"
        (shared_tmp_path / "tasks").mkdir()
        (shared_tmp_path / "tasks" / "settings.ini").write_text("[nxreduce]\nradius = 0.35\n")
    comm.Barrier()
    choices = Choices(
        punch=PunchParams(), window=WindowParams(window="lanczos", q_max=2.0),
        pdf=PdfParams(spacing=1.0, precision="double"),
    )  # fmt: skip
    run_symmetrize(comm, path, SymmetrizeParams(), OUTPUT)
    run_pdf(comm, path, choices, OUTPUT)
    wrong = "" if comm.rank else differences_from_direct_sums(path)
    parallel_assert(not comm.bcast(wrong), wrong)


def differences_from_direct_sums(path):
    """Return what is wrong, if anything."""
    with h5py.File(path) as file:
        entry = file["entry"]
        symm = {name: entry["symm_transform"][name][()] for name in entry["symm_transform"]}
        norm = h5py.File(path.parent / "300K" / "symm_transform.nxs")["entry/data/n"][()]
        found = {name: entry["pdf"][name][()] for name in entry["pdf"]}
        total = entry["total_pdf/pdf"][()]
    axis = symm["Qh"]
    star = 2 * np.pi / np.array([5.0, 6.0, 7.0])
    h, k, l = axis, axis[:, None], axis[:, None, None]
    squares = (h * star[0]) ** 2 + (k * star[1]) ** 2 + (l * star[2]) ** 2
    s = np.sqrt(squares) / 2.0
    window = np.where(s <= 1, np.sinc(s), 0)
    with np.errstate(divide="ignore"):
        if not np.allclose(symm["data_weights"], 1 / window.astype(np.float32), rtol=1e-5):
            return "window"
    whole = [np.rint(x) for x in (h, k, l)]
    off = [((x - w) * q) ** 2 for x, w, q in zip((h, k, l), whole, star, strict=True)]
    allowed = (whole[0] + whole[1] + whole[2]) % 2 == 0
    punched = allowed & (off[0] + off[1] + off[2] <= 0.35**2 * (1 + 1e-9))
    if not np.array_equal(np.isnan(symm["punched_data"]), punched | np.isnan(symm["data"])):
        return "holes"
    n = np.array([len(found[name]) for name in "xyz"])
    if not (n * 0.1 * 1.0 >= 1 / np.array([1 / 5, 1 / 6, 1 / 7]) * 1.0 - 1e-9).all():
        return "spacing"
    variance = np.where(punched | (norm == 0), 0, symm["data"] / np.where(norm > 0, norm, 1))
    for name, volume, pdf in (
        ("pdf", symm["filled_data"], found["pdf"]), ("total", symm["data"], total),
    ):  # fmt: skip
        known = np.isfinite(volume)
        mean = (volume * window)[known].sum() / window[known].sum()
        weighted = np.where(known, (volume - mean) * window, 0)
        for i, j, m in ((0, 0, 0), (3, 1, 2), (-2, 4, 1), (0, 5, -3)):
            place = tuple(int(q) // 2 + p for q, p in zip(n[::-1], (m, j, i), strict=True))
            phase = (
                2
                * np.pi
                * sum(
                    x * found[axis_name][int(q) // 2 + p]
                    for x, axis_name, q, p in zip((h, k, l), "xyz", n, (i, j, m), strict=True)
                )
            )
            expected = (weighted * np.cos(phase)).sum() / n.prod()
            if abs(pdf[place] - expected) > 1e-7 * np.abs(pdf).max():  # the window is single
                return f"{name} at {i} {j} {m}: {pdf[place]}, not {expected}"
            if name == "total":
                continue
            # each orbit under mmm has one value: the sum of its eight cosines is their product
            indices = zip("xyz", n, (i, j, m), strict=True)
            place_of = [found[a][int(q) // 2 + p] for a, q, p in indices]
            images = np.ones(volume.shape)
            for x, at in zip((h, k, l), place_of, strict=True):
                images = images * np.where(x == 0, 1, 2 * np.cos(2 * np.pi * x * at))
            quarter = (h >= 0) & (k >= 0) & (l >= 0)
            sizes = (2 - (h == 0)) * (2 - (k == 0)) * (2 - (l == 0))
            slope = images * window - window * sizes * (
                (window * known * np.cos(phase)).sum() / (window * known).sum()
            )
            error = np.sqrt((variance * slope**2)[quarter].sum()) / n.prod()
            if abs(found["pdf_errors"][place] - error) > 1e-6 * found["pdf_errors"].max():
                return f"error at {i} {j} {m}: {found['pdf_errors'][place]}, not {error}"
    return ""


@pytest.mark.parallel([1, 2])
def test_another_volume_than_the_recorded_one_is_refused(comm, shared_tmp_path):
    path = write(comm, shared_tmp_path, "P m -3 m")
    run_symmetrize(comm, path, SymmetrizeParams(laue="-1"), OUTPUT)
    file = path.parent / "300K" / FILES[0]
    kept = file.with_name("kept")
    if comm.rank == 0:
        shutil.copy(file, kept)
    comm.Barrier()
    run_symmetrize(comm, path, SymmetrizeParams(), OUTPUT)
    if comm.rank == 0:
        shutil.copy(kept, file)
    comm.Barrier()
    with pytest.raises(CollectiveError, match="found another one"):
        run_pdf(comm, path, CHOICES, OUTPUT)


@pytest.mark.parallel([1, 3])
def test_too_little_memory_is_told_before_anything_is_made(comm, shared_tmp_path, monkeypatch):
    path = write(comm, shared_tmp_path, "P m -3 m")
    run_symmetrize(comm, path, SymmetrizeParams(), OUTPUT)
    monkeypatch.setattr("nxmpi.parallel.memory.available_memory", lambda comm: 10**6)
    with pytest.raises(CollectiveError, match=r"pdf.nxs: expected \S+ \wB of memory for each of"):
        run_pdf(comm, path, CHOICES, OUTPUT)
    parallel_assert(not (path.parent / "300K" / "pdf.nxs").exists())
