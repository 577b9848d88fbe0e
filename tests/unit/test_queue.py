"""What Slurm says of jobs, read from lines that it printed (22.05)."""

import pytest

from nxmpi.slurm.queue import parse_sacct, parse_scontrol, parse_squeue

SCONTROL = (
    "JobId=12 JobName=s_300K-transform UserId=u(1000) GroupId=u(1000) MCS_label=N/A Priority=1 "
    "Nice=0 Account=(null) QOS=(null) JobState={state} Reason={reason} Dependency=(null) Requeue=1 "
    "Restarts=0 BatchFlag=1 Reboot=0 ExitCode={code} RunTime=00:01:04 TimeLimit=08:00:00 "
    "ReqNodeList=(null) ExcNodeList=(null) NodeList={nodes} BatchHost=n1 NumNodes=1"
)


def test_squeue_tells_of_tasks_and_of_jobs_that_go_on():
    found = parse_squeue(
        "12_1|RUNNING|n[1-2]|1:04|None|(null)\n"
        "12_2|PENDING||0:00|Resources|(null)\n"
        "13|PENDING||0:00|Dependency|(null)\n"
        "20_3|RUNNING|n3|0:10|None|nxmpi 12\n"
    )
    assert set(found) == {"12_1", "12_2", "13", "12_3"}
    assert (found["12_1"].state, found["12_1"].nodes, found["12_1"].elapsed) == (
        "RUNNING", "n[1-2]", "1:04",
    )  # fmt: skip
    assert (found["12_1"].reason, found["12_2"].reason) == ("", "Resources")
    assert found["12_3"].nodes == "n3"


def test_nothing_in_the_queue():
    assert parse_squeue("") == {}


@pytest.mark.parametrize(
    ("state", "reason", "code", "told"),
    [
        ("FAILED", "NonZeroExitCode", "1:0", "failed, status 1"),
        ("FAILED", "RaisedSignal:9(Killed)", "0:9", "failed, signal 9"),
        ("TIMEOUT", "TimeLimit", "0:0", "timeout, TimeLimit"),
        ("CANCELLED", "Dependency", "0:0", "cancelled, Dependency"),
        ("NODE_FAIL", "NodeDown", "0:0", "node_fail, NodeDown"),
        ("COMPLETED", "None", "0:0", ""),
        ("PENDING", "Resources", "0:0", "Resources"),
    ],
)
def test_scontrol_tells_how_a_job_ended(state, reason, code, told):
    found = parse_scontrol(SCONTROL.format(state=state, reason=reason, code=code, nodes="n1"))
    assert (found.state, found.reason, found.nodes) == (state, told, "n1")


def test_of_a_job_that_was_requeued_the_last_line_counts():
    lines = [
        SCONTROL.format(state=state, reason="None", code="0:0", nodes="(null)")
        for state in ("NODE_FAIL", "COMPLETED")
    ]
    found = parse_scontrol("\n".join(lines))
    assert (found.state, found.nodes) == ("COMPLETED", "")


def test_a_job_that_is_forgotten():
    assert parse_scontrol("") is None
    assert parse_sacct("") is None


def test_sacct():
    found = parse_sacct("CANCELLED by 1000|0:15|n4\n")
    assert (found.state, found.reason, found.nodes) == ("CANCELLED", "cancelled, signal 15", "n4")
