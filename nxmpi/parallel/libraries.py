"""The MPI and the HDF5 that a rank has, and the nodes that ranks are on."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import h5py
from mpi4py import MPI
from rich.filesize import decimal

from nxmpi.parallel.h5 import has_parallel_hdf5
from nxmpi.parallel.launch import launched_size
from nxmpi.parallel.window import node_of

FILTERS = {"gzip": 1, "bitshuffle": 32008, "lz4": 32004, "zstd": 32015, "blosc": 32001}
"""Names to HDF5's registered numbers."""


def missing_filters() -> list[str]:
    """Return a line for each filter that HDF5 lacks. Not collective."""
    return [
        f"HDF5 has no {name} filter"
        for name, code in FILTERS.items() if not h5py.h5z.filter_avail(code)
    ]  # fmt: skip


def mpi_problems(size: int) -> list[str]:
    """Return a line for each thing that is wrong with the MPI of so many ranks. Not collective."""
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


def describe_hdf5() -> list[tuple[str, str]]:
    """Return which HDF5 this is, and how it writes, as rows of a table. Not collective."""
    parallel = has_parallel_hdf5()
    available = [name for name, code in FILTERS.items() if h5py.h5z.filter_avail(code)]
    return [
        ("HDF5", f"{h5py.version.hdf5_version}, {'parallel' if parallel else 'not parallel'}"),
        ("files are written", "by parallel HDF5" if parallel else "through the root"),
        ("filters", ", ".join(available)),
    ]


def describe_mpi() -> list[tuple[str, str]]:
    """Return which MPI this is, as rows of a table. Not collective."""
    vendor, version = MPI.get_vendor()
    major, minor = MPI.Get_version()
    library = re.split(r"[\n\x00]", MPI.Get_library_version())[0].strip()
    return [
        ("MPI", f"{vendor} {'.'.join(map(str, version))}, standard {major}.{minor}"),
        ("MPI library", library),
    ]


def describe_nodes(comm: MPI.Intracomm) -> list[tuple[str, str]]:
    """Return ranks and what their nodes have, as rows of a table. Collective on ``comm``."""
    node = node_of(comm)
    leader = node.bcast(comm.rank)
    n_ranks = node.size
    node.Free()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    mine = (leader, platform.node(), n_ranks, os.cpu_count(), decimal(memory), usable)
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
