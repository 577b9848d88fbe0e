"""Locks: one per step of a position while it is computed, a short one while publishing.

A lock is a hidden file beside the wrapper that names its `Owner`. It appears with its content,
and is taken over only from a process of this host, or an earlier run of this job, that has ended
for certain.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shlex
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nxmpi.errors import InputError, LockedError
from nxmpi.parallel.collective import at_abort, on_root
from nxmpi.parallel.owner import Owner, State, is_running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpi4py import MPI

log = logging.getLogger(__name__)

PUBLISHING = "publish"
WAIT = 120.0
"""How long publishing waits for others, unless NX_LOCK says otherwise as for nexusformat [s]."""
NEXUSFORMAT_EXPIRY = 8 * 3600
"""Age after which nexusformat takes no notice of a lock of its own [s]."""
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file as it was found."""

    path: Path
    subject: str
    """What it locks: ``f1 transform``, ``publish``."""
    content: bytes
    owner: str
    """Who holds it, for messages."""
    state: State
    """Of the owner."""
    holder: Owner | None = None
    """None where the lock names none."""


Ask = Callable[[Lock], State]
"""Says of a lock whose owner is unknown here in which state that is, if somebody else knows."""


@contextmanager
def step_lock(comm: MPI.Intracomm, wrapper: Path, entry: str, step: str) -> Iterator[None]:
    """Hold the lock of one step of one position; other positions stay free.

    Collective on ``comm``: the root takes the lock and, at the end, removes it; if the job is
    aborted, the rank that does so.

    Raises
    ------
    CollectiveError
        On every rank, if somebody else holds it; says who, and what to do.
    """
    path = _lock_path(wrapper, entry, step)
    content = on_root(comm, lambda: _take_step(wrapper, path))
    with at_abort(lambda: _release(path, content)):
        try:
            yield
        finally:
            if comm.rank == 0:
                _release(path, content)


@contextmanager
def publish_lock(wrapper: Path, *, limit: float | None = None) -> Iterator[None]:
    """Hold the lock of publishing, and nexusformat's, while a wrapper is changed.

    Not collective: for the root. Waits for others that hold one of them.

    Parameters
    ----------
    wrapper : Path
        May be a symbolic link.
    limit : float, optional
        Longest time to wait [s]; by default that of NX_LOCK, or else `WAIT`.

    Raises
    ------
    LockedError
        If one of them is still held then; says by whom, and what to do.
    """
    deadline = time.monotonic() + (_longest_wait() if limit is None else limit)
    owner = Owner.here()
    with (
        _waited_for(wrapper, _lock_path(wrapper, PUBLISHING), owner.content(), deadline),
        _waited_for(wrapper, nexusformat_lock(wrapper), _address(owner), deadline),
    ):
        yield


def _longest_wait() -> float:
    text = os.environ.get("NX_LOCK", "")
    return float(text) if text.isdecimal() and int(text) else WAIT


def list_locks(wrapper: Path, ask: Ask | None = None) -> list[Lock]:
    """Return all locks of a wrapper, nexusformat's included. Not collective.

    Parameters
    ----------
    ask : callable, optional
        Asked about owners of whom it is not known here whether they still run, after all locks
        were read.
    """
    wrapper = wrapper.resolve()
    prefix = f".{wrapper.name}."
    paths = [
        path
        for path in wrapper.parent.iterdir()
        if path.name.startswith(prefix) and path.suffix == ".lock"
    ]
    read = [_read(path) for path in (*sorted(paths), nexusformat_lock(wrapper))]
    found = [lock for lock in read if lock is not None]
    if ask is not None:
        found = [
            replace(lock, state=ask(lock)) if lock.state == "unknown" else lock for lock in found
        ]
    states = {_address(lock.holder): lock.state for lock in found if lock.subject == PUBLISHING}
    return [
        replace(lock, state=states.get(lock.content, lock.state))
        if (lock.subject, lock.state) == ("", "unknown")
        else lock
        for lock in found
    ]


