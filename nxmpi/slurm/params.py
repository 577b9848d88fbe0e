"""What batch jobs ask for, and what users may not ask sbatch for themselves."""

import re
from dataclasses import dataclass
from pathlib import Path

from nxmpi.errors import InputError

OF_THE_CHAIN = {
    "array": "tasks are the scans given, or the positions of one",
    "clusters": "submit from a machine of that cluster",
    "dependency": "use --after",
    "error": "nxmpi logs and nxmpi status look for it in the log",
    "export": "set variables in environment.sh",
    "export-file": "set variables in environment.sh",
    "hold": "use --extra=--begin=TIME, or scontrol hold afterwards",
    "job-name": "nxmpi status and nxmpi cancel know jobs by it",
    "kill-on-invalid-dep": "what waits for a job that failed is cancelled",
    "output": "nxmpi logs and nxmpi status look for it beside the results",
    "parsable": "it is given already",
    "test-only": "use --dry-run",
    "wait": "use nxmpi status --watch",
    "wrap": "put commands into environment.sh",
}
"""Options of sbatch that are not the user's in a chain of jobs, and what to do about it."""
SHORT = {
    "a": "array", "M": "clusters", "d": "dependency", "e": "error", "H": "hold", "J": "job-name",
    "o": "output", "W": "wait",
}  # fmt: skip
"""The same in one letter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmitParams:
    """What a batch job asks for; None leaves it to the job script or the site."""

    jobs: Path
    """Folder of the job scripts."""
    nodes: int = 1
    ranks_per_node: int | None = None
    account: str | None = None
    partition: str | None = None
    time: str | None = None
    """Limit, as Slurm reads it: 04:00:00."""
    mem: str | None = None
    """Memory of a node, as Slurm reads it: 200G."""
    constraint: str | None = None
    """Features that the nodes must have."""
    mpi: str | None = None
    """How ranks are started: a type of ``srun --mpi``, or mpiexec."""
    after: str | None = None
    """Jobs that must have ended well before any begins, as Slurm reads them: 12 or 12_3:13."""
    extra: tuple[str, ...] = ()
    """Further options of sbatch, but those of `OF_THE_CHAIN`."""

    def __post_init__(self) -> None:
        for name in ("nodes", "ranks_per_node"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: expected 1 or more, found {value}")
        if self.after is not None and not re.fullmatch(r"\d+(_\d+)?(:\d+(_\d+)?)*", self.after):
            raise InputError(f"after: expected jobs as 12 or 12:13, found '{self.after}'")
        for option in self.extra:
            if not re.match(r"--?[A-Za-z]", option):
                raise InputError(f"extra: expected options of sbatch, found '{option}'")
            taken = _taken(option)
            if taken:
                raise InputError(
                    f"extra: expected no --{taken}, found '{option}': {OF_THE_CHAIN[taken]}"
                )


def _taken(option: str) -> str | None:
    """Return which option of `OF_THE_CHAIN` this is, abbreviated or behind other letters too."""
    if option.startswith("--"):
        name = option[2:].partition("=")[0]
        return next((taken for taken in OF_THE_CHAIN if taken.startswith(name)), None)
    letter = re.match(r"-[hOQsvV]*([adeHJMoW])", option)  # behind those that take no value
    return SHORT[letter[1]] if letter else None
