# ruff: noqa: E501 - messages stand as they are seen
"""The command line of CCTW, offered by this package: wrong calls, options, NXRefine."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
import pytest
from system import fake_cctw
from system.mpi import clean_environment, error_lines, finish, run_mpi, run_nxmpi, start_mpi
from system.scans import add_masks, run_in_one_job, simulated

import nxmpi
from nxmpi.parallel.owner import Owner

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = Path(__file__).parents[1] / "data" / "cctw" / "orthorhombic"
SHAPE = (48, 96, 80)
"""Of the frames, and their number."""
N_RANKS = 2
N_FRAMES = 30
PROGRAMS = {"f1": "mpiexec -n 2 ", "f2": ""}
"""What comes before nxcctw in NXRefine's setting, by position."""
COMBINE = Path(__file__).with_name("nxrefine_combine.py")
SCRIPT = ("--script", "{here}/f1_transform.pars")
MASK = ("--mask", "{here}/wrapper.nxs#/f1/instrument/detector/pixel_mask")
WEIGHTS = ("--weights", "{here}/wrapper.nxs#/f1/data/monitor_weight")
FRAMES = ("{here}/wrapper.nxs#/f1/data/data",)
OUTPUT = ("--output", "{out}#/entry/data", "--normalization", "0")
PLAIN = (*SCRIPT, *FRAMES, *OUTPUT)
FIRST, SECOND = "{here}/f1_transform.nxs#/entry/data", "{here}/f2_transform.nxs#/entry/data"


def scripted(*changes):
    """Return a command line with one setting or more made after those of the script."""
    return ("transform", *PLAIN, *(word for text in changes for word in ("--command", text)))


def other(name):
    """Return the name of a dataset that `odd_files` makes."""
    return f"{{here}}/odd.h5#/{name}"


