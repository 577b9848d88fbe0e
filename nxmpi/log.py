"""Logging: the root speaks, the others only warn; and the time, for records."""

import logging
import sys
from datetime import datetime

ONCE = {"once": True}
"""Extra of a record of which the log has only the first with the same text."""


def configure(rank: int, size: int, *, verbose: bool) -> None:
    """Send the package's log to standard error, tagged with the rank. Not collective.

    Parameters
    ----------
    rank, size : int
        This process among all; rank 0 logs at INFO, the others at WARNING.
    verbose : bool
        Log at DEBUG on every rank.
    """
    handler = logging.StreamHandler(sys.stderr)
    tag = f"[{rank}/{size}] " if size > 1 else ""
    handler.setFormatter(logging.Formatter(f"%(asctime)s {tag}%(message)s", "%H:%M:%S"))
    told: set[str] = set()
    handler.addFilter(lambda record: not hasattr(record, "once") or _add(told, record.getMessage()))
    logger = logging.getLogger("nxmpi")
    logger.handlers[:] = [handler]
    logger.propagate = False
    quiet = logging.WARNING if rank else logging.INFO
    logger.setLevel(logging.DEBUG if verbose else quiet)


def _add(told: set[str], text: str) -> bool:
    """Return whether a text is new to a set, in which it is afterwards."""
    is_new = text not in told
    told.add(text)
    return is_new


def now() -> str:
    """Return the time, for records: ISO with its zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
