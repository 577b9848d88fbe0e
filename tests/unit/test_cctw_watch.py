"""Programs that end well, fail, hang, print noise or leave others behind."""

import os
import subprocess
import sys
import time

import pytest
from processes import wait_until_gone

from nxmpi.cctw.watch import Limits, run_watched
from nxmpi.errors import NxmpiError

QUICKLY = 8.0
"""[s]"""


class Bar:
    def __init__(self):
        self.done = []

    def advance(self, n):
        self.done.append(n)


@pytest.fixture
def program(tmp_path):
    """Return a function that makes a command of Python's text."""

    def make(text):
        path = tmp_path / "cctw"
        path.write_text(f"#!{sys.executable}\nimport os, signal, subprocess, sys, time\n{text}\n")
        path.chmod(0o755)
        return [str(path), "transform"]

    return make


def test_lines_and_percentages_are_told_apart(program, tmp_path):
    command = program(
        "for n in range(0, 101, 5):\n"
        "    sys.stdout.write(f'\\r{n}% completed'); sys.stdout.flush()\n"
        "print('\\rMESSAGE: 12:00:00 Transform complete after 7 msec')\n"
        "sys.stdout.write('no end of line')"
    )
    bar = Bar()
    ran = run_watched(command, tmp_path, Limits(), bar=bar)
    assert not ran.stopped
    assert [*ran.printed.lines] == [
        "MESSAGE: 12:00:00 Transform complete after 7 msec", "no end of line",
    ]  # fmt: skip
    assert sum(bar.done) == 100


def test_percentages_beyond_100_and_again_are_no_more_than_100(program, tmp_path):
    command = program(
        "for n in (10, 150, 200, 5, 99):\n"
        "    print(f'{n}% completed', end='\\r', flush=True); time.sleep(0.2)"
    )
    bar = Bar()
    run_watched(command, tmp_path, Limits(), bar=bar)
    assert sum(bar.done) == 100


def test_failure_is_told_with_the_last_lines(program, tmp_path):
    command = program("print('first'); print('mask is smaller', file=sys.stderr); sys.exit(1)")
    with pytest.raises(NxmpiError, match=r"cctw: .*status 1; it printed: .*mask is smaller"):
        run_watched(command, tmp_path, Limits())


def test_kill_is_told(program, tmp_path):
    command = program("print('began', flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(NxmpiError, match=r"status 137 \(Killed\); it printed: began"):
        run_watched(command, tmp_path, Limits())


def test_error_that_does_not_change_the_status_ends_it_at_once(program, tmp_path):
    command = program("print('MESSAGE: Error reading chunk 7', flush=True); time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(NxmpiError, match="'MESSAGE: Error reading chunk 7'"):
        run_watched(command, tmp_path, Limits())
    assert time.monotonic() - start < QUICKLY


def test_chunks_that_are_read_for_nothing_may_be_unreadable(program, tmp_path):
    command = program(
        "print('MESSAGE: Error reading chunk 7'); print('MESSAGE: Error reading mask chunk 7')"
    )
    ran = run_watched(command, tmp_path, Limits(unneeded=frozenset({3, 7})))
    assert len(ran.printed.lines) == 2
    for other in ("reading chunk 77", "writing chunk 7", "reading chunk"):
        command = program(f"print('Error {other}')")
        with pytest.raises(NxmpiError, match=f"'Error {other}'"):
            run_watched(command, tmp_path, Limits(unneeded=frozenset({3, 7})))


@pytest.mark.parametrize("end", ["\\n", "\\r13% completed\\n"])
def test_error_on_the_line_of_a_percentage_is_heard(program, tmp_path, end):
    command = program(
        "sys.stdout.write('\\r12% completedMESSAGE: Error reading mask chunk 3"
        f"MESSAGE: Error reading mask chunk 5{end}')"
    )
    told = "'MESSAGE: Error reading mask chunk 3MESSAGE: Error reading mask chunk 5'"
    for unneeded in ({3}, {5}):
        with pytest.raises(NxmpiError, match=told):
            run_watched(command, tmp_path, Limits(unneeded=frozenset(unneeded)))
    bar = Bar()
    ran = run_watched(command, tmp_path, Limits(unneeded=frozenset({3, 5})), bar=bar)
    assert len(ran.printed.lines) == 1
    assert sum(bar.done) >= 12


def test_program_that_cannot_be_started(tmp_path):
    with pytest.raises(NxmpiError, match="cannot be started: No such file"):
        run_watched([str(tmp_path / "none")], tmp_path, Limits())


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(silence=0.5), "silent for"),
        (Limits(time=0.5), "still at work after"),
    ],
)
@pytest.mark.parametrize("deaf", [False, True])
def test_hanging_group_is_ended(program, tmp_path, limits, text, deaf, monkeypatch):
    monkeypatch.setattr("nxmpi.cctw.watch.GRACE", 0.5)
    command = program(
        f"if {deaf}: signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "other = subprocess.Popen(['sleep', '100'])\n"
        "print(os.getpid(), other.pid, flush=True)\n"
        "time.sleep(100)"
    )
    with pytest.raises(NxmpiError, match=text) as caught:
        run_watched(command, tmp_path, limits)
    own, other = (int(word) for word in str(caught.value).split()[-2:])
    assert wait_until_gone(own)
    assert wait_until_gone(other)


