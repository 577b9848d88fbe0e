"""Processors of a node, as its ranks share them."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from nxmpi.parallel.window import node_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from mpi4py import MPI


class Processors(NamedTuple):
    """What a program may use in the name of some ranks of a node."""

    numbers: list[int]
    """Those that any of the ranks may use."""
    share: int
    """How many of them are these ranks' own, 1 at least."""


def processors_of(comm: MPI.Intracomm, group: MPI.Intracomm) -> Processors:
    """Return the processors of the ranks of a group that are on this rank's node.

    Collective on ``comm``, of which each rank is in one group.
    """
    node, mine = node_of(comm), node_of(group)
    here = node.allgather(frozenset(os.sched_getaffinity(0)))
    ours = mine.allgather(frozenset(os.sched_getaffinity(0)))
    node.Free()
    mine.Free()
    return shared(ours, here)


def shared(ours: Iterable[Set[int]], here: Iterable[Set[int]]) -> Processors:
    """Return what some ranks of a node have of its processors.

    A processor that several ranks may use belongs to each of them in part.

    Parameters
    ----------
    ours, here : iterable of set of int
        Processors that each of these ranks, and of all ranks of the node, may use.
    """
    ours = list(ours)
    users = Counter(number for each in here for number in each)
    share = sum(1 / users[number] for each in ours for number in each)
    return Processors(sorted(frozenset().union(*ours)), max(int(share + 1e-9), 1))
