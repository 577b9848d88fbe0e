"""Slurm: command lines of sbatch, and submission of a chain.

Another batch system is another module with the same functions.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nxmpi.slurm.chain import MATCHING
from nxmpi.slurm.command import OF_OTHERS, BatchError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from nxmpi.slurm.chain import Planned
    from nxmpi.slurm.params import SubmitParams

LAST_NUMBER = "grep -Ex '[0-9]+(;.*)?' | tail -n 1 | cut -d';' -f1"
"""Finds the number of a job in what sbatch says, as `_number` does."""


def command_line(
    planned: Planned, params: SubmitParams, ids: Sequence[int | str], *, hold: bool
) -> list[str]:
    """Return what submits a job.

    Parameters
    ----------
    ids : sequence of int or str
        Of the jobs before it in the chain.
    hold : bool
        Let it wait until it is released.
    """
    dependency = ",".join(
        f"{'aftercorr' if wait.tasks == MATCHING else 'afterok'}:{ids[wait.index]}"
        for wait in planned.waits
    )
    if params.after and not planned.waits:
        dependency = f"afterok:{params.after}"
    settings = {
        "job-name": planned.name,
        "output": _log_pattern(planned),
        "nodes": params.nodes,
        "ntasks-per-node": params.ranks_per_node,
        "account": params.account,
        "partition": params.partition,
        "time": params.time,
        "mem": params.mem,
        "constraint": params.constraint,
        "array": ",".join(str(task) for task in planned.tasks) or None,
        "dependency": dependency or None,
        "kill-on-invalid-dep": "yes" if dependency else None,
        "export": "ALL",
    }
    return [
        "sbatch",
        "--parsable",
        *(f"--{name}={value}" for name, value in settings.items() if value is not None),
        *(["--hold"] if hold else []),
        *params.extra,
        *_script(planned, params),
    ]


def _log_pattern(planned: Planned) -> str:
    """Return the file of a job's log as Slurm reads it, which is `log_file` when it has begun."""
    log = str(planned.log)
    if "\\" in log:  # it puts no number into such a name, and a file name has to have it
        raise BatchError(f"{planned.log.parent}: expected no backslash where Slurm writes logs")
    return f"{log.replace('%', '%%')}-{'%A_%a' if planned.tasks else '%j'}.log"


def _script(planned: Planned, params: SubmitParams) -> list[str]:
    """Return the script of a job and its arguments."""
    scans = (str(wrapper) for wrapper in planned.wrappers)
    return [f"{params.jobs / planned.step}.sbatch", *scans, *planned.options]


def settings_of(params: SubmitParams) -> dict[str, str]:
    """Return what the script of a job, and those that go on in its place, find as variables."""
    settings = {
        "NXMPI_JOBS": str(params.jobs),
        "NXMPI_MPI": params.mpi,
        # what is exported would be stronger than --ntasks-per-node
        "NXMPI_RANKS_PER_NODE": "" if params.ranks_per_node else None,
        "NXMPI_EXTRA": "\n".join(params.extra) or None,
    }
    return {name: value for name, value in settings.items() if value is not None}


def shell_script(chain: Sequence[Planned], params: Sequence[SubmitParams]) -> str:
    """Return the lines of a shell that submit a chain, as `submit` does; none for no jobs."""
    if not chain:
        return ""
    names = [f"job{n}" for n in range(1, len(chain) + 1)]
    lines = [
        "set -euo pipefail",
        f"unset {' '.join(OF_OTHERS)}",
        f"trap 'scancel {' '.join(f'${{{name}-}}' for name in names)}' ERR",
        *(
            f"mkdir -p {shlex.quote(str(folder))}"
            for folder in dict.fromkeys(planned.log.parent for planned in chain)
        ),
    ]
    ids = [f"${name}" for name in names]
    for planned, its, name in zip(chain, params, names, strict=True):
        words = [
            *(f"{key}={shlex.quote(value)}" for key, value in settings_of(its).items()),
            *map(_quoted, command_line(planned, its, ids, hold=not planned.waits)),
        ]
        lines.append(f"{name}=$({' '.join(words)} | {LAST_NUMBER})")
    held = [name for planned, name in zip(chain, ids, strict=True) if not planned.waits]
    return "\n".join([*lines, f"scontrol release {' '.join(held)}"])


