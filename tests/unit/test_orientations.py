"""Scans with simulated peaks to orientations in their files, held against the truth."""

import hashlib

import h5py
import numpy as np
import pytest
from mpi4py import MPI
from scipy.spatial.transform import Rotation
from unit.peaks_scan import (
    NAMES,
    Crystal,
    geometry_of,
    join,
    peaks_of,
    random_rotation,
    true_places,
    write_scan,
)

from nxmpi.crystal.indexing import nearest_equivalent
from nxmpi.crystal.lattice import reciprocal_matrix, reduced
from nxmpi.crystal.laue import lattice_rotations
from nxmpi.crystal.symmetry import is_allowed
from nxmpi.errors import CollectiveError
from nxmpi.nexus.geometry import read_geometry, read_sample
from nxmpi.nexus.process import read_inputs
from nxmpi.params import OrientParams, OutputParams
from nxmpi.pipeline.orient import run_orient

CELLS = {
    "cubic": ((4.1, 4.1, 4.1, 90.0, 90.0, 90.0), "P m -3 m"),
    "tetragonal": ((4.6, 4.6, 5.9, 90.0, 90.0, 90.0), "I 4/m m m"),
    "hexagonal": ((5.8, 5.8, 7.4, 90.0, 90.0, 120.0), "P 6/m m m"),
    "monoclinic": ((7.1, 5.3, 6.2, 90.0, 103.0, 90.0), "P 1 21/c 1"),
    "triclinic": ((5.1, 6.3, 7.2, 83.0, 97.0, 105.0), "P -1"),
}
BRAVAIS = {
    "aP": ((5.1, 6.3, 7.2, 83.0, 97.0, 105.0), "P -1"),
    "mP": ((7.1, 5.3, 6.2, 90.0, 103.0, 90.0), "P 1 2/m 1"),
    "mC": ((9.1, 5.3, 6.2, 90.0, 103.0, 90.0), "C 1 2/m 1"),
    "oP": ((4.3, 5.6, 7.1, 90.0, 90.0, 90.0), "P m m m"),
    "oC": ((6.3, 8.6, 5.1, 90.0, 90.0, 90.0), "C m m m"),
    "oI": ((5.3, 6.6, 8.1, 90.0, 90.0, 90.0), "I m m m"),
    "oF": ((7.3, 8.6, 10.1, 90.0, 90.0, 90.0), "F m m m"),
    "tP": ((4.6, 4.6, 5.9, 90.0, 90.0, 90.0), "P 4/m m m"),
    "tI": ((5.6, 5.6, 8.9, 90.0, 90.0, 90.0), "I 4/m m m"),
    "hP": ((5.8, 5.8, 7.4, 90.0, 90.0, 120.0), "P 6/m m m"),
    "hR": ((5.8, 5.8, 14.4, 90.0, 90.0, 120.0), "R -3 m :H"),
    "cP": ((4.1, 4.1, 4.1, 90.0, 90.0, 90.0), "P m -3 m"),
    "cI": ((5.1, 5.1, 5.1, 90.0, 90.0, 90.0), "I m -3 m"),
    "cF": ((6.1, 6.1, 6.1, 90.0, 90.0, 90.0), "F m -3 m"),
}
ALL = range(3)


def crystal_of(name, seed=1, **values):
    cell, symbol = CELLS[name]
    return Crystal(cell=cell, space_group=symbol, U=random_rotation(seed), **values)


def orient(path, **params):
    return run_orient(MPI.COMM_SELF, path, OrientParams(**params), OutputParams())


def result(path, name="f1"):
    """Return geometry, lattice and peaks of a position as the file has them."""
    with h5py.File(path) as file:
        sample = read_sample(file[name])
        n_frames, *shape = file[f"{name}/data/data"].shape
        geometry = read_geometry(file[name], tuple(shape), n_frames, sample)
        peaks = {column: values[()] for column, values in file[f"{name}/peaks"].items()}
        return geometry, sample, peaks


