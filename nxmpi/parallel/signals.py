"""A wish to stop: a signal that any rank hears, known to all soon, agreed on by all together."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mpi4py import MPI

from nxmpi.errors import EndedError, StoppedError
from nxmpi.parallel.collective import undo_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

HEEDED = (signal.SIGUSR1, signal.SIGTERM)
FATAL = (signal.SIGTERM, signal.SIGHUP)
_NOTICE = 1
_received: list[str] = []
"""Names of the signals that this process received, as they came."""


def heed_signals() -> None:
    """Take SIGUSR1 and SIGTERM as a wish to stop, for the rest of the process.

    Not collective: every rank calls it, in its main thread.
    """
    _received.clear()
    for number in HEEDED:
        signal.signal(number, _note)
        # a read or write under way is gone on with, also where file systems let it be interrupted
        signal.siginterrupt(number, False)


def undo_at_signals() -> None:
    """Let SIGTERM and SIGHUP end the process when what it would leave behind is undone.

    Not collective: every rank calls it, in its main thread. Each undoes all: the others may be
    waiting where they hear nothing. See `nxmpi.parallel.collective.at_abort`.
    """
    for number in FATAL:
        signal.signal(number, _undo_and_end)


def _undo_and_end(number: int, frame: FrameType | None) -> None:
    undo_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _note(number: int, frame: FrameType | None) -> None:
    _received.append(signal.Signals(number).name)


def _first_received() -> str | None:
    return _received[0] if _received else None


def stop_if_wished(comm: MPI.Intracomm) -> None:
    """Stop here, before something that is left to do, if any rank heard a wish to.

    Collective on ``comm``: one allgather.

    Raises
    ------
    StoppedError
        On every rank.
    """
    name = wished(comm)
    if name is not None:
        raise StoppedError(name)


def wished(comm: MPI.Intracomm) -> str | None:
    """Return the signal that the lowest rank heard of those that did, None if none did.

    Collective on ``comm``: one allgather; the same on every rank.
    """
    return next((name for name in comm.allgather(_first_received()) if name is not None), None)


class Wishes:
    """What a rank in a loop without communication hears of a wish to stop; see `wishes`."""

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm = comm
        self._sent: list[MPI.Request] = []
        self._told = False
        self._failed = False
        self._known = False

    @property
    def known(self) -> bool:
        """A wish or a failure was heard of: for threads, which must not use MPI."""
        return self._known or self._failed

    def heard(self) -> bool:
        """Return whether this rank knows of a wish or a failure, and pass it on the first time.

        Not collective, and without waiting: to be called after each piece of work, and again and
        again while waiting for the others.
        """
        comm = self._comm
        if self._known:
            return True
        source = MPI.ANY_SOURCE if comm.rank == 0 else 0
        noticed, own = comm.Iprobe(source, _NOTICE), bool(_received) or self._failed
        if comm.rank == 0 and (noticed or own):
            self._tell(range(1, comm.size))
        elif own and not noticed:
            self._tell((0,))
        self._known = noticed or own
        return self._known

    @contextmanager
    def failure_passed_on(self) -> Iterator[None]:
        """Let all hear of it, as of a wish to stop, if the body fails on this rank.

        Not collective. For a body in an `all_or_none` that calls `heard` while
        it waits for the others.
        """
        try:
            yield
        except EndedError:
            raise
        except Exception:
            self._failed = True
            raise

    def _tell(self, ranks: range | tuple[int, ...]) -> None:
        self._sent = [self._comm.Isend(b"", rank, _NOTICE) for rank in ranks]
        self._told = True

    def agreed(self) -> str | None:
        """Return the signal that the lowest rank received of those that did, None if none did.

        Collective on the communicator: one allgather; the same on every rank. No notice is under
        way afterwards.
        """
        comm = self._comm
        everyone = comm.allgather((self._told, _first_received()))
        for rank in range(1, comm.size) if comm.rank == 0 else (0,):
            if everyone[rank][0]:
                comm.Recv(bytearray(), rank, _NOTICE)
        MPI.Request.Waitall(self._sent)
        self._sent, self._told = [], False
        name = next((name for _, name in everyone if name is not None), None)
        self._known = name is not None
        return name


@contextmanager
def wishes(comm: MPI.Intracomm) -> Iterator[Wishes]:
    """Let ranks that work by themselves hear of a wish to stop that any of them has.

    Collective on ``comm``, which is duplicated, and again when the body ends well.

    Notes
    -----
    A rank that received a signal sends an empty message to the root, and the root one to each
    rank. So all know after two looks, whoever it was; a look without a wish costs a microsecond;
    and of any number of ranks none but the root sends, or is sent, more than one message. What
    waits for others in a loop of its own (see `nxmpi.parallel.collective.all_or_none`) looks too.
    """
    own = comm.Dup()
    yield Wishes(own)
    own.Free()
