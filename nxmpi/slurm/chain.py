"""The jobs of scans and what each waits for; known to no batch system in particular."""

from __future__ import annotations

import re
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import TYPE_CHECKING

from nxmpi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MATCHING, ALL = "matching", "all"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is left to do of a scan."""

    wrapper: Path
    folder: Path
    """Of the scan's results."""
    steps: dict[str, tuple[str, ...]]
    """Positions of each step that is to be done, in order; of steps that go by positions."""
    options: dict[str, tuple[str, ...]]
    """Command-line options of each step."""

    @property
    def alike(self) -> tuple[object, ...]:
        """What scans must have in common to be tasks of one array."""
        options = tuple(self.options[step] for step in self.steps)
        return self.wrapper.parent, tuple(self.steps), options


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Another job that must have ended well first."""

    index: int
    """Of the job, among all of a submission."""
    tasks: str = ALL
    """Wait for all tasks of an array, or each task for the one of its own number."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A job to be submitted."""

    step: str
    wrappers: tuple[Path, ...]
    """More than one for an array over scans: task i works on scan i."""
    positions: tuple[str, ...] = ()
    """Of an array over the positions of one scan: task 3 works on f3."""
    options: tuple[str, ...] = ()
    waits: tuple[Wait, ...] = ()
    name: str
    log: Path
    """File name without the job's number and suffix."""

    @property
    def tasks(self) -> tuple[int, ...]:
        """Numbers of the tasks of an array, none if it is not one."""
        if self.positions:
            return tuple(int(position[1:]) for position in self.positions)
        return tuple(range(len(self.wrappers))) if len(self.wrappers) > 1 else ()


def plan_chain(
    works: list[Work],
    *,
    parents: Mapping[Path, Path | None] = MappingProxyType({}),
    together: bool = False,
) -> list[Planned]:
    """Return the jobs of all scans, each after those it waits for.

    Scans of one folder of which the same is left to do become tasks of arrays, in which task i of
    a step waits for task i of the one before. A scan alone has a task for each of its positions in
    the transform.

    Parameters
    ----------
    parents : mapping of Path to Path or None
        Scans whose orientation and grid others take, each with its own parent among them: a parent
        begins after the transform of its own, and others after those of all parents.
    together : bool, optional
        Transform all positions in one job.

    Raises
    ------
    InputError
        If a scan is the parent of its own parent.
    """
    jobs: list[Planned] = []
    by_scan = {work.wrapper: work for work in works}
    ends: dict[Path | None, tuple[Wait, ...]] = {}
    for scan in _parents_first(parents):
        ends[scan] = ends.get(parents[scan], ())
        if scan in by_scan:
            begin = len(jobs)
            jobs += _chain([by_scan[scan]], begin, ends[scan], together=together)
            for index in range(begin, len(jobs)):
                if jobs[index].step in ("frames", "orient", "transform"):
                    ends[scan] = (Wait(index=index),)
    first = tuple(dict.fromkeys(wait for waits in ends.values() for wait in waits))
    groups: dict[tuple[object, ...], list[Work]] = {}
    for work in works:
        if work.wrapper not in parents:
            groups.setdefault(work.alike, []).append(work)
    for group in groups.values():
        jobs += _chain(group, len(jobs), first, together=together)
    return jobs


def _parents_first(parents: Mapping[Path, Path | None]) -> list[Path]:
    graph = {scan: (parent,) if parent else () for scan, parent in parents.items()}
    try:
        return [*TopologicalSorter(graph).static_order()]
    except CycleError as error:
        names = ", ".join(str(scan) for scan in error.args[1])
        raise InputError(f"expected no scan to be a parent of its parent, found {names}") from error


def _chain(
    works: list[Work], begin: int, first: tuple[Wait, ...], *, together: bool
) -> list[Planned]:
    """Return the jobs of one scan, or of several of which the same is left to do."""
    jobs: list[Planned] = []
    waits = first
    for step, positions in works[0].steps.items():
        is_array = len(works) > 1
        by_position = (
            step == "transform"
            and not is_array
            and not together
            and len(positions) > 1
            and all(re.fullmatch(r"f\d+", position) for position in positions)
        )
        name, log = _names(works, step)
        jobs.append(
            Planned(
                step=step,
                wrappers=tuple(work.wrapper for work in works),
                positions=positions if by_position else (),
                options=works[0].options[step],
                waits=waits,
                name=name,
                log=log,
            )
        )
        waits = (Wait(index=begin + len(jobs) - 1, tasks=MATCHING if is_array else ALL),)
    return jobs


def _names(works: list[Work], step: str) -> tuple[str, Path]:
    """Return the name of a job, and where its log is."""
    (work, *others) = works
    name = f"{work.wrapper.stem}{f'+{len(others)}' if others else ''}-{step}"
    folder = work.wrapper.parent if others else work.folder
    return name, folder / "logs" / name
