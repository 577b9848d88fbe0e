"""Locks of real processes: alive, killed, on other hosts, and racing for what was left."""

import dataclasses
import json
import logging
import os
import signal
import subprocess
import time

import pytest
from mpi4py import MPI
from nexusformat.nexus.lock import NXLock
from nexusformat.nexus.lock import NXLockException as NexusformatLockedError
from system.mpi import start_mpi

from nxmpi.errors import CollectiveError, LockedError
from nxmpi.parallel import locks
from nxmpi.parallel.locks import (
    list_locks,
    nexusformat_lock,
    publish_lock,
    remove_locks,
    step_lock,
)
from nxmpi.parallel.owner import Owner
from nxmpi.slurm.left import ask_slurm

ALONE = MPI.COMM_SELF
HOST = Owner.here().host

# takes the lock that its arguments name and holds it until it is killed
HOLD = """
import sys, time
from pathlib import Path
from mpi4py import MPI
from nxmpi.parallel.locks import publish_lock, step_lock
wrapper, subject = Path(sys.argv[1]), sys.argv[2:]
lock = step_lock(MPI.COMM_SELF, wrapper, *subject) if subject else publish_lock(wrapper)
lock.__enter__()
print("held", flush=True)
time.sleep(100)
"""

# takes a lock when it is told to, so that many do at once; says whether it got it. Slow between
# finding a lock that was left and removing it: who is not careful removes another's new lock.
RACE = """
import sys, time
from pathlib import Path
from mpi4py import MPI
from nxmpi.errors import CollectiveError
from nxmpi.parallel.locks import step_lock
unlink = Path.unlink
def slow_unlink(path, **options):
    if path.suffix == ".lock":
        time.sleep(float(sys.argv[2]))
    unlink(path, **options)
Path.unlink = slow_unlink
lock = step_lock(MPI.COMM_SELF, Path(sys.argv[1]), "f1", "transform")
print("ready", flush=True)
sys.stdin.readline()
try:
    lock.__enter__()
    print("won", flush=True)
except CollectiveError as error:
    print("lost:", error, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def wrapper(tmp_path):
    path = tmp_path / "scan.nxs"
    path.touch()
    return path


@pytest.fixture
def hold(wrapper):
    """Return a function that starts a process which holds a lock."""
    started = []

    def start(*subject):
        process = start_mpi(0, "-c", HOLD, wrapper, *subject)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def lock_file(wrapper):
    return wrapper.with_name(".scan.nxs.f1.transform.lock")


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def take(wrapper, entry="f1", step="transform"):
    with step_lock(ALONE, wrapper, entry, step):
        assert lock_file(wrapper).exists()


def test_lock_names_its_owner_and_goes_with_the_step(wrapper, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with step_lock(ALONE, wrapper, "f1", "transform"):
        owner = json.loads(lock_file(wrapper).read_text())
        assert owner["host"] == HOST
        assert owner["pid"] == os.getpid()
        assert owner["job"] == "4711"
        assert [path.name for path in wrapper.parent.glob(".*")] == [lock_file(wrapper).name]
    assert list_locks(wrapper) == []
    assert list(wrapper.parent.glob(".*")) == []


def test_lock_goes_after_an_exception(wrapper):
    with pytest.raises(ZeroDivisionError), step_lock(ALONE, wrapper, "f1", "transform"):
        _ = 1 / 0
    assert list_locks(wrapper) == []


def test_other_positions_and_steps_and_scans_are_free(wrapper):
    with (
        step_lock(ALONE, wrapper, "f1", "transform"),
        step_lock(ALONE, wrapper, "f2", "transform"),
        step_lock(ALONE, wrapper, "f1", "frames"),
        step_lock(ALONE, wrapper.with_name("other.nxs"), "f1", "transform"),
        publish_lock(wrapper),
    ):
        assert [lock.subject for lock in list_locks(wrapper)] == [
            "f1 frames",
            "f1 transform",
            "f2 transform",
            "publish",
            "",
        ]


def test_lock_of_a_live_process_is_refused(wrapper, hold):
    process = hold("f1", "transform")
    expected = rf"scan\.nxs: f1 transform is being computed by process {process.pid} on {HOST}"
    with pytest.raises(CollectiveError, match=expected):
        take(wrapper)
    assert [lock.state for lock in list_locks(wrapper)] == ["running"]


def test_same_lock_is_refused_through_a_symbolic_link(wrapper, tmp_path, hold):
    hold("f1", "transform")
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.nxs"
    link.symlink_to(wrapper)
    with pytest.raises(CollectiveError, match="is being computed"):
        take(link)


def test_lock_of_a_killed_process_is_taken_over(wrapper, hold, caplog):
    process = hold("f1", "transform")
    kill(process)
    assert [lock.state for lock in list_locks(wrapper)] == ["ended"]
    with caplog.at_level(logging.INFO, "nxmpi"):
        take(wrapper)
    assert f"left behind by process {process.pid} on {HOST}" in caplog.text
    assert list_locks(wrapper) == []


def test_killed_process_that_nobody_has_waited_for_has_ended(wrapper, hold):
    process = hold("f1", "transform")
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    take(wrapper)


@pytest.mark.parametrize(
    "changes",
    [{"start_time": 1}, {"boot_id": "00000000-0000-0000-0000-000000000000"}, {"pid": 2**22 + 1}],
    ids=["another process with its number", "before a restart", "no such process"],
)
def test_lock_of_a_process_that_cannot_be_alive_is_taken_over(wrapper, hold, changes):
    hold("f1", "transform")
    edit(lock_file(wrapper), **changes)
    take(wrapper)


def test_lock_of_an_earlier_run_of_the_same_job_on_another_host_is_taken_over(
    wrapper, hold, monkeypatch
):
    kill(hold("f1", "transform"))
    edit(lock_file(wrapper), job="4711", host="node7")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    take(wrapper)
    assert not lock_file(wrapper).exists()


@pytest.mark.parametrize(
    ("job", "restarts", "now"), [("4711", 1, "1"), ("4712", 0, "1"), ("", 0, "1"), ("4711", 0, "")]
)
def test_lock_of_another_job_or_of_the_same_run_is_not(
    wrapper, hold, monkeypatch, job, restarts, now
):
    kill(hold("f1", "transform"))
    edit(lock_file(wrapper), job=job, restarts=restarts, host="node7")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", now)
    with pytest.raises(CollectiveError, match="of which it is not known here"):
        take(wrapper)


@pytest.mark.parametrize(
    "changes",
    [{"host": "node7"}, {"host": "node7", "boot_id": "other"}, {"pid_namespace": "pid:[1]"}],
    ids=["another host", "another host and boot", "a container"],
)
def test_lock_is_never_guessed_to_be_dead(wrapper, hold, changes):
    kill(hold("f1", "transform"))
    edit(lock_file(wrapper), job="4711", **changes)
    host = changes.get("host", HOST)
    with pytest.raises(CollectiveError) as error:
        take(wrapper)
    assert f"on {host} (job 4711) since " in str(error.value)
    assert f"`nxmpi unlock --force {wrapper}`" in str(error.value)
    assert lock_file(wrapper).exists()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"pid": "x"}', b"\xff"])
def test_lock_that_says_nothing_is_refused(wrapper, content):
    lock_file(wrapper).write_bytes(content)
    with pytest.raises(CollectiveError, match="an unknown process"):
        take(wrapper)
    assert lock_file(wrapper).read_bytes() == content


def test_lock_of_somebody_else_is_not_released(wrapper, caplog):
    with step_lock(ALONE, wrapper, "f1", "transform"):
        edit(lock_file(wrapper), host="node7")
    assert lock_file(wrapper).exists()
    assert "taken by somebody else" in caplog.text


def test_lock_without_hard_links_works_too(wrapper, monkeypatch):
    def no_links(*_):
        raise OSError(locks.errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with step_lock(ALONE, wrapper, "f1", "transform"):
        assert Owner.parse(lock_file(wrapper).read_bytes()).pid == os.getpid()
        with pytest.raises(CollectiveError, match="is being computed"):
            take(wrapper)
    assert list(wrapper.parent.glob(".*")) == []


def test_one_of_many_takes_over_what_was_left(wrapper, hold):
    kill(hold("f1", "transform"))
    left = lock_file(wrapper).read_bytes()
    racers = [
        start_mpi(0, "-c", RACE, wrapper, 0.05 * number, stdin=subprocess.PIPE)
        for number in range(6)
    ]
    try:
        assert [racer.stdout.readline() for racer in racers] == ["ready\n"] * 6
        for racer in racers:
            racer.stdin.write("\n")
            racer.stdin.flush()
        lines = [racer.stdout.readline() for racer in racers]
        said = [line.split()[0] for line in lines]
        assert sorted(said) == ["lost:"] * 5 + ["won"], lines
        winner = racers[said.index("won")]
        assert Owner.parse(lock_file(wrapper).read_bytes()).pid == winner.pid
        assert lock_file(wrapper).read_bytes() != left
    finally:
        for racer in racers:
            racer.communicate("\n")
    assert [path.name for path in wrapper.parent.glob(".*")] == [lock_file(wrapper).name]


def test_publishing_waits_until_another_has_published(wrapper, hold):
    process = hold()
    started = time.monotonic()
    with pytest.raises(LockedError, match=f"is being published by process {process.pid}"):
        publish_lock(wrapper, limit=0.5).__enter__()
    assert 0.2 < time.monotonic() - started < 2
    kill(process)
    with publish_lock(wrapper, limit=0.5):
        pass
    assert list_locks(wrapper) == []


def test_publishing_goes_on_as_soon_as_the_lock_is_free(wrapper):
    other = NXLock(wrapper)
    other.acquire(timeout=1)
    releaser = subprocess.Popen(["sh", "-c", f"sleep 0.5; rm '{other.lock_file}'"])
    with publish_lock(wrapper, limit=20):
        assert nexusformat_lock(wrapper).read_text() == f"{os.getpid()}@{HOST}"
    releaser.wait()


def test_lock_of_nexusformat_is_honoured(wrapper):
    other = NXLock(wrapper)
    other.acquire(timeout=1)
    assert nexusformat_lock(wrapper) == other.lock_file
    with pytest.raises(LockedError, match=rf"locked by {os.getpid()}@{HOST} \(.*scan\.nxs\.lock\)"):
        publish_lock(wrapper, limit=0.3).__enter__()
    other.release()
    assert list_locks(wrapper) == []


def test_nexusformat_honours_ours(wrapper):
    with publish_lock(wrapper), pytest.raises(NexusformatLockedError):
        NXLock(wrapper).acquire(timeout=0.3, check_interval=0.1)
    with NXLock(wrapper, timeout=1) as other:
        assert other.locked


def test_folder_for_locks_of_nexusformat_is_used(wrapper, tmp_path, monkeypatch):
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setenv("NX_LOCKDIRECTORY", str(folder))
    expected = NXLock(wrapper, directory=folder).lock_file
    assert nexusformat_lock(wrapper) == expected
    with publish_lock(wrapper):
        assert expected.exists()
    assert list(folder.iterdir()) == []


def test_lock_of_nexusformat_is_removed_when_its_process_has_ended(wrapper, hold):
    process = hold()
    kill(process)
    assert nexusformat_lock(wrapper).read_text() == f"{process.pid}@{HOST}"
    with publish_lock(wrapper, limit=0.3):
        pass
    assert not nexusformat_lock(wrapper).exists()


def test_lock_of_nexusformat_expires_as_it_does_there(wrapper):
    path = nexusformat_lock(wrapper)
    path.write_text("1@node7")
    hours = 3600.0
    os.utime(path, (time.time() - 7.9 * hours,) * 2)
    with pytest.raises(LockedError, match="1@node7"):
        publish_lock(wrapper, limit=0.2).__enter__()
    os.utime(path, (time.time() - 8.1 * hours,) * 2)
    with publish_lock(wrapper, limit=0.2):
        assert path.read_text() == f"{os.getpid()}@{HOST}"


def test_a_step_removes_what_ended_runs_left_and_nothing_else(wrapper, hold):
    running = hold("f2", "transform")
    kill(hold())
    kill(hold("f1", "transform"))
    with step_lock(ALONE, wrapper, "f3", "transform"):
        assert [lock.subject for lock in list_locks(wrapper)] == ["f2 transform", "f3 transform"]
    assert running.poll() is None


def test_unlocking_removes_what_has_ended_and_the_rest_only_by_force(wrapper, hold):
    running = hold("f2", "transform")
    kill(hold("f1", "transform"))
    elsewhere = lock_file(wrapper).with_name(".scan.nxs.f3.transform.lock")
    owner = dataclasses.replace(Owner.here(), host="node7")
    elsewhere.write_bytes(owner.content())
    removed, kept = remove_locks(wrapper)
    assert [lock.subject for lock in removed] == ["f1 transform"]
    assert [(lock.subject, lock.state) for lock in kept] == [
        ("f2 transform", "running"),
        ("f3 transform", "unknown"),
    ]
    assert [lock.path for lock in list_locks(wrapper)] == [lock.path for lock in kept]
    assert running.poll() is None
    removed, kept = remove_locks(wrapper, force=True)
    assert (len(removed), kept, list_locks(wrapper)) == (2, [], [])


def test_lock_of_nexusformat_goes_with_that_of_publishing_of_a_run_before(
    wrapper, hold, monkeypatch
):
    process = hold()
    kill(process)
    ours = wrapper.with_name(".scan.nxs.publish.lock")
    edit(ours, job="4711", host="node7")
    nexusformat_lock(wrapper).write_text(f"{process.pid}@node7")
    assert [lock.state for lock in list_locks(wrapper)] == ["unknown"] * 2
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert [lock.state for lock in list_locks(wrapper)] == ["ended"] * 2
    with publish_lock(wrapper, limit=0.3):
        assert nexusformat_lock(wrapper).read_text() == f"{os.getpid()}@{HOST}"
    assert list_locks(wrapper) == []


def test_lock_of_nexusformat_of_somebody_else_stays(wrapper, hold, monkeypatch):
    kill(hold())
    edit(wrapper.with_name(".scan.nxs.publish.lock"), job="4711", host="node7")
    nexusformat_lock(wrapper).write_text("1@node8")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(LockedError, match="locked by 1@node8"):
        publish_lock(wrapper, limit=0.3).__enter__()
    assert nexusformat_lock(wrapper).read_text() == "1@node8"


@pytest.fixture
def slurm_says(tmp_path, monkeypatch):
    """Return a function that puts commands on the path which tell of a cluster and its jobs."""

    def says(*numbers, cluster="c", private="none", status=0):
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        settings = f"ClusterName             = {cluster}\nPrivateData             = {private}"
        lines = [f"{n}|{n}|{n}|RUNNING|n1|0:01|None|u|x" for n in numbers]
        for name, text in (("scontrol", settings), ("squeue", "\n".join(lines))):
            (folder / name).write_text(f"#!/bin/sh\necho '{text}'\nexit {status}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    return says


@pytest.mark.parametrize(
    ("numbers", "settings", "changes", "state"),
    [
        ([4712], {}, {}, "ended"),
        ([4711], {}, {}, "running"),
        ([4712], {"cluster": "d"}, {}, "unknown"),
        ([4712], {"status": 1}, {}, "unknown"),
        ([4712], {"private": "accounts,jobs"}, {}, "ended"),
        ([4712], {}, {"cluster": ""}, "unknown"),
        ([4712], {}, {"job": ""}, "unknown"),
    ],
    ids=["ended", "running", "another cluster", "no answer", "our own", "no cluster", "no job"],
)  # fmt: skip
def test_slurm_knows_whether_a_job_on_another_host_has_ended(
    wrapper, slurm_says, numbers, settings, changes, state
):
    owner = dataclasses.replace(Owner.here(), host="node7", job="4711", cluster="c")
    lock_file(wrapper).write_bytes(dataclasses.replace(owner, **changes).content())
    assert [lock.state for lock in list_locks(wrapper)] == ["unknown"]
    slurm_says(*numbers, **settings)
    assert [lock.state for lock in list_locks(wrapper, ask_slurm())] == [state]
    removed, kept = remove_locks(wrapper, ask=ask_slurm())
    assert (len(removed), len(kept)) == ((1, 0) if state == "ended" else (0, 1))
    assert lock_file(wrapper).exists() == (state != "ended")


def test_jobs_of_others_that_slurm_hides_may_still_run(wrapper, slurm_says, monkeypatch):
    owner = dataclasses.replace(Owner.here(), host="node7", job="4711", cluster="c")
    lock_file(wrapper).write_bytes(owner.content())
    slurm_says(private="jobs")
    monkeypatch.setattr(os, "getuid", lambda: lock_file(wrapper).stat().st_uid + 1)
    assert [lock.state for lock in list_locks(wrapper, ask_slurm())] == ["unknown"]


def test_locks_of_a_scan_whose_name_begins_alike_are_left(wrapper):
    other = wrapper.with_name(".scan.nxs_2.nxs.f1.transform.lock")
    other.write_text("")
    assert list_locks(wrapper) == []


def test_folder_where_no_lock_can_be_made_is_told_by_its_name(tmp_path):
    folder = tmp_path / "none"
    told = f"^{folder}: expected a folder to make a lock in, found: No such file or directory$"
    with pytest.raises(CollectiveError, match=told), step_lock(ALONE, folder / "s.nxs", "f1", "x"):
        pass
