"""Slurm: command lines of sbatch, and submission of a chain.

Another batch system is another module with the same functions.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from nxmpi.errors import NxmpiError
from nxmpi.slurm.chain import MATCHING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from nxmpi.params import SubmitParams
    from nxmpi.slurm.chain import Planned


class BatchError(NxmpiError):
    """What the batch system refused."""


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
    settings = {
        "job-name": planned.name,
        "output": f"{planned.log}-{'%A_%a' if planned.tasks else '%j'}.log",
        "nodes": params.nodes,
        "ntasks-per-node": params.ranks_per_node,
        "account": params.account,
        "partition": params.partition,
        "time": params.time,
        "mem": params.mem,
        "constraint": params.constraint,
        "array": ",".join(str(task) for task in planned.tasks) or None,
        "dependency": ",".join(
            f"{'aftercorr' if wait.tasks == MATCHING else 'afterok'}:{ids[wait.index]}"
            for wait in planned.waits
        )
        or None,
        "kill-on-invalid-dep": "yes" if planned.waits else None,
        "export": ",".join(
            [
                "ALL",
                f"NXMPI_JOBS={params.jobs}",
                *([f"NXMPI_MPI={params.mpi}"] if params.mpi else []),
            ]
        ),
    }
    return [
        "sbatch",
        "--parsable",
        *(f"--{name}={value}" for name, value in settings.items() if value is not None),
        *(["--hold"] if hold else []),
        *params.extra,
        f"{params.jobs / planned.step}.sbatch",
        *(str(wrapper) for wrapper in planned.wrappers),
        *planned.options,
    ]


def shell_script(chain: Sequence[Planned], params: Sequence[SubmitParams]) -> str:
    """Return the lines of a shell that submit a chain, as `submit` does."""
    lines, ids = [], [f"$job{n}" for n in range(1, len(chain) + 1)]
    for planned, its, name in zip(chain, params, ids, strict=True):
        words = command_line(planned, its, ids, hold=not planned.waits)
        lines.append(f"{name[1:]}=$({' '.join(_quoted(word) for word in words)})")
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
        If Slurm refuses a job; those before it are cancelled.
    """
    ids: list[int] = []
    try:
        for planned, its in zip(chain, params, strict=True):
            # the folder is there before a job begins, or its log is lost
            planned.log.parent.mkdir(parents=True, exist_ok=True)
            try:
                said = _run(*command_line(planned, its, ids, hold=not planned.waits))
            except BatchError as error:
                raise BatchError(
                    f"{planned.wrappers[0]}: {planned.step}: {error}; nothing was submitted"
                ) from error
            ids.append(int(said.partition(";")[0]))  # a cluster's name may follow
        recorded(ids)
        held = [n for n, planned in zip(ids, chain, strict=True) if not planned.waits]
        if held:
            _run("scontrol", "release", ",".join(str(n) for n in held))
    except BaseException:
        cancel(str(n) for n in ids)
        raise
    return ids


def cancel(ids: Iterable[str]) -> None:
    """End jobs, waiting or running, by numbers such as 12 or 12_3."""
    names = list(ids)
    if names:
        _run("scancel", *names)


def log_file(log: Path, job: int, task: int | None) -> Path:
    """Return the file that a job writes to."""
    return log.with_name(f"{log.name}-{job}{'' if task is None else f'_{task}'}.log")


def _run(*args: str) -> str:
    """Run a command of Slurm; return what it says.

    Raises
    ------
    BatchError
        If it cannot be run or fails; with its own words.
    """
    try:
        # what MPI put into the environment of this process is not for jobs
        result = subprocess.run(
            args, env=dict(os.environ), capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise BatchError(f"{args[0]}: not found: is this a machine with Slurm?") from None
    if result.returncode:
        lines = [line.removeprefix(f"{args[0]}: error: ") for line in result.stderr.splitlines()]
        raise BatchError(f"{args[0]}: {'; '.join(lines) or f'status {result.returncode}'}")
    return result.stdout.strip()
