"""Run nxmpi, each rank of which tells its process and the frames it works on; slowly, if asked to.

mpiexec -n N python tests/system/tell_frames.py FOLDER PAUSE -- <nxmpi arguments>

FOLDER/RANK.pid is the process of a rank, once it heeds signals. FOLDER/RANK.frames gets a line
``FILE FRAME FRAME …`` whenever frames have been read, and PAUSE seconds have passed: they are about
to be worked on. Lines outlive the process, however it ends. FOLDER/RANK.status is what it ends
with, unless it is killed. `system.observed` is for the tests that start all that.
"""

import os
import sys
import time
from pathlib import Path


def tell(folder, pause):
    """Write down the process of this rank, and all frames that are read from here on."""
    from nxmpi.cli import main
    from nxmpi.nexus.frames import StackReader

    from mpi4py import MPI  # isort: skip - after nxmpi: see nxmpi/__init__.py

    rank, files = MPI.COMM_WORLD.rank, {}
    told = os.open(folder / f"{rank}.frames", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    heed_signals, begin, read = main.heed_signals, StackReader.__init__, StackReader.read

    def told_heed_signals():
        heed_signals()
        written = folder / f"{rank}.writing"
        written.write_text(str(os.getpid()))
        written.rename(folder / f"{rank}.pid")

    def told_begin(self, raw, *args, **options):
        begin(self, raw, *args, **options)
        files[self] = raw.file.name

    def told_read(self, frames, *args):
        result = read(self, frames, *args)
        time.sleep(pause)
        os.write(told, f"{files[self]} {' '.join(str(n) for n in frames)}\n".encode())
        return result

    main.heed_signals, StackReader.__init__, StackReader.read = (
        told_heed_signals, told_begin, told_read,
    )  # fmt: skip
    return rank


def main():
    if sys.argv[3:4] != ["--"]:
        sys.exit(__doc__)
    folder, pause = Path(sys.argv[1]), float(sys.argv[2])
    rank = tell(folder, pause)
    sys.argv = ["nxmpi", *sys.argv[4:]]
    from nxmpi.cli.main import main as nxmpi_main

    try:
        nxmpi_main()
    except SystemExit as end:
        (folder / f"{rank}.status").write_text(str(end.code or 0))
        raise


if __name__ == "__main__":
    main()
