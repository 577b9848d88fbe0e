"""Planes dealt out anew are the same planes, whoever had them."""

import numpy as np
import pytest
from pytest_mpi import parallel_assert

from nxmpi.parallel import slabs
from nxmpi.parallel.slabs import chunked_slabs, deal_anew, even_slabs


@pytest.mark.parallel([1, 2, 3, 4, 7])
@pytest.mark.parametrize("n", [1, 5, 67, 131])
def test_planes_are_dealt_anew(comm, n, monkeypatch):
    monkeypatch.setattr(slabs, "ROUND", 3 * 2 * 3 * 8)  # three planes at a time
    volume = np.random.default_rng(n).random((n, 2, 3))
    for have, want in [
        (even_slabs(n, comm.size), chunked_slabs(n, comm.size, 32)),
        (chunked_slabs(n, comm.size, 32), even_slabs(n, comm.size)),
        (even_slabs(n, comm.size), even_slabs(n, comm.size)[::-1]),
    ]:
        (a, b), (c, d) = have[comm.rank], want[comm.rank]
        found = deal_anew(comm, volume[a:b], have, want)
        parallel_assert(np.array_equal(found, volume[c:d]))


@pytest.mark.parallel(1)
def test_chunks_are_never_cut(comm):
    for n in (1, 31, 32, 33, 501):
        for size in (1, 2, 5, 40):
            ranges = chunked_slabs(n, size, 32)
            assert all(a % 32 == 0 or a == n for a, _ in ranges)
            assert [a for a, _ in ranges[1:]] == [b for _, b in ranges[:-1]]
            assert ranges[0][0] == 0
            assert ranges[-1][1] == n
