"""Who holds a lock: host, boot, process and job; and whether that process has ended."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from nxmpi.log import now

State = Literal["running", "ended", "unknown"]
"""Of a process; ``ended`` and ``running`` are certain."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """A process, told apart from all others on all hosts at all times."""

    host: str
    boot_id: str
    """Of the host's kernel; empty where it gives none."""
    pid: int
    pid_namespace: str
    """In which ``pid`` counts: a container has its own."""
    start_time: int
    """Of the process, in ticks since the boot, as a pid is used again; 0 where unknown."""
    job: str
    """Batch job; empty outside of one."""
    since: str
    """When the lock was taken, ISO 8601."""
    restarts: int = 0
    """How often Slurm had put the job back into its queue."""
    cluster: str = ""
    """Whose job it is, as Slurm names it; empty where that is not known."""

    @classmethod
    def here(cls) -> Owner:
        """Return this process, now."""
        return cls(
            host=socket.gethostname(),
            boot_id=_boot_id(),
            pid=os.getpid(),
            pid_namespace=_pid_namespace(),
            start_time=_stat(os.getpid())[1],
            job=os.environ.get("SLURM_JOB_ID") or os.environ.get("PBS_JOBID") or "",
            since=now(),
            restarts=_restarts(),
            cluster=os.environ.get("SLURM_CLUSTER_NAME", ""),
        )

    @classmethod
    def parse(cls, content: bytes) -> Owner | None:
        """Return the owner a lock names, None if the content is something else."""
        try:
            record = json.loads(content)
            pid, start_time = int(record["pid"]), int(record["start_time"])
            numbers = {"pid": pid, "start_time": start_time}
            return cls(**{**record, **numbers, "restarts": int(record.get("restarts", 0))})
        except (ValueError, TypeError, KeyError):
            return None

    def content(self) -> bytes:
        """Return what stands in a lock of this owner."""
        return f"{json.dumps(asdict(self))}\n".encode()

    def state(self) -> State:
        """Return whether the process still runs, as far as that is certain from here.

        Slurm starts a job again only after its earlier run, wherever that was.
        """
        if self.job and self.job == os.environ.get("SLURM_JOB_ID") and self.restarts < _restarts():
            return "ended"
        if self.host != socket.gethostname():
            return "unknown"
        if self.boot_id != _boot_id():
            # hosts without a name of their own share this one
            return "unknown" if self.host.startswith("localhost") else "ended"
        if self.pid_namespace != _pid_namespace():
            return "unknown"
        return "running" if is_running(self.pid, self.start_time) else "ended"

    def __str__(self) -> str:
        job = f" (job {self.job})" if self.job else ""
        return f"process {self.pid} on {self.host}{job} since {self.since}"


def is_running(pid: int, start_time: int = 0) -> bool:
    """Return False if a process of this host has ended for certain.

    Parameters
    ----------
    pid : int
        Process number.
    start_time : int, optional
        Ticks since the boot; a process of another start time is another one. 0 for any.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    state, started = _stat(pid)
    return state not in ("Z", "X") and (0 in (start_time, started) or started == start_time)


def _restarts() -> int:
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def _stat(pid: int) -> tuple[str, int]:
    """Return state and start time of a process, ``("", 0)`` where /proc does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return "", 0
    fields = text.rpartition(")")[2].split()  # the name before it may contain anything
    return fields[0], int(fields[19])


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""
