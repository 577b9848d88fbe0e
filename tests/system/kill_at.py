"""Run nxmpi, one rank of which kills itself at a named point, mostly of a write.

mpiexec -n N python tests/system/kill_at.py POINT RANK [--stop | --wish] -- <nxmpi arguments>

With ``--stop`` it only stops, until somebody sends it SIGCONT; with ``--wish`` it gets SIGUSR1.

A point is ``before-fsync:NAME``, ``before-replace:NAME`` or ``after-replace:NAME``: the file with
the final name NAME is written but perhaps not on disk, is complete under its temporary name, has
its name. ``after-copy:NAME``: the temporary copy of NAME is made and not yet changed. NAME may be a
pattern (``*.bin``). ``before-batch:frames``: frames are read, and about to be gone through.
``before-exchange:bricks``, ``after-exchange:bricks``: bricks go to their owners, while the other
ranks may be in the same call. ``before-part:NAME``: a part of a step, as its last line tells of
them, is about to begin. ``before-round:NAME``, ``after-round:NAME``: all ranks write NAME.
With ``#2`` at the end, the second time; else the first. Only what the rank RANK itself does
counts, and publishing is done by rank 0.
"""

import fnmatch
import os
import shutil
import signal
import sys
from pathlib import Path


def point_reached(point, number):
    """Return a function that is told of every point, and signals the process at the given one."""
    wanted, _, occurrence = point.partition("#")
    left = int(occurrence or 1)

    def reached(kind, path):
        nonlocal left
        name = Path(path).name
        if name.startswith(".") and name.endswith(".tmp"):
            name = name[1:-4]
        if fnmatch.fnmatch(f"{kind}:{name}", wanted):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), number)

    return reached


def patch(reached):
    """Tell of what is done to files on the way, from here on."""
    replace, fsync, copyfile = os.replace, os.fsync, shutil.copyfile

    def told_replace(source, target, **options):
        reached("before-replace", target)
        replace(source, target, **options)
        reached("after-replace", target)

    def told_fsync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        reached("before-fsync", path)
        fsync(descriptor)
        reached("after-fsync", path)

    def told_copyfile(source, target, **options):
        copied = copyfile(source, target, **options)
        reached("after-copy", target)
        return copied

    os.replace, os.fsync, shutil.copyfile = told_replace, told_fsync, told_copyfile

    from nxmpi.stages.own_frames import OwnFrames

    add_batch = OwnFrames.add_batch

    def told_add_batch(self, *batch):
        reached("before-batch", "frames")
        add_batch(self, *batch)

    OwnFrames.add_batch = told_add_batch

    from nxmpi.parallel.h5 import Output
    from nxmpi.parallel.timing import Timer
    from nxmpi.stages import bricks

    part = Timer.part

    def told_part(self, name):
        reached("before-part", name)
        return part(self, name)

    Timer.part = told_part

    exchange, write_round = bricks.exchange, Output.write_round

    def told_exchange(*words):
        reached("before-exchange", "bricks")
        received = exchange(*words)
        reached("after-exchange", "bricks")
        return received

    def told_write_round(self, pieces):
        name = self.file.filename if self.file else "of another rank"
        reached("before-round", name)
        write_round(self, pieces)
        reached("after-round", name)

    bricks.exchange, Output.write_round = told_exchange, told_write_round


def main():
    if "--" not in sys.argv[3:5] or ":" not in sys.argv[1]:
        sys.exit(__doc__)
    point, rank = sys.argv[1:3]
    options, arguments = sys.argv[3 : sys.argv.index("--")], sys.argv[sys.argv.index("--") + 1 :]
    number = {"--stop": signal.SIGSTOP, "--wish": signal.SIGUSR1}.get(
        *options or [""], signal.SIGKILL
    )
    from nxmpi.cli.main import main as nxmpi_main

    from mpi4py import MPI  # isort: skip - after nxmpi: see nxmpi/__init__.py

    if MPI.COMM_WORLD.rank == int(rank):
        patch(point_reached(point, number))
    sys.argv = ["nxmpi", *arguments]
    nxmpi_main()


if __name__ == "__main__":
    main()