def errors_of(path, crystal, name="f1"):
    """Return the error of the orientation [degrees] and those of the cell [1]."""
    geometry, sample, _ = result(path, name)
    B = reciprocal_matrix(crystal.lattice)
    rotations = lattice_rotations(crystal.lattice, crystal.space_group)
    near = nearest_equivalent(np.array(geometry.UB), np.asarray(crystal.U) @ B, rotations)
    u, _, v = np.linalg.svd(near @ np.linalg.inv(np.asarray(crystal.U) @ B))
    cell = np.array([getattr(sample.lattice, each) for each in NAMES])
    true = np.array(crystal.cell)
    return np.degrees(Rotation.from_matrix(u @ v).magnitude()), np.abs(cell - true) / true


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", CELLS)
def test_from_nothing_but_the_cell(tmp_path, name):
    crystal = crystal_of(name)
    peaks, hkl = zip(*(peaks_of(crystal, i) for i in ALL), strict=True)
    path = write_scan(tmp_path, crystal, peaks)
    orient(path)
    for i in ALL:
        angle, cell = errors_of(path, crystal, f"f{i + 1}")
        assert angle < 0.01
        assert cell.max() < 5e-5
        geometry, _, found = result(path, f"f{i + 1}")
        wanted = geometry_of(crystal, i)
        np.testing.assert_allclose(
            geometry.detector.beam_center, wanted.detector.beam_center, atol=0.03
        )
        own = np.column_stack([found[index] for index in "hkl"])
        assert (found["grain"] == 1).mean() > 0.99
        u = np.linalg.solve(np.array(geometry.UB), np.array(wanted.UB))  # of equivalent indices
        np.testing.assert_allclose(np.round(own), hkl[i] @ np.round(u).T, atol=0)
        residuals = np.column_stack([found[f"residual_{each}"] for each in "xyz"])
        scaled = residuals / np.column_stack([found[f"{each}_errors"] for each in "xyz"])
        use = np.abs(scaled).max(axis=1) < 5
        assert use.mean() > 0.98
        np.testing.assert_allclose(scaled[use].std(axis=0), 1.0, atol=0.15)  # of 250 peaks


@pytest.mark.parametrize("name", CELLS)
def test_from_nothing(tmp_path, name):
    crystal = crystal_of(name)
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL], cell=False)
    lines = orient(path)
    geometry, sample, peaks = result(path)
    assert (peaks["grain"] == 1).mean() > 0.99
    wanted = reduced(np.asarray(crystal.U) @ reciprocal_matrix(crystal.lattice))
    volume = abs(np.linalg.det(np.array(geometry.UB))) / abs(np.linalg.det(wanted))
    assert volume == pytest.approx(1, abs=1e-4)
    assert any(line.rstrip().endswith("taken") for line in lines)
    if name in ("cubic", "tetragonal", "hexagonal"):
        angle, cell = errors_of(path, crystal)
        assert angle < 0.01
        assert cell.max() < 5e-5
    assert sample.crystal_system == name
    assert sample.centring == crystal.space_group[0]


def test_distance_and_cell_together_are_as_good_as_their_errors_say(tmp_path):
    pulls = []
    for seed in range(4):
        crystal = crystal_of("hexagonal")
        path = write_scan(
            tmp_path / f"{seed}", crystal, [peaks_of(crystal, i, seed)[0] for i in ALL],
            distance=652.0,
        )  # fmt: skip
        lines = orient(path, free=("cell", "orientation", "centre", "omega", "chi", "distance"))
        for name, true in (("a = b", 5.8), ("c", 7.4), ("distance", 650.0)):
            (row,) = (line for line in lines if line.startswith(f"{name} "))
            value, _, error = row.removeprefix(name).split()[:3]
            pulls.append((float(value) - true) / float(error))
    assert np.abs(pulls).max() < 3.5
    assert np.std(pulls) == pytest.approx(1.0, abs=0.6)


