"""Work that succeeds on all ranks or fails on all, with one message."""

from __future__ import annotations

import logging
import pickle
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn, TypeVar

from mpi4py import MPI

from nxmpi.errors import CollectiveError, NxmpiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_TEXT = 600
"""Characters of a message: a path and a sentence fit, a stack of HDF5 does not."""
HEARING_TIME = 0.5
"""How long a failed rank listens before it speaks [s]: many times the way of a message."""
DYING_TIME = 30.0
"""After which a rank that nobody ended ends the job itself [s]."""
SHORT_PAUSE, LONG_PAUSE = 5e-5, 2e-3
"""Between two looks whether all ranks are there: grows from the first to the second [s]."""
_NOTICE = 1
_at_abort: list[Callable[[], None]] = []


def describe(error: BaseException) -> str:
    """Return what an error says, in one line.

    Of an `NxmpiError` the message alone; of what the system refuses the file and why; of others the
    name of their type comes before the message. A long text is shortened, but for the first.
    """
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip())
    if isinstance(error, NxmpiError):
        return text
    if isinstance(error, OSError) and error.strerror:
        file = error.filename if error.filename2 is None else error.filename2
        text = error.strerror if file is None else f"{file}: {error.strerror}"
    else:
        text = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if len(text) > LONGEST_TEXT:
        # the first lines of a stack say what failed, the last why
        half = LONGEST_TEXT // 2
        text = f"{text[:half].rstrip()} … {text[-half:].lstrip()}"
    return text


