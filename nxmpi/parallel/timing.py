"""Seconds spent in the parts of a stage, and the line that tells them."""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpi4py import MPI


class Timer:
    """Seconds by part of a stage, on this rank."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.parts: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the body to a part. Not collective."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.parts[name] += time.perf_counter() - start

    def summary(self, comm: MPI.Intracomm) -> str:
        """Return total seconds (min, mean, max over ranks) and the share of each part.

        Collective on ``comm``.
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
        return text