WRONG_CALLS = {
    "no mode": ((), r"Missing argument"),
    "unknown mode": (("project", *PLAIN), r"'project' is not one of 'transform', 'merge', 'norm'"),
    "no output": (("transform", *SCRIPT, *FRAMES), r"Missing option '--output'"),
    "no input": (("transform", *SCRIPT, *OUTPUT), r"transform: expected one input, found 0"),
    "two inputs": (("transform", *PLAIN, *FRAMES), r"transform: expected one input, found 2"),
    "unknown option": (("transform", *PLAIN, "--oversample", "2"), r"No such option.*--oversample"),
    "normalization of no number": (("transform", *PLAIN, "-N", "yes"), r"'--normalization'.*'yes' is not a valid integer"),
    "threads below zero": (("transform", *PLAIN, "-j", "-1"), r"'--threads'.*-1 is not in the range"),
    "script missing": (("transform", "-s", "{here}/none.pars", *FRAMES, *OUTPUT), r"none\.pars: expected CCTW settings: .*No such file"),
    "script of a program": (("transform", "-s", "{here}/program.pars", *FRAMES, *OUTPUT), r"program\.pars, line 3: expected an assignment such as 'name = value;', found 'for \("),
    "script of NumPy": (("transform", "-s", "{here}/numpy.pars", *FRAMES, *OUTPUT), r"numpy\.pars, line 2: parameters\.wavelength: expected a number, found 'np\.float64\(0\.5\)'"),
    "misspelt setting": (scripted("parameters.waveLength = 1;"), r"expected a setting that is known, found parameters\.waveLength"),
    "setting of another shape": (scripted("parameters.ubMat = [1, 0, 0];"), r"parameters\.ubMat: expected 3 x 3 numbers, found '\[1, 0, 0\]'"),
    "setting of no number": (scripted("parameters.distance = 'far';"), r"parameters\.distance: expected a number, found ''far''"),
    "setting missing": (("transform", "-s", "{here}/short.pars", *FRAMES, *OUTPUT), r"settings: expected parameters\.ubMat, found nothing"),
    "singular orientation": (scripted("parameters.ubMat = [[1, 2, 3], [2, 4, 6], [0, 0, 1]];"), r"parameters\.ubMat: expected an invertible matrix"),
    "wavelength zero": (scripted("parameters.wavelength = 0;"), r"parameters\.wavelength: expected more than 0, found 0"),
    "grid without voxels": (scripted("outputData.dimensions = [51, 0, 61];"), r"outputData\.dimensions: expected 1 to 32767 voxels along each axis, found 51, 0, 61"),
    "chunks of nothing": (scripted("outputData.hdfChunkSize = [20, 20, 0];"), r"outputData\.hdfChunkSize: expected sizes, found \[20, 20, 0\]"),
    "no part of a pixel": (scripted("transformer.oversampleX = 0;"), r"transformer\.oversampleX: expected more than 0, found 0"),
    "transform of another kind": (scripted("transformer.transformOptions = 3;"), r"transformer\.transformOptions: expected 0, found 3"),
    "detector that moves": (scripted("parameters.useGonPitchError = true; parameters.twoThetaStep = 0.1;"), r"parameters\.twoThetaStep: expected 0, a detector at rest, found 0\.1"),
    "frames missing": (("transform", *SCRIPT, "{here}/none.h5#/data", *OUTPUT), r"none\.h5: expected a file, found none"),
    "frames without a name": (("transform", *SCRIPT, "{here}/f1.h5", *OUTPUT), r"input: expected FILE#DATASET, found '.*f1\.h5' without a dataset"),
    "frames not there": (("transform", *SCRIPT, "{here}/f1.h5#/none", *OUTPUT), r"f1\.h5:/none: expected raw frames, found nothing"),
    "frames flat": (("transform", *SCRIPT, other("flat"), *OUTPUT), r"odd\.h5:/flat: expected 3 dimensions .*, found 2"),
    "frames of floats": (("transform", *SCRIPT, other("floats"), *OUTPUT), r"odd\.h5:/floats: expected integer counts, found float32"),
    "frame unreadable": (("transform", *SCRIPT, other("corrupt"), *OUTPUT), r"odd\.h5:/corrupt: expected frame 6 to be readable, found: .* \(--skip-bad-frames goes on without it\)"),
    "filter not installed": (("transform", *SCRIPT, other("filtered"), *OUTPUT), r"odd\.h5:/filtered: expected a compression filter that is installed, found filter 31999"),
    "mask missing": (("transform", *PLAIN, "--mask", other("none")), r"odd\.h5:/none: expected a mask of pixels, found nothing"),
    "mask of another shape": (("transform", *PLAIN, "--mask", other("wide")), r"odd\.h5:/wide: expected the shape of a frame, \(96, 80\), found \(96, 81\)"),
    "mask of floats": (("transform", *PLAIN, "--mask", other("flat")), r"odd\.h5:/flat: expected a mask of integers, found float64"),
    "3-D mask short": (("transform", *PLAIN, "--mask3d", other("short")), r"odd\.h5:/short: expected the shape of the frames, \(48, 96, 80\), found \(47, 96, 80\)"),
    "weights short": (("transform", *PLAIN, "--weights", other("few")), r"odd\.h5:/few: expected a number for each of 48 frames, found shape \(47,\)"),
    "weights of frames twice": (("transform", *PLAIN, *WEIGHTS, *WEIGHTS), r"--weights: expected one of frames and one of pixels at most, found two of frames"),
    "weights of three dimensions": (("transform", *PLAIN, "--weights", other("short")), r"odd\.h5:/short: expected weights of frames or of pixels, found 3 dimensions"),
    "weights of pixels wide": (("transform", *PLAIN, *WEIGHTS, "--weights", other("wide")), r"odd\.h5:/wide: expected the shape of a frame, \(96, 80\), found \(96, 81\)"),
    "weights infinite": (("transform", *PLAIN, "--weights", other("infinite")), r"odd\.h5:/infinite: expected weights that are finite, found infinity"),
    "weights zero": (("transform", *PLAIN, "--weights", other("zero")), r"f1/data/data: expected frames with a weight above 0, found none"),
    "weights too far apart": (("transform", *PLAIN, "--weights", other("apart")), r"--weights: expected the smallest above 0 to be at least 4\.7e-10 of the largest, found 4\.6e-10"),
    "weights too far apart together": (("transform", *PLAIN, "--weights", other("apart_2"), "--weights", other("apart_3")), r"expected the smallest above 0 to be at least 4\.7e-10 of the largest, found 1e-10"),
    "disk too small": (("transform", "-s", "{here}/contiguous.pars", *FRAMES, "-o", "{out}#/more", "-c", "outputData.dimensions = [32000, 32000, 32000]"), r"old-\d+\.nxs: expected room for 131\.1 TB in .*/wrong\d+, found \d+\.\d [kMGT]B free"),
    "angles short": (("transform", *PLAIN, "--angles", other("few")), r"odd\.h5:/few: expected a number for each of 48 frames"),
    "angle of no number": (("transform", *PLAIN, "--phi", "{here}/odd.h5#/few"), r"phi: expected a number or 'start,step' in radians"),
    "subset beyond": (("transform", *PLAIN, "--subset", "3/3"), r"subset: expected a part from 0 to 2 of 3, found 3"),
    "subset of no numbers": (("transform", *PLAIN, "--subset", "half"), r"subset: expected a part and how many there are, as 0/4, found 'half'"),
    "dimensions of two": (("transform", *PLAIN, "--outputdims", "5x5"), r"outputdims: expected such as 501x501x501, found '5x5'"),
    "dimensions of no number": (("transform", *PLAIN, "--outputdims", "5x5x-5"), r"outputdims: expected such as 501x501x501, found '5x5x-5'"),
    "verbosity beyond": (("transform", *PLAIN, "--verbosity=4"), r"'--verbosity'.*4 is not in the range"),
    "compression beyond": (("transform", *PLAIN, "--compression", "10"), r"compression: expected at most 9, found 10"),
    "output without a name": (("transform", *SCRIPT, *FRAMES, "-o", "{out}"), r"--output: expected FILE#DATASET, found '.*' without a dataset"),
    "output in no folder": (("transform", *SCRIPT, *FRAMES, "-o", "{here}/none/out.nxs#/entry/data"), r"none/out\.nxs: expected a folder .*/none, found none"),
    "output of another shape": (scripted("outputData.dimensions = [5, 6, 7];"), r":/entry/data/v: expected a dataset of \(7, 6, 5\) or nothing \(--output\), found a dataset of \(61, 51, 51\)"),
    "output that is a group": (("transform", *SCRIPT, *FRAMES, "-o", "{out}#/entry/data"), r":/entry/data: expected a dataset of \(61, 51, 51\) or nothing \(--output\), found a group"),
    "output in a dataset": (("transform", *SCRIPT, *FRAMES, "-o", "{out}#/entry/data/v/w"), r":/entry/data/v: expected a group or nothing \(--output\), found a dataset"),
    "mask without a name": (("transform", *PLAIN, "--mask", "{here}/wrapper.nxs"), r"--mask: expected FILE#DATASET, found .* without a dataset"),
    "merge of nothing": (("merge", *OUTPUT), r"merge: expected volumes as inputs, found none"),
    "merge of what is not there": (("merge", FIRST, "{here}/none.nxs#/entry/data", *OUTPUT), r"none\.nxs: expected a file, found none"),
    "merge of other shapes": (("merge", FIRST, other("floats"), *OUTPUT), r"odd\.h5:/floats: expected the shape of .*f1_transform\.nxs#/entry/data, \(61, 51, 51\), found \(48, 96, 80\)"),
    "merge of half a volume": (("merge", FIRST, other("half"), *OUTPUT), r"odd\.h5:/half/n: expected a volume, found nothing"),
    "merge with a mask": (("merge", FIRST, SECOND, *OUTPUT, *MASK), r"merge: expected no --mask, found one"),
    "merge with settings": (("merge", FIRST, SECOND, *OUTPUT, *SCRIPT), r"merge: expected no --script, found one"),
    "norm of two": (("norm", FIRST, SECOND, *OUTPUT), r"norm: expected one input, found 2"),
}  # fmt: skip


