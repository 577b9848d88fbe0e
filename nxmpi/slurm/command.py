"""Commands of Slurm: how they are run, and how they fail."""

from __future__ import annotations

import os
import re
import subprocess
from types import MappingProxyType
from typing import TYPE_CHECKING

from nxmpi.errors import NxmpiError

if TYPE_CHECKING:
    from collections.abc import Mapping

OF_THIS_RUN = (
    "SLURM_", "SQUEUE_", "PMI_", "PMIX_", "PRTE_", "OMPI_COMM_", "OMPI_MCA_orte_", "OMPI_MCA_ess",
)  # fmt: skip
"""Variables that Slurm and MPI give to what they start, and what would hide jobs from squeue."""
OF_THE_USER = ("SLURM_CONF", "SLURM_JWT")
"""Variables among these without which no command reaches Slurm."""
OF_OTHERS = (
    "NXMPI_EXTRA", "NXMPI_FIRST_JOB", "NXMPI_WENT_ON", "SBATCH_ARRAY_INX", "SBATCH_ERROR",
    "SBATCH_NO_REQUEUE", "SBATCH_OPEN_MODE", "SBATCH_SIGNAL", "SBATCH_WAIT",
)  # fmt: skip
"""Variables that jobs which went on have, or that override what the scripts say to sbatch."""
ANSWER = 30.0
"""How long Slurm may take to answer a question [s]."""


class BatchError(NxmpiError):
    """What the batch system refused."""


class NoSlurmError(BatchError):
    """There is no Slurm on this machine."""


def ask(*args: str) -> str:
    """Return what a command of Slurm says within `ANSWER`; fails as `run` does."""
    return run(*args, limit=ANSWER)


def run(
    *args: str, settings: Mapping[str, str] = MappingProxyType({}), limit: float | None = None
) -> str:
    """Run a command of Slurm; return what it says.

    Parameters
    ----------
    settings : mapping of str to str
        Further variables.
    limit : float or None
        How long it may take [s]; None for as long as it takes.

    Raises
    ------
    NoSlurmError
        If there is no such command.
    BatchError
        If it fails, with its own words, or takes longer.
    """
    try:
        result = subprocess.run(
            args,
            env={**_environment(), **settings},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=limit,
            start_new_session=True,  # the terminal's signals are for this process alone
        )
    except FileNotFoundError:
        raise NoSlurmError(f"{args[0]}: not found: is this a machine with Slurm?") from None
    except subprocess.TimeoutExpired:
        raise BatchError(f"{args[0]}: no answer within {limit:g} s") from None
    if result.returncode:
        lines = [re.sub(r"^\w+: error: ", "", line) for line in result.stderr.splitlines()]
        raise BatchError(f"{args[0]}: {'; '.join(lines) or f'status {result.returncode}'}")
    return result.stdout.strip()


def _environment() -> dict[str, str]:
    """Return the variables of this process but those of its own job or MPI run, or of others."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in OF_THE_USER or not (name.startswith(OF_THIS_RUN) or name in OF_OTHERS)
    }
