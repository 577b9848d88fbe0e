"""What Slurm says of jobs, read from lines that it printed (22.05)."""

import pytest

from nxmpi.slurm import command
from nxmpi.slurm.command import BatchError, NoSlurmError
from nxmpi.slurm.queue import (
    Seen,
    ended,
    parse_ended,
    parse_sacct,
    parse_squeue,
    queued,
)


def test_squeue_tells_of_tasks_and_of_jobs_that_go_on():
    found = parse_squeue(
        "12_1|14|12|RUNNING|n[1-2]|1:04|None|ann|s_300K-transform\x1f(null)\n"
        "12_2|12|12|PENDING||0:00|Resources|ann|s_300K-transform\x1f(null)\n"
        "13|13|13|PENDING||0:00|Dependency|bob|a|b\x1f(null)\n"
        "20_3|20|20|RUNNING|n3|0:10|None|ann|s_300K-transform\x1fnxmpi 12\n"
        "21|21|21|RUNNING|n3|0:10|None|eve|x\x1fnxmpi beamtime|night 2\n|or 3\n"
    )
    assert [item.stands_for for item in found] == ["12_1", "12_2", "13", "12_3", "21"]
    assert [item.number for item in found] == ["14", "12", "13", "20", "21"]
    first, second, third, fourth, fifth = found
    assert (first.state, first.nodes, first.elapsed) == ("RUNNING", "n[1-2]", "1:04")
    assert (first.reason, second.reason) == ("", "Resources")
    assert (third.user, third.name) == ("bob", "a|b")
    assert (fourth.id, fourth.nodes) == ("20_3", "n3")
    assert (fifth.user, fifth.name) == ("eve", "x")


def test_nothing_in_the_queue():
    assert parse_squeue("") == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1|FAILED|768|NonZeroExitCode|n1|", "failed, status 3"),
        ("1|FAILED|9|RaisedSignal:9(Killed)|n1|", "failed, signal 9"),
        ("1|TIMEOUT|0|TimeLimit|n1|", "timeout, TimeLimit"),
        ("1|CANCELLED|0|Dependency|n1|", "cancelled, Dependency"),
        ("1|NODE_FAIL|0|NodeDown|n1|", "node_fail, NodeDown"),
        ("1|COMPLETED|0|None|n1|", ""),
        ("1|PENDING|0|Resources|n1|", "Resources"),
    ],
)
def test_squeue_tells_how_a_job_ended(line, told):
    assert parse_ended(line) == {
        "1": Seen(state=line.split("|")[1], reason=told, nodes="n1"),
    }  # fmt: skip


def test_sacct():
    found = parse_sacct("12_1|CANCELLED by 1000|0:15|n4\n13|COMPLETED|0:0|None assigned\n")
    assert found == {
        "12_1": Seen(state="CANCELLED", reason="cancelled, signal 15", nodes="n4"),
        "13": Seen(state="COMPLETED"),
    }


def test_all_jobs_are_asked_about_at_once(commands):
    put, calls = commands
    put("squeue", "echo '12_1|FAILED|256|NonZeroExitCode|n1|'")
    put("sacct", "echo '13|TIMEOUT|0:0|n2'")
    found = ended(["12_1", "12_2", "13", "14"])
    assert {job: how.state for job, how in found.items()} == {"12_1": "FAILED", "13": "TIMEOUT"}
    first, second = calls.read_text().splitlines()
    assert "--jobs=12,13,14 " in first
    assert second.endswith("-j12_2,13,14")


def test_a_queue_that_does_not_answer_is_not_an_empty_one(commands, monkeypatch):
    put, _ = commands
    put("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(BatchError, match=r"squeue: slurm_load_jobs error: Unable to contact"):
        queued()
    monkeypatch.setattr(command, "ANSWER", 0.2)
    put("squeue", "exec sleep 5")
    with pytest.raises(BatchError, match=r"squeue: no answer within 0\.2 s"):
        queued()
    assert ended(["1"]) == {}
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoSlurmError, match="not found: is this a machine with Slurm"):
        queued()


def test_jobs_of_all_users_are_asked_for_whatever_the_user_set(commands, monkeypatch):
    put, calls = commands
    put("squeue", 'echo "1|1|1|RUNNING|n1|0:01|None|${SQUEUE_STATES:-all}|x"')
    monkeypatch.setenv("SQUEUE_STATES", "PENDING")
    (item,) = queued()
    assert item.user == "all"
    assert "--me" not in calls.read_text()