PSEUDO = {
    "tetragonal, almost cubic": ((4.6, 4.6, 4.645, 90.0, 90.0, 90.0), "P 4/m m m"),
    "orthorhombic, almost tetragonal": ((5.30, 5.37, 7.5, 90.0, 90.0, 90.0), "P n m a"),
    "C, almost tetragonal": ((6.30, 6.25, 7.1, 90.0, 90.0, 90.0), "C m c m"),
    "monoclinic, almost orthorhombic": ((5.2, 6.1, 7.3, 90.0, 90.7, 90.0), "P 1 21/c 1"),
    "obverse": ((5.0, 5.0, 14.0, 90.0, 90.0, 120.0), "R -3 m :H"),
    "glide planes that tell axes apart": ((5.4, 5.4, 5.4, 90.0, 90.0, 90.0), "P a -3"),
}


@pytest.mark.parametrize(
    "seeds", [(0, 1), pytest.param((2, 3, 4), marks=pytest.mark.full)], ids=str
)
@pytest.mark.parametrize("name", PSEUDO)
def test_axes_that_look_alike_are_not_exchanged(tmp_path, name, seeds):
    cell, symbol = PSEUDO[name]
    for seed in seeds:
        U = random_rotation(seed)
        crystal = Crystal(cell=cell, space_group=symbol, U=U, n_peaks=120)
        root = tmp_path / f"{seed}"
        path = write_scan(root, crystal, [peaks_of(crystal, i, seed)[0] for i in ALL])
        orient(path)
        angle, error = errors_of(path, crystal)
        assert angle < 0.01
        assert error.max() < 5e-5
        found = result(path)[2]
        hkl = np.round(np.column_stack([found[index] for index in "hkl"]))
        assert is_allowed(symbol, hkl).mean() > 0.99


@pytest.mark.full
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("name", BRAVAIS)
def test_twenty_orientations_of_every_lattice(tmp_path, name, known):
    cell, symbol = BRAVAIS[name]
    for seed in range(20):
        assert_found(tmp_path / f"{seed}", name, cell, symbol, seed, known=known)


@pytest.mark.parametrize(
    ("name", "known"),
    [*((name, True) for name in ("mC", "oF", "hR", "cF", "cI")), ("oF", False), ("hR", False)],
)
def test_two_orientations_of_some_lattices(tmp_path, name, known):
    cell, symbol = BRAVAIS[name]
    for seed in (100, 101):
        assert_found(tmp_path / f"{seed}", name, cell, symbol, seed, known=known)


