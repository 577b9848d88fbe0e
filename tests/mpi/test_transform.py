"""The transform on any number of ranks: exact sums, whatever the way to them."""

import signal
from dataclasses import replace

import numpy as np
import pytest
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.crystal.factors import PixelFactors, pixel_factors
from nxmpi.crystal.reciprocal import pixel_to_hkl
from nxmpi.errors import CollectiveError, InputError, StoppedError
from nxmpi.kernels.packing import HEADER
from nxmpi.model import HKLGrid, Position
from nxmpi.parallel.timing import Timer
from nxmpi.parallel.window import alone as own_frames
from nxmpi.params import TransformParams
from nxmpi.simulate.experiment import geometry
from nxmpi.simulate.presets import preset
from nxmpi.stages import transform as stage
from nxmpi.stages.bricks import fill_pillar, owners, pillars_held
from nxmpi.stages.tables import bcast_tables, build_tables

RANKS = [1, 2, 3, 4, 7]
GRID = HKLGrid(origin=(-2.0, -3.0, -3.0), step=(0.06, 0.08, 0.07), shape=(67, 75, 86))
EVERYTHING = HKLGrid(origin=(-12.0, -12.0, -12.0), step=(0.3, 0.3, 0.3), shape=(81, 81, 81))
DTYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


class Frames:
    """Frames in memory; can fail like files."""

    def __init__(self, data, excluded=None, unreadable=(), skip=False, signal_at=()):
        self.data, self.excluded, self.signal_at = data, excluded, signal_at
        self.dtype, self.chunk_frames, self.masked = data.dtype, 1, excluded is not None
        self.unreadable, self.skip = unreadable, skip

    def read(self, frames):
        if np.isin(frames, self.signal_at).any():
            signal.raise_signal(signal.SIGUSR1)
        bad = np.array([n for n in frames if n in self.unreadable], np.int64)
        if bad.size and not self.skip:
            raise InputError(f"frame {bad[0]} is unreadable")
        good = frames[~np.isin(frames, bad)]
        nothing = np.empty((0, 0), np.int8)
        excluded = nothing if self.excluded is None else self.excluded[good]
        return self.data[good], excluded, bad


class NoStore:
    """Keeps no checkpoints."""

    def load(self, comm):
        return None, iter(())

    def save(self, comm, state, pieces):
        raise AssertionError("a checkpoint is not due")


class KeptStore:
    """Keeps what each rank saved, in memory."""

    def __init__(self):
        self.saved = None

    def load(self, comm):
        if self.saved is None:
            return None, iter(())
        state, pieces = self.saved
        return state, iter(pieces)

    def save(self, comm, state, pieces):
        self.saved = state, [(number, words.copy()) for number, words in pieces]


def position_of(n_frames, moving=True):
    """Return the first position of the tiny preset with factors that differ by frame."""
    setting = preset("tiny").positions[0]
    setting = replace(
        setting, n_frames=n_frames, sample_offset=(0.02, -0.03, 0.05) if moving else (0.0, 0.0, 0.0)
    )
    place = geometry(replace(preset("tiny"), positions=(setting,)), 0)
    rng = np.random.default_rng(5)
    bad = rng.random(place.detector.shape) < 0.03
    bad[23:25] = True
    return Position(
        name="f1", geometry=place, sample=None, n_frames=n_frames, first_frame=0,
        last_frame=n_frames - 1, bad=bad, weight=0.5 + rng.random(n_frames),
    )  # fmt: skip


def factor_of(position):
    chosen = PixelFactors(polarization=0.99, solid_angle_unit=1e-4)
    return np.prod(list(pixel_factors(position.geometry.detector, chosen).values()), axis=0)


def tables_of(position, grid, blocked=0.0, **params):
    return build_tables(position, factor_of(position), grid, TransformParams(**params), blocked)