def odd_files(here):
    """Write frames, masks and weights that are not what they should be."""
    text = (here / "f1_transform.pars").read_text()
    (here / "program.pars").write_text(f"// all\n\nfor (i = 0; i < 3; i++) {{ }}\n{text}")
    (here / "numpy.pars").write_text(
        f"{text.splitlines()[0]}\nparameters.wavelength = np.float64(0.5);\n"
    )
    (here / "contiguous.pars").write_text(re.sub(r"outputData\.hdfChunkSize.*", "", text))
    (here / "short.pars").write_text(re.sub(r"parameters\.ubMat.*", "", text))
    n_frames, n_slow, n_fast = SHAPE
    with h5py.File(here / "odd.h5", "w") as file:
        file["flat"] = np.ones(SHAPE[1:])
        file["floats"] = np.ones(SHAPE, np.float32)
        file["wide"] = np.ones((n_slow, n_fast + 1), np.int8)
        file["short"] = np.zeros((n_frames - 1, n_slow, n_fast), np.int8)
        file["few"] = np.ones(n_frames - 1)
        file["infinite"] = np.where(np.arange(n_frames) == 7, np.inf, 1.0)
        file["apart"] = np.where(np.arange(n_frames) == 7, 4.6e-10, 1.0)
        file["apart_2"] = np.where(np.arange(n_frames) == 7, 1e-5, 1.0)
        file["apart_3"] = np.where(np.arange(n_slow)[:, None] + np.zeros(n_fast) == 7, 1e-5, 1.0)
        file["late"] = np.where(np.arange(n_frames) < 40, 0.0, 1.0)
        file["zero"] = np.zeros(n_frames)
        file["half/v"] = np.zeros((61, 51, 51))
        with h5py.File(here / "f1.h5") as raw:
            file.create_dataset(
                "corrupt",
                data=raw["entry/data/data"][()],
                chunks=(1, *SHAPE[1:]),
                compression="gzip",
            )
        file["corrupt"].id.write_direct_chunk((6, 0, 0), b"not deflated")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, *SHAPE[1:]))
        plist.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1,))
        h5py.h5d.create(
            file.id, b"filtered", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple(SHAPE), plist
        )


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """Return what came of each wrong call: its ranks, and its output before and after."""
    root = tmp_path_factory.mktemp("wrong")
    here = root / "scan"
    shutil.copytree(REFERENCE, here)
    odd_files(here)
    commands, before = [], {}
    for number, (name, (words, _)) in enumerate(WRONG_CALLS.items()):
        out = root / f"old-{number:02}.nxs"
        shutil.copy(REFERENCE / "f1_transform.nxs", out)
        before[name] = (out, state(out))
        commands.append(
            (root / f"said-{number}", [word.format(here=here, out=out) for word in words])
        )
    ended = run_in_one_job(N_RANKS, commands, "nxcctw")
    return {
        name: (ranks, was, state(out))
        for (name, (out, was)), ranks in zip(before.items(), ended, strict=True)
    }


