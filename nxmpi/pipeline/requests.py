"""What the jobs of a scan's steps are to ask for, from what the steps are expected to take."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from nxmpi.pipeline.estimate import estimate, memory_warnings, unknown_steps
from nxmpi.pipeline.plan import plan_scan
from nxmpi.pipeline.rates import read_rates

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nxmpi.pipeline.estimate import Estimate
    from nxmpi.pipeline.reduce import Choices
    from nxmpi.pipeline.step_cost import Layout

TIMES = 2.0
"""The expected time that is asked for: file systems differ by that much from day to day."""
STOPPING = 15
"""More than that, for starting and for stopping ahead of the limit [min]."""
MEMORIES = 1.25
"""The expected memory that is asked for."""
MIB = 2**20


class Request(NamedTuple):
    """Of a job."""

    minutes: int
    mebibytes: int
    """Of each node."""


class Requests(NamedTuple):
    """Of the jobs of a scan."""

    steps: dict[str, Request]
    """Those of which something is known."""
    estimates: list[Estimate]
    warnings: list[str]
    """What the user is to be told of."""


def requests_of(
    wrapper: Path, choices: Choices, steps: tuple[str, ...], layouts: Mapping[str, Layout],
    *, redo: bool, apart: bool,
) -> Requests:  # fmt: skip
    """Return what the job of each step is to ask for, of those that are to be done.

    Not collective.

    Parameters
    ----------
    layouts : mapping
        Of the job of each step; its memory is all that a node has, and more is asked for only
        where the step cannot do with that.
    apart : bool
        Whether each position has a transform of its own: it asks for what the largest takes.

    Raises
    ------
    InputError
        If the scan cannot be reduced for want of something.
    """
    rates, _ = read_rates()
    compressed = choices.output.compression != "none"
    found: dict[str, Estimate] = {}
    requests: dict[str, Request] = {}
    warnings: list[str] = []
    for layout in dict.fromkeys(layouts[step] for step in steps):
        own = [step for step in steps if layouts[step] == layout]
        until = steps[: steps.index(own[-1]) + 1]  # a step is planned by what those before it leave
        for cost in plan_scan(wrapper, choices, until, layout, redo=redo):
            if cost.step in own:
                parts = cost.positions if apart and cost.step == "transform" else ()
                whole, *own_jobs = (
                    estimate(each, rates, layout, node_memory=layout.memory, compressed=compressed)
                    for each in (cost, *parts)
                )
                if own_jobs:  # at the same time, each with a scratch file
                    whole = replace(whole, scratch=sum(each.scratch for each in own_jobs))
                warnings += memory_warnings([whole], layout.memory)
                found[cost.step] = whole
                if whole.is_known:
                    asked = [request_of(each, layout.memory) for each in own_jobs or [whole]]
                    requests[cost.step] = largest_of(asked)
    estimates = [found[step] for step in steps if step in found]
    unknown = [
        f"{steps}: no time and memory are asked for but those that the site's file and the "
        "scripts name"
        for steps in unknown_steps(estimates)
    ]
    return Requests(requests, estimates, unknown + warnings)


def largest_of(requests: list[Request]) -> Request:
    """Return what suffices for jobs that ask for the same."""
    return Request(max(each.minutes for each in requests), max(each.mebibytes for each in requests))


def request_of(expected: Estimate, memory: int) -> Request:
    """Return what a job is to ask for. Not collective.

    Parameters
    ----------
    memory : int
        Of a node; 0 if it is not known [bytes].
    """
    wanted = math.ceil(MEMORIES * expected.memory_node / MIB)
    if memory:
        wanted = min(wanted, max(memory // MIB, math.ceil(expected.least_node / MIB)))
    return Request(math.ceil(TIMES * expected.seconds / 60) + STOPPING, wanted)
