"""Defaults of a site for its jobs: a TOML file that the user edits once."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import nxmpi
from nxmpi.configuration import user_file
from nxmpi.errors import InputError
from nxmpi.slurm.params import SubmitParams

TEMPLATE = """\
# Defaults of nxmpi submit at this site. Options on the command line override them.

# Folder of the job scripts, with environment.sh edited for this site.
jobs = "{jobs}"

# Nodes of a job.
nodes = 1

# Ranks of a node; one for each core if left out.
# ranks_per_node = 32

# How ranks are started: a type that `srun --mpi=list` names (pmix for Open MPI; pmi2 or cray_shasta
# for MPICH and its kin), or "mpiexec"; as jobs/environment.sh says if left out.
# mpi = "pmix"

# account = "beamtime-1234"
# partition = "batch"
# constraint = "cpu"

# Time limit of a job; that of its script if left out.
# time = "04:00:00"

# Memory of a node; all it has if left out.
# mem = "200G"

# Further options of sbatch.
# extra = ["--mail-type=END,FAIL"]

# Any of these for one step alone: frames, orient, transform, combine, symmetrize, pdf.
[orient]
nodes = 1

# [transform]
# nodes = 8
# time = "08:00:00"
"""
SCRIPTS = ("environment.sh", "run.sh")
"""That all job scripts need."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """What jobs of all steps ask for, and what those of single steps ask for instead."""

    params: SubmitParams
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of_step(self, step: str) -> SubmitParams:
        """Return what the job of a step asks for."""
        return replace(self.params, **self.steps.get(step, {}))


def site_file() -> Path:
    """Return where the defaults are: as NXMPI_SITE says, else in the user's configuration."""
    return user_file("NXMPI_SITE", "site.toml")


def default_jobs() -> Path:
    """Return the folder of the job scripts: of the checkout, or as they were installed."""
    checkout = Path(nxmpi.__file__).parents[1] / "jobs"
    if (checkout / SCRIPTS[0]).is_file():
        return checkout
    return Path(sys.prefix) / "share" / "nxmpi" / "jobs"


def write_site(path: Path) -> None:
    """Write defaults with comments, to be edited.

    Raises
    ------
    InputError
        If there are some already.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x") as file:
            file.write(TEMPLATE.format(jobs=default_jobs()))
    except FileExistsError:
        raise InputError(f"{path}: is there already, and is kept") from None


def read_site(path: Path, steps: tuple[str, ...], given: dict[str, Any]) -> Site:
    """Return the defaults of a site, built-in ones where there is no file.

    Parameters
    ----------
    steps : tuple of str
        That have a table of their own.
    given : dict
        Fields of `SubmitParams` that the user gave, in place of those in the file, for all steps
        but where a step runs on one node by itself; `extra` is added to that of the file.

    Raises
    ------
    InputError
        If the file is not TOML, or says something that is not known; names file and key.
    """
    try:
        content = tomllib.loads(path.read_text()) if path.exists() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected TOML: {error}") from error
    tables = {step: content.pop(step) for step in steps if step in content}
    extra = given.get("extra", ())
    shared = {"jobs": default_jobs(), **_checked(path, "", content)}
    shared |= {**given, "extra": (*shared.get("extra", ()), *extra)}
    own: dict[str, dict[str, Any]] = {"orient": {"nodes": 1}}
    for step, table in tables.items():
        checked = _checked(path, f"{step}.", table)
        if "extra" in checked:
            checked["extra"] += extra
        own[step] = own.get(step, {}) | {
            key: value
            for key, value in checked.items()
            if key not in given or key == "extra" or (step, key) == ("orient", "nodes")
        }
    site = Site(params=SubmitParams(**shared), steps=own)
    for script in SCRIPTS:
        if not (site.params.jobs / script).is_file():
            raise InputError(f"{site.params.jobs}: expected the job scripts, found no {script}")
    return site


def _checked(path: Path, where: str, table: object) -> dict[str, Any]:
    """Return what a table says, in the types of `SubmitParams`."""
    if not isinstance(table, dict):
        raise InputError(f"{path}: {where.rstrip('.')}: expected a table, found {table!r}")
    names = [each.name for each in fields(SubmitParams)]
    result: dict[str, Any] = {}
    for key, value in table.items():
        if key not in names:
            raise InputError(f"{path}: {where}{key}: expected one of {', '.join(names)}")
        wanted = {"nodes": int, "ranks_per_node": int, "extra": list}.get(key, str)
        if not isinstance(value, wanted):
            kind = {int: "a whole number", list: "a list", str: "a text"}[wanted]
            raise InputError(f"{path}: {where}{key}: expected {kind}, found {value!r}")
        result[key] = {"jobs": Path, "extra": tuple}.get(key, wanted)(value)
    return result
