"""What the jobs of a scan's steps are to ask for, from what the steps are expected to take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from nxmpi.pipeline.estimate import estimate
from nxmpi.pipeline.plan import plan_scan
from nxmpi.pipeline.rates import read_rates

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi.pipeline.plan import Layout
    from nxmpi.pipeline.reduce import Choices

TIMES = 2.0
"""The expected time that is asked for: file systems differ by that much from day to day."""
STOPPING = 15
"""More than that, for starting and for stopping ahead of the limit [min]."""
MEMORIES = 1.25
"""The expected memory that is asked for."""


class Request(NamedTuple):
    """Of a job."""

    minutes: int
    mebibytes: int
    """Of each node."""


def requests_of(
    wrapper: Path, choices: Choices, steps: tuple[str, ...], layout: Layout, *, redo: bool
) -> dict[str, Request]:
    """Return what the job of each step is to ask for, of those that are to be done.

    Not collective.

    Raises
    ------
    InputError
        If the scan cannot be reduced for want of something.
    """
    rates, _ = read_rates()
    compressed = choices.output.compression != "none"
    found = {}
    for cost in plan_scan(wrapper, choices, steps, layout, redo=redo):
        each = estimate(cost, rates, layout, node_memory=0, compressed=compressed)
        found[each.step] = Request(
            math.ceil(TIMES * each.seconds / 60) + STOPPING,
            math.ceil(MEMORIES * each.memory_node / 2**20),
        )
    return found
