"""The pass over the frames on any number of ranks: the same sums, peaks and mask."""

import signal
from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert
from scipy.special import ndtr

from nxmpi.errors import CollectiveError, InputError, StoppedError
from nxmpi.parallel.decompose import block_range
from nxmpi.parallel.saved import Saved
from nxmpi.parallel.timing import Timer
from nxmpi.params import FramesParams
from nxmpi.stages.frames import frames_pass
from nxmpi.stages.own_frames import FrameTables
from nxmpi.stages.profiles import FITTED

RANKS = [1, 2, 3, 4, 7]
SHAPE = (83, 91)


class Frames:
    """Frames in memory; some can be unreadable."""

    def __init__(self, data, chunk_frames=1, unreadable=(), fails=False, stop=(), signal_at=()):
        self.data, self.dtype, self.chunk_frames, self.masked = (
            data,
            data.dtype,
            chunk_frames,
            False,
        )
        self.unreadable, self.fails, self.stop = unreadable, fails, stop
        self.asked, self.signal_at = [], signal_at

    def read(self, frames):
        if self.fails or np.isin(frames, self.stop).any():
            raise InputError("the frames are gone")
        if np.isin(frames, self.signal_at).any():
            signal.raise_signal(signal.SIGTERM)
        self.asked.extend(frames.tolist())
        bad = np.array([n for n in frames if n in self.unreadable], np.int64)
        good = frames[~np.isin(frames, bad)]
        return self.data[good].reshape(len(good), -1), np.empty((0, 0), np.int8), bad


def share(n, centre, sigma):
    edges = (np.arange(n + 1) - 0.5 - centre) / sigma
    return np.diff(ndtr(edges))


