"""Ranks of a node that share a wedge of frames; on one machine, which they take for several."""

from dataclasses import replace
from itertools import chain, pairwise

import numpy as np
import pytest
from mpi.test_transform import (
    DTYPES,
    RANKS,
    Frames,
    dense,
    excluded_of,
    own_frames,
    position_of,
    random_frames,
    run,
    same,
    tables_of,
    together,
)
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.errors import CollectiveError
from nxmpi.model import HKLGrid
from nxmpi.parallel.checkpoint import Checkpoint
from nxmpi.stages import transform as stage
from nxmpi.stages import wedges
from nxmpi.stages.batches import part_of_batch
from nxmpi.stages.wedges import frames_of_node, tiles_of_rank

NODES = {
    "one": lambda rank: 0,
    "unequal": lambda rank: [0, 1, 1, 1, 2, 2, 3][rank],
    "in turn": lambda rank: rank % 2,
}
FINE = HKLGrid(origin=(-0.8, -0.8, -0.8), step=(0.008, 0.008, 0.008), shape=(201, 201, 201))


def split_by(node_of_rank):
    """Return what finds the ranks of a node, on nodes that there are not."""
    return lambda comm: comm.Split(node_of_rank(comm.rank), comm.rank)


@pytest.fixture(params=NODES)
def node_of(request):
    return split_by(NODES[request.param])


