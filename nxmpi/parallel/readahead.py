"""Read a batch in the background while the one before it is worked on."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

PAUSE = 0.05
"""Between two calls while a batch is waited for [s]."""

Batch = TypeVar("Batch")
Result = TypeVar("Result")


def read_ahead(
    read: Callable[[Batch], Result], batches: Iterable[Batch], depth: int = 1,
    meanwhile: Callable[[], object] = int,
) -> Generator[tuple[Batch, Result]]:  # fmt: skip
    """Yield batches with what was read of them, in order. Not collective.

    One thread reads, which must not use MPI; it gains where reading waits for a disk, or
    where there is a core for it. Closing the iterator waits for the read under way.

    Parameters
    ----------
    read : function
        Called with a batch, one at a time. What it raises is raised to the caller where the
        result would have come.
    batches : iterable
    depth : int
        Batches read before they are asked for; 0 reads without a thread.
    meanwhile : callable, optional
        Called again and again, not by the thread, while a batch is waited for.

    Notes
    -----
    The next read begins once the caller asks for the next batch: a caller that has let go of
    a result by then holds, with those read ahead, ``depth`` + 1 of them, so that ``read`` may
    fill as many buffers in turn.
    """
    if depth == 0:
        for batch in batches:
            yield batch, read(batch)
        return
    waiting = iter(batches)
    pending: deque[tuple[Batch, Future[Result]]] = deque()
    with ThreadPoolExecutor(1, "read-ahead") as pool:

        def submit(n: int) -> None:
            for _, batch in zip(range(n), waiting, strict=False):
                pending.append((batch, pool.submit(read, batch)))

        try:
            submit(depth)
            while True:
                submit(1)
                if not pending:
                    return
                while not wait([pending[0][1]], PAUSE).done:
                    meanwhile()
                yield _finished(*pending.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _finished(batch: Batch, future: Future[Result]) -> tuple[Batch, Result]:
    """Wait, and leave the result to the caller alone."""
    return batch, future.result()