def state(path):
    """Return a file as it is, and the names of all that begins as its name, hidden or not."""
    found = path.stat()
    names = sorted(each.name for each in path.parent.iterdir() if path.stem in each.name)
    return found.st_ino, found.st_mtime_ns, path.read_bytes(), names


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_wrong_call_is_told_once_and_changes_nothing(calls, name):
    ranks, before, after = calls[name]
    assert all(rank.returncode in (1, 2) for rank in ranks), ranks[0].stderr
    first, *others = ranks
    (message,) = re.findall(r"^Error: .*", first.stderr, re.MULTILINE)
    assert re.search(WRONG_CALLS[name][1], message), message
    if "expected FILE#DATASET" in message:
        assert first.returncode == 2
    assert not any(rank.stderr for rank in others)
    assert after == before


def test_volume_that_cannot_be_read_ends_the_job(tmp_path):
    first, out = tmp_path / "f1_transform.nxs", tmp_path / "out.nxs"
    for path in (first, out):
        shutil.copy(REFERENCE / "f1_transform.nxs", path)
    with h5py.File(first, "r+") as file:
        counts = file["entry/data/v"].id
        counts.write_direct_chunk(counts.get_chunk_info(5).chunk_offset, b"not deflated")
    before = state(out)
    words = ["merge", f"{first}#/entry/data", *(word.format(out=out) for word in OUTPUT)]
    ranks = run_in_one_job(N_RANKS, [(tmp_path / "said", words)], "nxcctw")[0]
    assert all(rank.returncode is None for rank in ranks)
    said = "".join(rank.stderr for rank in ranks)
    (message,) = re.findall(r"^Error: .*", said, re.MULTILINE)
    assert re.search(
        r"f1_transform\.nxs:/entry/data/v: expected the part at .* to be readable", message
    )
    assert state(out) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("chunks", ["[20, 20, 20]", "[32, 32, 32]"])
