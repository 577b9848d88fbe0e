"""Arrays between ranks, in pieces that MPI's 32-bit counts can hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
from mpi4py import MPI

from nxmpi.parallel.traffic import count_sent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nxmpi._typing import F8, I8
    from nxmpi.parallel.traffic import Kind

T = TypeVar("T", bound=np.generic)
Number = TypeVar("Number", int, float)
PIECE = 4 * 2**20
"""Bytes moved at a time: few enough for a cache."""


def bcast_array(comm: MPI.Intracomm, array: NDArray[T] | None) -> NDArray[T]:
    """Return the root's array on every rank.

    Collective on ``comm``. Sent in pieces of 4 MiB.
    """
    header = comm.bcast(None if array is None else (array.shape, array.dtype.str))
    shape, dtype = header
    result = np.ascontiguousarray(array) if array is not None else np.empty(shape, dtype)
    flat = result.reshape(-1).view(np.uint8)
    if comm.rank == 0:
        count_sent(flat.size * (comm.size - 1))
    for start in range(0, flat.size, PIECE):
        comm.Bcast(flat[start : start + PIECE])
    return result


def exchange(comm: MPI.Intracomm, words: I8, sent: I8, kind: Kind = "arrays") -> I8:
    """Send a part of an array to each rank and return what all ranks sent here, in rank order.

    Collective on ``comm``: one ``Alltoallv``; the array of a rank holds at most a few times
    4 MiB, which the caller sees to.

    Parameters
    ----------
    words : (n_sent,) int64
        For all ranks, one after another.
    sent : (comm.size,) int64
        How many for each.
    kind : str, optional
        Of what is sent, for `nxmpi.parallel.traffic`.

    Returns
    -------
    (n,) int64
    """
    received = np.empty_like(sent)
    comm.Alltoall(sent, received)
    result = np.empty(int(received.sum()), np.int64)
    comm.Alltoallv([words, sent], [result, received])
    count_sent(8 * (int(sent.sum()) - int(sent[comm.rank])), kind)
    return result


def largest(comm: MPI.Intracomm, value: Number) -> Number:
    """Return the largest value of all ranks. Collective on ``comm``."""
    found: Number = max(comm.allgather(value))
    return found


def sum_arrays(comm: MPI.Intracomm, array: NDArray[T]) -> NDArray[T]:
    """Return the sum over ranks of arrays of one shape, on the root; elsewhere what was given.

    Collective on ``comm``: reduced in pieces of 4 MiB, in place on the root. The order of sums
    of floats is MPI's.

    Parameters
    ----------
    array : (...) int64 or float64
    """
    return _reduce(comm, array, MPI.SUM)


def largest_arrays(comm: MPI.Intracomm, array: NDArray[T]) -> NDArray[T]:
    """Return the largest over ranks, element by element, like `sum_arrays`."""
    return _reduce(comm, array, MPI.MAX)


def _reduce(comm: MPI.Intracomm, array: NDArray[T], op: MPI.Op) -> NDArray[T]:
    flat = np.ascontiguousarray(array).reshape(-1)
    count_sent(flat.nbytes if comm.rank else 0)
    for start in range(0, flat.size, PIECE // 8):
        piece = flat[start : start + PIECE // 8]
        comm.Reduce(
            MPI.IN_PLACE if comm.rank == 0 else piece, piece if comm.rank == 0 else None, op
        )
    return flat.reshape(array.shape)


def gather_rows(comm: MPI.Intracomm, rows: F8, kind: Kind = "arrays") -> F8:
    """Return the rows of all ranks in rank order on the root, none elsewhere.

    Collective on ``comm``. Sent in pieces of 4 MiB, one rank after another.

    Parameters
    ----------
    rows : (n, n_columns) float64
        As many columns on all ranks.
    kind : str, optional
        Of what is sent, for `nxmpi.parallel.traffic`.
    """
    numbers = comm.gather(len(rows))
    flat = np.ascontiguousarray(rows).reshape(-1)
    if numbers is None:
        count_sent(flat.nbytes, kind)
        for start in range(0, flat.size, PIECE // 8):
            comm.Send(flat[start : start + PIECE // 8], dest=0)
        return rows[:0]
    result = np.empty((sum(numbers), rows.shape[1]))
    result[: len(rows)] = rows
    everyone = result.reshape(-1)
    end = flat.size
    for source, n in enumerate(numbers[1:], 1):
        start, end = end, end + n * rows.shape[1]
        for first in range(start, end, PIECE // 8):
            comm.Recv(everyone[first : min(first + PIECE // 8, end)], source=source)
    return result
