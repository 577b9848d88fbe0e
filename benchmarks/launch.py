"""Scripts as programs of their own, and the middle of what several runs of one printed."""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MPI_OWN = ("OMPI_COMM", "PMIX_", "PRTE_")
"""Variables of an MPI job, which another one must not see."""


def run(command, timeout=900, settings=None):
    """Run a program in this folder; return the JSON of its last line, or end with its errors."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(MPI_OWN)
    } | (settings or {})
    done = subprocess.run(
        [str(word) for word in command], cwd=HERE,
        env=environment, capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(done.args)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def run_ranks(ranks, script, *arguments, timeout=900, free=False):
    """Run a script of this folder under mpiexec, on any core if ``free``, not the first ones."""
    command = ["mpiexec", "-n", ranks, sys.executable, HERE / script, *arguments]
    return run(command, timeout, {"OMPI_MCA_hwloc_base_binding_policy": "none"} if free else None)


def median(rows):
    """Return the medians of the numbers in like rows, also of those in a dictionary of a row.

    Texts are kept where all rows have the same.
    """
    return {key: _middle([row[key] for row in rows]) for key in rows[0]}


def _middle(values):
    if isinstance(values[0], dict):
        return median(values)
    if isinstance(values[0], str):
        return values[0] if len(set(values)) == 1 else "differs between runs"
    return statistics.median(values)
