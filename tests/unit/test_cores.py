"""Processors that ranks of a node share."""

import pytest

from nxmpi.parallel.cores import shared


@pytest.mark.parametrize(
    ("ours", "here", "numbers", "share"),
    [
        ([{0}, {1}], [{0}, {1}, {2}, {3}], [0, 1], 2),  # bound, a processor each
        ([{0, 1, 2, 3}] * 2, [{0, 1, 2, 3}] * 4, [0, 1, 2, 3], 2),  # free, as many as processors
        ([set(range(16))] * 2, [set(range(16))] * 4, [*range(16)], 8),  # free, with threads
        ([{0, 1}] * 2, [{0, 1}] * 8, [0, 1], 1),  # more ranks than processors
        ([{0, 1}], [{0, 1}, {0, 1}, {2, 3}], [0, 1], 1),
        ([{2, 3}], [{0, 1}, {0, 1}, {2, 3}], [2, 3], 2),
        ([{0, 1, 2}] * 3, [{0, 1, 2}] * 3, [0, 1, 2], 3),  # thirds add up
    ],
)
def test_processors_are_shared_among_those_that_may_use_them(ours, here, numbers, share):
    assert shared(ours, here) == (numbers, share)


def test_shares_of_groups_are_no_more_than_there_are():
    here = [{0, 1, 2, 3, 4}] * 3
    assert sum(shared(here[i : i + 1], here).share for i in range(3)) <= 5
