"""What rates make of the cost of a step, and the file that keeps them."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nxmpi.errors import InputError
from nxmpi.pipeline.estimate import disk_warnings, estimate, memory_warnings
from nxmpi.pipeline.rates import BUILT_IN, RATES, rates_file, read_rates, write_rates
from nxmpi.pipeline.requests import Request, request_of
from nxmpi.pipeline.step_cost import Layout, StepCost

RATES_OF_TEN = replace(
    BUILT_IN, frames=10.0, transform=10.0, pack=5.0, write=8.0, read=4.0, send=2.0, ratio=0.5,
    base={"transform": 1000.0},
)  # fmt: skip
TWO_NODES = Layout(4, 2)
COST = StepCost(
    step="transform", files=40, unpacked=16, written=100, kept=60, memory=24, shared=7, sent=20,
    work=400.0,
)  # fmt: skip


def of_cost(cost=COST, layout=TWO_NODES, memory=0, *, compressed=True):
    return estimate(cost, RATES_OF_TEN, layout, node_memory=memory, compressed=compressed)


def test_seconds_of_each_part():
    found = of_cost()
    assert (found.read, found.write, found.disk) == (40 + 8, 50, 30)
    assert found.parts == {
        "reading": 48 / (4 * 2), "computing": 400 / (10 * 4), "exchange": 20 / (2 * 4),
        "writing": max(100 / (5 * 4), 50 / (8 * 2)),
    }  # fmt: skip
    assert found.seconds == pytest.approx(6 + 10 + 2.5 + 5)
    assert found.limit == "computing"
    assert of_cost(compressed=False).disk == 60


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"files": 4000}, "reading"), ({"work": 1e4}, "computing"), ({"sent": 4000}, "exchange"),
        ({"written": 4000}, "writing"),
    ],
)  # fmt: skip
def test_what_limits(changes, limit):
    assert of_cost(replace(COST, **changes)).limit == limit


def test_memory_of_ranks_and_nodes():
    found = of_cost(layout=Layout(5, 2))  # three ranks on one of the nodes
    assert found.memory_rank == 1024
    assert found.memory_node == 3 * 1024 + 7
    assert of_cost(layout=Layout(5, 2), memory=3079).limit == "computing"
    assert of_cost(layout=Layout(5, 2), memory=3078).limit == "memory"
    spared = replace(COST, spared=20)
    assert of_cost(spared, Layout(5, 2), memory=3019).limit == "computing"
    assert of_cost(spared, Layout(5, 2), memory=3018).limit == "memory"
    assert of_cost(spared, Layout(5, 2)).memory_node == 3079


def test_jobs_ask_for_no_more_than_a_node_has_unless_they_need_it():
    likes, needs, mib = 3000 * 2**20, 1000 * 2**20, 2**20
    expected = replace(of_cost(), memory_node=likes, least_node=needs, seconds=3600.0)
    assert request_of(expected, 0) == Request(135, 3750)
    assert request_of(expected, 4000 * mib).mebibytes == 3750
    assert request_of(expected, 2000 * mib).mebibytes == 2000
    assert request_of(expected, 500 * mib).mebibytes == 1000


def test_warnings_of_memory_and_disk(tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    free = shutil.disk_usage(tmp_path).free
    assert disk_warnings({folder: [of_cost()]}) == []
    large = replace(of_cost(), disk=free, write=free)
    (told,) = disk_warnings({folder: [large, replace(large, disk=2**30, write=2**30)]})
    assert told.startswith(f"{tmp_path}: expected ")
    assert " of disk, found " in told
    (scratch,) = disk_warnings({folder: [replace(of_cost(), scratch=2 * free)]})
    assert "of disk" in scratch
    (memory,) = memory_warnings([of_cost()], 100)
    wanted = "transform: expected 2.1 kB of memory a node to be there, found 100 bytes"
    assert memory.startswith(wanted)
    assert memory_warnings([of_cost()], 10**9) == memory_warnings([of_cost()], 0) == []


def test_disk_holds_all_scans_and_old_files_beside_new_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    one, other = tmp_path / "one", tmp_path / "other"
    step = replace(of_cost(), disk=300, write=500, scratch=0)
    assert disk_warnings({one: [step, step]}) == []
    assert disk_warnings({one: [step, replace(step, write=700)]}) == []
    assert len(disk_warnings({one: [step, replace(step, write=701)]})) == 1
    assert disk_warnings({one: [step], other: [step]}) == []
    assert len(disk_warnings({one: [step], other: [replace(step, scratch=1)]})) == 1


def test_scratch_files_lie_on_a_disk_of_their_own(tmp_path, monkeypatch):
    scratch = Path("/dev/shm")
    if scratch.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second disk")
    free = {tmp_path: 800, scratch: 300}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    results = {tmp_path / "one": [replace(of_cost(), disk=300, write=500, scratch=300)] * 2}
    assert len(disk_warnings(results)) == 1
    assert disk_warnings(results, scratch) == []
    free[scratch] = 299
    (told,) = disk_warnings(results, scratch)
    assert told.startswith(f"{scratch}: expected ")


def test_rates_are_kept_and_found_again(tmp_path, monkeypatch):
    monkeypatch.delenv(RATES, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert read_rates() == (BUILT_IN, None)
    path = write_rates(RATES_OF_TEN)
    assert path == rates_file() == tmp_path / "nxmpi" / "rates.json"
    assert read_rates() == (RATES_OF_TEN, path)
    assert [each.name for each in path.parent.iterdir()] == ["rates.json"]
    monkeypatch.setenv(RATES, str(tmp_path / "other.json"))
    with pytest.raises(InputError, match=r"other\.json: expected rates, found no file"):
        read_rates()


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"frames": 1}', json.dumps(asdict(BUILT_IN) | {"read": 0}),
     json.dumps(asdict(BUILT_IN) | {"read": "fast"}), json.dumps(asdict(BUILT_IN) | {"more": 1}),
     json.dumps(asdict(BUILT_IN) | {"base": {"frames": -1.0}})],
    ids=range(8),
)  # fmt: skip
def test_a_file_of_something_else(text, tmp_path, monkeypatch):
    path = tmp_path / "rates.json"
    path.write_text(text)
    monkeypatch.setenv(RATES, str(path))
    with pytest.raises(InputError, match=r"rates\.json: expected rates as nxmpi plan"):
        read_rates()
