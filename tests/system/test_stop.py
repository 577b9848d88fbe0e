"""A signal stops a run on all ranks with status 75; the same command again goes on."""

import json
import os
import signal
from pathlib import Path

import pytest
from system.mpi import error_lines, finish, run_mpi, run_nxmpi, start_mpi
from system.observed import Observed
from system.scans import add_masks, contents, differences, simulated, volumes

N_FRAMES = 120
SLOWLY = 0.1
"""Seconds that a read takes longer."""
KILL_AT = Path(__file__).with_name("kill_at.py")

INTERRUPTED_AT = """
import os, signal, sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == os.environ["INTERRUPTED_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder)
from nxmpi.cli.start import main
main()
"""


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """Return a simulated scan with 3-D masks."""
    scan = simulated(tmp_path_factory.mktemp("longer") / "e", "--frames", N_FRAMES)
    add_masks(scan)
    return scan


@pytest.fixture(scope="module")
def transformed(longer, tmp_path_factory):
    """Return the same scan, its first position transformed by one rank."""
    root = tmp_path_factory.mktemp("transformed") / "e"
    return longer.after(root, "transform", "--entry", "f1")


@pytest.mark.parametrize(
    ("who", "name", "n", "next_n"),
    [
        ("all", "SIGUSR1", 3, 2),
        pytest.param(2, "SIGTERM", 3, 4, marks=pytest.mark.full),
        pytest.param(1, "SIGUSR1", 3, 1, marks=pytest.mark.full),
        pytest.param("all", "SIGTERM", 2, 3, marks=pytest.mark.full),
    ],
)
def test_stopped_transform_goes_on_to_the_same_bits_and_repeats_nothing(
    longer, transformed, tmp_path, who, name, n, next_n
):
    scan = longer.copy(tmp_path / "e")
    args = ("transform", "--entry", "f1", "--batch-frames", "2", scan.wrapper)
    run = Observed(n, tmp_path / "first", SLOWLY, *args)
    run.wait(2 * n)
    for pid in run.pids() if who == "all" else [run.pids()[who]]:
        os.kill(pid, getattr(signal, name))
    stopped = run.finish()
    assert (stopped.returncode, run.statuses()) == (75, [75] * n), stopped.stderr
    assert stopped.stderr.count(f"stopped by {name}: run the same command again to go on") == 1
    assert not error_lines(stopped)
    assert scan.hidden() == [".f1_transform.checkpoint"]
    read = {frame for some in run.frames() for _, frame in some}
    manifest = json.loads((scan.data / ".f1_transform.checkpoint" / "manifest.json").read_text())
    assert set(manifest["state"]["frames"]) == read
    assert len(read) < N_FRAMES

    again = Observed(next_n, tmp_path / "second", 0, *args)
    ended = again.finish()
    assert ended.returncode == 0, ended.stderr
    rest = {frame for some in again.frames() for _, frame in some}
    assert not rest & read
    assert rest | read == set(range(N_FRAMES))
    found, wanted = volumes(scan), volumes(transformed)
    assert set(found) == set(wanted)
    for each in wanted:
        assert not differences(found[each], wanted[each]), each
    assert scan.hidden() == []


@pytest.fixture(scope="module")
def gone_through(longer, tmp_path_factory):
    """Return the same scan, whose frames one rank has gone through."""
    root = tmp_path_factory.mktemp("gone_through") / "e"
    return longer.after(root, "frames", "--entry", "f1")


def test_stopped_frames_go_on_to_the_same_bits(longer, gone_through, tmp_path):
    scan = longer.copy(tmp_path / "e")
    args = ("frames", "--entry", "f1", scan.wrapper)
    run = Observed(3, tmp_path / "first", SLOWLY, *args)
    run.wait(12)
    os.kill(run.pids()[1], signal.SIGUSR1)
    stopped = run.finish()
    assert (stopped.returncode, run.statuses()) == (75, [75] * 3), stopped.stderr
    assert stopped.stderr.count("stopped by SIGUSR1: run the same command again to go on") == 1
    assert not error_lines(stopped)
    assert contents(scan.wrapper) == contents(longer.wrapper)
    assert run.n_frames() < N_FRAMES

    again = Observed(3, tmp_path / "second", 0, *args)  # as many ranks as before
    ended = again.finish()
    assert ended.returncode == 0, ended.stderr
    assert "going on behind " in ended.stderr
    assert not differences(contents(scan.wrapper), contents(gone_through.wrapper))
    assert scan.hidden() == []


