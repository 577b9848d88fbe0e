"""What averages and real space take: memory of a rank and traffic between ranks, as formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.parallel.slabs import ROUND, chunked_slabs, dealt_bytes, even_slabs
from nxmpi.stages.bricks import WIDTH
from nxmpi.stages.fill import filled_bytes
from nxmpi.stages.fourier import full_slab_bytes, transposed_bytes
from nxmpi.stages.pdf import TYPES
from nxmpi.stages.planes import slab_bytes
from nxmpi.stages.shells import compared_bytes
from nxmpi.stages.symmetrize import exchanged_bytes, exchanged_voxels, owned_planes

if TYPE_CHECKING:
    from nxmpi.crystal.holes import Holes
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.params import PdfParams, PunchParams
    from nxmpi.stages.fourier import Sizes

SINGLE = 4
"""Bytes of a number in the files of averages."""
SUMMED = (8, 8, 1, 8)
"""Bytes of a voxel of what images are added of: counts, norm, number, and deviations."""
OF_BACKGROUND = (8, 8, SINGLE)
"""The same of a background: what it adds to counts, its variance, and that of a single count."""
MADE = (SINGLE, SINGLE, SINGLE, 1, SINGLE)
"""Bytes of a voxel of what is written of an average."""


def combine_memory(n_positions: int, array_shape: tuple[int, int, int]) -> int:
    """Return the memory of a rank in combining, beyond the interpreter's own [bytes].

    A pillar at a time: counts and norm of every position, the latter as they are read too, the
    intensity of all, its errors, and what leads to them.
    """
    voxels = WIDTH * WIDTH * array_shape[2]
    return voxels * 8 * (3 * n_positions + 3)


def symmetrize_memory(
    group: VoxelGroup, array_shape: tuple[int, int, int], size: int, *, background: bool
) -> int:  # fmt: skip
    """Return the memory of the largest rank in averaging, beyond the interpreter's own [bytes].

    Counts and norm of a voxel, and their sums over its images, are 33 bytes, with chi squared 37;
    groups that exchange l with h and k hold three times what is exchanged in 64 bits, and what is
    under way. A background and its sums are 40.
    """
    first, stop = owned_planes(group, size, 0)
    voxels = 2 * (stop - first) * array_shape[1] * array_shape[2]
    own = exchanged_voxels(group, stop - first)
    under_way = 2 * min(8 * own, ROUND) if own else 0
    summing = 16 * voxels + 17 * voxels + 3 * 8 * own + under_way
    slab = max(b - a for a, b in chunked_slabs(array_shape[0], size, WIDTH))
    less = 2 * sum(OF_BACKGROUND) * voxels if background else 0
    made = sum(MADE) + (SINGLE if background else 0)
    moving = made * (voxels + slab * array_shape[1] * array_shape[2])
    return max(summing + less, 37 * voxels + less, moving)


def symmetrize_sent(
    group: VoxelGroup, array_shape: tuple[int, int, int], size: int, *, background: bool
) -> int:  # fmt: skip
    """Return the bytes that ranks send each other in averaging, without leaving out any image."""
    plane = array_shape[1] * array_shape[2]
    slabs = chunked_slabs(array_shape[0], size, WIDTH)
    summed = [*SUMMED, *(OF_BACKGROUND if background else ())]
    made = [*MADE, *((SINGLE,) if background else ())]
    exchanged = sum(exchanged_bytes(group, size, itemsize) for itemsize in summed)
    moved = sum(slab_bytes(group, slabs, plane * itemsize) for itemsize in made)
    return exchanged + compared_bytes(group, size) + moved


def pdf_memory(
    array_shape: tuple[int, int, int], sizes: Sizes, params: PdfParams, size: int
) -> int:  # fmt: skip
    """Return the memory of the largest rank from an average to real space, without its node's.

    The volume, the window, and what is filled, in 32 bits, with marks; then either what is put
    beside the volume, or half of the spectrum twice and the halves of real space made so far.
    """
    item = np.dtype(TYPES[params.precision]).itemsize
    slab = max(b - a for a, b in even_slabs(array_shape[0], size))
    voxels = slab * array_shape[1] * array_shape[2]
    half = max(b - a for a, b in even_slabs(sizes[1] // 2 + 1, size)) * sizes[0] * sizes[2]
    lines = slab * (sizes[1] // 2 + 1) * sizes[0]
    written = chunked_slabs(array_shape[0], size, WIDTH)
    longest = max(b - a for a, b in written)
    moved = 0 if written == even_slabs(array_shape[0], size) else longest
    beside = (4 * SINGLE + 1 + 2 * SINGLE) * voxels
    beside += 3 * SINGLE * moved * array_shape[1] * array_shape[2]
    spectrum = 2 * item * (lines + max(lines, half))
    n_halves = 2 if params.subtract_mean else 1
    errors = (3 * SINGLE + 1) * voxels + spectrum + n_halves * item * half
    return max(beside, errors)


def pdf_shared(sizes: Sizes, params: PdfParams, size: int) -> int:
    """Return the memory that the ranks of a node share for errors: half of real space."""
    item = np.dtype(TYPES[params.precision]).itemsize
    return 0 if size == 1 else (sizes[1] // 2 + 1) * sizes[0] * sizes[2] * item


def pdf_sent(
    array_shape: tuple[int, int, int], sizes: Sizes, params: PdfParams, size: int, n_nodes: int
) -> int:
    """Return the bytes that ranks send each other to real space, holes apart: `holes_sent`.

    Of the transforms one is of the volume, one of what is filled, one of the errors, and one of
    the window where a mean is taken away.
    """
    item, n_l = np.dtype(TYPES[params.precision]).itemsize, array_shape[0]
    n_transforms = 4 if params.subtract_mean else 3
    even, written = even_slabs(n_l, size), chunked_slabs(n_l, size, WIDTH)
    n_bytes = n_transforms * transposed_bytes(sizes, n_l, size, 2 * item)
    if params.subtract_mean:
        n_bytes += 2 * 16 * (n_l - even[0][1])
    n_bytes += 3 * dealt_bytes(even, written, array_shape[1] * array_shape[2] * SINGLE)
    n_bytes += 3 * full_slab_bytes(sizes, chunked_slabs(sizes[1], size, WIDTH), item)
    return n_bytes + (n_nodes - 1) * (sizes[1] // 2 + 1) * sizes[0] * sizes[2] * item


def holes_sent(holes: Holes, params: PunchParams, size: int) -> int:
    """Return the bytes that ranks send each other to fill holes."""
    return filled_bytes(holes, params, size, SINGLE)
