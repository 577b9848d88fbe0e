"""Logging: the root speaks, the others only warn; and the time, for records."""

import logging
import sys
from datetime import datetime


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
    logger = logging.getLogger("nxmpi")
    logger.handlers[:] = [handler]
    logger.propagate = False
    quiet = logging.WARNING if rank else logging.INFO
    logger.setLevel(logging.DEBUG if verbose else quiet)


def now() -> str:
    """Return the time, for records: ISO with its zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")