def assert_found(root, name, cell, symbol, seed, *, known):
    crystal = Crystal(
        cell=cell, space_group=symbol, U=random_rotation(seed), n_peaks=150, n_false=50
    )
    path = write_scan(root, crystal, [peaks_of(crystal, i, seed)[0] for i in ALL], cell=known)
    lines = orient(path)
    geometry, _, peaks = result(path)
    assert (peaks["grain"][:150] == 1).mean() > 0.97
    if not known:
        (taken,) = (line for line in lines if line.rstrip().endswith("taken"))
        assert taken.split()[0] == name
    wanted = np.asarray(crystal.U) @ reciprocal_matrix(crystal.lattice)
    u = np.linalg.solve(np.array(geometry.UB), wanted)
    np.testing.assert_allclose(u, np.round(u * 6) / 6, atol=2e-3)  # the same lattice
    assert abs(np.linalg.det(u)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("cell", [True, False])
def test_half_of_the_peaks_false_and_a_cell_off_by_a_percent(tmp_path, cell):
    crystal = crystal_of("monoclinic", n_false=250)
    off = (*(1.01 * np.array(crystal.cell[:3])), *crystal.cell[3:])
    peaks = [peaks_of(crystal, i)[0] for i in ALL]
    path = write_scan(tmp_path, crystal, peaks, cell=off if cell else False)
    orient(path, min_indexed=0.3)
    _, _, found = result(path)
    assert (found["grain"][:250] == 1).mean() > 0.99
    assert (found["grain"][250:] == 1).mean() < 0.1
    if cell:
        angle, error = errors_of(path, crystal)
        assert angle < 0.01
        assert error.max() < 5e-5


def test_satellites_are_left_out(tmp_path):
    crystal = crystal_of("tetragonal")
    peaks = []
    for i in ALL:
        both = [peaks_of(crystal, i, 5, (0.31 * sign, 0.22 * sign, 0.0), 60)[0] for sign in (1, -1)]
        peaks.append(join(peaks_of(crystal, i)[0], *both))
    path = write_scan(tmp_path, crystal, peaks)
    lines = orient(path)
    angle, cell = errors_of(path, crystal)
    assert angle < 0.01
    assert cell.max() < 5e-5
    assert (result(path)[2]["grain"][250:] == 0).all()
    assert not any("Crystal 2" in line for line in lines)


@pytest.mark.parametrize("grains", [1, 2])
def test_second_grain_is_told_of_and_indexed_if_asked_for(tmp_path, grains):
    crystal = crystal_of("hexagonal")
    turn = Rotation.from_euler("xyz", [8.0, 3.0, 11.0], degrees=True).as_matrix()
    other = Crystal(cell=crystal.cell, space_group=crystal.space_group, U=turn @ crystal.U)
    peaks = [join(peaks_of(crystal, i)[0], peaks_of(other, i, n=120)[0]) for i in ALL]
    path = write_scan(tmp_path, crystal, peaks)
    lines = orient(path, grains=grains)
    (told,) = (line for line in lines if line.startswith("Crystal 2"))
    assert f"{np.degrees(Rotation.from_matrix(turn).magnitude()):.2f}" in told
    assert ("--grains 2" in told) == (grains == 1)
    assert errors_of(path, crystal)[0] < 0.01
    _, _, found = result(path)
    assert (found["grain"][250:] == 2).mean() > 0.9 if grains == 2 else (found["grain"] < 2).all()
    if grains == 2:
        hkl = np.column_stack([found[index] for index in "hkl"])[found["grain"] == 2]
        assert np.abs(hkl - np.round(hkl)).max() < 0.16
        with h5py.File(path) as file:
            assert file["f1/peaks"].attrs["grain_ub_matrices"].shape == (2, 3, 3)


def test_matrices_of_grains_do_not_outlive_them(tmp_path):
    crystal = crystal_of("hexagonal")
    turn = Rotation.from_euler("xyz", [8.0, 3.0, 11.0], degrees=True).as_matrix()
    other = Crystal(cell=crystal.cell, space_group=crystal.space_group, U=turn @ crystal.U)
    peaks = [join(peaks_of(crystal, 0)[0], peaks_of(other, 0, n=120)[0])]
    path = write_scan(tmp_path, crystal, peaks)
    for grains in (2, 1):
        orient(path, grains=grains)
        with h5py.File(path) as file:
            assert ("grain_ub_matrices" in file["f1/peaks"].attrs) == (grains == 2)


def test_phi_that_is_a_group_is_refined(tmp_path):
    crystal = crystal_of("monoclinic")
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    with h5py.File(path, "r+") as file:
        del file["f2/instrument/goniometer/phi"]
        group = file.create_group("f2/instrument/goniometer/phi")
        group["value"] = -5.05 + 0.1 * np.arange(3600)
        group.attrs["signal"] = "value"
    orient(path, free=("cell", "orientation", "phi0"))
    starts = [result(path, name)[0].goniometer.phi[0] for name in ("f1", "f2")]
    assert starts[1] - starts[0] == pytest.approx(0.0, abs=0.01)  # as it was simulated
    with h5py.File(path) as file:
        assert file["f2/instrument/goniometer/phi/value"].shape == (3600,)


def test_beam_centre_three_pixels_off(tmp_path):
    """Near the crystal, where that is almost half of the way between reflections."""
    cell = (11.0, 12.0, 14.0, 90.0, 90.0, 90.0)
    crystal = Crystal(cell=cell, space_group="P m m m", U=random_rotation(3), distance=110.0)
    path = write_scan(
        tmp_path, crystal, [peaks_of(crystal, 0)[0]],
        beam_center_x=3.0, beam_center_y=-3.0,
    )  # fmt: skip
    lines = orient(path)
    assert any("beam centre moved by" in line for line in lines)
    assert errors_of(path, crystal)[0] < 0.01
    np.testing.assert_allclose(
        result(path)[0].detector.beam_center, geometry_of(crystal, 0).detector.beam_center,
        atol=0.05,
    )  # fmt: skip


def test_positions_whose_phi_begins_elsewhere_have_orientations_of_their_own(tmp_path):
    crystal = crystal_of("monoclinic")
    peaks = [peaks_of(crystal, i)[0] for i in ALL]
    path = write_scan(tmp_path, crystal, peaks, phi0=(0.0, 1.3, -0.8))
    lines = orient(path)
    assert any("an orientation of each" in line for line in lines)
    assert errors_of(path, crystal, "f1")[0] < 0.01
    for name, turn in (("f2", -1.3), ("f3", 0.8)):
        U = Rotation.from_euler("z", turn, degrees=True).as_matrix() @ crystal.U
        other = Crystal(cell=crystal.cell, space_group=crystal.space_group, U=U)
        assert errors_of(path, other, name)[0] < 0.01


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"phi_sign": -1}, "with phi turning the other way 100% of them would be"),
        ({"detector_orientation": "+y +z +x"}, "with detector_orientation '-y +z -x' 100%"),
        ({"detector_orientation": "-y -z +x"}, "with detector_orientation '-y +z -x' 100%"),
        ({"detector_orientation": "+z -y -x"}, "with detector_orientation '-y +z -x' 100%"),
    ],
    ids=str,
)
def test_wrong_handedness_is_named_and_nothing_written(tmp_path, changes, told):
    crystal = crystal_of("monoclinic")
    assert_named(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL], told, **changes)


