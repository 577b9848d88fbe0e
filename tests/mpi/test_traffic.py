"""Bytes between ranks: those counted are those given to MPI, and those the formulas say."""

import numpy as np
import pytest
from mpi.test_fill import CELLS, GRIDS, N, lattice_of, symmetric
from mpi.test_symmetrize import grid_of, planes_of, volume
from mpi4py import MPI
from pytest_mpi import parallel_assert

from nxmpi.crystal.holes import find_holes
from nxmpi.crystal.laue import laue_operators, voxel_group
from nxmpi.crystal.metric import grid_metric, whole_metric
from nxmpi.parallel.arrays import bcast_array, exchange, gather_rows, sum_arrays
from nxmpi.parallel.slabs import chunked_slabs, deal_anew, dealt_bytes, even_slabs
from nxmpi.parallel.traffic import sent_until_now, total_sent
from nxmpi.params import PunchParams
from nxmpi.stages.fill import filled_bytes, punch_and_fill
from nxmpi.stages.fourier import (
    full_slab_bytes,
    half_planes,
    to_full_slabs,
    transform,
    transposed_bytes,
)
from nxmpi.stages.planes import slab_bytes, to_slabs
from nxmpi.stages.shells import compare_images, compared_bytes
from nxmpi.stages.symmetrize import add_images, exchanged_bytes, symmetrize

RANKS = [1, 2, 3, 4, 7]
LAUE = ("-1", "2/m", "4/mmm", "-3", "6/mmm", "R -3 m :R", "m-3", "m-3m")


class Spy(MPI.Intracomm):
    """A communicator that adds up what arrays it is given for other ranks."""

    seen = 0

    def Sendrecv(self, sendbuf, dest, **others):
        Spy.seen += sendbuf.nbytes if dest != self.rank else 0
        return super().Sendrecv(sendbuf, dest, **others)

    def Alltoallv(self, sendbuf, recvbuf):
        values, counts = sendbuf
        Spy.seen += (int(np.sum(counts)) - int(counts[self.rank])) * values.itemsize
        return super().Alltoallv(sendbuf, recvbuf)

    def Allgatherv(self, sendbuf, recvbuf):
        Spy.seen += sendbuf.nbytes * (self.size - 1)
        return super().Allgatherv(sendbuf, recvbuf)

    def Bcast(self, buf, root=0):
        Spy.seen += buf.nbytes * (self.size - 1) if self.rank == root else 0
        return super().Bcast(buf, root)

    def Reduce(self, sendbuf, recvbuf, op=MPI.SUM, root=0):
        Spy.seen += sendbuf.nbytes if self.rank != root else 0
        return super().Reduce(sendbuf, recvbuf, op, root)

    def Send(self, buf, dest, tag=0):
        Spy.seen += buf.nbytes
        return super().Send(buf, dest, tag)


def assert_sent(comm, act, wanted):
    """Do something and hold what was counted against what MPI was given, and a number."""
    spy, before, seen = Spy(comm), sent_until_now(), Spy.seen
    act(spy)
    counted = total_sent(comm, before)
    given = sum(comm.allgather(Spy.seen - seen))
    parallel_assert(sum(counted.values()) == given, f"{counted}, {given}")
    parallel_assert(given == wanted, f"{given}, {wanted}")
    parallel_assert(comm.size > 1 or given == 0)


@pytest.mark.parallel(RANKS)
def test_arrays_of_known_sizes(comm):
    n, others = 700_000, comm.size - 1
    array = np.arange(n)
    assert_sent(comm, lambda c: bcast_array(c, array if comm.rank == 0 else None), 8 * n * others)
    assert_sent(comm, lambda c: sum_arrays(c, array.copy()), 8 * n * others)
    rows = np.ones((10 + comm.rank, 3))
    wanted = 24 * sum(10 + rank for rank in range(1, comm.size))
    assert_sent(comm, lambda c: gather_rows(c, rows), wanted)
    sizes = np.arange(comm.size) + 5  # rank r gets 5 + r words of each
    total = 8 * sum(others * (5 + rank) for rank in range(comm.size))
    assert_sent(comm, lambda c: exchange(c, np.zeros(sizes.sum(), np.int64), sizes), total)


