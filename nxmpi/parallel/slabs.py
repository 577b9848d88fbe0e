"""Arrays that ranks hold in slabs along their first axis, dealt out anew."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.traffic import swap

if TYPE_CHECKING:
    from mpi4py import MPI
    from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
Ranges = list[tuple[int, int]]
"""Half-open range of planes of each rank; together they are all planes, none twice."""
ROUND = 64 * 2**20
"""Most that a rank sends to another at a time [bytes]."""


def even_slabs(n: int, size: int) -> Ranges:
    """Return n planes dealt out evenly. Not collective."""
    return [block_range(n, size, rank) for rank in range(size)]


def chunked_slabs(n: int, size: int, chunk: int) -> Ranges:
    """Return n planes dealt out by whole chunks, as they are written. Not collective."""
    rows = even_slabs(-(-n // chunk), size)
    return [(min(start * chunk, n), min(stop * chunk, n)) for start, stop in rows]


def deal_anew(comm: MPI.Intracomm, slab: NDArray[T], have: Ranges, want: Ranges) -> NDArray[T]:
    """Return the planes that a rank wants, from those who have them.

    Collective on ``comm``: each plane is sent once, in rounds of `ROUND` at most.

    Parameters
    ----------
    slab : (n, ...)
        The planes that this rank has.
    have, want : lists of tuple of int
        Of all ranks.

    Returns
    -------
    (n', ...)
        ``slab`` itself where nobody wants others.
    """
    if have == want:
        return slab
    (own, _), (start, stop) = have[comm.rank], want[comm.rank]
    result = np.empty((stop - start, *slab.shape[1:]), slab.dtype)
    plane = int(np.prod(slab.shape[1:])) * slab.itemsize
    step = max(1, ROUND // max(plane, 1))
    for shift in range(comm.size):
        to, fro = (comm.rank + shift) % comm.size, (comm.rank - shift) % comm.size
        going, coming = _common(have[comm.rank], want[to]), _common(have[fro], want[comm.rank])
        longest = max(b - a for a, b in have)
        for first in range(0, longest, step):
            a, b = (min(edge, going[1]) for edge in (going[0] + first, going[0] + first + step))
            c, d = (min(edge, coming[1]) for edge in (coming[0] + first, coming[0] + first + step))
            received = result[c - start : d - start] if d > c else result[:0]
            sent = np.ascontiguousarray(slab[a - own : b - own] if b > a else slab[:0])
            swap(comm, sent, to, received, fro)
    return result


def _common(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    a, b = max(one[0], other[0]), min(one[1], other[1])
    return a, max(a, b)


def dealt_bytes(have: Ranges, want: Ranges, plane: int) -> int:
    """Return what ranks send each other in `deal_anew`. Not collective.

    Parameters
    ----------
    plane : int
        Bytes of a plane.
    """
    pairs = product(enumerate(have), enumerate(want))
    common = (_common(one, other) for (i, one), (j, other) in pairs if i != j)
    return plane * sum(b - a for a, b in common)


def with_halo(
    comm: MPI.Intracomm, slab: NDArray[T], slabs: Ranges, reach: int
) -> tuple[NDArray[T], int]:
    """Return a rank's planes with up to ``reach`` others on each side, as far as there are any.

    Collective on ``comm``: planes come from all ranks that have them, however few each has.

    Parameters
    ----------
    slab : (n, ...)
    slabs : list of tuple of int
        Of all ranks, in order.

    Returns
    -------
    planes : (n + before + after, ...)
    before : int
    """
    n_all = slabs[-1][1]
    wanted = [(max(a - reach, 0), min(b + reach, n_all)) if b > a else (a, a) for a, b in slabs]
    (own, stop), (first, last) = slabs[comm.rank], wanted[comm.rank]
    planes = np.empty((last - first, *slab.shape[1:]), slab.dtype)
    planes[own - first : stop - first] = slab
    for shift in range(1, comm.size):
        to, fro = (comm.rank + shift) % comm.size, (comm.rank - shift) % comm.size
        going, coming = (
            _common(slabs[comm.rank], wanted[to]),
            _common(slabs[fro], wanted[comm.rank]),
        )
        received = planes[coming[0] - first : coming[1] - first]
        if coming[0] == coming[1]:
            received = planes[:0]
        sent = slab[going[0] - own : going[1] - own] if going[1] > going[0] else slab[:0]
        swap(comm, np.ascontiguousarray(sent), to, received, fro)
    return planes, own - first
