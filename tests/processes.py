"""Processes that tests started, and what has become of them."""

import time
from pathlib import Path


def is_alive(pid):
    """Return whether a process is there and has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def wait_until_gone(pid, limit=8.0):
    """Return whether a process ends within so many seconds."""
    deadline = time.monotonic() + limit
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)