@pytest.mark.parallel([2])
def test_kinds_are_told_apart(comm):
    before = sent_until_now()
    gather_rows(comm, np.ones((4, 2)), "found")
    gather_rows(comm, np.ones((1, 2)))
    counted = total_sent(comm, before)
    parallel_assert(counted == {"arrays": 16, "found": 64, "written": 0})


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("n", [1, 5, 64, 100])
def test_planes_dealt_anew(comm, n):
    have, want = even_slabs(n, comm.size), chunked_slabs(n, comm.size, 32)
    start, stop = have[comm.rank]
    slab = np.zeros((stop - start, 3, 7), np.float32)
    wanted = dealt_bytes(have, want, 3 * 7 * 4)
    assert_sent(comm, lambda c: deal_anew(c, slab, have, want), wanted)
    owner = [next(r for r, (a, b) in enumerate(r_) if a <= l < b) for r_ in (have, want)
             for l in range(n)]  # fmt: skip
    moved = sum(one != other for one, other in zip(owner[:n], owner[n:], strict=True))
    parallel_assert(wanted == moved * 84)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("name", LAUE)
def test_averages(comm, name):
    group = voxel_group(laue_operators(name), grid_of((11, 11, 11), (-5, -5, -5)))
    planes = planes_of(*volume((11, 11, 11), 1), group, comm.size, comm.rank)
    for values in (planes.counts.copy(), np.ones(planes.norm.shape, np.int8)):
        wanted = exchanged_bytes(group, comm.size, values.itemsize)
        assert_sent(comm, lambda c, v=values: add_images(c, v, planes.first, group), wanted)
    sums = symmetrize(comm, planes, group)
    grid, lattice = grid_of((11, 11, 11), (-5, -5, -5)), lattice_of("m-3m")
    metric = whole_metric(grid_metric(grid, lattice), group)
    compared = compared_bytes(group, comm.size)
    assert_sent(comm, lambda c: compare_images(c, planes, sums, group, metric), compared)
    slabs = chunked_slabs(11, comm.size, 4)
    wanted = slab_bytes(group, slabs, 11 * 11 * 8)
    assert_sent(comm, lambda c: to_slabs(c, planes.counts, group, slabs), wanted)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("sizes", [(9, 9, 9), (15, 11, 21), (9, 10, 9)])
def test_real_space(comm, sizes):
    group = voxel_group(laue_operators("mmm"), grid_of((9, 9, 9), (-4, -4, -4)))
    start, stop = even_slabs(9, comm.size)[comm.rank]
    slab = np.ones((stop - start, 9, 9))
    wanted = transposed_bytes(sizes, 9, comm.size, 16)
    assert_sent(
        comm, lambda c: transform(c, lambda i: slab[i], group, sizes, np.float64), wanted
    )  # fmt: skip
    first, last = half_planes(sizes, comm.size, comm.rank)
    half = np.zeros((last - first, sizes[2], sizes[0]), np.float32)
    slabs = chunked_slabs(sizes[1], comm.size, 4)
    wanted = full_slab_bytes(sizes, slabs, 4)
    assert_sent(comm, lambda c: to_full_slabs(c, half, sizes, slabs), wanted)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize(("laue", "grid"), [*((laue, "whole") for laue in CELLS),
                                            ("P 1 2/m 1", "uneven")])  # fmt: skip
def test_holes(comm, laue, grid):
    grid, params = GRIDS[grid], PunchParams(radius=0.5, reflections="all")
    group = voxel_group(laue_operators(laue), grid)
    holes = find_holes(group, grid, lattice_of(laue), "P 1", params)
    start, stop = even_slabs(N, comm.size)[comm.rank]
    slab = symmetric(group)[start:stop].copy()
    wanted = filled_bytes(holes, params, comm.size, slab.itemsize)
    parallel_assert(comm.size == 1 or wanted > 1000)
    assert_sent(comm, lambda c: punch_and_fill(c, slab, start, holes, params), wanted)