def test_full_disk_keeps_what_is_there(nxcctw, tmp_path, chunks):
    out = tmp_path / "out.nxs"
    shutil.copy(REFERENCE / "f1_transform.nxs", out)
    before = state(out)
    words = [word.format(here=REFERENCE, out=out) for word in ("transform", *PLAIN)]
    settings = f"outputData.compression = 0; outputData.hdfChunkSize = {chunks}"
    result = run_mpi(N_RANKS, nxcctw, *words, "-c", settings, limit={"FSIZE": 300_000})
    assert result.returncode != 0
    (message,) = error_lines(result)
    assert "out.nxs" in message
    assert state(out) == before
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("n", [0, 2])
def test_signal_leaves_nothing_behind(nxcctw, tmp_path, n):
    with h5py.File(tmp_path / "in.nxs", "w") as file:
        file["v"] = np.random.default_rng(3).random((220, 220, 220), np.float32)
    out = tmp_path / "out.nxs"
    lock, hidden = (tmp_path / f".out.nxs.nxcctw.{end}" for end in ("output.lock", "tmp"))
    hidden.touch()  # of an earlier run that was killed outright; it has another name too
    (tmp_path / "old").hardlink_to(hidden)
    process = start_mpi(n, nxcctw, "norm", f"{tmp_path / 'in.nxs'}#/v", "-o", f"{out}#/v", "-z9")
    deadline = time.monotonic() + 60
    while not size_of(hidden):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert lock.exists()
    process.send_signal(signal.SIGTERM)
    assert finish(process).returncode == (1 if n else -signal.SIGTERM)  # mpiexec's own is 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.nxs", "old"]
    assert size_of(tmp_path / "old") == 0


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_lock_of_another_host_is_removed_as_is_said(tmp_path):
    out = tmp_path / "out.nxs"
    lock = tmp_path / ".out.nxs.nxcctw.output.lock"
    lock.write_text(json.dumps(json.loads(Owner.here().content()) | {"host": "node7"}))
    words = ["norm", *(word.format(here=REFERENCE, out=out) for word in (FIRST, *OUTPUT))]
    (ranks,) = run_in_one_job(1, [(tmp_path / "first", words)], "nxcctw")
    (command,) = re.findall(r"^Error: .*nxcctw output is .*node7.*`nxmpi (.*)`", ranks[0].stderr)
    result = run_nxmpi(0, *shlex.split(command), "--force")
    assert (result.returncode, lock.exists()) == (0, False), result.stderr


RIGHT_CALLS = {
    "plain": ("transform", *PLAIN, *MASK, *WEIGHTS),
    "short names": (
        "transform", "-s", SCRIPT[1], "-m", MASK[1], "-w", WEIGHTS[1], "-i", *FRAMES,
        "-o", OUTPUT[1], "-N", "0", "-j", "4", "-v0",
    ),
    "verbosity before a word": (
        "-v", "transform", *MASK, *WEIGHTS, *OUTPUT, *SCRIPT, "--verbosity", *FRAMES,
    ),
    "scripts hold that come later": (
        "transform", "-c", "parameters.distance = 1;", "--outputdims", "5", "--phi", "1,1",
        "-z", "-1", "--outputdims", "5,6,7", *PLAIN, *MASK, *WEIGHTS,
    ),
    "the last of each holds": (
        "transform", "-s", "{here}/less.pars", *FRAMES, *OUTPUT, *MASK, *WEIGHTS,
        "-c", "outputData.dimensions = [5, 5, 5]; parameters.chiNom = 1", "--omega", "1,0.1",
        "--outputdims", "5", "--phi", "-0.6981317007977318,0.026179938779914945",
        "--omega", "-0.03490658503988659,0", "--chi", "0.05235987755982989", "--twotheta", "0.1",
        "--outputdims", "51X51,61",
    ),
    "settings in options": (
        "transform", "-s", "{here}/less.pars", *FRAMES, *OUTPUT, *MASK, *WEIGHTS,
        "--outputdims", "51x51x61", "--phi", "-0.6981317007977318,0.026179938779914945",
        "--omega", "-0.03490658503988659", "--chi", "0.05235987755982989", "--twotheta", "0.1,0.2",
    ),
    "start of a circle alone": (
        "transform", "-s", "{here}/start.pars", *FRAMES, *OUTPUT, *MASK, *WEIGHTS,
        "--phi", "-0.6981317007977318",
    ),
    "of 2022": (
        "transform", "-s", "{here}/2022.pars", *MASK, *WEIGHTS, *FRAMES, *OUTPUT,
    ),
    "of 2022, all said": (
        "transform", "-s", "{here}/2022.pars", *MASK, *WEIGHTS, *FRAMES, *OUTPUT,
        "--omega", "-0.03490658503988659,0", "--chi", "0.05235987755982989,0",
    ),
    "part without a weight": ("transform", *PLAIN, "-w", other("late"), "--subset", "1/3"),
    "grid that nothing reaches": scripted("parameters.gridOrigin = [50, 50, 50];"),
    "last setting holds": (*scripted("parameters.distance = 120.0; // mm"), *MASK, *WEIGHTS, *SCRIPT),
    "mask in the file of the frames": (
        "transform", *PLAIN, "-m", MASK[1].partition("#")[2].join(("#", "")), *WEIGHTS,
    ),
    "coded name": ("transform", *SCRIPT, "{here}/f%31.h5#entry/data/data/", *OUTPUT, *MASK, *WEIGHTS),
    "frame left out": ("transform", *SCRIPT, other("corrupt"), *OUTPUT, "--skip-bad-frames"),
    "LZF": ("transform", *PLAIN, *MASK, *WEIGHTS, "--compression", "-1"),
    "ratio": ("transform", *SCRIPT, *FRAMES, *MASK, *WEIGHTS, "-o", "{out}#/ratio"),
    "norm": ("norm", FIRST, "-o", "{out}#/ratio", "-z", "0"),
}  # fmt: skip


