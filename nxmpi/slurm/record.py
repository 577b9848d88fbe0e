"""Which jobs were submitted for a scan: a file beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from nxmpi.errors import InputError
from nxmpi.parallel.publish import publish_text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A job that works on one step of a scan, or the task of an array that does."""

    step: str
    """Of the scan: frames, orient, …"""
    job: int
    """As Slurm numbers it; of an array, the number of the whole."""
    task: int | None = None
    """Of an array."""
    position: str | None = None
    """The one detector position that it works on; None for all."""
    name: str
    """That Slurm shows."""
    log: str
    """File that it writes to."""
    submitted: str
    """When, in ISO format with the offset from UTC."""

    @property
    def id(self) -> str:
        """As Slurm shows it: 12, or 12_3 of an array."""
        return f"{self.job}" if self.task is None else f"{self.job}_{self.task}"


def record_path(wrapper: Path) -> Path:
    """Return the file in which the jobs of a scan are recorded."""
    wrapper = wrapper.resolve()
    return wrapper.with_name(f"{wrapper.stem}.jobs.json")


def read_record(wrapper: Path) -> list[Job]:
    """Return the latest jobs of each step of a scan, none if none were submitted.

    Raises
    ------
    InputError
        If the file is not one of ours.
    """
    path = record_path(wrapper)
    try:
        content = json.loads(path.read_text())
        if content["version"] != VERSION:
            raise InputError(f"{path}: expected version {VERSION}, found {content['version']}")
        return [Job(**fields) for fields in content["jobs"]]
    except FileNotFoundError:
        return []
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a record of jobs, found something else") from error


def add_jobs(wrapper: Path, jobs: Iterable[Job]) -> None:
    """Record jobs, in place of earlier ones for the same steps.

    The file is complete at any moment: a new one takes the place of the old one.
    """
    new = list(jobs)
    steps = {job.step for job in new}
    kept = [job for job in read_record(wrapper) if job.step not in steps]
    content = {"version": VERSION, "jobs": [asdict(job) for job in [*kept, *new]]}
    publish_text(record_path(wrapper), json.dumps(content, indent=1))
