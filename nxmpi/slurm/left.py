"""Locks that jobs hold: whether these still run, on whatever host that is."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import TYPE_CHECKING

from nxmpi.slurm.command import BatchError, ask
from nxmpi.slurm.queue import queued

if TYPE_CHECKING:
    from nxmpi.parallel.locks import Ask, Lock
    from nxmpi.parallel.owner import State


def ask_slurm() -> Ask:
    """Return a function that says whether the job that holds a lock still runs.

    It asks Slurm once, about the locks that were there before.

    Notes
    -----
    A job of this cluster that is not in the queue has ended for certain, unless it is somebody
    else's and the site lets no user see those of others (PrivateData).
    """
    cluster, numbers = cache(_cluster), cache(lambda: {item.number for item in queued()})

    def state_of(lock: Lock) -> State:
        owner = lock.holder
        if owner is None or not owner.job.isdecimal():
            return lock.state
        try:
            name, private = cluster()
            if owner.cluster != name:
                return lock.state
            if owner.job in numbers():
                return "running"
        except BatchError:
            return lock.state
        return lock.state if private and not _is_ours(lock) else "ended"

    return state_of


def _cluster() -> tuple[str, bool]:
    """Return the name of the cluster, and whether it hides jobs of others."""
    text = ask("scontrol", "show", "config")
    settings = dict(re.findall(r"^(ClusterName|PrivateData)\s*=\s*(\S+)", text, re.MULTILINE))
    return settings.get("ClusterName", "(unknown)"), "jobs" in settings.get("PrivateData", "jobs")


def _is_ours(lock: Lock) -> bool:
    try:
        return lock.path.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return False
