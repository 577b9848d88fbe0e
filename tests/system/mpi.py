"""Start programs under mpiexec, with a hard limit, from tests that are no MPI job themselves."""

import json
import os
import signal
import subprocess
import sys

LIMIT = 120.0
"""Seconds after which a run is killed, and the test fails."""
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
}


def clean_environment(changes=None):
    """Return this environment without what MPI put into it, with settings for small runs.

    Parameters
    ----------
    changes : mapping of str to (str or None), optional
        Variables to set; None to leave one out.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMPI_", "PMIX_", "PRTE_", "PMI_"))
    }
    for name, value in (SETTINGS | dict(changes or {})).items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    return environment


def start_mpi(n, *args, env=None, **options):
    """Start ``mpiexec -n N python ARGS`` in a process group of its own.

    Parameters
    ----------
    n : int
        Ranks; 0 starts ``python ARGS`` without mpiexec.
    args : str or Path
        Arguments of Python.
    env : mapping of str to (str or None), optional
        Changes of the environment.
    options
        For `subprocess.Popen`.
    """
    launcher = ["mpiexec", "-n", str(n)] if n else []
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*launcher, sys.executable, *map(str, args)],
        env=clean_environment(env),
        start_new_session=True,
        text=True,
        **(pipes | options),
    )


def finish(process, limit=LIMIT):
    """Wait for a process of `start_mpi`; kill its group when the limit is over.

    Returns
    -------
    CompletedProcess

    Raises
    ------
    subprocess.TimeoutExpired
        With what was printed until then.
    """
    try:
        stdout, stderr = process.communicate(timeout=limit)
    except BaseException as error:
        _kill_group(process)
        stdout, stderr = process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            error.output, error.stderr = stdout, stderr
            error.add_note(f"printed until then:\n{stdout}\n{stderr}")
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def _kill_group(process):
    # mpiexec ends its ranks on SIGTERM; each has a group of its own
    for number, wait in ((signal.SIGTERM, 5.0), (signal.SIGKILL, None)):
        try:
            os.killpg(process.pid, number)
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return


def run_mpi(n, *args, timeout=LIMIT, env=None, limit=None, **options):
    """Run ``mpiexec -n N python ARGS`` to its end.

    Parameters
    ----------
    n, args, env, options
        As for `start_mpi`.
    timeout : float, optional
        Seconds after which the whole group is killed.
    limit : mapping of str to int, optional
        Limits of each rank, as in `resource`: ``{"FSIZE": 100_000}`` is a disk soon full.

    Returns
    -------
    CompletedProcess
        With text; the exit status is not checked.
    """
    if limit is not None:
        args = ("-c", _LIMITED, json.dumps(limit), *args)
    return finish(start_mpi(n, *args, env=env, **options), timeout)


_LIMITED = """
import json, os, resource, sys
for name, value in json.loads(sys.argv[1]).items():
    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def run_nxmpi(n, *args, **options):
    """Run ``mpiexec -n N nxmpi ARGS`` to its end; see `run_mpi`."""
    return run_mpi(n, "-m", "nxmpi", *args, **options)


def error_lines(result):
    """Return the lines of a run in which it tells the user of a failure."""
    return [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
