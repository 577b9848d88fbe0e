"""A wish to stop that one rank hears is known to all soon, and agreed on by all together."""

import os
import signal
import threading
import time

import pytest
from pytest_mpi import parallel_assert

from nxmpi.errors import CollectiveError, StoppedError
from nxmpi.parallel.collective import all_or_none
from nxmpi.parallel.signals import stop_if_wished, wishes

RANKS = [1, 2, 3, 4, 7]
PATIENCE = 20.0
"""After which a rank no longer expects to hear of anything [s]."""


pytestmark = pytest.mark.usefixtures("heeding")


def hears(wish):
    """Return whether a wish is heard of between many pieces of work."""
    deadline = time.monotonic() + PATIENCE
    while not wish.heard() and time.monotonic() < deadline:
        time.sleep(0.001)
    return wish.heard()


@pytest.mark.parallel(RANKS)
def test_nothing_is_heard_where_nothing_is_wished(comm):
    with wishes(comm) as wish:
        heard = [wish.heard() for _ in range(100)]
        agreed = wish.agreed()
    stop_if_wished(comm)
    parallel_assert(not any(heard))
    parallel_assert(agreed is None)


@pytest.mark.parallel(RANKS)
@pytest.mark.parametrize("place", [0, 1, -1])
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_signal_to_one_rank_is_heard_by_all(comm, place, name):
    with wishes(comm) as wish:
        if comm.rank == place % comm.size:
            signal.raise_signal(getattr(signal, name))
        heard, agreed = hears(wish), wish.agreed()
        still, again = wish.heard(), wish.agreed()
    parallel_assert(heard)
    parallel_assert(agreed == name)
    parallel_assert(still)
    parallel_assert(again == name)
    with pytest.raises(StoppedError, match=f"stopped by {name}: run the same command again"):
        stop_if_wished(comm)


@pytest.mark.parallel(RANKS)
def test_signals_to_all_ranks_are_one_wish_and_the_lowest_names_it(comm):
    names = ["SIGTERM" if rank % 2 else "SIGUSR1" for rank in range(comm.size)]
    with wishes(comm) as wish:
        signal.raise_signal(getattr(signal, names[comm.rank]))
        heard, agreed = hears(wish), wish.agreed()
    parallel_assert(heard)
    parallel_assert(agreed == names[0])


@pytest.mark.parallel([2, 3, 4, 7])
@pytest.mark.parametrize("place", [0, -1])
def test_rank_that_waits_for_the_others_passes_the_wish_on(comm, place):
    heard = True
    with wishes(comm) as wish:
        with all_or_none(comm, wish.heard):
            if comm.rank == place % comm.size:
                threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            else:
                heard = hears(wish)
        agreed = wish.agreed()
    parallel_assert(heard)
    parallel_assert(agreed == "SIGUSR1")


@pytest.mark.parallel([2, 3])
def test_signal_that_comes_while_others_agree_is_heard_the_next_time(comm):
    with wishes(comm) as wish:
        first = wish.agreed()
        if comm.rank == comm.size - 1:
            signal.raise_signal(signal.SIGUSR1)
        heard, second = hears(wish), wish.agreed()
    parallel_assert(first is None)
    parallel_assert(heard)
    parallel_assert(second == "SIGUSR1")


def fails_while_others_work(comm, place, heard):
    with wishes(comm) as wish, all_or_none(comm, wish.heard), wish.failure_passed_on():
        if comm.rank == place % comm.size:
            raise OSError("no room")
        heard.append(hears(wish))


@pytest.mark.parallel([2, 3, 4, 7])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_failure_of_one_rank_is_heard_by_all(comm, place):
    heard = []
    with pytest.raises(CollectiveError, match=rf"no room \[rank {place % comm.size}\]"):
        fails_while_others_work(comm, place, heard)
    parallel_assert(heard == [True] * (comm.rank != place % comm.size))


def fails_with_a_signal(comm):
    with wishes(comm) as wish, all_or_none(comm, wish.heard):
        signal.raise_signal(signal.SIGTERM)
        if comm.rank == 2:
            raise OSError("no room")


@pytest.mark.parallel([3])
def test_failure_matters_more_than_a_wish(comm):
    with pytest.raises(CollectiveError, match=r"no room \[rank 2\]") as caught:
        fails_with_a_signal(comm)
    assert not isinstance(caught.value, StoppedError)
