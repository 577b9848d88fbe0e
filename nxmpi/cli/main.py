"""The group of commands, and the one place that decides how a run ends."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import cast

import click
from mpi4py import MPI

import nxmpi
from nxmpi import log
from nxmpi.cli.cancel import cancel
from nxmpi.cli.check import check
from nxmpi.cli.combine import combine
from nxmpi.cli.cut import cut
from nxmpi.cli.export import export
from nxmpi.cli.frames import frames
from nxmpi.cli.logs import logs
from nxmpi.cli.orient import orient
from nxmpi.cli.pdf import pdf
from nxmpi.cli.plan import plan
from nxmpi.cli.plot import plot
from nxmpi.cli.predict import predict
from nxmpi.cli.reduce import reduce
from nxmpi.cli.simulate import simulate
from nxmpi.cli.slice import slice_
from nxmpi.cli.status import status
from nxmpi.cli.submit import submit
from nxmpi.cli.sum import sum_
from nxmpi.cli.symmetrize import symmetrize
from nxmpi.cli.transform import transform
from nxmpi.cli.unlock import unlock
from nxmpi.errors import CollectiveError, NxmpiError, StoppedError
from nxmpi.parallel.collective import abort, describe, first_to_speak, undo_all
from nxmpi.parallel.h5 import must_not_end_in_order
from nxmpi.parallel.launch import Alone
from nxmpi.parallel.signals import heed_signals
from nxmpi.pipeline.reduce import STEPS

CAN_STOP = ("reduce", *STEPS)
"""Commands that a signal stops where they can be gone on with; it ends the others at once."""

INTERRUPTED = 128 + signal.SIGINT
"""Status that shells know."""


@click.group()
@click.version_option(nxmpi.__version__)
@click.option("--verbose", is_flag=True, help="Log everything, on every rank.")
@click.pass_context
def cli(context: click.Context, *, verbose: bool) -> None:
    """Reduce single-crystal diffuse x-ray scattering, on any number of ranks.

    \b
    mpiexec -n 4 nxmpi reduce SAMPLE/LABEL/SAMPLE_SCAN.nxs
    """
    log.configure(context.obj.rank, context.obj.size, verbose=verbose)
    if context.invoked_subcommand in CAN_STOP:
        heed_signals()


for command in (
    reduce,
    frames,
    orient,
    transform,
    combine,
    symmetrize,
    pdf,
    slice_,
    cut,
    sum_,
    plan,
    plot,
    export,
    predict,
    simulate,
    check,
    unlock,
    submit,
    status,
    cancel,
    logs,
):
    cli.add_command(command)


def main(command: click.Command = cli) -> None:
    """Run the command; fail once, with one message, on all ranks together."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:  # as the start left it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    comm = MPI.COMM_WORLD if MPI.Is_initialized() else cast("MPI.Intracomm", Alone())
    status = run(comm, command)
    if status and must_not_end_in_order():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def run(comm: MPI.Intracomm, command: click.Command = cli) -> int:
    """Run the command and return the exit status, the same on all ranks.

    Collective on ``comm``, which is the world.
    """
    if comm.rank:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - stdout belongs to rank 0
    with first_to_speak(comm) as may_speak:
        try:
            status = int(command.main(standalone_mode=False, obj=comm) or 0)
        except click.ClickException as error:  # bad usage: the same on every rank
            if comm.rank == 0:
                error.show()
            status = error.exit_code
        except StoppedError as wish:  # of all ranks together
            if comm.rank == 0:
                click.echo(f"{wish}", err=True)
            status = os.EX_TEMPFAIL
        except click.Abort:  # Ctrl-C, which launchers of several ranks hear in their place
            if comm.size > 1:
                abort(comm, "interrupted" if may_speak() else None)
            undo_all()
            status = INTERRUPTED
        except Exception as error:  # noqa: BLE001 - the one exit
            together = comm.size == 1 or isinstance(error, CollectiveError)
            if not (together and isinstance(error, NxmpiError)):
                speaks = may_speak()
                if speaks:
                    traceback.print_exc()
                abort(comm, describe(error) if speaks else None)  # the others may be waiting
            if comm.rank == 0:
                click.echo(f"Error: {describe(error)}", err=True)
            status = 1
    return status
