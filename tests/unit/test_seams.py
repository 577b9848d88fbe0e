"""Boxes that ranks send each other, one part in bytes and the next in integers."""

import numpy as np
import pytest

from nxmpi.kernels.boxes import BLOCK
from nxmpi.stages.held import counts_of_box, cut
from nxmpi.stages.seams import _packed, _unpack

SHAPE = (7, 15, 29)
BOX = tuple(slice(start, start + n) for start, n in zip((20, 3, 5), SHAPE, strict=True))
LARGE = 2**31 - 1


@pytest.mark.parametrize("large", [[], [0], [2], [1], [0, 2], [0, 1, 2]])
def test_parts_of_any_type_make_up_the_box(large):
    rng = np.random.default_rng(2)
    counts = rng.poisson(3.0, SHAPE).astype(np.int32)
    counts[rng.random(SHAPE) < 0.05] = -1
    counts[:, 2, 3] = 254
    parts = np.split(counts, [2, 5])
    for i in large:
        parts[i][1, 4, 6], parts[i][0, 9, 20] = LARGE, 255
    room, at = np.zeros(counts.size + BLOCK, np.uint8), 0
    for part in parts:
        packed = np.frombuffer(_packed(part), np.uint8)
        room, used = _unpack(packed, part.size, room, at)
        assert used == packed.size
        at += part.size
    assert room.dtype == (np.int32 if large else np.uint8)
    assert np.array_equal(cut(counts_of_box(BOX, room), BOX), counts)