def test_wrong_handedness_is_named_without_a_cell(tmp_path):
    crystal = crystal_of("monoclinic")
    told = "with phi turning the other way 100% of them would be"
    peaks = [peaks_of(crystal, 0)[0]]
    assert_named(tmp_path, crystal, peaks, told, cell=False, phi_sign=-1)


def assert_named(root, crystal, peaks, told, **changes):
    path = write_scan(root, crystal, peaks, **changes)
    before = digest(path)
    with pytest.raises(CollectiveError, match="expected an orientation that explains") as error:
        orient(path)
    assert told in str(error.value)
    assert digest(path) == before


def test_wrong_cell_is_told_of(tmp_path):
    crystal = crystal_of("triclinic")
    path = write_scan(
        tmp_path, crystal, [peaks_of(crystal, 0)[0]],
        cell=(4.4, 8.8, 9.3, 75.0, 88.0, 95.0),
    )  # fmt: skip
    before = digest(path)
    with pytest.raises(CollectiveError, match=r"cell of 5\.1.*, 6\.[23].*, 7\..*--find-cell"):
        orient(path)
    assert digest(path) == before
    orient(path, find_cell=True)
    assert (result(path)[2]["grain"] == 1).mean() > 0.99


def test_noise_is_refused(tmp_path):
    crystal = crystal_of("hexagonal", n_peaks=1, n_false=150)
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    before = digest(path)
    with pytest.raises(CollectiveError, match=r"at least 50% of the strong .* nothing was written"):
        orient(path)
    assert digest(path) == before


def test_complete_orientation_is_kept_until_something_changes(tmp_path):
    crystal = crystal_of("tetragonal")
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    assert orient(path)
    before = digest(path)
    assert orient(path) == []
    assert digest(path) == before
    with h5py.File(path, "r+") as file:
        file["f2/instrument/detector/distance"][...] = 650.01
    assert orient(path)
    with h5py.File(path, "r+") as file:
        file["f3/peaks/x"][3] += 0.5
    assert orient(path)
    assert orient(path, free=("cell", "orientation"))
    assert orient(path, free=("cell", "orientation")) == []


