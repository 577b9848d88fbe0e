"""What a step takes in a run of so many ranks and nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

ORIENT_SECONDS = 2.0
"""Of orienting, which depends on peaks that nobody knows before."""

Left = frozenset[str] | None
"""Positions or tasks of a step that are left to do; None for all."""


class Layout(NamedTuple):
    """Ranks and nodes of a run."""

    ranks: int
    nodes: int = 1
    memory: int = 0
    """Of a node, for the transform to keep to [bytes]; 0 for as much as it likes."""

    @property
    def ranks_per_node(self) -> int:
        """Ranks of a node, of the fullest where they do not divide evenly."""
        return math.ceil(self.ranks / self.nodes)


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """What a step takes, over all positions and volumes, in bytes and numbers of things."""

    step: str
    files: int = 0
    """Bytes of files of frames and masks that are read."""
    unpacked: int = 0
    """Bytes of chunks of volumes that are read, after they are expanded."""
    written: int = 0
    """Bytes of chunks of volumes that are written, before they are compressed."""
    kept: int = 0
    """Those of them that are more than there were before: others replace a file."""
    masks: int = 0
    """Bytes of files of masks, as they are on disk."""
    scratch: int = 0
    """Bytes of a scratch file while it runs."""
    memory: int = 0
    """Of the largest rank, beyond the interpreter's own [bytes]."""
    spared: int = 0
    """Of that, what it can do without, if need be with more rounds and a scratch file [bytes]."""
    shared: int = 0
    """Of a node, which its ranks share [bytes]."""
    sent: int = 0
    """Bytes of arrays that ranks send each other; not of what is found in the data."""
    is_exact: bool = True
    """The bytes sent are those that the program will count."""
    work: float = 0.0
    """Pixels, or voxels, to go through."""
    note: str = ""
    is_known: bool = True
    """False where nobody can say before other steps are done: numbers mean nothing then."""
    positions: tuple[StepCost, ...] = ()
    """Each by itself, of a step that goes by positions."""


def together(step: str, positions: list[StepCost]) -> StepCost:
    """Return what a step takes at all positions, one after another."""
    return StepCost(
        step=step,
        files=sum(each.files for each in positions),
        written=sum(each.written for each in positions),
        kept=sum(each.kept for each in positions),
        masks=sum(each.masks for each in positions),
        scratch=max((each.scratch for each in positions), default=0),
        memory=max((each.memory for each in positions), default=0),
        spared=max((each.spared for each in positions), default=0),
        sent=sum(each.sent for each in positions),
        is_exact=all(each.is_exact for each in positions),
        work=sum(each.work for each in positions),
        positions=tuple(positions),
    )
