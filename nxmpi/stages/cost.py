"""What the transform takes: memory of a rank and traffic between ranks, as formulas."""

from nxmpi.kernels.bricks import EDGE
from nxmpi.kernels.packing import HEADER
from nxmpi.parallel.arrays import PIECE
from nxmpi.stages.bricks import BRICK_BYTES, WIDTH
from nxmpi.stages.transform import LARGEST_BOX


def bytes_sent(n_bricks: int, n_integers: int) -> int:
    """Return the bytes that bricks take on their way to the ranks that own them.

    Parameters
    ----------
    n_bricks : int
        Bricks that a rank touched in its wedge and does not own: 528 bytes each.
    n_integers : int
        Of 8 bytes: one for each voxel touched in narrow bricks, two in wide ones.
    """
    return 8 * (HEADER * n_bricks + n_integers)


def memory(
    n_narrow: int, n_wide: int, array_shape: tuple[int, int, int], n_pixels: int, batch_bytes: int
) -> int:
    """Return the memory of a rank in the transform, beyond the interpreter's own [bytes].

    Parameters
    ----------
    n_narrow : int
        Bricks held at once, owned and not: at most those of the position divided by the ranks,
        plus those of a wedge. 32 KiB each.
    n_wide : int
        Bricks in which any voxel got more than its one integer holds, 2^23 counts or 512 times
        the largest norm of a pixel: 64 KiB more each.
    array_shape : tuple of int
        Of the grid: each of its bricks has 16 bytes in the tables of the volume and as many in
        those of the excluded pixels.
    n_pixels : int
        Good pixels, with 36 bytes each in the tables.
    batch_bytes : int
        Of a batch of frames, in 32 bits at least, and its mask, of which a rank holds one. Ranks
        that share a wedge hold one together, while each reads its part of the next; of 32-bit
        unsigned counts that one takes 64 bits.
    """
    n_l, n_k, n_h = (-(-n // EDGE) for n in array_shape)
    pillar = 4 * 8 * WIDTH * WIDTH * array_shape[2]
    return (
        (n_narrow + 2 * n_wide) * BRICK_BYTES
        + 32 * n_l * n_k * n_h
        + 36 * n_pixels
        + batch_bytes
        + 18 * LARGEST_BOX
        + max(3 * PIECE, pillar)
    )
