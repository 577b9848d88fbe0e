"""Bytes of arrays that this rank sends to others, counted where they leave.

Messages of a few numbers, by which ranks agree on something, are not counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mpi4py import MPI
    from numpy.typing import NDArray

Kind = Literal["arrays", "found", "written"]
"""Arrays whose sizes follow from the input; what was found in the data, such as counts around
peaks; and what the root writes for others where HDF5 is not parallel."""
_sent: dict[Kind, int] = {"arrays": 0, "found": 0, "written": 0}


def count_sent(n_bytes: int, kind: Kind = "arrays") -> None:
    """Add to what this rank has sent. Not collective.

    Of what goes to many ranks, each of these counts.
    """
    _sent[kind] += int(n_bytes)


def sent_until_now() -> dict[Kind, int]:
    """Return what this rank has sent since it began [bytes]. Not collective."""
    return dict(_sent)


def total_sent(comm: MPI.Intracomm, before: Mapping[Kind, int]) -> dict[Kind, int]:
    """Return what all ranks have sent since ``before``, of `sent_until_now`. Collective."""
    mine = {kind: n - before[kind] for kind, n in _sent.items()}
    everyone = comm.allgather(mine)
    return {kind: sum(each[kind] for each in everyone) for kind in mine}


def swap(
    comm: MPI.Intracomm, sent: NDArray[Any], to: int, received: NDArray[Any], source: int
) -> None:
    """Send an array to one rank and receive one from another.

    Collective on ``comm``: one ``Sendrecv``.
    """
    comm.Sendrecv(sent, to, recvbuf=received, source=source)
    if to != comm.rank:
        count_sent(sent.nbytes)
