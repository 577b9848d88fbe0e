"""What nodes of a partition have, and how long jobs may run there."""

from __future__ import annotations

import re
from typing import NamedTuple

from nxmpi.slurm.command import BatchError, ask


class Limits(NamedTuple):
    """Of a job; 0 where there is none, or nobody says."""

    mebibytes: int = 0
    """Of the smallest node."""
    minutes: int = 0


def limits_of(partition: str | None) -> Limits:
    """Return the limits of a partition, the default one if None; none where Slurm does not answer.

    Of several, separated by commas, the least of each.
    """
    try:
        text = ask("sinfo", "--noheader", "--all", "--format=%P|%m|%l")
    except BatchError:
        return Limits()
    return parse_sinfo(text, partition)


def parse_sinfo(text: str, partition: str | None) -> Limits:
    """Return the limits that lines ``PARTITION|MEMORY|TIME`` of sinfo tell of."""
    wanted = partition.split(",") if partition else []
    rows = [line.strip().split("|") for line in text.splitlines() if line.count("|") == 2]
    own = [
        (memory, time)
        for name, memory, time in rows
        if (name.rstrip("*") in wanted if wanted else name.endswith("*"))
    ]
    sizes = [int(number[0]) for memory, _ in own if (number := re.match(r"\d+", memory))]
    times = [minutes for _, time in own if (minutes := _minutes(time))]
    return Limits(min(sizes, default=0), min(times, default=0))


def _minutes(time: str) -> int:
    """Return the whole minutes of ``days-hours:minutes:seconds``, 0 of ``infinite``."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):\d+", time)
    if found is None:
        return 0
    days, hours, minutes = (int(part or 0) for part in found.groups())
    return (24 * days + hours) * 60 + minutes
