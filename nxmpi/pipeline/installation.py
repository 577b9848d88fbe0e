"""What this installation is, on all ranks, and what it lacks."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import nxmpi
from nxmpi.parallel.libraries import (
    describe_hdf5,
    describe_mpi,
    describe_nodes,
    missing_filters,
    mpi_problems,
)

if TYPE_CHECKING:
    from mpi4py import MPI

DISTRIBUTIONS = {"cctbx": "cctbx-base"}
"""Packages whose distribution has another name."""
PACKAGES = ("numpy", "scipy", "numba", "h5py", "hdf5plugin", "mpi4py", "pyFAI", "cctbx",
            "click", "rich", "matplotlib")  # fmt: skip


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
    problems += missing_filters() + _compiler_problems() + mpi_problems(comm.size)
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
    rows = [*versions.items(), *describe_hdf5(), *describe_mpi(), *describe_nodes(comm)]
    return Installation(
        rows=tuple(rows),
        problems=tuple(
            line if len(ranks) == comm.size else f"{line} [rank {', '.join(map(str, ranks))}]"
            for line, ranks in seen.items()
        ),
    )


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


def _by_rank(values: list[str | None]) -> str:
    first = {value: rank for rank, value in reversed(list(enumerate(values)))}
    return ", ".join(f"{value} on rank {rank}" for value, rank in sorted(
        first.items(), key=lambda item: item[1]))  # fmt: skip