def test_previous_orientation_decides_between_equivalents(tmp_path):
    crystal = crystal_of("cubic")
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    near = Rotation.from_euler("xyz", [0.5, -0.7, 0.4], degrees=True).as_matrix()
    M = near @ crystal.U @ turn
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL], orientation=M)
    orient(path)
    U = np.array(result(path)[0].UB) * crystal.cell[0]
    np.testing.assert_allclose(U, np.asarray(crystal.U) @ turn, atol=2e-4)


def test_orientation_of_another_program_is_kept(tmp_path):
    crystal = crystal_of("cubic")
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    orient(path)
    with h5py.File(path, "r+") as file:
        for name in ("f1", "f2", "f3"):
            del file[f"{name}/nxworkflow/nxrefine/version"]
            file[f"{name}/nxworkflow/nxrefine/version"] = "nxrefine v1"
    with pytest.raises(CollectiveError, match="nxrefine was done by another program and is kept"):
        orient(path)
    anew = OutputParams(overwrite=True)
    assert run_orient(MPI.COMM_SELF, path, OrientParams(), anew, unasked=True) == []
    assert run_orient(MPI.COMM_SELF, path, OrientParams(), anew)


def test_one_position_leaves_the_cell_of_the_others(tmp_path):
    crystal = crystal_of("monoclinic")
    off = (*(1.001 * np.array(crystal.cell[:3])), *crystal.cell[3:])
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL], cell=off)
    run_orient(MPI.COMM_SELF, path, OrientParams(), OutputParams(), entries=("f2",))
    assert errors_of(path, crystal, "f2")[1].max() < 5e-5
    with h5py.File(path) as file:
        assert "orientation_matrix" not in file["f1/instrument/detector"]
    run_orient(MPI.COMM_SELF, path, OrientParams(), OutputParams(), entries=("f1",))
    with h5py.File(path, "r+") as file:
        file["entry/sample/unitcell_a"][...] = crystal.cell[0] + 0.001
    run_orient(MPI.COMM_SELF, path, OrientParams(), OutputParams(), entries=("f3",))
    assert result(path, "f2")[1].lattice.a == crystal.cell[0] + 0.001


def test_record_tells_what_was_done(tmp_path):
    crystal = crystal_of("triclinic")
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    lines = orient(path)
    with h5py.File(path) as file:
        assert file["f2/nxworkflow/nxrefine/program"][()] == b"nxrefine"
        assert file["f2/nxworkflow/nxrefine/note/data"][()].decode() == "\n".join(lines)
        assert file["f2/peaks"].attrs["indexed_fraction"] == 1.0
        recorded = read_inputs(file["f2"], "nxrefine")
        assert recorded["free"] == ["cell", "orientation", "centre", "omega", "chi"]
        assert recorded["before"]["geometry"]["beam_center"] == [712.6, 835.4]
        np.testing.assert_allclose(
            file["f2/instrument/detector/ub_matrix"][()], np.array(result(path, "f2")[0].UB)
        )


@pytest.mark.parametrize(
    "cell", [(5.2, 6.1, 7.3, 90.0, 90.3, 90.0), (4.6, 4.6, 4.61, 90.0, 90.0, 90.0)]
)
def test_small_distortions_are_seen_without_a_cell(tmp_path, cell):
    symbol = "P 1 2/m 1" if cell[4] != 90 else "P 4/m m m"
    crystal = Crystal(cell=cell, space_group=symbol, U=random_rotation(4))
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL], cell=False)
    lines = orient(path)
    (taken,) = (line for line in lines if line.rstrip().endswith("taken"))
    assert taken.split()[0] == ("mP" if cell[4] != 90 else "tP")


