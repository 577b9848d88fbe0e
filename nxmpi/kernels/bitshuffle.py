"""Chunks that bitshuffle and LZ4 made: bytes in, pixels out.

The formats are those of the HDF5 filters 32008 (bitshuffle) and 32004 (LZ4), less their
headers; integers in them are big-endian. LZ4 itself is a compiled function, called through
its address. Every length that a chunk states is checked here, so that no damage leads
outside of the arrays; what follows the last block is ignored, as the filters do.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from nxmpi._typing import Frames

Bytes = NDArray[np.uint8]
W = np.uint64


def _call_lz4(
    _typing: Any, function: Any, source: Any, target: Any, n_source: Any, n_target: Any
) -> Any:
    """Call ``int LZ4_decompress_safe(const char *, char *, int, int)``, found at an address."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        form = ir.FunctionType(number, [pointer, pointer, number, number]).as_pointer()
        called = builder.inttoptr(args[0], form)
        places = [builder.inttoptr(arg, pointer) for arg in args[1:3]]
        return builder.call(called, [*places, *args[3:]])

    word, number = types.uintp, types.int32
    return number(word, word, word, number, number), codegen


call_lz4: Any = intrinsic(_call_lz4)


@njit(cache=True, nogil=True)
def decompress(lz4: int, chunk: Bytes, start: int, stored: int, out: Bytes) -> bool:
    """Fill ``out`` from the LZ4 block in ``stored`` bytes of a chunk; return whether it fits."""
    source, target = W(chunk.ctypes.data) + W(start), W(out.ctypes.data)
    written = call_lz4(W(lz4), source, target, np.int32(stored), np.int32(out.size))
    return bool(np.int64(written) == out.size)


@njit(cache=True, nogil=True)
def stored_bytes(chunk: Bytes, at: int) -> int:
    """Return the length that stands before a block, -1 if the chunk ends before the block."""
    if chunk.size - at < 4:
        return -1
    high = np.int64(chunk[at]) << 24 | np.int64(chunk[at + 1]) << 16
    stored = high | np.int64(chunk[at + 2]) << 8 | np.int64(chunk[at + 3])
    return int(stored) if stored <= chunk.size - at - 4 else -1


@njit(cache=True, nogil=True)
def transpose_bits(planes: Bytes, room: Bytes, out: Frames) -> None:
    """Write the elements of one block.

    Parameters
    ----------
    planes : (itemsize * n,) uint8
        Bit 0 of all elements, 8 of them a byte, then bit 1, and so on.
    room : (n,) uint8
        n is a multiple of 8.
    out : (n,) unsigned integer
    """
    n, rows = out.size, out.size // 8
    words = room.view(np.uint64)
    out[:] = 0
    for byte in range(out.itemsize):
        mine = planes[byte * n : (byte + 1) * n]
        some = np.uint8(0)
        for i in range(n):
            some |= mine[i]
        if some == 0:  # counts are low: most of their bytes are 0
            continue
        p0, p1, p2, p3 = mine[:rows], mine[rows:], mine[2 * rows :], mine[3 * rows :]
        p4, p5, p6, p7 = mine[4 * rows :], mine[5 * rows :], mine[6 * rows :], mine[7 * rows :]
        for j in range(rows):
            x = W(p0[j]) | W(p1[j]) << W(8) | W(p2[j]) << W(16) | W(p3[j]) << W(24)
            x |= W(p4[j]) << W(32) | W(p5[j]) << W(40) | W(p6[j]) << W(48) | W(p7[j]) << W(56)
            # 8 x 8 bits are transposed: single bits, then squares of 2 x 2 and of 4 x 4
            t = (x ^ x >> W(7)) & W(0x00AA00AA00AA00AA)
            x ^= t ^ t << W(7)
            t = (x ^ x >> W(14)) & W(0x0000CCCC0000CCCC)
            x ^= t ^ t << W(14)
            t = (x ^ x >> W(28)) & W(0x00000000F0F0F0F0)
            words[j] = x ^ t ^ t << W(28)
        shift = out.dtype.type(8 * byte)
        for i in range(n):
            out[i] |= out.dtype.type(room[i]) << shift


@njit(cache=True, nogil=True)
def unshuffle(chunk: Bytes, block: int, lz4: int, planes: Bytes, room: Bytes, out: Frames) -> int:
    """Undo bitshuffle, and LZ4 where it was applied.

    Parameters
    ----------
    chunk : (n_bytes,) uint8
        Its blocks.
    block : int
        Elements of a block, a multiple of 8; only the last one is shorter.
    lz4 : int
        Address of the function, or 0 for blocks that are not compressed.
    planes, room : (block * itemsize,), (block,) uint8
    out : (n_pixels,) unsigned integer

    Returns
    -------
    int
        Pixels written; not all of them if the chunk is damaged.
    """
    at, done = 0, 0
    while out.size - done >= 8:
        n = min(block, (out.size - done) // 8 * 8)
        size = n * out.itemsize
        mine = planes[:size]
        stored = stored_bytes(chunk, at) if lz4 else size
        at += 4 if lz4 else 0
        if stored < 0 or stored > chunk.size - at:
            return done
        if lz4:
            if not decompress(lz4, chunk, at, stored, mine):
                return done
        else:
            mine[:] = chunk[at : at + size]
        transpose_bits(mine, room[:n], out[done : done + n])
        at += stored
        done += n
    rest = out[done:].view(np.uint8)  # fewer than 8 are stored as they are
    if rest.size > chunk.size - at:
        return done
    rest[:] = chunk[at : at + rest.size]
    return out.size


@njit(cache=True, nogil=True)
def expand(chunk: Bytes, block: int, lz4: int, out: Bytes) -> int:
    """Undo LZ4; blocks that it would not shrink are stored as they are.

    Parameters
    ----------
    chunk : (n_bytes,) uint8
        Its blocks.
    block : int
        Bytes of a block; only the last one is shorter.
    lz4 : int
        Address of the function.
    out : (n_bytes,) uint8

    Returns
    -------
    int
        Bytes written; not all of them if the chunk is damaged.
    """
    at, done = 0, 0
    while done < out.size:
        mine = out[done : done + block]
        stored = stored_bytes(chunk, at)
        at += 4
        if stored < 0:
            return done
        if stored == mine.size:
            mine[:] = chunk[at : at + stored]
        elif not decompress(lz4, chunk, at, stored, mine):
            return done
        at += stored
        done += mine.size
    return done
