"""How far a long step is: a bar on a terminal, a line now and then in a batch log."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpi4py import MPI

log = logging.getLogger(__name__)
LINE_SECONDS = 10.0
"""Least time between two lines of a log."""


class Progress(Protocol):
    """What is told how far the work is."""

    def advance(self, n: int) -> None:
        """Say that ``n`` more items are done."""


class _Silent:
    def advance(self, n: int) -> None:
        pass


class _Lines:
    def __init__(self, name: str, total: int, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self.start = self.last = time.monotonic()

    def advance(self, n: int) -> None:
        self.done += n
        now = time.monotonic()
        if now - self.last < LINE_SECONDS:
            return
        self.last = now
        rate = self.done / (now - self.start)
        left = (self.total - self.done) / rate if rate else 0.0
        log.info(
            "%s: %d of %d %s, %.1f/s, %.0f s left",
            self.name, self.done, self.total, self.unit, rate, left,
        )  # fmt: skip


@contextmanager
def progress(comm: MPI.Intracomm, name: str, total: int, unit: str) -> Iterator[Progress]:
    """Tell of the root's own share of the work.

    Not collective. The other ranks get an object that says nothing.

    Parameters
    ----------
    name : str
        Of the step.
    total : int
        Items of this rank.
    unit : str
        What they are, in the plural.
    """
    if comm.rank or not log.isEnabledFor(logging.INFO):
        yield _Silent()
    elif not sys.stderr.isatty():
        yield _Lines(name, total, unit)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TextColumn("{task.fields[rate]:.1f}/s"), TimeRemainingColumn(),
        )  # fmt: skip
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(name, total=total, rate=0.0)

            class _Terminal:
                def advance(self, n: int) -> None:
                    bar.update(task, advance=n, rate=bar.tasks[0].speed or 0.0)

            yield _Terminal()