def random_frames(n_frames, dtype="int32"):
    """Return (n_frames, n_pixels) counts with negative values and sentinels among them."""
    rng = np.random.default_rng(n_frames)
    shape = (n_frames, 48 * 64)
    data = rng.poisson(3.0, shape).astype(dtype)
    data[rng.random(shape) < 0.1] = np.iinfo(dtype).max if dtype.startswith("u") else -1
    return data


def excluded_of(data):
    return (np.random.default_rng(2).random(data.shape) < 0.3).astype(np.int8)


def run(
    comm, position, reader, grid=GRID, store=None, scratch=None, node_of=own_frames, blocked=0.0,
    **params,
):  # fmt: skip
    """Transform; ranks have frames of their own, see test_wedges.py."""
    tables = None
    if comm.rank == 0:
        tables = tables_of(position, grid, blocked, **params)
    tables = bcast_tables(comm, tables)
    workspace = stage.Workspace(
        store=store or NoStore(), timer=Timer(), scratch=scratch, node_of=node_of
    )
    return stage.transform(comm, tables, reader, TransformParams(**params), workspace)


def dense(parts, unit, grid=GRID):
    """Return counts and norm that this rank holds, zero elsewhere."""
    counts, norm = np.zeros(grid.array_shape), np.zeros(grid.array_shape)
    for pillar in pillars_held(parts):
        c, n = fill_pillar(parts, pillar, unit)
        where = np.s_[pillar.l : pillar.l + 32, pillar.k : pillar.k + 32,
                      pillar.h_start : pillar.h_stop]  # fmt: skip
        counts[where], norm[where] = c, n
    return counts, norm


def together(comm, parts, unit, grid=GRID):
    """Return counts and norm of all ranks, after checking that no two own the same voxel."""
    mine = dense(parts, unit, grid)
    held = np.zeros(grid.array_shape, np.int32)
    for pillar in pillars_held(parts):
        held[pillar.l : pillar.l + 32, pillar.k : pillar.k + 32,
             pillar.h_start : pillar.h_stop] += 1  # fmt: skip
    parallel_assert(comm.allreduce(held).max() <= 1)
    return tuple(comm.allreduce(part) for part in mine)  # one summand of each voxel is not zero


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def twin(position, data, grid=GRID, excluded=None, wanted=0, blocked=0.0, part=(0.0, 0.0, 0.5)):
    """Return counts, norm and hits by plain NumPy, one frame after another.

    ``part`` is where in a pixel, from its centre, and in a frame's rotation, from its start.
    """
    counts, norm = np.zeros(grid.array_shape), np.zeros(grid.array_shape)
    hits = np.zeros(grid.array_shape, int)
    factor = factor_of(position).ravel()
    y, x = (axis.ravel() + 0.5 for axis in np.indices(position.geometry.detector.shape))
    sentinel = np.iinfo(data.dtype).max if data.dtype.kind == "u" else -1
    goniometer, axes = position.geometry.goniometer, np.linalg.inv(np.array(grid.axes))
    for frame in range(position.n_frames):
        phi = np.full(x.size, goniometer.phi[frame] + part[2] * goniometer.step)
        hkl = pixel_to_hkl(position.geometry, x + part[0], y + part[1], phi)
        voxel = np.floor((hkl @ axes - grid.origin) / grid.step + 0.5).astype(int)
        use = ((voxel >= 0) & (voxel < grid.shape)).all(axis=1) & ~position.bad.ravel()
        use &= (data[frame] != sentinel) & (data[frame] >= 0)
        if excluded is not None:
            use &= (excluded[frame] != 0) == wanted
        where = tuple(voxel[use][:, ::-1].T)
        np.add.at(counts, where, data[frame][use].astype(float))
        live = 1 - blocked * data[frame][use].astype(float)
        np.add.at(norm, where, factor[use] * position.weight[frame] * live)
        np.add.at(hits, where, 1)
    return counts, norm, hits


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_frames", [11, 4, 1])
def test_volumes_equal_those_of_one_rank_to_the_bit(comm, n_frames, masked):
    position, data = position_of(n_frames), random_frames(n_frames)
    reader = Frames(data, excluded_of(data) if masked else None)
    alone = run(MPI.COMM_SELF, position, reader)
    result = run(comm, position, reader)
    for name in ("kept", "excluded"):
        wanted = dense((getattr(alone, name),), alone.unit)
        found = together(comm, (getattr(result, name),), result.unit)
        parallel_assert(same(found, wanted), msg=name)
        parallel_assert((wanted[0].sum() > 0) == (name == "kept" or masked))


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize(
    "params",
    [{"batch_frames": 1}, {"batch_frames": 3}, {"batch_frames": 1000},
     {"memory": 1, "batch_frames": 1}, {"memory": 300_000, "batch_frames": 2}],
    ids=str,
)  # fmt: skip
def test_batches_and_memory_do_not_change_the_volume(comm, params):
    position, data = position_of(11), random_frames(11)
    reader = Frames(data, excluded_of(data))
    alone = run(MPI.COMM_SELF, position, reader)
    result = run(comm, position, reader, **params)
    parts = (result.kept, result.excluded)
    wanted = dense((alone.kept, alone.excluded), alone.unit)
    parallel_assert(same(together(comm, parts, result.unit), wanted))
    sent = comm.allreduce(result.kept.sent.bytes)
    parallel_assert((sent > 0) == (comm.size > 1))


