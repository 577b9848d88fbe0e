"""What a program says of itself, and the command lines that it is given."""

import sys
import time
from pathlib import Path

import pytest

from nxmpi.cctw.dialect import Places, ask, transform_command
from nxmpi.errors import InputError

PLACES = Places(
    frames="in.nxs#/data", mask="in.nxs#/mask", weights=["in.nxs#/weight"], output="out.nxs#/data"
)


@pytest.fixture
def program(tmp_path):
    def make(text):
        path = tmp_path / "cctw"
        path.write_text(f"#!{sys.executable}\nimport sys, time\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.mark.parametrize(
    ("text", "version", "knows_pixels", "takes_chunks"),
    [
        ("print('0.2.3')", "cctw 0.2.3", False, True),
        ("print('MESSAGE: 12:30:00 CCTW version 0.2.2')", "cctw 0.2.2", False, True),
        ("print('cctw 1.0', file=sys.stderr); sys.exit(1)", "cctw 1.0", True, False),
        ("print('CCTW Version 0.2.10')", "cctw 0.2.10", True, False),
        ("print('nxcctw, version 0.1.0')", "nxcctw 0.1.0", True, True),
        (
            "print('/opt/cctw/1.4/lib/libhdf5.so: HDF5 1.10.8 is newer', file=sys.stderr, "
            "flush=True); print('Qt 5.15.2: cctw has no display'); print('CCTW Version: v0.2.3')",
            "cctw 0.2.3",
            False,
            True,
        ),
        ("print('CCTW (Crystal Coordinates) of 2022, 0.2.3')", "cctw 0.2.3", False, True),
        ("print('cctw 0.2.3' if '--help' in sys.argv else 'usage')", "cctw 0.2.3", False, True),
    ],
)
def test_dialect_is_what_the_program_says(program, text, version, knows_pixels, takes_chunks):
    found = ask(program(text))
    assert (found.version, found.knows_pixels) == (version, knows_pixels)
    assert found.takes_chunks == takes_chunks
    assert found.takes_virtual == version.startswith("nxcctw")


def test_program_on_the_path_is_found(program, monkeypatch, tmp_path):
    path = program("print('0.2.3')")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask("cctw").path == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("print('hello')", "expected a version, found hello"),
        ("", "expected a version, found nothing"),
        ("print('HDF5 1.10.8: warning')", "expected a version, found HDF5"),
        ("time.sleep(100)", "still at work after"),
    ],
)
def test_program_that_does_not_answer_is_refused(program, text, message, monkeypatch):
    monkeypatch.setattr("nxmpi.cctw.dialect.ANSWER_TIME", 0.5)
    with pytest.raises(InputError, match=message):
        ask(program(text))


def test_missing_program_is_refused(tmp_path):
    with pytest.raises(InputError, match="expected the program CCTW"):
        ask(str(tmp_path / "none"))


def test_file_that_is_no_program_is_refused(tmp_path):
    path = tmp_path / "cctw"
    path.write_bytes(b"\x7fELF no")
    path.chmod(0o755)
    with pytest.raises(InputError, match=r"expected a version, found .*cannot be started"):
        ask(str(path))


def test_program_that_is_asked_ends_with_all_that_it_started(program, monkeypatch, tmp_path):
    monkeypatch.setattr("nxmpi.cctw.dialect.ANSWER_TIME", 1.0)
    path = program(
        "import subprocess\nother = subprocess.Popen(['sleep', '100'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(other.pid))\nother.wait()"
    )
    with pytest.raises(InputError, match="still at work"):
        ask(path)
    words = Path(f"/proc/{(tmp_path / 'pid').read_text()}/cmdline")
    deadline = time.monotonic() + 5
    while words.exists() and words.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not words.exists() or not words.read_text()  # gone, or waits to be buried


def test_wish_to_stop_is_heard_while_a_program_is_asked(program):
    wish = time.monotonic() + 0.5
    assert ask(program("time.sleep(100)"), lambda: time.monotonic() > wish) is None
    assert time.monotonic() - wish < 5


@pytest.mark.parametrize(("n", "threads"), [(1, "1"), (2, "3"), (7, "8")])
def test_one_thread_more_than_works(program, n, threads):
    command = transform_command(ask(program("print('0.2.3')")), "a.pars", PLACES, n)
    assert command[command.index("--threads") + 1] == threads


def test_command_line_is_that_of_the_reference(program):
    words = transform_command(ask(program("print('0.2.3')")), "a.pars", PLACES, 1)
    assert words[1:] == [
        "transform", "--script", "a.pars", "--mask", "in.nxs#/mask", "--weights", "in.nxs#/weight",
        "--output", "out.nxs#/data", "--normalization", "0", "--threads", "1", "in.nxs#/data",
    ]  # fmt: skip


def test_mask_of_frames_and_second_weights(program):
    both = Places(
        frames=PLACES.frames, mask=PLACES.mask, weights=["in.nxs#/a", "in.nxs#/b"],
        output=PLACES.output, mask3d="in.nxs#/mask3d",
    )  # fmt: skip
    words = transform_command(ask(program("print('1.2')")), "a.pars", both, 1)
    assert words[words.index("--mask3d") + 1] == "in.nxs#/mask3d"
    assert [words[i + 1] for i, word in enumerate(words) if word == "--weights"] == [
        "in.nxs#/a", "in.nxs#/b",
    ]  # fmt: skip
