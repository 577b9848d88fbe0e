"""Run several commands one after another on the same ranks: starting them takes longest.

mpiexec -n N python tests/system/in_one_job.py COMMANDS.json [nxmpi | nxcctw]

COMMANDS.json is a list of ``{"folder": FOLDER, "args": [...]}``. What a rank prints during a
command goes to FOLDER/RANK.out and FOLDER/RANK.err, the status it would have ended with to
FOLDER/RANK.status. A command that aborts, or hangs, takes the ones after it with it.
"""

import json
import os
import sys
from pathlib import Path


def run(program, comm, folder, args):
    """Run one command and keep what it says."""
    from nxmpi.cli.main import cli
    from nxmpi.cli.main import run as run_command
    from nxmpi.cli.nxcctw import nxcctw

    for descriptor, suffix in ((1, "out"), (2, "err")):
        kept = os.open(folder / f"{comm.rank}.{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(kept, descriptor)
        os.close(kept)
    sys.argv = [program, *args]
    status = run_command(comm, {"nxmpi": cli, "nxcctw": nxcctw}[program])
    sys.stdout.flush()
    (folder / f"{comm.rank}.status").write_text(str(status))


def main():
    import nxmpi  # noqa: F401 - before MPI: see nxmpi/__init__.py

    from mpi4py import MPI  # isort: skip

    path, *program = sys.argv[1:]
    for command in json.loads(Path(path).read_text()):
        run(*(program or ["nxmpi"]), MPI.COMM_WORLD, Path(command["folder"]), command["args"])


if __name__ == "__main__":
    main()