@pytest.mark.parallel([2, 3])
def test_little_memory_makes_more_rounds(comm, monkeypatch):
    rounds = []
    send = stage.send_to_owners
    monkeypatch.setattr(stage, "send_to_owners", lambda *args: (rounds.append(args), send(*args)))
    counts = []
    for memory in (0, 1):
        rounds.clear()
        reader = Frames(random_frames(11))
        run(comm, position_of(11), reader, memory=memory, batch_frames=1)
        counts.append(len(rounds))
    parallel_assert(counts[1] > counts[0] + 2, msg=f"{counts}")
    parallel_assert(len(set(comm.allgather(tuple(counts)))) == 1)


@pytest.mark.parallel([2, 3])
def test_limit_of_foreign_bricks_makes_more_rounds_of_the_same_sums(comm, monkeypatch):
    position, data = position_of(11), random_frames(11)
    reader = Frames(data, excluded_of(data))
    rounds, send = [], stage.send_to_owners
    monkeypatch.setattr(stage, "send_to_owners", lambda *args: (rounds.append(args), send(*args)))
    counts, found = [], []
    for limit in (stage.LARGEST_WEDGE, 0):
        monkeypatch.setattr(stage, "LARGEST_WEDGE", limit)
        rounds.clear()
        result = run(comm, position, reader, batch_frames=1)
        counts.append(len(rounds))
        found.append(together(comm, (result.kept, result.excluded), result.unit))
    parallel_assert(same(*found))
    parallel_assert(counts[1] > counts[0] + 2, msg=f"{counts}")
    parallel_assert(len(set(comm.allgather(tuple(counts)))) == 1)


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("voxels", [1, 3000, 20_000])
def test_room_for_a_box_changes_nothing(comm, monkeypatch, moving, voxels):
    position, data = position_of(11, moving), random_frames(11)
    reader = Frames(data, excluded_of(data))
    alone = run(MPI.COMM_SELF, position, reader)
    monkeypatch.setattr(stage, "LARGEST_BOX", voxels)
    result = run(comm, position, reader)
    for name in ("kept", "excluded"):
        wanted = dense((getattr(alone, name),), alone.unit)
        parallel_assert(same(together(comm, (getattr(result, name),), result.unit), wanted))


@pytest.mark.parallel([1, 3])
def test_scratch_file_holds_the_same_volume_and_leaves_nothing(comm, shared_tmp_path):
    position, reader = position_of(11), Frames(random_frames(11))
    alone = run(MPI.COMM_SELF, position, reader)
    result = run(comm, position, reader, scratch=shared_tmp_path)
    found = together(comm, (result.kept,), result.unit)
    parallel_assert(same(found, dense((alone.kept,), alone.unit)))
    parallel_assert(list(shared_tmp_path.iterdir()) == [])