def test_what_is_left_of_the_group_after_a_good_end_is_ended(program, tmp_path):
    command = program("print(subprocess.Popen(['sleep', '100']).pid)")
    start = time.monotonic()
    ran = run_watched(command, tmp_path, Limits())
    assert time.monotonic() - start < QUICKLY
    assert wait_until_gone(int(ran.printed.lines[-1]))


def test_output_that_is_closed_is_no_end(program, tmp_path):
    command = program(
        "os.close(1); os.close(2); time.sleep(1); open('written', 'w').close(); os._exit(3)"
    )
    with pytest.raises(NxmpiError, match="status 3"):
        run_watched(command, tmp_path, Limits())
    assert (tmp_path / "written").exists()


def test_wish_to_stop_reaches_the_program(program, tmp_path):
    command = program(
        "def end(*_):\n    open('asked', 'w').close(); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(100)"
    )
    wish = time.monotonic() + 1.0
    ran = run_watched(command, tmp_path, Limits(), is_stopped=lambda: time.monotonic() > wish)
    assert ran.stopped
    assert (tmp_path / "asked").exists()
    assert wait_until_gone(int(ran.printed.lines[0]))


def test_deaf_program_is_ended_soon_after_a_wish_to_stop(program, tmp_path):
    command = program(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(100)"
    )
    wish = time.monotonic() + 1.0
    ran = run_watched(command, tmp_path, Limits(), is_stopped=lambda: time.monotonic() > wish)
    assert ran.stopped
    assert time.monotonic() - wish < 2.0


def test_noise_is_neither_kept_nor_believed(program, tmp_path):
    command = program(
        "noise = os.urandom(2**20).replace(b'%', b'?')\n"
        "for _ in range(10): sys.stdout.buffer.write(noise)\n"
        "print('\\nthe end')\nsys.exit(2)"
    )
    with pytest.raises(NxmpiError, match="the end") as caught:
        run_watched(command, tmp_path, Limits())
    assert len(str(caught.value)) < 3000
    assert str(caught.value).isprintable()


def test_program_ends_with_the_process_that_watches_it(program, tmp_path):
    command = program(
        "other = subprocess.Popen(['sleep', '100'])\n"
        "open('pids.new', 'w').write(f'{os.getpid()} {other.pid}'); os.rename('pids.new', 'pids')\n"
        "time.sleep(100)"
    )
    watcher = (
        "import nxmpi, sys\nfrom pathlib import Path\n"
        "from nxmpi.cctw.watch import Limits, run_watched\n"
        f"run_watched({command!r}, Path({str(tmp_path)!r}), Limits())"
    )
    process = subprocess.Popen([sys.executable, "-c", watcher])
    deadline = time.monotonic() + 30
    while not (tmp_path / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    for pid in (tmp_path / "pids").read_text().split():
        assert wait_until_gone(int(pid))


def test_program_is_no_rank_of_this_job(program, tmp_path, monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "0")
    monkeypatch.setenv("PMIX_RANK", "0")
    monkeypatch.setenv("HDF5_PLUGIN_PATH", "plugins")
    command = program("print(*(n for n in os.environ if 'RANK' in n or 'PLUGIN' in n))")
    assert [*run_watched(command, tmp_path, Limits()).printed.lines] == ["HDF5_PLUGIN_PATH"]


def test_processors_are_those_given(program, tmp_path):
    one = max(os.sched_getaffinity(0))
    command = program("print(os.sched_getaffinity(0))")
    assert [*run_watched(command, tmp_path, Limits(), [one]).printed.lines] == [f"{{{one}}}"]
