"""Where the programs begin: whether MPI is started is settled before anything imports it."""

from __future__ import annotations

import os
import signal
import sys

import mpi4py

from nxmpi.parallel.launch import launched_size

OF_ONE_PROCESS = (
    "submit", "status", "cancel", "logs", "plan", "unlock", "plot", "export", "predict",
    "--help", "--version",
)  # fmt: skip
"""What is called on login nodes, some of which have no MPI."""


def main() -> None:
    """Run ``nxmpi``."""
    _end_at_interrupt()
    command = next((word for word in sys.argv[1:] if word != "--verbose"), "--help")
    alone = command in OF_ONE_PROCESS and "--calibrate" not in sys.argv
    if alone and launched_size(os.environ) == 1:
        mpi4py.rc.initialize = False
    from nxmpi.cli.main import main as run_main

    run_main()


def main_of_nxcctw() -> None:
    """Run ``nxcctw``."""
    _end_at_interrupt()
    from nxmpi.cli.main import main as run_main
    from nxmpi.cli.nxcctw import nxcctw

    run_main(nxcctw)


def _end_at_interrupt() -> None:
    """Let SIGINT end the process at once while there is nothing to be undone, unless ignored."""
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