@pytest.mark.parallel([1, 3])
def test_kept_and_excluded_are_all(comm):
    position, data = position_of(11), random_frames(11)
    masked = run(comm, position, Frames(data, excluded_of(data)))
    unmasked = run(comm, position, Frames(data))
    found = together(comm, (masked.kept, masked.excluded), masked.unit)
    parallel_assert(same(found, together(comm, (unmasked.kept,), unmasked.unit)))


@pytest.mark.parallel([1, 4])
def test_counts_in_are_counts_on_a_grid_that_covers_everything(comm):
    position, data = position_of(11), random_frames(11)
    result = run(comm, position, Frames(data), EVERYTHING)
    counts, norm = together(comm, (result.kept,), result.unit, EVERYTHING)
    good = ~position.bad.ravel() & (data >= 0)
    parallel_assert(counts.sum() == data[good].sum())
    factor = factor_of(position).ravel()
    wanted = (good * factor * position.weight[:, None]).sum()
    parallel_assert(abs(norm.sum() - wanted) <= 1e-9 * wanted)


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_largest_counts_of_each_type_are_summed(comm, dtype):
    """Voxels get more counts than there is room for behind the norm."""
    position, data = position_of(11), random_frames(11, dtype)
    valid = (data < 100) & (data >= 0)
    part = 0.5 if data.itemsize == np.int32(0).itemsize else 0.001  # sums below 2^53 are exact
    large = valid & (np.random.default_rng(4).random(data.shape) < part)
    data[large] = min(np.iinfo(dtype).max, 2**44) - 1 - data[large]
    result = run(comm, position, Frames(data), EVERYTHING)
    counts, _ = together(comm, (result.kept,), result.unit, EVERYTHING)
    good = ~position.bad.ravel() & valid
    parallel_assert(int(counts.sum()) == int(data[good].astype(np.int64).sum()))


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("batch_frames", [1, 3, 1000])
@pytest.mark.parametrize("times", [1, 500_000], ids=["norm", "counts"])
def test_sums_that_one_integer_does_not_hold(comm, times, batch_frames):
    """Voxels get more than 2^23 counts, or more than 512 pixels, in one batch or in many."""
    coarse = HKLGrid(origin=(-12.0, -12.0, -12.0), step=(8.0, 6.0, 6.0), shape=(4, 5, 5))
    grid = GRID if times > 1 else coarse
    position, data = position_of(11), random_frames(11)
    data[data > 0] *= times
    excluded = excluded_of(data)
    store = KeptStore()
    params = {"batch_frames": batch_frames, "checkpoint": 1e-9, "memory": 1}
    result = run(comm, position, Frames(data, excluded), grid, store=store, **params)
    again = run(comm, position, Frames(data, excluded), grid, store=store, **params)
    wide = [part.sums.wide for part in (result.kept, result.excluded)]
    parallel_assert(comm.allreduce(int(wide[0].used[0])) > 0)
    for wanted, name in enumerate(("kept", "excluded")):
        counts, norm, hits = twin(position, data, grid, excluded, wanted)
        found = together(comm, (getattr(result, name),), result.unit, grid)
        parallel_assert(np.array_equal(found[0], counts))
        parallel_assert((np.abs(found[1] - norm) <= hits * result.unit * 0.501 + 1e-12).all())
        restarted = together(comm, (getattr(again, name),), again.unit, grid)
        parallel_assert(same(restarted, found))


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize("moving", [False, True])
def test_volume_is_that_of_plain_numpy(comm, moving):
    position, data = position_of(4, moving), random_frames(4)
    excluded = excluded_of(data)
    result = run(comm, position, Frames(data, excluded))
    for wanted, name in enumerate(("kept", "excluded")):
        counts, norm, hits = twin(position, data, excluded=excluded, wanted=wanted)
        found = together(comm, (getattr(result, name),), result.unit)
        parallel_assert(np.array_equal(found[0], counts))
        # each pixel's weight is rounded to the unit of the norm
        parallel_assert((np.abs(found[1] - norm) <= hits * result.unit * 0.501 + 1e-12).all())
        parallel_assert(np.array_equal(found[1] > 0, hits > 0))
        parallel_assert(hits.max() > 1)


