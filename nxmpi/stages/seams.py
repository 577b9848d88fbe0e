"""What ranks tell each other about the frames at their seams."""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.kernels.boxes import BLOCK
from nxmpi.parallel.arrays import exchange
from nxmpi.parallel.traffic import count_sent
from nxmpi.stages.held import INVALID, counts_of_box, cut
from nxmpi.stages.profiles import box_of
from nxmpi.stages.search import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    from mpi4py import MPI
    from numpy.typing import NDArray

    from nxmpi._typing import I4, I8, U1, Frames
    from nxmpi.kernels.boxes import Counts
    from nxmpi.stages.held import Box

    T = TypeVar("T")

ROUND = 2**22
"""Voxels of the boxes that a rank gets in a round."""
NO_COUNT = INVALID[np.dtype(np.uint8)]
"""What -1 becomes in a byte."""
WORD = 8
"""Messages are of whole words [bytes]."""


def to_previous(comm: MPI.Intracomm, image: I4 | None) -> I4 | None:
    """Send an image to the rank before, and return that of the rank behind.

    Collective on ``comm``, all of whose ranks have frames: one ``Sendrecv``. The first rank's
    goes nowhere, the last one gets None.
    """
    before, behind = comm.rank - 1, comm.rank + 1
    shapes = comm.allgather(None if image is None else image.shape)
    gets = behind < comm.size and shapes[behind] is not None
    sends = before >= 0 and image is not None
    received = np.empty(shapes[behind], np.int32) if gets else None
    request = comm.Isend(image, before) if sends else None
    count_sent(image.nbytes if sends and image is not None else 0)
    if received is not None:
        comm.Recv(received, behind)
    if request is not None:
        request.Wait()
    return received


def to_neighbours(comm: MPI.Intracomm, first: T, last: T) -> tuple[T | None, T | None]:
    """Send the first of something to the rank before, the last to the rank behind; small.

    Collective on ``comm``.

    Returns
    -------
    before, behind
        The last of the rank before, the first of the rank behind; None at the ends.
    """
    everyone = comm.allgather((first, last))
    before = everyone[comm.rank - 1][1] if comm.rank else None
    behind = everyone[comm.rank + 1][0] if comm.rank + 1 < comm.size else None
    return before, behind


def fetch_boxes(
    comm: MPI.Intracomm,
    candidates: NDArray[np.void],
    blocks: list[tuple[int, int]],
    shape: tuple[int, int, int],
    own: Counts,
) -> Iterator[tuple[Candidate, Counts]]:
    """Yield this rank's candidates, and the counts around them, from all ranks' frames.

    Collective on ``comm``: rounds of an ``Alltoallv``; to be iterated to its end.

    Parameters
    ----------
    candidates : (n,) CANDIDATE
        Of this rank.
    blocks : list of (start, stop)
        Frames of each rank.
    shape : tuple of int
        (n_frames, n_slow, n_fast)
    own : Counts
        Of this rank's frames.

    Yields
    ------
    candidate, counts
        See `nxmpi.stages.profiles.fit`.
    """
    everyone = comm.allgather(candidates)
    listed = [
        (owner, Candidate(*each)) for owner, some in enumerate(everyone) for each in some.tolist()
    ]
    boxes = [box_of(each, shape) for _, each in listed]
    for members in _rounds([owner for owner, _ in listed], boxes):
        parts: list[list[bytes]] = [[] for _ in range(comm.size)]
        for i in members:
            start, stop = blocks[comm.rank]
            frames, rows, columns = boxes[i]
            low, high = max(frames.start, start), min(frames.stop, stop)
            if low < high:
                part = cut(own, (slice(low, high), rows, columns))
                parts[listed[i][0]].append(_packed(part))
        words = [_words(some) for some in parts]
        sizes = np.array([some.size for some in words])
        received = exchange(comm, np.concatenate(words), sizes, "found").view(np.uint8)
        mine = [i for i in members if listed[i][0] == comm.rank]
        at = 0
        rooms: dict[int, Frames] = {
            i: np.zeros(_voxels(boxes[i]) + BLOCK, np.uint8) for i in mine
        }  # fmt: skip
        filled = dict.fromkeys(mine, 0)
        for start, stop in blocks:
            for i in mine:
                frames = boxes[i][0]
                low, high = max(frames.start, start), min(frames.stop, stop)
                if low < high:
                    n = _voxels((slice(low, high), *boxes[i][1:]))
                    rooms[i], used = _unpack(received[at:], n, rooms[i], filled[i])
                    filled[i] += n
                    at += used
            at += -at % WORD
        for i in mine:
            yield listed[i][1], counts_of_box(boxes[i], rooms[i])


def _voxels(box: Box) -> int:
    return prod(part.stop - part.start for part in box)


def _packed(counts: I4) -> bytes:
    """Return counts, -1 where there is none, as one byte each if they fit; a byte says so."""
    narrow = bool(counts.max() < NO_COUNT)
    return bytes([narrow]) + (counts.astype(np.uint8) if narrow else counts).tobytes()


def _unpack(packed: U1, n: int, room: Frames, at: int) -> tuple[Frames, int]:
    """Fill ``n`` counts in from the bytes that `_packed` made, behind those ``at`` there.

    Returns
    -------
    room, used
        What the counts are in, of a wider type once they need it; how many bytes these were.
    """
    dtype = np.dtype(np.uint8 if packed[0] else np.int32)
    counts = np.frombuffer(packed, dtype, n, 1)
    if dtype != room.dtype:
        room, counts = _widened(room), _widened(counts)
    room[at : at + n] = counts
    return room, 1 + n * dtype.itemsize


def _widened(counts: Frames) -> Frames:
    if counts.dtype != np.uint8:
        return counts
    return np.where(counts == NO_COUNT, -1, counts.astype(np.int32))


def _words(parts: list[bytes]) -> I8:
    together = b"".join(parts)
    return np.frombuffer(together + bytes(-len(together) % WORD), np.int64)


def _rounds(owners: list[int], boxes: list[Box]) -> list[list[int]]:
    """Return which boxes are sent in each round: some of every rank's, so that all have work."""
    rounds: list[list[int]] = []
    voxels = Counter[int]()
    for i, (owner, box) in enumerate(zip(owners, boxes, strict=True)):
        number = voxels[owner] // ROUND
        voxels[owner] += _voxels(box)
        rounds.extend([] for _ in range(len(rounds), number + 1))
        rounds[number].append(i)
    return rounds