def of_2022(text):
    """Return settings as NXRefine wrote them in 2022: fewer steps, parts of frames, its chunks."""
    text = re.sub(r"parameters\.(twoTheta|omega|chi)Step.*|outputData\.hdfChunkSize.*", "", text)
    text = text.replace("oversampleZ = 1", "oversampleZ = 4")
    return f"{text}\noutputData.hdfChunkSize = [32,32,32];\n"


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Return the output of each call, and what the root said; in each there was something."""
    root = tmp_path_factory.mktemp("right")
    here = root / "scan"
    shutil.copytree(REFERENCE, here)
    odd_files(here)
    text = (here / "f1_transform.pars").read_text()
    less = re.sub(r"(parameters\.\w+Nom|parameters\.phiStep|outputData\.dimensions).*", "", text)
    (here / "less.pars").write_text(less)
    (here / "start.pars").write_text(re.sub(r"(parameters\.phiNom).*", "", text))
    (here / "2022.pars").write_text(of_2022(text))
    outputs, commands = {}, []
    for number, (name, words) in enumerate(RIGHT_CALLS.items()):
        outputs[name] = root / f"{number}.nxs"
        with h5py.File(outputs[name], "w") as file:
            file["other"] = 7
            file["entry/data/v"] = np.ones((61, 51, 51))
        words = [word.format(here=here, out=outputs[name]) for word in words]
        commands.append((root / f"said-{number}", words))
    ended = run_in_one_job(N_RANKS, commands, "nxcctw")
    for ranks, name in zip(ended, outputs, strict=True):
        assert [rank.returncode for rank in ranks] == [0, 0], (name, ranks[0].stderr)
    said = dict(zip(outputs, (ranks[0].stderr for ranks in ended), strict=True))
    return {name: (read(path), said[name]) for name, path in outputs.items()}


def read(path):
    found = {}

    def add(name, thing):
        if isinstance(thing, h5py.Dataset):
            found[name] = (thing[()], thing.compression)

    with h5py.File(path) as file:
        file.visititems(add)
    return found


@pytest.mark.parametrize(
    "name",
    ["short names", "settings in options", "verbosity before a word",
     "scripts hold that come later", "the last of each holds", "start of a circle alone",
     "last setting holds", "mask in the file of the frames", "coded name", "LZF"],
)  # fmt: skip
def test_the_same_in_other_words(answers, name):
    wanted, found = answers["plain"][0], answers[name][0]
    assert set(wanted) == set(found) == {"other", "entry/data/v", "entry/data/n"}
    assert wanted["entry/data/v"][0].sum() > 1e5
    for part in "vn":
        np.testing.assert_array_equal(
            found[f"entry/data/{part}"][0], wanted[f"entry/data/{part}"][0]
        )
    assert found["entry/data/v"][1] == ("lzf" if name == "LZF" else "gzip")
    assert answers[name][1] == ""


def test_settings_that_nxrefine_wrote_in_2022(answers):
    wanted, found = (answers[name][0] for name in ("of 2022, all said", "of 2022"))
    assert wanted["entry/data/v"][0].sum() > 4e5
    for part in ("entry/data/v", "entry/data/n"):
        np.testing.assert_array_equal(found[part][0], wanted[part][0])


@pytest.mark.parametrize("name", ["part without a weight", "grid that nothing reaches"])
def test_zeros_are_told(answers, name):
    found, said = answers[name]
    assert not any(found[f"entry/data/{part}"][0].any() for part in "vn")
    assert re.search(r"no frame with a weight reaches the grid: all is 0", said)


def test_ratio_alone(answers):
    (v, _), (n, _) = (answers["plain"][0][f"entry/data/{part}"] for part in "vn")
    ratio = np.divide(v, n, out=np.zeros_like(v), where=n > 0)
    for name, compression in (("ratio", "gzip"), ("norm", None)):
        found, how = answers[name][0]["ratio"]
        np.testing.assert_allclose(found, ratio, rtol=1e-6)
        assert how == compression
        assert set(answers[name][0]) == {"other", "entry/data/v", "ratio"}


def test_frame_left_out_is_told(answers):
    found, said = answers["frame left out"]
    assert "left out frames that cannot be read: [6]" in said
    assert found["entry/data/v"][0].sum() > 1e5


def test_commands_of_the_page_run_in_their_order(tmp_path):
    here = tmp_path / "scan"
    shutil.copytree(REFERENCE, here)
    (here / "transform.nxs").unlink()
    shutil.move(here / "wrapper.nxs", here / "sample_300K.nxs")
    block = re.search(r"```bash\n(.*?)```", (DOCS / "nxcctw.md").read_text(), re.DOTALL)[1]
    lines = re.findall(r"^(?:mpiexec -n \d+ )?nxcctw (.*)", block, re.MULTILINE)
    named = [re.sub(r"(?<= )(\S+\.(nxs|pars))", rf"{here}/\1", line).split() for line in lines]
    commands = [(tmp_path / f"said-{number}", words) for number, words in enumerate(named)]
    for (root,) in run_in_one_job(1, commands, "nxcctw"):
        assert (root.returncode, root.stderr) == (0, "")
    parts = [read(REFERENCE / f"{name}_transform.nxs") for name in ("f1", "f2")]
    v, n = (sum(part[f"entry/data/{name}"][0].astype(float) for part in parts) for name in "vn")
    ratio = read(here / "ratio.nxs")["entry/data/v"][0]
    np.testing.assert_allclose(ratio, np.divide(v, n, out=0 * v, where=n > 0), rtol=1e-6)


def test_version(nxcctw):
    result = subprocess.run([nxcctw, "--version"], capture_output=True, text=True, check=True)
    assert result.stdout == f"nxcctw, version {nxmpi.__version__}\n"


@pytest.fixture(scope="module")
def reduced_by_nxrefine(nxrefine, nxcctw, tmp_path_factory):
    """Return a scan that NXRefine's own programs transformed and combined, and what they said."""
    root = tmp_path_factory.mktemp("nxrefine")
    scan = simulated(root / "e", "--frames", str(N_FRAMES))
    add_masks(scan)
    with scan.open() as wrapper:
        for name in PROGRAMS:
            detector = wrapper[f"{name}/instrument/detector"]
            shape = detector["pixel_mask"].shape
            detector["polarization"] = np.random.default_rng(2).uniform(0.8, 1.0, shape)
    (root / "nxserver").mkdir()
    (root / "bin").mkdir()
    (root / "bin" / "cctw").symlink_to(nxcctw)  # nxcombine does not heed the setting
    path = os.pathsep.join([str(root / "bin"), os.environ["PATH"]])
    environment = clean_environment(
        {"HOME": str(root), "NX_SERVER": str(root), "PYTHONPATH": None, "PATH": path}
    )

    def run(*words):
        result = subprocess.run(
            [nxrefine, *words, "-d", scan.data], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    said = []
    for name, program in PROGRAMS.items():
        settings = f"[server]\ncctw = {program}{nxcctw}\n"
        (root / "nxserver" / "settings.ini").write_text(settings)
        transform = ("-m", "nxrefine.scripts.nxtransform", "--entries", name)
        said.append(run(*transform, "--regular", "--mask"))
    said += [run(COMBINE, "--regular"), run(COMBINE, "--mask")]
    return scan, "".join(said)


@pytest.mark.parametrize("prefix", ["", "masked_"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_nxtransform_of_nxrefine_makes_what_the_formulas_say(reduced_by_nxrefine, name, prefix):
    scan, _ = reduced_by_nxrefine
    command = recorded_command(scan, f"{name}/nx{prefix}transform")
    before, _, words = command.partition("nxcctw transform ")
    assert before.startswith(PROGRAMS[name])
    options = fake_cctw.options_of(shlex.split(words))
    assert len(options["--weights"]) == 2
    assert ("--mask3d" in options) == bool(prefix)
    v, n = fake_cctw.transform(options)
    assert v.sum() > 1000
    with h5py.File(scan.data / f"{name}_{prefix}transform.nxs") as file:
        np.testing.assert_array_equal(file["entry/data/v"][()], v)
        np.testing.assert_allclose(file["entry/data/n"][()], n, rtol=1e-6)
        assert file["entry/data/v"].chunks is None


def test_nxmpi_with_the_same_settings_makes_the_same(reduced_by_nxrefine, tmp_path):
    scan, _ = reduced_by_nxrefine
    copy = scan.copy(tmp_path / "e")
    page = (DOCS / "nxrefine.md").read_text()
    (words,) = re.findall(r"nxmpi (transform \S+ --entry .* --settings .*)", page)
    words = words.replace("300K/f1", f"{copy.data}/f1").replace("sample_300K.nxs", "{scan}")
    result = run_nxmpi(0, *(word.format(scan=copy.wrapper) for word in words.split()))
    assert result.returncode == 0, result.stderr
    for name in ("f1_transform.nxs", "f1_masked_transform.nxs"):
        for part in ("entry/data/v", "entry/data/n"):
            with h5py.File(scan.data / name) as theirs, h5py.File(copy.data / name) as ours:
                found = ours[part][()].astype(np.float32)
                np.testing.assert_array_equal(found, theirs[part][()])
                assert found.any()


@pytest.mark.parametrize("prefix", ["", "masked_"])
def test_nxcombine_of_nxrefine_makes_the_ratio_of_the_sums(reduced_by_nxrefine, prefix):
    scan, _ = reduced_by_nxrefine
    command = recorded_command(scan, f"entry/nx{prefix}combine")
    assert command.startswith("cctw merge ")
    sums = {"v": 0.0, "n": 0.0}
    for name in PROGRAMS:
        with h5py.File(scan.data / f"{name}_{prefix}transform.nxs") as file:
            sums = {part: sums[part] + file[f"entry/data/{part}"][()] for part in sums}
    with h5py.File(scan.data / f"{prefix}transform.nxs") as file:
        found = file["entry/data/v"][()]
    measured = sums["n"] > 0
    assert 1000 < measured.sum() < measured.size
    np.testing.assert_allclose(
        found[measured], sums["v"][measured] / sums["n"][measured], rtol=1e-6
    )
    assert not found[~measured].any()


def test_nxrefine_takes_nothing_for_an_error(reduced_by_nxrefine):
    _, said = reduced_by_nxrefine
    assert said.count("CCTW Output") == 6
    assert "CCTW Errors" not in said
    assert "errors reported" not in said


def test_commands_of_nxrefine_in_its_page_are_there(nxrefine):
    page = (DOCS / "nxrefine.md").read_text()
    lines = re.findall(r"^(nx(?:transform|combine|refine|reduce|pdf)) (.*)$", page, re.MULTILINE)
    assert {name for name, _ in lines} == {"nxtransform", "nxpdf"}
    for name, words in lines:
        result = subprocess.run(
            [nxrefine, "-m", f"nxrefine.scripts.{name}", "--help"],
            env=clean_environment({"PYTHONPATH": None}), capture_output=True, text=True, check=True,
        )  # fmt: skip
        options = [word for word in words.split() if word.startswith("-")]
        assert options
        assert all(re.search(rf"{option}\b", result.stdout) for option in options)


def recorded_command(scan, path):
    """Return the command that NXRefine recorded."""
    with h5py.File(scan.wrapper) as file:
        note = file[f"{path}/note/data"][()].decode()
    (command,) = re.findall(r"^Command: (.*)$", note, re.MULTILINE)
    return command
