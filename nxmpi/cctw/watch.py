"""A program that is run and watched: what it prints, how far it is, how long it may take."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import hdf5plugin

from nxmpi.cctw import guard
from nxmpi.cctw.printed import Printed
from nxmpi.errors import NxmpiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nxmpi.parallel.progress import Progress

LOOK = 0.1
"""Between two looks at signals and limits [s]."""
GRACE = 5.0
"""From asking a program to end until it is ended [s]."""
HASTE = 0.4
"""The same on a wish to stop: mpiexec, told to end, kills this process one second later [s]."""
PLUGINS = "HDF5_PLUGIN_PATH"
MPI_PREFIXES = ("OMPI_", "PMIX_", "PRTE_", "PMI_")
"""Of the variables by which a program would take itself for a rank of this job."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a program may take, and what it may fail to read."""

    time: float | None = None
    """In all [s]; None for any time."""
    silence: float | None = None
    """Without printing anything [s]."""
    unneeded: frozenset[int] = frozenset()
    """Numbers of the chunks that it reads for nothing."""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How a program ended."""

    stopped: bool
    """It was ended, because of a wish to stop."""
    wrong: str | None
    """What is wrong with its end."""
    printed: Printed


def run_watched(
    command: Sequence[str], folder: Path, limits: Limits, processors: Sequence[int] = (),
    bar: Progress | None = None, is_stopped: Callable[[], bool] = lambda: False,
) -> Ran:  # fmt: skip
    """Run a program that is to end well; see `let_run`.

    Returns
    -------
    Ran
        That nothing is wrong says little; see `nxmpi.cctw.result`.

    Raises
    ------
    NxmpiError
        If something is, with the last lines that it printed.
    """
    ran = let_run(command, folder, limits, processors, bar, is_stopped)
    if ran.wrong is not None:
        raise NxmpiError(
            f"{Path(command[0]).name}: expected it to end well, found {ran.wrong}; it printed: "
            f"{ran.printed}"
        )
    return ran


def let_run(
    command: Sequence[str], folder: Path, limits: Limits, processors: Sequence[int] = (),
    bar: Progress | None = None, is_stopped: Callable[[], bool] = lambda: False,
) -> Ran:  # fmt: skip
    """Run a program in a process group of its own to its end, which is that of the whole group.

    Not collective. The group ends too when this process does, even if it is killed.

    Parameters
    ----------
    folder : Path
        In which it runs.
    processors : sequence of int, optional
        Those it may use; this process's by default.
    bar : Progress, optional
        Of 100 percent.
    is_stopped : callable, optional
        Called again and again; must not wait.

    Returns
    -------
    Ran
        Wrong is that it cannot be started, tells of an error, takes too long, prints nothing for
        too long, or ends with a status other than 0, unless it was stopped.
    """
    printed = Printed(unneeded=limits.unneeded)
    numbers = ",".join(str(number) for number in processors)
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, numbers, *command],
        cwd=folder,
        env=environment(os.environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    stopped = False
    try:
        stopped, wrong = _watch(process, printed, limits, bar, is_stopped)
    finally:
        _end_group(process, HASTE if stopped else GRACE)
    if not stopped and wrong is None and process.returncode:
        wrong = f"status {process.returncode}"
        if process.returncode > 128:
            wrong += f" ({signal.strsignal(process.returncode - 128) or 'a signal'})"
    return Ran(stopped=stopped, wrong=wrong, printed=printed)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those by which a program would take part in this MPI job.

    The plugins that HDF5 finds are those of the variables, then those that this package brings.
    """
    left = {n: value for n, value in variables.items() if not n.startswith(MPI_PREFIXES)}
    plugins = [left.get(PLUGINS, ""), hdf5plugin.PLUGIN_PATH]
    return left | {PLUGINS: os.pathsep.join(path for path in plugins if path)}


def _watch(
    process: subprocess.Popen[bytes], printed: Printed, limits: Limits, bar: Progress | None,
    is_stopped: Callable[[], bool],
) -> tuple[bool, str | None]:  # fmt: skip
    """Read what is printed until the end; return whether to stop, and what is wrong."""
    assert process.stdout is not None
    start = heard = time.monotonic()
    shown = 0
    os.set_blocking(process.stdout.fileno(), False)
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            ended = process_ended(process.pid)
            selector.select(0 if ended else LOOK)
            data = _read(process.stdout)
            now = time.monotonic()
            heard = now if data else heard
            trouble = printed.add(data) if data else None
            if trouble:
                return False, f"'{trouble}'"
            if bar is not None and printed.percent > shown:
                bar.advance(min(printed.percent, 100) - min(shown, 100))
                shown = printed.percent
            if ended and not data:
                trouble = printed.finish()
                return False, f"'{trouble}'" if trouble else None
            if is_stopped():
                return True, None
            if limits.time is not None and now - start > limits.time:
                return False, f"it still at work after {limits.time / 60:g} minutes"
            if limits.silence is not None and now - heard > limits.silence:
                return False, f"it silent for {limits.silence / 60:g} minutes"
            if data is None:  # its output is closed, yet it goes on
                time.sleep(LOOK)


def _read(stdout: IO[bytes]) -> bytes | None:
    """Return what there is to read, nothing if there is nothing yet, None at the end."""
    try:
        return os.read(stdout.fileno(), 2**16) or None
    except BlockingIOError:
        return b""


def process_ended(pid: int) -> bool:
    """Return whether a child has ended, which is left to be waited for."""
    options = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, pid, options) is not None


def _end_group(process: subprocess.Popen[bytes], grace: float) -> None:
    """End what is left of a process group, and wait for its head, which keeps its number taken."""
    if not process_ended(process.pid):
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while not process_ended(process.pid) and time.monotonic() < deadline:
            time.sleep(LOOK / 10)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
