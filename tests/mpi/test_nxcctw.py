"""Frames transformed by the command line of CCTW, on any number of ranks, and by the formulas."""

import json
from itertools import product

import h5py
import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.cctw.command import CctwParams
from nxmpi.errors import CollectiveError
from nxmpi.parallel.locks import step_lock
from nxmpi.pipeline.nxcctw import run_cctw_merge, run_cctw_transform

RANKS = [1, 2, 3, 4, 7]
SHAPE = (11, 23, 37)
GRID = (41, 45, 39)
"""Voxels along l, k, h: more than a block of the engine, and odd."""
SETTINGS = {
    "pixelSize": 1.3, "wavelength": 0.5, "distance": 61.0, "det0x": 15.3, "det0y": 9.6,
    "ubMat": [[0.1053, 0.1140, 0.0955], [-0.1187, 0.1371, -0.0466], [-0.1216, -0.035, 0.1282]],
    "oMat": [[0, -1, 0], [0, 0, -1], [1, 0, 0]], "oVec": [0, 0, 0], "xTrans": [0, 0, 0],
    "orientErrorDetPitch": 0.0192, "orientErrorDetRoll": -0.0122, "orientErrorDetYaw": 0.0157,
    "orientErrorGonPitch": 0.007, "twoThetaCorrection": 0, "twoThetaNom": 0, "twoThetaStep": 0,
    "omegaCorrection": 0, "omegaNom": -0.035, "omegaStep": 0, "chiCorrection": 0,
    "chiNom": 0.0523, "chiStep": 0, "phiCorrection": 0, "phiNom": -0.7, "phiStep": 0.09,
    "gridOrigin": [-4.0, -4.5, -4.1], "gridBasis": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "gridDim": [5, 5, 5], "gridOffset": [0, 0, 0], "extraFlip": False, "useGonPitchError": False,
    "oversampleX": 1, "oversampleY": 1, "oversampleZ": 1,
}  # fmt: skip
CASES = {
    "plain": {},
    "parts of pixels and frames": {"oversampleX": 3, "oversampleY": 2, "oversampleZ": 2},
    "sample and detector moved": {"xTrans": [0.31, -0.17, 0.23], "oVec": [0.4, -1.2, 0.7]},
    "detector turned over": {"extraFlip": True, "det0x": 2035.1, "det0y": 2029.7},
    "turned over, in parts": {
        "extraFlip": True, "det0x": 2035.1, "det0y": 2029.7, "oversampleX": 2, "oversampleY": 3,
    },
    "arm that is not heeded": {"twoThetaNom": 0.21},
    "arm": {"twoThetaNom": 0.21, "twoThetaCorrection": 0.03, "useGonPitchError": True},
    "all circles move": {
        "omegaStep": 0.011, "chiStep": -0.007, "omegaCorrection": 0.02, "chiCorrection": -0.03,
        "phiCorrection": 0.013, "oversampleZ": 3,
    },
    "oblique grid": {
        "gridBasis": [[1, 0.2, 0], [-0.1, 1.1, 0.3], [0, 0.1, 0.9]], "gridOffset": [0.5, 1.5, -2.0],
        "gridDim": [4, 5, 6],
    },
}  # fmt: skip


def script(settings):
    owner = {name: "transformer" for name in settings if name.startswith("oversample")}
    lines = [f"{owner.get(n, 'parameters')}.{n} = {json.dumps(v)};" for n, v in settings.items()]
    n_l, n_k, n_h = GRID
    return "\n".join([*lines, f"outputData.dimensions = [{n_h}, {n_k}, {n_l}]"])


def write(comm, folder):
    """Write frames, masks and weights on the root; return the name of the file on all ranks."""
    path = folder / "frames.h5"
    if comm.rank == 0:
        rng = np.random.default_rng(5)
        with h5py.File(path, "w") as file:
            file["frames"] = rng.poisson(3.0, SHAPE).astype(np.int32)
            file["mask"] = (rng.random(SHAPE[1:]) < 0.1).astype(np.int8)
            file["mask3d"] = (rng.random(SHAPE) < 0.1).astype(np.int8)
            file["monitor"] = np.where(np.arange(SHAPE[0]) == 4, 0.0, rng.random(SHAPE[0]) + 0.5)
            file["polarization"] = rng.random(SHAPE[1:]) + 0.5
            file["angles"] = np.where(np.arange(SHAPE[0]) == 6, np.nan, 1.0)
    comm.barrier()
    return path


def params(path, output, settings, *texts, **options):
    return CctwParams(
        inputs=(f"{path}#/frames",), output=f"{output}#/entry/data",
        settings=(script(SETTINGS | settings), *texts), normalization=0, **options,
    )  # fmt: skip


def everything(path):
    return {
        "mask": f"{path}#/mask", "mask3d": f"{path}#mask3d", "angles": f"{path}#/angles",
        "weights": (f"{path}#/monitor", f"{path}#/polarization"),
    }  # fmt: skip