def test_signal_between_positions_leaves_the_first_complete(longer, transformed, tmp_path):
    """The last batch of the first position is under way: it is written, and the next not begun."""
    scan = longer.copy(tmp_path / "e")
    args = ("transform", "--batch-frames", str(N_FRAMES), scan.wrapper)
    run = Observed(1, tmp_path / "first", 1.0, *args)
    run.wait(N_FRAMES)
    os.kill(run.pids()[0], signal.SIGTERM)
    stopped = run.finish()
    assert (stopped.returncode, run.statuses()) == (75, [75]), stopped.stderr
    found, wanted = volumes(scan), volumes(transformed)
    assert set(found) == set(wanted)
    for each in wanted:
        assert not differences(found[each], wanted[each]), each
    ended = run_nxmpi(2, "transform", scan.wrapper)
    assert ended.returncode == 0, ended.stderr
    assert [name for name in volumes(scan) if "f2" in name]
    assert scan.hidden() == []


AGAIN = {
    "symmetrize": ("--outliers", "1000"), "pdf": ("--radius", "0.21"),
}  # fmt: skip
"""Options with which what is complete is to be done again."""
FULL = pytest.mark.full


@pytest.mark.parametrize(
    ("step", "point"),
    [
        pytest.param("symmetrize", "before-part:read", marks=FULL),
        ("symmetrize", "before-part:symmetrize"),
        pytest.param("symmetrize", "before-part:compare", marks=FULL),
        pytest.param("symmetrize", "before-part:divide", marks=FULL),
        pytest.param("symmetrize", "before-part:exchange", marks=FULL),
        pytest.param("symmetrize", "before-round:symm_transform.nxs", marks=FULL),
        pytest.param("pdf", "before-part:read", marks=FULL),
        pytest.param("pdf", "before-part:transform", marks=FULL),
        pytest.param("pdf", "before-round:total_pdf.nxs", marks=FULL),
        pytest.param("pdf", "before-part:punch and fill", marks=FULL),
        pytest.param("pdf", "before-round:symm_transform.nxs", marks=FULL),
        pytest.param("pdf", "before-part:errors", marks=FULL),
        ("pdf", "before-round:pdf.nxs"),
    ],
)
def test_a_volume_that_is_stopped_is_begun_again_to_the_same_bits(reduced, tmp_path, step, point):
    scan, wanted = reduced.copy(tmp_path / "e"), reduced.copy(tmp_path / "wanted")
    before = scan.files()
    what = (step, *AGAIN[step], scan.wrapper)
    stopped = run_mpi(3, KILL_AT, point, 1, "--wish", "--", *what)
    assert stopped.returncode == 75, stopped.stderr
    assert stopped.stderr.count("stopped by SIGUSR1: run the same command again to go on") == 1
    assert not error_lines(stopped)
    assert scan.files() == before
    assert scan.hidden() == []
    for one, n in ((scan, 2), (wanted, 0)):
        ended = run_nxmpi(n, step, *AGAIN[step], one.wrapper)
        assert ended.returncode == 0, ended.stderr
    found, made = volumes(scan), volumes(wanted)
    assert set(found) == set(made)
    for each in made:
        assert not differences(found[each], made[each]), each


@pytest.mark.parametrize("module", ["scipy.linalg", "nxmpi.cli.cut", "rich.console"])
def test_ctrl_c_ends_quietly_at_any_time(fresh, module):
    """While modules are loaded, the last of them by the command itself."""
    process = start_mpi(
        0, "-c", INTERRUPTED_AT, "status", fresh.wrapper, env={"INTERRUPTED_AT": module}
    )
    result = finish(process)
    assert result.returncode in (-signal.SIGINT, 130)  # both are 130 for a shell
    assert result.stdout + result.stderr.strip() == ""


def test_an_interrupt_that_a_shell_ignores_stays_ignored(fresh):
    script = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{INTERRUPTED_AT}"
    for module in ("scipy.linalg", "rich.console"):
        process = start_mpi(
            0, "-c", script, "status", fresh.wrapper, env={"INTERRUPTED_AT": module}
        )
        result = finish(process)
        assert result.returncode == 0, result.stderr
        assert "triclinite_300K" in result.stdout