@pytest.mark.parallel([1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sentinels_and_negative_pixels_are_left_out_in_all_types(comm, dtype):
    position, data = position_of(4), random_frames(4, dtype)
    data[0, :5] = 0
    counts, norm, hits = twin(position, data)
    result = run(comm, position, Frames(data))
    found = together(comm, (result.kept,), result.unit)
    parallel_assert(np.array_equal(found[0], counts))
    parallel_assert(np.array_equal(found[1] > 0, hits > 0))
    parallel_assert((np.abs(found[1] - norm) <= hits * result.unit * 0.501 + 1e-12).all())


@pytest.mark.parallel([1, 3])
@pytest.mark.parametrize(("dtype", "largest"), [("int8", 127), ("uint8", 254), ("int64", 2**40),
                                                ("uint32", 2**32 - 2)])  # fmt: skip
def test_largest_counts_are_kept(comm, dtype, largest):
    position, data = position_of(1), np.zeros((1, 48 * 64), dtype)
    data[:] = largest
    result = run(comm, position, Frames(data), EVERYTHING)
    counts, _ = together(comm, (result.kept,), result.unit, EVERYTHING)
    parallel_assert(counts.sum() == float((~position.bad).sum()) * largest)


@pytest.mark.parallel(RANKS)
def test_grid_that_no_pixel_reaches_is_empty(comm):
    far = HKLGrid(origin=(50.0, 50.0, 50.0), step=(0.1, 0.1, 0.1), shape=(20, 20, 20))
    result = run(comm, position_of(4), Frames(random_frames(4)), far)
    parallel_assert(pillars_held((result.kept, result.excluded)) == [])


@pytest.mark.parallel(RANKS)
def test_frames_without_weight_are_not_even_read(comm):
    position, data = position_of(11), random_frames(11)
    position.weight[[0, 5, 6, 10]] = 0.0
    reader = Frames(data, unreadable=(0, 5, 6, 10))
    result = run(comm, position, reader)
    used = np.setdiff1d(np.arange(11), [0, 5, 6, 10])
    counts, _, _ = twin(position, np.where(np.isin(np.arange(11), used)[:, None], data, -1))
    parallel_assert(np.array_equal(together(comm, (result.kept,), result.unit)[0], counts))


@pytest.mark.parallel(RANKS)
def test_failure_on_one_rank_is_raised_on_all(comm):
    reader = Frames(random_frames(11), unreadable=(10,))
    with pytest.raises(CollectiveError, match=r"^frame 10 is unreadable"):
        run(comm, position_of(11), reader, batch_frames=1, memory=1)
    assert comm.allreduce(1) == comm.size


@pytest.mark.parallel(RANKS)
def test_frames_that_cannot_be_read_are_known_to_all(comm):
    position, data = position_of(11), random_frames(11)
    reader = Frames(data, excluded_of(data), unreadable=(3, 10), skip=True)
    result = run(comm, position, reader, batch_frames=2)
    parallel_assert(result.bad_frames == [3, 10])
    readable = np.where(np.isin(np.arange(11), (3, 10))[:, None], -1, data)
    counts, _, _ = twin(position, readable)
    parts = (result.kept, result.excluded)
    parallel_assert(np.array_equal(together(comm, parts, result.unit)[0], counts))


@pytest.mark.parallel(RANKS)
def test_work_goes_on_from_a_checkpoint_to_the_same_bits(comm):
    position, data = position_of(11), random_frames(11)
    excluded, store = excluded_of(data), KeptStore()
    alone = run(MPI.COMM_SELF, position, Frames(data, excluded))
    options = {"store": store, "checkpoint": 1e-9, "batch_frames": 1}
    with pytest.raises(CollectiveError):  # after a round in which all ranks read a frame
        run(comm, position, Frames(data, excluded, unreadable=(1,)), **options)
    frames = store.saved[0]["frames"]
    parallel_assert(0 in frames and 1 not in frames)
    parallel_assert(len({str(each) for each in comm.allgather(frames)}) == 1)
    excluded[0], data[0] = 0, -1  # not read again
    result = run(comm, position, Frames(data, excluded), **options)
    for name in ("kept", "excluded"):
        wanted = dense((getattr(alone, name),), alone.unit)
        parallel_assert(same(together(comm, (getattr(result, name),), result.unit), wanted))


@pytest.mark.parallel(RANKS)
def test_wish_of_one_rank_stops_all_with_a_checkpoint_to_the_same_bits(comm, heeding):
    n = 40
    position, data = position_of(n), random_frames(n)
    excluded, store = excluded_of(data), KeptStore()
    alone = run(MPI.COMM_SELF, position, Frames(data, excluded))
    options = {"store": store, "batch_frames": 1}
    with pytest.raises(StoppedError, match="stopped by SIGUSR1"):  # 30: not the last of any rank
        run(comm, position, Frames(data, excluded, signal_at=(30,)), **options)
    heeding()
    frames = store.saved[0]["frames"]
    parallel_assert(30 in frames and len(frames) < n)
    parallel_assert(len({str(each) for each in comm.allgather(frames)}) == 1)
    excluded[frames], data[frames] = 0, -1  # not read again
    result = run(comm, position, Frames(data, excluded), **options)
    for name in ("kept", "excluded"):
        wanted = dense((getattr(alone, name),), alone.unit)
        parallel_assert(same(together(comm, (getattr(result, name),), result.unit), wanted))


@pytest.mark.parallel(RANKS)
def test_wish_that_comes_with_the_last_frames_stops_nothing(comm, heeding):
    position, data = position_of(7), random_frames(7)
    alone = run(MPI.COMM_SELF, position, Frames(data))
    heeding()
    result = run(comm, position, Frames(data, signal_at=range(7)))  # in one batch a rank
    wanted = dense((alone.kept,), alone.unit)
    parallel_assert(same(together(comm, (result.kept,), result.unit), wanted))


@pytest.mark.parallel([2, 3, 4, 7])
def test_only_touched_voxels_travel(comm):
    position, reader = position_of(11), Frames(random_frames(11))
    mine = np.array_split(np.arange(11), comm.size)[comm.rank]  # as frames are dealt out
    own = replace(position, weight=np.where(np.isin(np.arange(11), mine), position.weight, 0.0))
    result = run(comm, position, reader)
    parallel_assert(comm.allreduce(result.kept.sent.bytes) > 0)
    counts, norm, hits = twin(own, reader.data)
    bricks = hits > 0
    padded = np.zeros([-(-n // 16) * 16 for n in GRID.array_shape], bool)
    padded[: bricks.shape[0], : bricks.shape[1], : bricks.shape[2]] = (
        bricks & (norm > 0) & (counts >= 0)
    )
    n_l, n_k, n_h = (n // 16 for n in padded.shape)
    voxels = padded.reshape(n_l, 16, n_k, 16, n_h, 16).sum(axis=(1, 3, 5)).ravel()
    numbers = np.flatnonzero(voxels)
    foreign = numbers[owners(result.kept.sums.narrow, numbers, comm.size) != comm.rank]
    wanted = 8 * (HEADER * foreign.size + voxels[foreign].sum())
    parallel_assert(HEADER == 66)
    parallel_assert(result.kept.sent.bytes == wanted, msg=f"{result.kept.sent} {wanted}")