def test_other_positions_keep_their_cell(tmp_path):
    crystal = crystal_of("monoclinic")
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    orient(path)
    before = digest(path)
    for params in ({"cell": (6.2, 5.3, 7.1, 90.0, 103.0, 90.0)}, {"find_cell": True}):
        with pytest.raises(CollectiveError, match="expected all positions with another cell"):
            run_orient(MPI.COMM_SELF, path, OrientParams(**params), OutputParams(), entries=("f1",))
    assert run_orient(MPI.COMM_SELF, path, OrientParams(), OutputParams(), entries=("f1",)) == []
    assert digest(path) == before


def test_cell_is_made_of_its_symmetry(tmp_path):
    crystal = crystal_of("cubic")
    off = (4.1, 4.12, 4.1, 90.0, 90.0, 90.3)
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL], cell=off)
    orient(path)
    assert errors_of(path, crystal)[1].max() < 5e-5


def test_positions_of_different_cells_are_refused(tmp_path):
    crystal = crystal_of("monoclinic")
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    with h5py.File(path, "r+") as file:
        del file["f2/sample"]
        file.copy("entry/sample", "f2/sample")
        file["f2/sample/unitcell_a"][...] = 7.2
    with pytest.raises(CollectiveError, match="expected one cell and space group at all positions"):
        orient(path)


def test_orientation_again_knows_the_geometry_of_the_frames(tmp_path):
    crystal = crystal_of("tetragonal")
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    orient(path)
    for free in (("cell", "orientation"), ("cell", "orientation", "centre"), ("orientation",)):
        orient(path, free=free)
        with h5py.File(path) as file:
            recorded = read_inputs(file["f1"], "nxrefine")
            center = file["f1/instrument/detector/beam_center_x"][()]
        assert recorded["before"]["geometry"]["beam_center"] == [743.3, 806.1]
        assert recorded["after"]["geometry"]["beam_center"][0] == center


def test_unasked_only_what_changed_matters(tmp_path):
    crystal = crystal_of("tetragonal")
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    orient(path, free=("cell", "orientation"))
    assert run_orient(MPI.COMM_SELF, path, OrientParams(), OutputParams(), unasked=True) == []
    with h5py.File(path, "r+") as file:
        del file["f1/peaks/h"]
    assert run_orient(MPI.COMM_SELF, path, OrientParams(), OutputParams(), unasked=True)


@pytest.mark.parametrize("symbol", ["P 1 21/c 1", "P m -3 m", ""])
def test_space_group_is_kept_where_it_fits(tmp_path, symbol):
    crystal = Crystal(cell=CELLS["monoclinic"][0], space_group="P 1 21/c 1", U=random_rotation(1))
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, i)[0] for i in ALL])
    with h5py.File(path, "r+") as file:
        del file["entry/sample/space_group"]
        file["entry/sample/space_group"] = symbol
    orient(path, cell=crystal.cell)
    wanted = symbol if symbol == "P 1 21/c 1" else "P 1 2/m 1"
    assert result(path)[1].space_group == wanted


@pytest.mark.parametrize("value", [np.inf, 0.0, -1.0, np.nan])
def test_errors_that_are_none_are_taken_for_unknown(tmp_path, value):
    crystal = crystal_of("cubic")
    peaks = [peaks_of(crystal, i)[0] for i in ALL]
    peaks[0]["x_errors"][7] = peaks[1]["z_errors"][3] = value
    path = write_scan(tmp_path, crystal, peaks)
    orient(path)
    assert errors_of(path, crystal)[0] < 0.01


@pytest.mark.parametrize("n", [2, 3, 5])
def test_too_few_peaks(tmp_path, n):
    crystal = crystal_of("cubic")
    for seed in range(3):
        peaks = [few(peaks_of(crystal, 0, seed)[0], n)]
        path = write_scan(tmp_path / f"{seed}", crystal, peaks)
        before = digest(path)
        with pytest.raises(CollectiveError, match="expected an orientation that explains"):
            orient(path)
        assert digest(path) == before


