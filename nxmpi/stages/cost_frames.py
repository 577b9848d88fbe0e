"""What the pass over the frames takes: memory of a rank and traffic between ranks, as formulas."""

from nxmpi.parallel.decompose import block_range
from nxmpi.stages.search import REACH_BACK, REACH_IN, REACH_ON, UNIT

PIXEL_BYTES = 112
"""Of a rank for each pixel, whatever the number of frames: sums, the largest counts, groups of
frames, images of significance, patches."""


def frames_memory(
    n_frames: int, n_pixels: int, itemsize: int, batch_frames: int, size: int, held: int = 1
) -> int:
    """Return the memory of a rank in the pass, beyond the interpreter's own [bytes].

    Parameters
    ----------
    itemsize : int
        Of a raw count [bytes].
    held : int, optional
        Of the counts that are held for peaks: one where these are mostly below 255 [bytes].
    """
    units = -(-n_frames // UNIT)
    longest = max(_length(units, n_frames, size, rank) for rank in range(size))
    reach = REACH_BACK + REACH_ON + 1 + (REACH_IN if size > 1 else 0)
    n_held = min(longest, reach)
    batches = 2 * min(batch_frames, longest) * itemsize
    return n_pixels * (n_held * held + batches + PIXEL_BYTES)


def _length(units: int, n_frames: int, size: int, rank: int) -> int:
    start, stop = block_range(units, size, rank)
    return min(UNIT * stop, n_frames) - min(UNIT * start, n_frames)


def frames_sent(n_frames: int, n_pixels: int, size: int) -> int:
    """Return the bytes of arrays that ranks send each other in the pass.

    Mask and blocks of the background to all, sums and largest counts to the root, and the first
    groups of two lengths to the rank before; not what is found: counts around peaks at seams.
    """
    active = min(-(-n_frames // UNIT), size)
    return n_pixels * ((1 + 4 + 8 + 8) * (size - 1) + 2 * 4 * (active - 1))
