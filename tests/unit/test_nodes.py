"""What sinfo says of partitions, read from lines as it prints them (22.05)."""

import pytest

from nxmpi.slurm.nodes import Limits, limits_of, parse_sinfo

SINFO = (
    "main*|24105|infinite\nproject|24105|1:00:00\nlong|500000+|2-12:30:00\nlong|96000|2-12:30:00\n"
)


@pytest.mark.parametrize(
    ("partition", "limits"),
    [
        (None, Limits(24105, 0)),
        ("main", Limits(24105, 0)),
        ("project", Limits(24105, 60)),
        ("long", Limits(96000, 60 * 60 + 30)),
        ("long,project", Limits(24105, 60)),
        ("nowhere", Limits(0, 0)),
    ],
)
def test_limits_of_a_partition(partition, limits):
    assert parse_sinfo(SINFO, partition) == limits


def test_no_limits_are_known_where_there_is_no_slurm(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert limits_of(None) == Limits()


def test_a_limit_of_minutes():
    assert parse_sinfo("debug*|1000|30:00", None) == Limits(1000, 30)