@contextmanager
def all_or_none(
    comm: MPI.Intracomm, meanwhile: Callable[[], object] | None = None
) -> Iterator[None]:
    """Fail on every rank if the body fails on any.

    Collective on ``comm``: one allgather at the end, which is waited for by `wait_for_all`. The
    body itself must not communicate.

    Parameters
    ----------
    meanwhile : callable, optional
        Called again and again while this rank waits for the others; must not wait or fail.

    Raises
    ------
    CollectiveError
        On every rank, with the text of the lowest that failed; names the ranks unless all did.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as caught:  # re-raised below, on every rank
        log.debug("failed on rank %d", comm.rank, exc_info=True)
        error = caught
    wait_for_all(comm, meanwhile)
    texts = comm.allgather(None if error is None else describe(error))
    failed = [rank for rank, text in enumerate(texts) if text is not None]
    if failed:
        raise CollectiveError(f"{texts[failed[0]]}{_some_of(failed, comm.size)}") from error


def wait_for_all(comm: MPI.Intracomm, meanwhile: Callable[[], object] | None = None) -> None:
    """Wait until every rank is here, and leave the processor to others meanwhile.

    Collective on ``comm``: a barrier. MPI's own waiting takes all of a core, from the threads
    that read ahead too.

    Parameters
    ----------
    meanwhile : callable, optional
        Called again and again; must not wait or fail.
    """
    request, pause = comm.Ibarrier(), 0.0
    while not request.Test():
        if meanwhile is not None:
            meanwhile()
        time.sleep(pause)
        pause = min(pause + SHORT_PAUSE, LONG_PAUSE)


def _some_of(failed: list[int], size: int) -> str:
    if len(failed) == size:
        return ""
    numbers = ", ".join(str(rank) for rank in failed)
    return f" [rank {numbers}]" if len(failed) == 1 else f" [ranks {numbers}]"


def answers_of_all(
    comm: MPI.Intracomm, function: Callable[[], T], meanwhile: Callable[[], object] | None = None
) -> list[T] | None:
    """Call a function on every rank and return what all of them returned; None if any failed.

    Collective on ``comm``: one allgather of the pickled results, which should be small, waited
    for by `wait_for_all`. The function must not communicate. What it raises goes on on its own
    rank alone: for work that is part of an `all_or_none` of more ranks, which None leads out of.

    Parameters
    ----------
    meanwhile : callable, optional
        As in `wait_for_all`.
    """
    answer: tuple[T] | None = None
    try:
        answer = (function(),)
    finally:
        wait_for_all(comm, meanwhile)
        answers = comm.allgather(answer)
    found = [each[0] for each in answers if each is not None]
    return found if len(found) == comm.size else None


def on_root(comm: MPI.Intracomm, function: Callable[[], T]) -> T:
    """Call a function on the root and return its result on every rank.

    Collective on ``comm``: one broadcast of the pickled result, which should be small, waited for
    by `wait_for_all`. The function must not communicate.

    Raises
    ------
    CollectiveError
        On every rank, if the function fails or returns what cannot be pickled.
    """
    answer: tuple[str | None, bytes] = (None, b"")
    error: Exception | None = None
    if comm.rank == 0:
        try:
            answer = (None, pickle.dumps(function()))
        except Exception as caught:  # re-raised below, on every rank
            log.debug("failed on the root", exc_info=True)
            error, answer = caught, (describe(caught), b"")
    wait_for_all(comm)
    text, result = comm.bcast(answer)
    if text is not None:
        raise CollectiveError(text) from error
    value: T = pickle.loads(result)
    return value


def kept_on_root(comm: MPI.Intracomm, function: Callable[[], T]) -> T | None:
    """Call a function on the root and return its result there, None on the other ranks.

    Collective on ``comm``, like `on_root`, for results that are too large to send.
    """
    kept: list[T] = []
    on_root(comm, lambda: kept.append(function()))
    return kept[0] if kept else None


@contextmanager
def split(comm: MPI.Intracomm, color: int) -> Iterator[MPI.Intracomm]:
    """Give the ranks of one color a communicator of their own, in their order.

    Collective on ``comm``.
    """
    part = MPI.Intracomm(comm.Split(color, comm.rank))
    try:
        yield part
    finally:
        part.Free()


@contextmanager
def first_to_speak(comm: MPI.Intracomm) -> Iterator[Callable[[], bool]]:
    """Give ranks that fail a way to find the one among them that tells the user.

    Collective on ``comm``, and again when the body ends well; after an exception nothing is
    waited for. What it yields is not collective: called by any number of ranks, at any time,
    while the others may hang in a collective, it returns True on one of them.

    Notes
    -----
    A failed rank sends a notice to the higher ranks, listens for `HEARING_TIME`, and speaks if
    it heard nothing; before that it sends a notice to the lower ones too. Whoever hears one is
    silent. So of ranks that fail together the lowest speaks, and of others the first. Counters
    in a window would be simpler, but Open MPI 4 has none between nodes without UCX for programs
    with threads, and they wait until the root is inside MPI.
    """
    notices = comm.Dup()
    yield lambda: _may_speak(notices)
    notices.Free()


def _may_speak(comm: MPI.Intracomm) -> bool:
    if comm.size == 1:
        return True
    sent: list[MPI.Request] = []
    for rank in range(comm.rank + 1, comm.size):
        if comm.Iprobe(tag=_NOTICE):
            return False
        sent.append(comm.Isend(b"", rank, _NOTICE))
    deadline = time.monotonic() + HEARING_TIME
    while time.monotonic() < deadline:
        if comm.Iprobe(tag=_NOTICE):
            return False
        time.sleep(0.005)
    # decided: one who now went back on it would have silenced others for nothing
    sent.extend(comm.Isend(b"", rank, _NOTICE) for rank in range(comm.rank))
    deadline = time.monotonic() + 0.1
    while not MPI.Request.Testall(sent) and time.monotonic() < deadline:
        time.sleep(0.005)
    return True


@contextmanager
def at_abort(undo: Callable[[], None]) -> Iterator[None]:
    """Have something undone should the job be aborted during the body.

    Not collective, but for all ranks: the one that aborts the job calls its own ``undo``, once
    or after it was called already. Failures of all ranks together do not call it.

    Parameters
    ----------
    undo : callable
        Removes what would be left behind: a lock, a half-written file.
    """
    _at_abort.append(undo)
    try:
        yield
    except CollectiveError:
        _at_abort.remove(undo)
        raise
    _at_abort.remove(undo)  # after any other exception it stays: the job is going to be aborted


def undo_all() -> None:
    """Undo what `at_abort` was given, the last first. Not collective."""
    for undo in reversed(_at_abort):
        with suppress(OSError):
            undo()


@contextmanager
def or_abort(comm: MPI.Intracomm, file: Path | None = None) -> Iterator[None]:
    """End the whole job, with one line on standard error, if the body fails on any rank.

    Collective on ``comm``. For bodies in which the other ranks may wait for one that failed,
    such as collective calls of HDF5. A body that fails on all ranks together, with a
    `CollectiveError`, raises it as it is; so does the failure of a single rank.

    Parameters
    ----------
    file : Path, optional
        What is being worked on; comes before the message if that does not name it.
    """
    with first_to_speak(comm) as may_speak:
        try:
            yield
        except CollectiveError:
            raise
        except Exception as error:
            log.debug("failed on rank %d", comm.rank, exc_info=True)
            text = describe(error)
            if file is not None and file.name not in text:
                text = f"{file}: {text}"
            if comm.size == 1:
                raise CollectiveError(text) from error
            abort(comm, text if may_speak() else None)


def abort(comm: MPI.Intracomm, text: str | None) -> NoReturn:
    """End the job on all ranks, with one line from the rank that may speak. Not collective.

    Parameters
    ----------
    text : str or None
        None on the ranks that another one speaks for.
    """
    if text is None:
        time.sleep(DYING_TIME)  # the one that speaks ends this process too
    else:
        sys.stderr.write(f"Error: {text}\n")
        sys.stderr.flush()
        undo_all()
    comm.Abort(1)
    raise AssertionError("unreachable: the job was aborted")
