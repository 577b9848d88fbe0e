"""Copies of a simulated scan, what is in their files, and whether two hold the same."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np
from system.mpi import run_mpi, run_nxmpi

TRANSFORMS = (
    "f1_transform.nxs", "f1_masked_transform.nxs", "f2_transform.nxs", "f2_masked_transform.nxs",
)  # fmt: skip
REGULAR = ("transform.nxs", "symm_transform.nxs", "total_pdf.nxs", "pdf.nxs")
COMBINED = (*REGULAR, *(f"masked_{name}" for name in REGULAR))
VOLUMES = (*TRANSFORMS, *COMBINED)
VARYING = ("start_time", "end_time", "pid", "note", "changed")
"""Of records in the scan file: what differs between two runs that give the same."""


class Scan(NamedTuple):
    """A simulated scan in a folder of its own."""

    root: Path

    @property
    def folder(self):
        return self.root / "triclinite" / "crystal1"

    @property
    def wrapper(self):
        return self.folder / "triclinite_300K.nxs"

    @property
    def data(self):
        return self.folder / "300K"

    def open(self):
        """Open the scan file to change it."""
        return h5py.File(self.wrapper, "r+")

    def copy(self, root):
        """Return a copy of everything, times of change included."""
        shutil.copytree(self.root, root)
        return Scan(root)

    def after(self, root, *args):
        """Return a copy on which one process ran nxmpi with these arguments and the scan file."""
        scan = self.copy(root)
        result = run_nxmpi(0, *args, scan.wrapper)
        assert result.returncode == 0, result.stderr
        return scan

    def lock(self, *subject):
        """Return where a lock of nxmpi is."""
        return self.folder / f".{'.'.join([self.wrapper.name, *subject])}.lock"

    def files(self):
        """Return what is there, hidden files included: size, inode, time and content by name."""
        return {
            str(path.relative_to(self.root)): (
                path.stat().st_ino,
                path.stat().st_mtime_ns,
                _hash(path),
            )
            for path in sorted(self.root.rglob("*"))
            if not path.is_dir()
        }

    def hidden(self):
        """Return the names of hidden files and folders, and of locks."""
        return sorted({path.name for kind in (".*", "*.lock") for path in self.root.rglob(kind)})


def simulated(root, *options):
    """Return a new tiny scan; options are those of ``nxmpi simulate``."""
    result = run_nxmpi(0, "simulate", root, "--preset", "tiny", *options)
    assert result.returncode == 0, result.stderr
    return Scan(root)


def add_masks(scan):
    """Give each position a 3-D mask that excludes a good part of its pixels.

    As by another program: nothing is recorded of it.
    """
    with scan.open() as wrapper:
        for name in ("f1", "f2"):
            for path in ("nxworkflow/nxprepare_mask", "nxprepare_mask", "data/data_mask"):
                if wrapper[name].get(path, getlink=True) is not None:
                    del wrapper[name][path]
            # not through the scan file: opened for writing, it would open its links for writing too
            with h5py.File(scan.data / f"{name}.h5") as raw:
                shape = raw["entry/data/data"].shape
            with h5py.File(scan.data / f"{name}_mask.nxs", "w") as file:
                mask = np.random.default_rng(1).random(shape) < 0.2
                file.create_dataset(
                    "entry/mask", data=mask.astype(np.int8), chunks=(1, *shape[1:]),
                    compression="gzip",
                )  # fmt: skip
            target = h5py.ExternalLink(f"300K/{name}_mask.nxs", "/entry/mask")
            wrapper[f"{name}/data/data_mask"] = target


def volumes(scan):
    """Return everything in the volumes that are there."""
    return {name: contents(scan.data / name) for name in VOLUMES if (scan.data / name).exists()}


def contents(path):
    """Return all datasets and attributes of a file, as bytes by name, times of runs left out.

    External links are told by where they lead.
    """
    found = {}
    with h5py.File(path, "r") as file:
        _collect(file, found)
    return found


def _collect(group, found):
    _attributes(group, found)
    for name in group:
        where = f"{group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            found[where] = (type(link).__name__, getattr(link, "filename", ""), link.path)
        elif isinstance(group[name], h5py.Group):
            if name not in VARYING:
                _collect(group[name], found)
        elif group.name.endswith("/parameters") and group[name].dtype.kind in "SO":
            text = group[name][()].decode()
            told = json.loads(text) if text.startswith("{") else {"": text}
            # of a file also its time of change is told
            found[where] = {key: told[key] for key in told if key not in VARYING}
        elif name not in VARYING:
            _attributes(group[name], found)
            data = group[name][()]
            found[where] = (str(group[name].dtype), group[name].shape, np.asarray(data).tobytes())


def _attributes(thing, found):
    for name, value in thing.attrs.items():
        found[f"{thing.name}@{name}"] = str(np.asarray(value).tolist()).encode()


def differences(one, other):
    """Return the names under which two results of `contents` or `volumes` differ."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def assert_same(scan, wanted, *, names=VOLUMES, but=()):
    """Make sure that two scans have the same results, and nothing is left of the runs.

    Parameters
    ----------
    names : collection of str, optional
        Files that are compared.
    but : sequence of str, optional
        Ends of names inside of them that are left out.
    """
    found, expected = (
        {name: found for name, found in volumes(one).items() if name in names}
        for one in (scan, wanted)
    )
    assert set(found) == set(expected)
    for name in expected:
        differing = differences(found[name], expected[name])
        assert not [each for each in differing if not each.endswith((*but,))], name
    assert scan.hidden() == []


def run_in_one_job(n, commands, program="nxmpi"):
    """Run commands of nxmpi, or of nxcctw, one after another in one job of N ranks.

    Parameters
    ----------
    commands : list of (Path, list of str)
        A new folder for what is printed, and the arguments.

    Returns
    -------
    list of list of CompletedProcess
        For each command, of each rank; without a status where the job ended before.
    """
    listed = []
    for folder, args in commands:
        folder.mkdir(parents=True)
        listed.append({"folder": str(folder), "args": [str(arg) for arg in args]})
    path = commands[0][0].with_suffix(".json")
    path.write_text(json.dumps(listed))
    script = Path(__file__).with_name("in_one_job.py")
    job = run_mpi(n, script, path, program, env={"NX_LOCK": "1"})
    return [[_outcome(folder, args, rank, job) for rank in range(n)] for folder, args in commands]


def _outcome(folder, args, rank, job):
    texts = {
        suffix: path.read_text() if (path := folder / f"{rank}.{suffix}").exists() else ""
        for suffix in ("out", "err", "status")
    }
    if not texts["status"]:
        return subprocess.CompletedProcess(args, None, texts["out"], texts["err"] + job.stderr)
    return subprocess.CompletedProcess(args, int(texts["status"]), texts["out"], texts["err"])


def _hash(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()