def test_useless_values_are_replaced(tmp_path):
    crystal = crystal_of("cubic")
    peaks = [peaks_of(crystal, i)[0] for i in ALL]
    path = write_scan(tmp_path, crystal, peaks, cell=(0.0,) * 6, orientation=np.zeros((3, 3)))
    orient(path, cell=crystal.cell)
    assert errors_of(path, crystal)[0] < 0.01


def few(columns, n):
    return {name: values[:n] for name, values in columns.items()}


def test_few_false_peaks_determine_no_cell(tmp_path):
    crystal = crystal_of("hexagonal", n_peaks=1, n_false=40)
    path = write_scan(tmp_path, crystal, [peaks_of(crystal, 0)[0]], cell=False)
    before = digest(path)
    with pytest.raises(CollectiveError, match="the peaks do not determine a cell"):
        orient(path)
    assert digest(path) == before


@pytest.mark.parametrize("n", [0, 1])
def test_no_or_one_peak(tmp_path, n):
    crystal = crystal_of("cubic")
    peaks = [peaks_of(crystal, i)[0] for i in ALL]
    path = write_scan(tmp_path, crystal, [peaks[0], few(peaks[1], n), peaks[2]])
    with pytest.raises(CollectiveError, match=rf"/f2/peaks: expected at least 2 peaks, found {n}"):
        orient(path)


def test_peaks_that_are_no_numbers_are_left_out(tmp_path):
    crystal = crystal_of("cubic")
    peaks = [peaks_of(crystal, i)[0] for i in ALL]
    peaks[0]["x"][::10] = np.nan
    peaks[1]["z_errors"][:] = np.nan
    path = write_scan(tmp_path, crystal, peaks)
    orient(path)
    assert errors_of(path, crystal)[0] < 0.01
    _, _, found = result(path)
    assert np.isnan(found["h"][::10]).all()
    assert (found["grain"][::10] == 0).all()
    assert np.isfinite(np.delete(found["h"], np.arange(0, 250, 10))).all()


def test_peaks_without_errors(tmp_path):
    crystal = crystal_of("hexagonal")
    peaks = [peaks_of(crystal, i)[0] for i in ALL]
    for columns in peaks:
        for name in ("x_errors", "y_errors", "z_errors", "flags"):
            del columns[name]
    path = write_scan(tmp_path, crystal, peaks)
    orient(path)
    angle, cell = errors_of(path, crystal)
    assert angle < 0.01
    assert cell.max() < 5e-5


@pytest.mark.parametrize("cell", [True, False])
def test_peaks_on_a_line(tmp_path, cell):
    crystal = crystal_of("cubic")
    path = write_scan(tmp_path, crystal, [on_a_line(crystal, i) for i in ALL], cell=cell)
    before = digest(path)
    with pytest.raises(CollectiveError, match="the peaks are of one line through the origin"):
        orient(path)
    assert digest(path) == before


def on_a_line(crystal, i):
    """Return the orders of one reflection, which leave a turn about it open."""
    columns, hkl = peaks_of(crystal, i, n=len(true_places(crystal, geometry_of(crystal, i))[0]))
    line = np.linalg.norm(np.cross(hkl, [1, 2, 0]), axis=1) == 0
    return {name: values[line] for name, values in columns.items()}


def test_all_peaks_at_one_angle(tmp_path):
    """As in a still, which tells the orientation but neither omega nor chi."""
    crystal = crystal_of("monoclinic")
    peaks = []
    for i in ALL:
        columns, _ = peaks_of(crystal, i, n=len(true_places(crystal, geometry_of(crystal, i))[0]))
        use = np.abs(columns["z"] - 1000) < 8
        peaks.append({name: values[use] for name, values in columns.items()})
    path = write_scan(tmp_path, crystal, peaks)
    orient(path)
    assert errors_of(path, crystal)[0] < 0.05