def remove_locks(
    wrapper: Path, *, force: bool = False, ask: Ask | None = None
) -> tuple[list[Lock], list[Lock]]:
    """Remove the locks whose owners have ended for certain.

    Not collective: for the root.

    Parameters
    ----------
    wrapper : Path
        May be a symbolic link.
    force : bool, optional
        Remove the others too.
    ask : callable, optional
        As for `list_locks`. No two processes are to remove what it says has ended at once.

    Returns
    -------
    removed, kept : list of Lock
        All that were found.
    """
    removed, kept = [], []
    for lock in list_locks(wrapper, ask):
        if force:
            lock.path.unlink(missing_ok=True)
            removed.append(lock)
        elif lock.state == "ended" and _remove_left(lock):
            removed.append(lock)
        else:
            kept.append(lock)
    return removed, kept


def nexusformat_lock(wrapper: Path) -> Path:
    """Return the lock file that nexusformat uses for a wrapper."""
    wrapper = wrapper.resolve()
    suffix = f"{wrapper.suffix}.lock"
    directory = os.environ.get("NX_LOCKDIRECTORY", "")
    if directory in ("", "None", "none"):
        return wrapper.with_suffix(suffix)
    folder = Path(directory).resolve()
    if not folder.is_dir():
        raise InputError(f"NX_LOCKDIRECTORY: expected a folder, found {directory}")
    return folder.joinpath("!!".join(wrapper.parts[1:])).with_suffix(suffix)


def _lock_path(wrapper: Path, *subject: str) -> Path:
    wrapper = wrapper.resolve()  # one lock, whatever link leads there
    return wrapper.with_name(".".join(("", wrapper.name, *subject, "lock")))


def _address(owner: Owner | None) -> bytes:
    """Return what nexusformat writes into a lock of this owner."""
    return f"{owner.pid}@{owner.host}".encode() if owner else b""


def _take_step(wrapper: Path, path: Path) -> bytes:
    content = Owner.here().content()
    holder = _take(path, content)
    if holder is not None:
        raise LockedError(refusal(wrapper, holder))
    for lock in remove_locks(wrapper)[0]:  # NXRefine would wait for one
        log.info("%s: left behind by %s; removed", lock.path.name, lock.owner)
    return content


@contextmanager
def _waited_for(wrapper: Path, path: Path, content: bytes, deadline: float) -> Iterator[None]:
    pause = 0.1
    while (holder := _take(path, content)) is not None:
        if time.monotonic() + pause > deadline:
            raise LockedError(refusal(wrapper, holder))
        if pause == 0.1:
            log.info("%s: waiting for %s", wrapper, holder.owner)
        time.sleep(pause)
        pause = min(1.0, 1.5 * pause)
    try:
        yield
    finally:
        _release(path, content)


def refusal(wrapper: Path, lock: Lock) -> str:
    """Return why one cannot go on while somebody has a lock, and what to do."""
    unlock = f"`nxmpi unlock --force {shlex.quote(str(wrapper))}`"
    if lock.subject == "":
        return (
            f"{wrapper}: locked by {lock.owner} ({lock.path}); wait until it is closed there, "
            f"or, if nobody uses it any more, {unlock}"
        )
    doing = "being published" if lock.subject == PUBLISHING else "being computed"
    what = "it" if lock.subject == PUBLISHING else lock.subject
    if lock.state == "running":
        return f"{wrapper}: {what} is {doing} by {lock.owner}; wait for it, or end that process"
    return (
        f"{wrapper}: {what} is {doing} by {lock.owner}, of which it is not known here whether it "
        f"still runs; wait for it, or, if it has ended, {unlock}"
    )


