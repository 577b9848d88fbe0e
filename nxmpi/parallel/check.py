"""What this installation is, on all ranks, and whether they can write a file together."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import re
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
from mpi4py import MPI

import nxmpi
from nxmpi.errors import InputError
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.h5 import create_file, filters, has_parallel_hdf5
from nxmpi.parallel.launch import launched_size

if TYPE_CHECKING:
    from nxmpi._typing import I4

DISTRIBUTIONS = {"cctbx": "cctbx-base"}
"""Packages whose distribution has another name."""
PACKAGES = ("numpy", "scipy", "numba", "h5py", "hdf5plugin", "mpi4py", "pyFAI", "cctbx",
            "click", "rich", "matplotlib")  # fmt: skip
FILTERS = {"gzip": 1, "bitshuffle": 32008, "lz4": 32004, "zstd": 32015, "blosc": 32001}
"""Names to HDF5's registered numbers."""
TRIAL_SHAPE = (40, 64, 1024)
"""Of int32: 10 MB; chunks are planes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Installation:
    """The same on every rank."""

    rows: tuple[tuple[str, str], ...]
    """Names and values, for a table."""
    problems: tuple[str, ...]
    """What is needed and missing, one line each."""


def inspect(comm: MPI.Intracomm) -> Installation:
    """Return versions, libraries, ranks and nodes.

    Collective on ``comm``: three allgathers of small objects.
    """
    versions, problems = _import_packages()
    problems += _missing_filters() + _compiler_problems() + _mpi_problems(comm.size)
    everyone: list[dict[str, str]] = comm.allgather(versions)
    different = [name for name in versions if len({v.get(name) for v in everyone}) > 1]
    problems += [
        f"{name} is not the same everywhere: {_by_rank([v.get(name) for v in everyone])}"
        for name in different
    ]
    texts: list[list[str]] = comm.allgather(problems)
    seen: dict[str, list[int]] = {}
    for rank, lines in enumerate(texts):
        for line in lines:
            seen.setdefault(line, []).append(rank)
    rows = [*versions.items(), *_describe_hdf5(), *_describe_mpi(), *_describe_nodes(comm)]
    return Installation(
        rows=tuple(rows),
        problems=tuple(
            line if len(ranks) == comm.size else f"{line} [rank {', '.join(map(str, ranks))}]"
            for line, ranks in seen.items()
        ),
    )


def write_trial(comm: MPI.Intracomm, directory: Path, *, root_writes: bool = False) -> float:
    """Write 10 MB together as results are written, read them back, and remove them.

    Collective on ``comm``. Every rank verifies its own part and that of the next rank, which
    finds folders that are not the same on all nodes.

    Parameters
    ----------
    directory : Path
        Must be there.
    root_writes : bool
        Let the root write what the others send, even with parallel HDF5.

    Returns
    -------
    float
        Of the slowest rank [s].

    Raises
    ------
    CollectiveError
        On every rank, if any finds another value than was written.
    """
    with all_or_none(comm):
        if not directory.is_dir() or not os.access(directory, os.W_OK):
            raise InputError(f"{directory}: expected a folder that can be written")
    path = on_root(comm, lambda: directory / f".nxmpi-check-{uuid.uuid4().hex}.h5")
    start = time.monotonic()
    try:
        _write(comm, path, root_writes=root_writes)
        with all_or_none(comm):
            _verify(path, comm.size, {comm.rank, (comm.rank + 1) % comm.size})
    finally:
        if comm.rank == 0:
            path.unlink(missing_ok=True)
    return float(comm.allreduce(time.monotonic() - start, op=MPI.MAX))


def _write(comm: MPI.Intracomm, path: Path, *, root_writes: bool) -> None:
    first, last = block_range(TRIAL_SHAPE[0], comm.size, comm.rank)
    planes = {"trial": [(n, 0, 0) for n in range(first, last)]}
    with create_file(comm, path, _create, planes, root_writes=root_writes) as output:
        slab = (slice(first, last), *(slice(0, n) for n in TRIAL_SHAPE[1:]))
        output.write_round({"trial": (slab, _values(first, last))})


def _create(file: h5py.File) -> None:
    file.create_dataset(
        "trial", shape=TRIAL_SHAPE, dtype=np.int32, chunks=(1, *TRIAL_SHAPE[1:]),
        **filters("bitshuffle-lz4"),
    )  # fmt: skip


def _verify(path: Path, size: int, ranks: set[int]) -> None:
    with h5py.File(path, "r") as file:
        for rank in sorted(ranks):
            first, last = block_range(TRIAL_SHAPE[0], size, rank)
            if not np.array_equal(file["trial"][first:last], _values(first, last)):
                raise InputError(
                    f"{path.parent}: expected what rank {rank} wrote, found something else; "
                    "is this folder the same on all nodes?"
                )


def _values(first: int, last: int) -> I4:
    plane = TRIAL_SHAPE[1] * TRIAL_SHAPE[2]
    return np.arange(first * plane, last * plane, dtype=np.int32).reshape(-1, *TRIAL_SHAPE[1:])


def _import_packages() -> tuple[dict[str, str], list[str]]:
    versions = {"nxmpi": nxmpi.__version__, "Python": platform.python_version()}
    problems = []
    for name in PACKAGES:
        try:
            importlib.import_module(name)
            versions[name] = importlib.metadata.version(DISTRIBUTIONS.get(name, name))
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "of unknown version"
        except (ImportError, OSError) as error:
            versions[name] = "missing"
            problems.append(f"{name} cannot be imported ({error})")
    return versions, problems


def _missing_filters() -> list[str]:
    return [
        f"HDF5 has no {name} filter"
        for name, code in FILTERS.items() if not h5py.h5z.filter_avail(code)
    ]  # fmt: skip


def _compiler_problems() -> list[str]:
    try:
        numba = importlib.import_module("numba")
    except (ImportError, OSError):
        return []  # said already
    twice = numba.njit(_twice)
    try:
        works = twice(21) == 42
    except (numba.core.errors.NumbaError, OSError, RuntimeError) as error:
        return [f"numba cannot compile ({error})"]
    return [] if works else ["numba compiles wrong code"]


def _twice(number: int) -> int:
    return 2 * number


def _mpi_problems(size: int) -> list[str]:
    problems = []
    launched = launched_size(os.environ)
    if size == 1 and launched > 1:
        problems.append(
            f"the launcher started {launched} processes, of which each is alone: "
            "mpi4py and the launcher do not belong to the same MPI"
        )
    libraries = _loaded_mpi_libraries()
    if len(libraries) > 1:
        problems.append(f"two MPI libraries at once: {' and '.join(libraries)}")
    return problems


def _loaded_mpi_libraries() -> list[str]:
    maps = Path("/proc/self/maps")  # Linux only; elsewhere nothing is found, and nothing said
    text = maps.read_text() if maps.exists() else ""
    paths = re.findall(r"(/\S*/libmpi(?:ch)?\.so\S*)", text)
    return sorted({str(Path(path).resolve()) for path in paths})


def _describe_hdf5() -> list[tuple[str, str]]:
    parallel = has_parallel_hdf5()
    available = [name for name, code in FILTERS.items() if h5py.h5z.filter_avail(code)]
    return [
        ("HDF5", f"{h5py.version.hdf5_version}, {'parallel' if parallel else 'not parallel'}"),
        ("files are written", "by parallel HDF5" if parallel else "through the root"),
        ("filters", ", ".join(available)),
    ]


def _describe_mpi() -> list[tuple[str, str]]:
    vendor, version = MPI.get_vendor()
    major, minor = MPI.Get_version()
    library = re.split(r"[\n\x00]", MPI.Get_library_version())[0].strip()
    return [
        ("MPI", f"{vendor} {'.'.join(map(str, version))}, standard {major}.{minor}"),
        ("MPI library", library),
    ]


def _describe_nodes(comm: MPI.Intracomm) -> list[tuple[str, str]]:
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    leader = node.bcast(comm.rank)
    n_ranks = node.size
    node.Free()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    mine = (leader, platform.node(), n_ranks, os.cpu_count(), f"{memory:.1f} GiB", usable)
    leaders, hosts, ranks, cores, memories, usables = zip(*comm.allgather(mine), strict=True)
    names = dict(zip(leaders, hosts, strict=True))
    shown = ", ".join(list(names.values())[:4]) + (", …" if len(names) > 4 else "")
    return [
        ("ranks", f"{comm.size}"),
        ("nodes", f"{len(names)} ({shown})"),
        ("ranks per node", _distinct(ranks)),
        ("cores per node", _distinct(cores)),
        ("cores a rank may use", _distinct(usables)),
        ("memory per node", _distinct(memories)),
    ]


def _distinct(values: tuple[object, ...]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values))


def _by_rank(values: list[str | None]) -> str:
    first = {value: rank for rank, value in reversed(list(enumerate(values)))}
    return ", ".join(f"{value} on rank {rank}" for value, rank in sorted(
        first.items(), key=lambda item: item[1]))  # fmt: skip