class Recorded(Frames):
    """Frames that remember which were read here."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.frames_read = []

    def read(self, frames):
        self.frames_read.extend(frames.tolist())
        return super().read(frames)


def equal_parts(comm, result, alone):
    """Assert that kept and excluded of all ranks are those of one, to the bit."""
    for name in ("kept", "excluded"):
        wanted = dense((getattr(alone, name),), alone.unit)
        found = together(comm, (getattr(result, name),), result.unit)
        parallel_assert(same(found, wanted), msg=name)


@pytest.mark.parametrize("firsts", [[0, 0, 0], [0, 1, 1, 1, 4, 4, 6], [0, 1, 0, 1], [0, 1, 2]])
@pytest.mark.parametrize("n_frames", [0, 1, 2, 11, 100])
def test_nodes_have_frames_one_after_another_by_their_numbers_of_ranks(firsts, n_frames):
    blocks = [frames_of_node(n_frames, firsts, first) for first in sorted(set(firsts))]
    assert blocks[0][0] == 0
    assert blocks[-1][1] == n_frames
    assert all(one[1] == other[0] for one, other in pairwise(blocks))
    for first, (start, stop) in zip(sorted(set(firsts)), blocks, strict=True):
        n_ranks = firsts.count(first)
        assert abs(stop - start - n_frames * n_ranks / len(firsts)) < n_ranks


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_tiles_are_dealt_out_by_their_pixels(size):
    tables = tables_of(position_of(3), FINE)
    n_tiles, n_pixels = tables.tiles.size - 1, tables.pixels.size
    parts = [tiles_of_rank(tables, size, rank) for rank in range(size)]
    assert sum(part.tiles.size - 1 for part in parts) == n_tiles == 3  # so that of 7 some have none
    assert parts[0].tiles[0] == 0
    assert parts[-1].tiles[-1] == n_pixels
    for one, other in pairwise(parts):
        assert one.tiles[-1] == other.tiles[0]
    largest = np.diff(tables.tiles).max()
    for part in parts:
        assert abs(part.tiles[-1] - part.tiles[0] - n_pixels / size) <= largest
        assert len(part.corners) == len(part.middles) == len(part.halves) == part.tiles.size - 1


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("size", [1, 3, 16])
def test_no_chunk_of_a_batch_is_read_by_two_ranks(chunk, size):
    batch = np.arange(6, 17)
    parts = [batch[part_of_batch(batch, chunk, size, rank)] for rank in range(size)]
    assert np.array_equal(np.concatenate(parts), batch)
    chunks = [set(part // chunk) for part in parts]
    assert sum(len(each) for each in chunks) == len(set(batch // chunk))
    assert max(map(len, chunks)) - min(map(len, chunks)) <= 1


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_frames", [11, 1])
def test_volumes_equal_those_of_one_rank_to_the_bit(comm, node_of, n_frames, masked):
    position, data = position_of(n_frames), random_frames(n_frames)
    reader = Frames(data, excluded_of(data) if masked else None)
    alone = run(MPI.COMM_SELF, position, reader)
    options = {"memory": 1, "batch_frames": 2} if masked else {}
    equal_parts(comm, run(comm, position, reader, node_of=node_of, **options), alone)
    parallel_assert(alone.kept.n_bytes > 0)
    parallel_assert((alone.excluded.n_bytes > 0) == masked)


@pytest.mark.parallel([4, 7])
def test_each_frame_is_read_once_on_its_node(comm, node_of):
    reader = Recorded(random_frames(11))
    run(comm, position_of(11), reader, node_of=node_of, batch_frames=2)
    node = node_of(comm)
    on_node, on_all = (sorted(chain(*c.allgather(reader.frames_read))) for c in (node, comm))
    parallel_assert(on_all == list(range(11)))
    parallel_assert(on_node == list(range(on_node[0], on_node[-1] + 1)))
    expected = 11 * node.size / comm.size
    parallel_assert(abs(len(on_node) - expected) < node.size)
    node.Free()


@pytest.mark.parallel(3)
@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_of_all_types_are_shared(comm, dtype):
    position, data = position_of(11), random_frames(11, dtype)
    data[:, ::7] = np.iinfo(dtype).max // 2 + 1  # beyond half of an unsigned type
    reader = Frames(data)
    alone = run(MPI.COMM_SELF, position, reader)
    node_of = split_by(NODES["unequal"])
    equal_parts(comm, run(comm, position, reader, node_of=node_of), alone)


@pytest.mark.parallel(RANKS)
def test_frames_that_cannot_be_read_are_left_out_and_known_to_all(comm, node_of):
    position, data = position_of(11), random_frames(11)
    reader = Frames(data, excluded_of(data), unreadable=(3, 10), skip=True)
    alone = run(MPI.COMM_SELF, position, reader)
    for batch_frames in (1, 4):
        result = run(comm, position, reader, node_of=node_of, batch_frames=batch_frames)
        parallel_assert(result.bad_frames == [3, 10])
        equal_parts(comm, result, alone)


@pytest.mark.parallel(RANKS)
def test_failure_to_read_is_raised_on_all_and_names_the_rank(comm, node_of):
    reader = Recorded(random_frames(11), unreadable=(10,))
    with pytest.raises(CollectiveError, match=r"^frame 10 is unreadable( \[rank \d\])?$") as error:
        run(comm, position_of(11), reader, node_of=node_of, batch_frames=1, memory=1)
    guilty = [rank for rank, read in enumerate(comm.allgather(reader.frames_read)) if 10 in read]
    parallel_assert(comm.size == 1 or f"[rank {guilty[0]}]" in str(error.value))


@pytest.mark.parallel([3, 7])
def test_failure_to_bin_is_raised_on_all(comm, node_of, monkeypatch):
    def fail(*args):
        raise MemoryError("no room for bricks")

    if comm.rank == 1:
        monkeypatch.setattr(stage, "bin_batch", fail)
    with pytest.raises(CollectiveError, match=r"no room for bricks \[rank 1\]$"):
        run(comm, position_of(11), Frames(random_frames(11)), node_of=node_of)


@pytest.mark.parallel(RANKS)
def test_work_goes_on_from_a_checkpoint_on_other_nodes_and_fewer_ranks(
    comm, node_of, shared_tmp_path
):
    position, data = position_of(11), random_frames(11)
    excluded = excluded_of(data)
    alone = run(MPI.COMM_SELF, position, Frames(data, excluded))
    options = {"node_of": node_of, "checkpoint": 1e-9, "batch_frames": 1}
    node = node_of(comm)
    firsts = comm.allgather(node.bcast(comm.rank))
    node.Free()
    last = frames_of_node(11, firsts, 0)[1] - 1  # not in the first batch of the root's node
    with pytest.raises(CollectiveError):
        run(comm, position, Frames(data, excluded, unreadable=(last,)),
            store=Checkpoint(shared_tmp_path, "key"), **options)  # fmt: skip
    state, _ = Checkpoint(shared_tmp_path, "key").load(comm)
    done = state["frames"]
    parallel_assert(0 in done and last not in done, msg=f"{done}")
    excluded[done], data[done] = 0, -1  # not read again
    fewer = comm.Split(comm.rank < max(comm.size - 1, 1), comm.rank)
    if comm.rank < max(comm.size - 1, 1):
        store = Checkpoint(shared_tmp_path, "key")
        result = run(fewer, position, Frames(data, excluded), store=store, **options)
        for name in ("kept", "excluded"):
            wanted = dense((getattr(alone, name),), alone.unit)
            mine = dense((getattr(result, name),), alone.unit)
            assert same([fewer.allreduce(part) for part in mine], wanted)
    parallel_assert(True)  # an assertion of the fewer is not waited for
    fewer.Free()


@pytest.mark.parallel([3, 7])
def test_ranks_with_many_frames_share_none(comm, node_of, monkeypatch):
    position, reader = position_of(11), Recorded(random_frames(11))
    monkeypatch.setattr(wedges, "FEWEST_FRAMES", 1)
    result = run(comm, position, reader, node_of=node_of)
    mine = np.array_split(np.arange(11), comm.size)[comm.rank].tolist()
    parallel_assert(reader.frames_read == mine)
    equal_parts(comm, result, run(MPI.COMM_SELF, position, reader))


@pytest.mark.parallel([3, 7])
def test_ranks_share_none_where_a_node_lacks_the_memory(comm, node_of, monkeypatch):
    position, reader = position_of(11), Recorded(random_frames(11))
    monkeypatch.setattr(wedges, "has_room", lambda n_bytes: comm.rank != 2)
    result = run(comm, position, reader, node_of=node_of)
    alone = run(MPI.COMM_SELF, position, Frames(random_frames(11)))
    mine = np.array_split(np.arange(11), comm.size)[comm.rank].tolist()
    parallel_assert(reader.frames_read == mine)
    equal_parts(comm, result, alone)


@pytest.mark.parallel(16)
def test_ranks_of_a_node_send_no_more_than_twice_of_one(comm):
    """16 ranks on 4 nodes of 4, beside 4 ranks on 4 nodes."""
    position = position_of(32)
    detector = replace(position.geometry.detector, shape=(240, 320), pixel_size=0.18,
                       beam_center=(151.5, 113.0))  # fmt: skip
    goniometer = replace(
        position.geometry.goniometer, phi=tuple(0.1 * k for k in range(32)), step=0.1
    )
    geometry = replace(position.geometry, detector=detector, goniometer=goniometer)
    position = replace(position, geometry=geometry, bad=np.zeros(detector.shape, bool))
    data = np.random.default_rng(1).poisson(2.0, (32, 240 * 320)).astype(np.int32)

    def sent(ranks, node_of):
        """Return the bytes that all of the first ranks send together, and what they sum."""
        first = comm.Split(comm.rank < ranks, comm.rank)
        total, sums = 0, np.zeros(2, int)
        if comm.rank < ranks:
            result = run(first, position, Frames(data), FINE, node_of=node_of)
            total = result.kept.sent.bytes
            sums += [part.astype(int).sum() for part in dense((result.kept,), 1.0, FINE)]
        first.Free()
        return comm.allreduce(total), comm.allreduce(sums)

    four, wanted = sent(4, own_frames)
    shared, found = sent(16, split_by(lambda rank: rank // 4))
    apart, _ = sent(16, own_frames)
    parallel_assert(np.array_equal(found, wanted) and wanted.min() > 0)
    parallel_assert(shared <= 2 * four < apart, msg=f"{four} {shared} {apart}")