def _quoted(word: str) -> str:
    return word if word.startswith("--dependency=") else shlex.quote(word)


def submit(
    chain: Sequence[Planned],
    params: Sequence[SubmitParams],
    recorded: Callable[[list[int]], None],
) -> list[int]:
    """Submit a chain, all of it or nothing; return the numbers of its jobs.

    Jobs that wait for no other are held until everything is submitted and recorded.

    Parameters
    ----------
    params : sequence of SubmitParams
        Of each job.
    recorded : callable
        Gets the numbers before any job can begin.

    Raises
    ------
    BatchError
        If Slurm refuses a job, or a signal to end comes meanwhile; those before it are cancelled.
    """
    _require_this_cluster()
    ids: list[int] = []
    with _all_or_nothing(ids) as require_no_signal:
        for planned, its in zip(chain, params, strict=True):
            # the folder is there before a job begins, or its log is lost
            planned.log.parent.mkdir(parents=True, exist_ok=True)
            try:
                ids.append(_submitted(planned, its, ids))
            except BatchError as error:
                raise BatchError(f"{planned.wrappers[0]}: {planned.step}: {error}") from error
            require_no_signal()
        recorded(ids)
        held = [n for n, planned in zip(ids, chain, strict=True) if not planned.waits]
        if held:
            run("scontrol", "release", ",".join(str(n) for n in held))
    return ids


def _submitted(planned: Planned, params: SubmitParams, ids: Sequence[int]) -> int:
    """Submit one job; return its number, or leave none behind.

    A job may be in the queue although sbatch failed (a controller that answers too late), or told
    no number.
    """
    words = command_line(planned, params, ids, hold=not planned.waits)
    try:
        return _number(run(*words, settings=settings_of(params)))
    except BatchError as error:
        try:
            cancel(_alike(planned, params))
        except BatchError as other:
            raise BatchError(f"{error}; it may be in the queue nevertheless: {other}") from error
        raise BatchError(f"{error}; nothing was submitted") from error


def _number(said: str) -> int:
    """Return the number of a job among what sbatch, or a site around it, says."""
    found = re.findall(r"^(\d+)(?:;.*)?$", said, re.MULTILINE)  # a cluster's name may follow
    if not found:
        last = said.rpartition("\n")[2]
        raise BatchError(f"sbatch: expected the number of a job, found '{last}'")
    return int(found[-1])


def _alike(planned: Planned, params: SubmitParams) -> list[str]:
    """Return the jobs of this user in the queue that have the name and command of a planned one."""
    wanted = f"{planned.name} {' '.join(_script(planned, params))}"
    told = run("squeue", "--me", "--noheader", "--format=%F %j %o").splitlines()
    jobs = (line.partition(" ") for line in told)
    return [number for number, _, job in jobs if job == wanted]


@contextmanager
def _all_or_nothing(ids: list[int]) -> Iterator[Callable[[], None]]:
    """Cancel jobs if something goes wrong; give what raises if a signal to end has come.

    Until the end signals are only noted, or the number of a job just submitted would be lost.
    """
    told: list[int] = []
    handlers = {
        number: signal.getsignal(number)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    }
    before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, lambda got, _: told.append(got))

    def require_no_signal() -> None:
        if told:
            raise BatchError(f"stopped by {signal.Signals(told[0]).name}; nothing was submitted")

    try:
        yield require_no_signal
    except BaseException:
        cancel(str(n) for n in ids)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _require_this_cluster() -> None:
    """Make sure that jobs go to the cluster whose queue is looked at."""
    found = [name for name in ("SBATCH_CLUSTERS", "SLURM_CLUSTERS") if os.environ.get(name)]
    if found:
        raise BatchError(
            f"{found[0]}: expected jobs for the cluster of this machine, found another named: "
            "submit from a machine of that one"
        )


def cancel(ids: Iterable[str]) -> None:
    """End jobs, waiting or running, by numbers such as 12 or 12_3."""
    names = list(ids)
    if names:
        run("scancel", *names)


def log_file(log: Path, job: int, task: int | None) -> Path:
    """Return the file that a job writes to."""
    return log.with_name(f"{log.name}-{job}{'' if task is None else f'_{task}'}.log")
