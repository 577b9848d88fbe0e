"""Parts of frames that are held in narrow types, against plain numpy."""

import numpy as np
import pytest

from nxmpi.kernels.boxes import BLOCK
from nxmpi.stages.held import WHOLE, HeldFrames, counts_of_box, cut

SHAPE = (37, 41)
FIRST, LAST = 4, 9
BOXES = [(slice(12, 20), slice(3, 18), slice(5, 34)), (slice(19, 20), slice(0, 37), slice(0, 41)),
         (slice(11, 20), slice(30, 31), slice(40, 41))]  # fmt: skip
STEPS = [WHOLE, (2, 1, 1), (1, 2, 2), (4, 2, 2)]


@pytest.fixture(scope="module", params=["int32", "uint16", "uint32", "int64"])
def counts_and_held(request):
    """Return counts, -1 where there is none, and frames that hold the last of them."""
    rng = np.random.default_rng(5)
    raw = rng.poisson(3.0, (20, *SHAPE)).astype(request.param)
    bad = (rng.random(SHAPE) < 0.05).astype(np.uint8)
    raw[12, 10, 10:14] = [254, 255, 256, 40_000]  # beyond a byte, in few pixels
    raw[14] += 500
    if raw.itemsize > 2:
        raw[12, 4, 6] = 2_000_000_000
        raw[12, 4, 7] = 2_000_000_000
        raw[16] += 100_000
        raw[16, 10, 10] = 300_000
    sentinel = np.iinfo(raw.dtype).max if raw.dtype.kind == "u" else -1
    raw[15, 5:7, 9] = sentinel
    held = HeldFrames(bad, 2, 20, FIRST, LAST)
    for i in range(2, 20):
        held.add(i, raw[i])
    counts = np.where((bad == 1) | (raw == sentinel), -1, raw.astype(np.int64))
    return counts, held


def summed(counts, steps):
    """Return sums of neighbouring voxels, -1 where any is masked."""
    shape = [n // step for n, step in zip(counts.shape, steps, strict=True)]
    whole = counts[tuple(slice(n * step) for n, step in zip(shape, steps, strict=True))]
    parts = whole.reshape(np.stack([shape, steps], axis=1).reshape(-1))
    sums = np.minimum(parts.sum(axis=(1, 3, 5)), 2**31 - 1)
    return np.where((parts < 0).any(axis=(1, 3, 5)), -1, sums)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("box", BOXES)
def test_boxes_of_held_frames_have_their_counts(counts_and_held, box, steps):
    counts, held = counts_and_held
    assert np.array_equal(cut(held.counts, box, steps), summed(counts[box], steps))


@pytest.mark.parametrize("steps", STEPS)
def test_parts_of_a_box_are_those_of_the_frames(counts_and_held, steps):
    _, held = counts_and_held
    whole = (slice(11, 20), slice(2, 36), slice(1, 39))
    voxels = np.pad(cut(held.counts, whole).reshape(-1), (0, BLOCK))
    counts = counts_of_box(whole, voxels)
    for box in (BOXES[0], whole):
        part = cut(counts, box, steps)
        assert np.array_equal(part, cut(held.counts, box, steps))


def test_bytes_of_a_box_are_as_good(counts_and_held):
    counts, held = counts_and_held
    whole = (slice(17, 20), slice(2, 36), slice(1, 39))
    room = np.pad(cut(held.counts, whole).reshape(-1), (0, BLOCK)).astype(np.uint8)
    assert counts[whole].max() < 255
    for box in ((slice(18, 20), slice(4, 30), slice(5, 9)), whole):
        part = cut(counts_of_box(whole, room), box, STEPS[-2])
        assert np.array_equal(part, summed(counts[box], STEPS[-2]))


def test_the_first_and_the_last_frames_are_held(counts_and_held):
    counts, held = counts_and_held
    assert sorted(held.frames) == held.numbers(20) == [2, 3, 4, 5, *range(11, 20)]
    rows, columns = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    for i in held.frames:
        here = (slice(i, i + 1), rows, columns)
        assert np.array_equal(cut(held.counts, here), np.minimum(counts[here], 2**31 - 1))
    assert held.numbers(8) == [2, 3, 4, 5, 6, 7]
    assert held.numbers(2) == []