def counts(n_frames, dtype=np.int32, level=0.5, seed=3):
    """Return frames of a few peaks of all widths, one of them in every tenth frame."""
    rng = np.random.default_rng(seed)
    expected = np.full((n_frames, *SHAPE), float(level))
    for z in np.arange(2.0, n_frames, 10):
        sigma = np.exp(rng.uniform(np.log([0.5, 0.7, 0.7]), np.log([9.0, 3.0, 3.0])))
        y, x = rng.uniform(5, 78), rng.uniform(5, 86)
        parts = (share(n_frames, z, sigma[0]), share(SHAPE[0], y, sigma[1]),
                 share(SHAPE[1], x, sigma[2]))  # fmt: skip
        expected += 4000 * np.einsum("i,j,k", *parts)
    expected[n_frames // 2 :, 20:60, 30:75] += 6.0  # a patch for the mask
    return rng.poisson(expected).astype(dtype)


def tables(n_frames, first_frame=0):
    bad = np.zeros(SHAPE, np.uint8)
    bad[40:43], bad[:, 50:52], bad[3, 3] = 1, 1, 1
    rows, columns = np.arange(SHAPE[0]) // 11, np.arange(SHAPE[1]) // 11
    blocks = np.where(bad == 1, -1, rows[:, None] * 9 + columns).astype(np.int32)
    return FrameTables(
        first_frame=first_frame, n_frames=n_frames, bad=bad, blocks=blocks,
        n_blocks=int(blocks.max()) + 1,
    )  # fmt: skip


def run(comm, frames, given, saved=None, **params):
    """Return what all ranks found, on every rank."""
    choices = FramesParams(mask_h2=15, **params)
    result = frames_pass(comm, given, frames, choices, Timer(), saved)
    everyone = comm.allgather(result)
    peaks = np.concatenate([np.array(each.peaks, FITTED) for each in everyone])
    return {
        "peaks": np.sort(peaks, order=FITTED.names),
        "total": sum(each.total for each in everyone),
        "largest": np.max([each.largest for each in everyone], axis=0),
        **{
            name: np.concatenate([getattr(each, name) for each in everyone])
            for name in ("frame_sums", "block_sums", "strong_sums", "strong_pixels")
        },
        "masks": {i: masks for each in everyone for i, masks in each.masks.items()},
        "bad_frames": sorted(n for each in everyone for n in each.bad_frames),
    }


def same(one, other):
    return all(
        one[name].tobytes() == other[name].tobytes()
        if isinstance(one[name], np.ndarray)
        else one[name] == other[name]
        for name in one
    )


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("n_frames", [311, 95, 40, 8, 1])
def test_any_number_of_ranks_finds_the_same(comm, n_frames):
    data, given = counts(n_frames), tables(n_frames)
    alone = run(MPI.COMM_SELF, Frames(data), given)
    parallel_assert(same(run(comm, Frames(data), given), alone))
    good = given.bad == 0
    parallel_assert(np.array_equal(alone["total"], np.where(good, data.sum(axis=0), 0)))
    parallel_assert(np.array_equal(alone["largest"], np.where(good, data.max(axis=0), 0)))
    parallel_assert(np.array_equal(alone["frame_sums"], data[:, good].sum(axis=1)))
    parallel_assert(n_frames < 95 or alone["peaks"].size > n_frames // 20)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize(("batch", "chunk"), [(7, 1), (18, 5), (1, 1)])
def test_batches_and_chunks_do_not_matter(comm, batch, chunk):
    data, given = counts(61), tables(61)
    alone = run(MPI.COMM_SELF, Frames(data), given)
    other = run(comm, Frames(data, chunk), given, batch_frames=batch)
    parallel_assert(same(other, alone))


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int64"])
def test_counts_of_any_size_are_exact(comm, dtype):
    data, given = counts(40, dtype), tables(40)
    data[5, 30:40, 30:40] = 300  # beyond a byte, in few pixels
    data[9:14] += 400  # and in all of them
    if dtype != "uint16":
        data[20, 10, 10] = 2_000_000
        data[30:33] += 100_000
    alone = run(MPI.COMM_SELF, Frames(data), given)
    parallel_assert(same(run(comm, Frames(data), given), alone))
    good = given.bad == 0
    wide = data.astype(np.int64)
    parallel_assert(np.array_equal(alone["total"], np.where(good, wide.sum(axis=0), 0)))
    parallel_assert(np.array_equal(alone["largest"], np.where(good, wide.max(axis=0), 0)))
    parallel_assert(np.array_equal(alone["frame_sums"], wide[:, good].sum(axis=1)))


@pytest.mark.parallel(RANKS)
def test_frames_that_cannot_be_read_are_left_out(comm):
    data, given = counts(52), tables(40, first_frame=6)
    alone = run(MPI.COMM_SELF, Frames(data, unreadable=(6, 24, 25)), given)
    parallel_assert(same(run(comm, Frames(data, unreadable=(6, 24, 25)), given), alone))
    parallel_assert(alone["bad_frames"] == [6, 24, 25])
    parallel_assert(not alone["frame_sums"][[0, 18, 19]].any() and alone["frame_sums"][1] > 0)


@pytest.mark.parallel([2, 3, 4, 7])
def test_failure_on_one_rank_is_raised_on_all(comm):
    frames = Frames(counts(150), fails=comm.rank == comm.size - 1)
    with pytest.raises(CollectiveError, match=rf"the frames are gone \[rank {comm.size - 1}\]"):
        frames_pass(comm, tables(150), frames, FramesParams(), Timer())


# --- stopped on the way


def killed_and_continued(comm, folder, data, given, stop, batch=7):
    """Return what is found in two runs, the first of which ends before the frames ``stop``.

    With how far this rank was when it was last saved, and the frames asked for in each.
    """
    saved = Saved(path=folder / f"{comm.rank}-of-{comm.size}", key="this")
    options = {"saved": saved, "batch_frames": batch, "checkpoint": 1e-9}
    first = Frames(data, unreadable=(2, 45), stop=stop)
    with pytest.raises(CollectiveError):
        run(comm, first, given, **options)
    arrays = replace(saved, number=0).load()
    again = Frames(data, unreadable=(2, 45))
    found = run(comm, again, given, **options | {"saved": replace(saved, number=0)})
    return found, 0 if arrays is None else int(arrays["seen"]), (first.asked, again.asked)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize(
    "last", [20, 93, *(pytest.param(n, marks=pytest.mark.full) for n in (5, 47, 130, 186))]
)
def test_going_on_finds_the_same(comm, shared_tmp_path, last):
    data, given = counts(200), tables(200)
    data[60:75] += 300  # other types of frames are held
    data[120, 20, 20:30] = 2_000_000
    alone = run(MPI.COMM_SELF, Frames(data, unreadable=(2, 45)), given)
    blocks = [last + 200 * rank // comm.size for rank in range(comm.size)]
    stop = [n for n in (*blocks, last) if n < 200]
    found, _, _ = killed_and_continued(comm, shared_tmp_path, data, given, stop)
    parallel_assert(same(found, alone))


@pytest.mark.parallel(RANKS)
def test_at_most_a_batch_is_repeated(comm, shared_tmp_path):
    n, batch = 23, 7
    data, given = counts(18 * n), tables(18 * n)
    starts = [18 * block_range(n, comm.size, rank)[0] for rank in range(comm.size)]
    stop = [start + 18 * (n // comm.size) - 10 for start in starts]  # in each rank's frames
    _, seen, asked = killed_and_continued(comm, shared_tmp_path, data, given, stop, batch)
    parallel_assert(0 <= max(asked[0]) + 1 - seen <= batch)
    parallel_assert(len(set(asked[1])) == len(asked[1]))  # none is read twice to go on


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("place", [0, -1])
def test_wish_of_one_rank_makes_all_save_and_stop(comm, shared_tmp_path, place, heeding):
    n = 18 * 23
    data, given = counts(n), tables(n)
    alone = run(MPI.COMM_SELF, Frames(data), given)
    starts = [18 * block_range(23, comm.size, rank)[0] for rank in range(comm.size)]
    saved = Saved(path=shared_tmp_path / str(comm.rank), key="this")
    options = {"batch_frames": 7, "checkpoint": 1e9}  # none but when it stops
    frames = Frames(data, signal_at=(starts[place] + 10,))
    with pytest.raises(StoppedError, match="stopped by SIGTERM"):
        run(comm, frames, given, saved, **options)
    heeding()
    seen = int(replace(saved, number=0).load()["seen"])
    # all that was worked on is saved: all that was read but, at most, one batch ahead
    parallel_assert(starts[comm.rank] < seen <= max(frames.asked) + 1 <= seen + 7)
    again = Frames(data)
    found = run(comm, again, given, replace(saved, number=0), **options)
    parallel_assert(same(found, alone))
    parallel_assert(len(set(again.asked)) == len(again.asked))


@pytest.mark.parallel(1)
def test_of_two_files_the_whole_one_is_used(shared_tmp_path):
    saved = Saved(path=shared_tmp_path / "0", key="this")
    for n in range(1, 4):
        assert saved.save({"n": np.full(1000 * (4 - n), n)})
    assert Saved(path=saved.path, key="this").load()["n"].tolist() == [3] * 1000
    file = saved.files[3 % 2]
    content = file.read_bytes()
    # of the zip headers some bytes tell nothing; the last place is in the values of the array
    for place in (0, 10, content.rindex(b"descr"), len(content) - 60, len(content) // 2):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        again = Saved(path=saved.path, key="this")
        found = again.load()["n"].tolist()
        assert found in ([3] * 1000, [2] * 2000)
    assert found == [2] * 2000
    assert again.save({"n": np.full(5, 4)})
    assert Saved(path=saved.path, key="this").load()["n"].tolist() == [4] * 5
    assert Saved(path=saved.path, key="other").load() is None


@pytest.mark.parallel([1, 3])
def test_what_was_saved_for_something_else_is_not_used(comm, shared_tmp_path):
    data, given = counts(95), tables(95)
    path = shared_tmp_path / str(comm.rank)
    options = {"batch_frames": 7, "checkpoint": 1e-9}
    run(comm, Frames(data), given, Saved(path=path, key="other"), **options)
    again = Frames(data[::-1].copy())
    found = run(comm, again, given, Saved(path=path, key="this"), **options)
    alone = run(MPI.COMM_SELF, Frames(data[::-1].copy()), given)
    parallel_assert(same(found, alone))


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("damage", ["cut", "empty", "not a zip file", "in the way"])
def test_checkpoints_that_cannot_be_used_are_a_warning(comm, shared_tmp_path, damage, caplog):
    data, given = counts(95), tables(95)
    saved = Saved(path=shared_tmp_path / "part" / str(comm.rank), key="this")
    options = {"batch_frames": 7, "checkpoint": 1e-9}
    if damage == "in the way":
        if comm.rank == 0:
            saved.path.parent.write_text("no folder")
        comm.barrier()
    else:
        run(comm, Frames(data), given, saved, **options)
        for file in saved.files:
            content = file.read_bytes()
            damaged = {"cut": content[: len(content) // 2], "empty": b""}
            file.write_bytes(damaged.get(damage, b"damaged"))
    found = run(comm, Frames(data), given, replace(saved, number=0), **options)
    parallel_assert(same(found, run(MPI.COMM_SELF, Frames(data), given)))
    parallel_assert(any(str(saved.path) in record.message for record in caplog.records))
