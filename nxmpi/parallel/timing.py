"""What the parts of a stage took: seconds, bytes between ranks, memory; and the line that tells."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nxmpi.parallel.traffic import sent_until_now, total_sent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpi4py import MPI

    from nxmpi.parallel.traffic import Kind

MIB = 2**20
KINDS: dict[Kind, str] = {"found": "of what was found", "written": "for the root to write"}


class Timer:
    """Seconds by part of a stage, on this rank, and bytes that it sends meanwhile."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.sent_before = sent_until_now()
        self.parts: defaultdict[str, float] = defaultdict(float)
        self.inner = [0.0]
        """Seconds of what ended within each part that is under way, the outermost first."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the body to a part, less that of parts within it. Not collective."""
        start = time.perf_counter()
        self.inner.append(0.0)
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.parts[name] += seconds - self.inner.pop()
            self.inner[-1] += seconds

    def summary(self, comm: MPI.Intracomm) -> str:
        """Return total seconds (min, mean, max over ranks), the share of each part, and the rest.

        Collective on ``comm``. The rest is the largest memory that any rank has had so far, and
        the bytes that all sent, see `nxmpi.parallel.traffic`.
        """
        total = time.perf_counter() - self.start
        everyone = comm.allgather((total, dict(self.parts)))
        totals = [seconds for seconds, _ in everyone]
        mean = sum(totals) / len(totals)
        text = f"{mean:.1f} s (min {min(totals):.1f}, max {max(totals):.1f})"
        names = dict.fromkeys(name for _, parts in everyone for name in parts)
        for name in names:
            share = sum(parts.get(name, 0.0) for _, parts in everyone) / max(sum(totals), 1e-9)
            text += f", {name} {100 * share:.0f} %"
        if peak := max(comm.allgather(peak_memory())):
            text += f", {peak / MIB:.0f} MiB a rank"
        sent = total_sent(comm, self.sent_before)
        if comm.size > 1:
            text += f", {sent['arrays']} bytes sent"
            text += "".join(f" and {sent[kind]} {KINDS[kind]}" for kind in KINDS if sent[kind])
        return text


def peak_memory() -> int:
    """Return the most memory that this process has had, 0 where nobody says it [bytes].

    Not collective. Not that of `resource`, which begins with what the parent process had.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else 0