def _take(path: Path, content: bytes) -> Lock | None:
    """Take a lock; return None, or the lock of the one who holds it."""
    while not _create(path, content):
        holder = _read(path)
        if holder is None:
            continue  # released since
        if holder.state != "ended":
            return holder
        if not _remove_left(holder):
            time.sleep(0.01)
            continue
        log.info("%s: left behind by %s; taken over", path.name, holder.owner)
    return None


def _create(path: Path, content: bytes) -> bool:
    """Create a file that has its content from the first; return False if the name is taken."""
    try:
        return _create_hidden(path, content)
    except OSError as error:
        raise InputError(
            f"{path.parent}: expected a folder to make a lock in, found: {error.strerror}"
        ) from error


def _create_hidden(path: Path, content: bytes) -> bool:
    hidden = f".{path.name.removeprefix('.')}."
    descriptor, name = tempfile.mkstemp(prefix=hidden, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)  # for others to read who holds it
        try:
            os.link(name, path)
        except FileExistsError:
            # NFS can lose the answer to a link that it made
            return Path(name).stat().st_nlink == 2
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            return _create_in_place(path, content)
    finally:
        Path(name).unlink()
    return True


def _create_in_place(path: Path, content: bytes) -> bool:
    try:
        with path.open("xb") as file:
            file.write(content)
    except FileExistsError:
        return False
    return True


def _read(path: Path) -> Lock | None:
    """Return what a lock file says, None where there is none."""
    try:
        content = path.read_bytes()
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
    if not path.name.startswith("."):
        return _read_nexusformat(path, content, age)
    entry, step = path.name.split(".")[-3:-1]
    subject = step if step == PUBLISHING else f"{entry} {step}"
    owner = Owner.parse(content)
    if owner is None:
        return Lock(path, subject, content, f"an unknown process ({path})", "unknown")
    return Lock(path, subject, content, str(owner), owner.state(), owner)


def _read_nexusformat(path: Path, content: bytes, age: float) -> Lock:
    text = content.decode(errors="replace")
    pid, _, host = text.partition("@")
    state: State = "unknown"
    if host == socket.gethostname() and pid.isdecimal():
        state = "running" if is_running(int(pid)) else "ended"
    expiry = int(os.environ.get("NX_LOCKEXPIRY", NEXUSFORMAT_EXPIRY))
    if 0 < expiry < age:
        state = "ended"  # it may still run, but nexusformat would not wait for it either
    return Lock(path, "", content, text or "nobody", state)


def _release(path: Path, content: bytes) -> None:
    try:
        if path.read_bytes() == content:
            path.unlink()
        else:
            log.warning("%s: taken by somebody else meanwhile", path)
    except FileNotFoundError:
        log.debug("%s: released already", path)
    except OSError as error:
        log.warning("%s: cannot be removed: %s", path, error)


def _remove_left(lock: Lock) -> bool:
    """Remove a lock whose owner has ended; return False if somebody was faster.

    Only processes of the owner's host do this, and of those one at a time. So what is removed is
    what was read: nobody else may touch it, and a new lock cannot have come in its place.
    """
    name = hashlib.sha256(os.fsencode(lock.path)).hexdigest()
    with socket.socket(socket.AF_UNIX) as turn:
        try:
            # a name, not a file: it goes with the process
            turn.bind(f"\0nxmpi {name}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        now = _read(lock.path)
        if now is None:
            return lock.subject == ""  # it went with that of publishing
        if now.content != lock.content:
            return False
        if lock.subject == PUBLISHING:
            _remove_other(lock)
        lock.path.unlink(missing_ok=True)
    return True


def _remove_other(lock: Lock) -> None:
    """Remove the lock of nexusformat that the owner of a lock of publishing left with it."""
    wrapper = lock.path.with_name(lock.path.name[1 : -len(f".{PUBLISHING}.lock")])
    other = _read(nexusformat_lock(wrapper))
    if other and other.content == _address(lock.holder) and other.state != "running":
        other.path.unlink(missing_ok=True)