def rotation(axis, angle):
    c, s = np.cos(angle), np.sin(angle)
    about_x, about_y = [[1, 0, 0], [0, c, -s], [0, s, c]], [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    about_z = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    return np.array([about_x, about_y, about_z][axis])


def voxels(s, x, y, z):
    """Return the voxels along h, k, l of points on the detector, by the formulas of CCTW."""
    turn = [
        s[f"{circle}Nom"] + z * s[f"{circle}Step"] + s[f"{circle}Correction"]
        for circle in ("omega", "chi", "phi")
    ]
    theta = rotation(1, s["orientErrorGonPitch"])
    G = theta @ rotation(2, turn[0]) @ rotation(0, turn[1]) @ rotation(2, turn[2])
    D = rotation(0, s["orientErrorDetRoll"]) @ rotation(1, s["orientErrorDetPitch"])
    D, c = D @ rotation(2, s["orientErrorDetYaw"]), np.array([s["distance"], 0, 0])
    if s["useGonPitchError"]:
        arm = theta @ rotation(2, s["twoThetaNom"] + s["twoThetaCorrection"])
        D, c = arm @ D, arm @ c
    if s["extraFlip"]:
        x, y = 2048 - y, 2048 - x
    p = np.stack([x + 0.5 - s["det0x"], y + 0.5 - s["det0y"], 0 * x]) * s["pixelSize"]
    o = np.linalg.inv(s["oMat"]) @ p - np.array(s["oVec"])[:, None]
    r = D @ o - (G @ np.array(s["xTrans"]) - c)[:, None]
    k = r / np.linalg.norm(r, axis=0) / s["wavelength"]
    k[0] -= 1 / s["wavelength"]
    hkl = np.linalg.inv(s["ubMat"]) @ np.linalg.inv(G) @ k
    at = np.linalg.inv(s["gridBasis"]) @ (hkl - np.array(s["gridOrigin"])[:, None])
    return np.floor((at.T * s["gridDim"]) + s["gridOffset"]).astype(int)


def expected(path, settings):
    """Return v and n by the formulas, with all masks and weights."""
    s, (n_l, n_k, n_h) = SETTINGS | settings, GRID
    with h5py.File(path) as file:
        frames, mask, mask3d, monitor, polarization, angles = (
            file[name][()] for name in
            ("frames", "mask", "mask3d", "monitor", "polarization", "angles")
        )  # fmt: skip
    v, n = np.zeros(GRID), np.zeros(GRID)
    y, x = np.indices(SHAPE[1:])
    parts = [range(s[f"oversample{axis}"]) for axis in "ZYX"]
    for z in range(SHAPE[0]):
        if monitor[z] > 0 and not np.isnan(angles[z]):
            good = (mask == 0) & (mask3d[z] == 0)
            for c, b, a in product(*parts):
                steps = [part / len(all_) for part, all_ in zip((c, b, a), parts, strict=True)]
                at = voxels(s, x[good] + steps[2], y[good] + steps[1], z + steps[0])
                inside = ((at >= 0) & (at < (n_h, n_k, n_l))).all(axis=1)
                h, k, l = at[inside].T
                np.add.at(v, (l, k, h), frames[z][good][inside])
                np.add.at(n, (l, k, h), monitor[z] * polarization[good][inside])
    return v, n


def read(path, name="entry/data"):
    with h5py.File(path) as file:
        found = file[name]
        parts = found.values() if isinstance(found, h5py.Group) else [found]
        return {part.name.rpartition("/")[2]: part[()] for part in parts}


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("case", CASES)
def test_sums_are_those_of_the_formulas(comm, shared_tmp_path, case):
    path, output = write(comm, shared_tmp_path), shared_tmp_path / "out.nxs"
    run_cctw_transform(comm, params(path, output, CASES[case], **everything(path)))
    if comm.rank == 0:
        found, (v, n) = read(output), expected(path, CASES[case])
        assert v.sum() > 5000
        assert found["v"].dtype == found["n"].dtype == np.float32
        np.testing.assert_array_equal(found["v"], v)
        np.testing.assert_allclose(found["n"], n, rtol=1e-6)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("chunks", [None, [16, 10, 7], [32, 32, 32]])
def test_the_same_bits_on_any_number_of_ranks(comm, shared_tmp_path, chunks):
    path = write(comm, shared_tmp_path)
    one, every = (shared_tmp_path / f"{name}.nxs" for name in ("one", "every"))
    texts = [] if chunks is None else [f"outputData.hdfChunkSize = {chunks}"]
    options, moved = everything(path) | {"compression": 1}, CASES["all circles move"]
    for who, output in ((MPI.COMM_SELF, one), (comm, every)):
        if comm.rank == 0 or who == comm:
            run_cctw_transform(who, params(path, output, moved, *texts, **options))
    same = True
    if comm.rank == 0:
        wanted, found = read(one), read(every)
        assert wanted["v"].sum() > 5000
        same = all(wanted[name].tobytes() == found[name].tobytes() for name in "vn")
        with h5py.File(every) as file:
            stored = file["entry/data/v"].chunks
        assert stored == (None if chunks is None else tuple(chunks[::-1]))
    parallel_assert(same, participating=True)


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("chunked", [False, True], ids=["contiguous", "chunked"])
def test_parts_of_the_frames_merged_are_all_of_them(comm, shared_tmp_path, chunked):
    path = write(comm, shared_tmp_path)
    texts = ["outputData.hdfChunkSize = [16, 10, 7]"] if chunked else []
    whole = shared_tmp_path / "whole.nxs"
    run_cctw_transform(comm, params(path, whole, {}, **everything(path)))
    parts = []
    for part in range(3):
        output = shared_tmp_path / f"part{part}.nxs"
        call = params(path, output, {}, *texts, **everything(path), subset=(part, 3))
        run_cctw_transform(comm, call)
        parts.append(call.output)
    for normalization, name in ((0, "entry/data"), (1, "ratio")):
        output = f"{shared_tmp_path / 'merged.nxs'}#/{name}"
        run_cctw_merge(
            comm, CctwParams(inputs=tuple(parts), output=output, normalization=normalization)
        )
    if comm.rank == 0:
        wanted, merged = read(whole), shared_tmp_path / "merged.nxs"
        found, (ratio,) = read(merged), read(merged, "ratio").values()
        np.testing.assert_array_equal(found["v"], wanted["v"])
        np.testing.assert_allclose(found["n"], wanted["n"], rtol=1e-6)
        v, n = (wanted[name].astype(float) for name in "vn")
        assert (n > 0).sum() > 500
        np.testing.assert_allclose(ratio, np.divide(v, n, out=0 * v, where=n > 0), rtol=1e-6)
        assert (ratio[n == 0] == 0).all()


@pytest.mark.parallel([1])
@pytest.mark.parametrize(
    ("dtype", "odd"), [("i4", -1), ("i4", -2), ("u2", 65535), ("u4", 2**32 - 1)]
)
def test_what_is_no_count_is_not_counted(comm, shared_tmp_path, dtype, odd):
    path, output = write(comm, shared_tmp_path), shared_tmp_path / "out.nxs"
    with h5py.File(path, "r+") as file:
        frames, mask3d = file["frames"][()].astype(dtype), file["mask3d"][()]
        frames[3:5, 8:12, 7:20] = odd
        frames[:, 14, 11] = odd
        del file["frames"]
        file["frames"] = frames
    options = everything(path)
    run_cctw_transform(comm, params(path, output, {}, **options))
    with h5py.File(path, "r+") as file:
        file["mask3d"][...] = (mask3d != 0) | (frames == np.array(odd, dtype))
    found, (v, n) = read(output), expected(path, {})
    np.testing.assert_array_equal(found["v"], v)
    np.testing.assert_allclose(found["n"], n, rtol=1e-6)


@pytest.mark.parallel([1])
def test_weights_may_go_on_beyond_the_frames(comm, shared_tmp_path):
    path, output = write(comm, shared_tmp_path), shared_tmp_path / "out.nxs"
    options = everything(path)
    with h5py.File(path, "r+") as file:
        file["long"] = np.append(file["monitor"][()], [7.0, np.inf])
    options["weights"] = (f"{path}#/long", options["weights"][1])
    run_cctw_transform(comm, params(path, output, {}, **options))
    np.testing.assert_allclose(read(output)["n"], expected(path, {})[1], rtol=1e-6)


@pytest.mark.parallel([1, 3])
def test_output_that_somebody_else_makes_is_left_alone(comm, shared_tmp_path):
    path, output = write(comm, shared_tmp_path), shared_tmp_path / "out.nxs"
    with (
        step_lock(comm, output, "nxcctw", "output"),
        pytest.raises(
            CollectiveError, match=r"out\.nxs: nxcctw output is being computed by process"
        ),
    ):
        run_cctw_transform(comm, params(path, output, {}))
    assert not output.exists()


@pytest.mark.parallel([1, 3])
def test_datasets_alone_among_volumes_with_a_norm_are_warned_of(comm, shared_tmp_path, caplog):
    path = shared_tmp_path / "in.nxs"
    if comm.rank == 0:
        with h5py.File(path, "w") as file:
            for name in ("whole/v", "whole/n", "other"):
                file[name] = np.full((3, 4, 5), 2.0)
    comm.barrier()  # the others are to see it
    group, alone = f"{path}#/whole", f"{path}#/other"
    for inputs, is_told in (((group, alone), True), ((group, group), False), ((alone,), False)):
        caplog.clear()
        output = f"{shared_tmp_path / 'out.nxs'}#/entry/data"
        run_cctw_merge(comm, CctwParams(inputs=inputs, output=output, normalization=0))
        told = f"{alone}: datasets alone, added as counts whose norm is 1" in caplog.text
        parallel_assert(told == (is_told and comm.rank == 0))
