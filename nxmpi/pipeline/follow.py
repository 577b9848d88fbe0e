"""Positions one after another, as the detector writes them."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from nxmpi.errors import EndedError, StoppedError
from nxmpi.nexus.stack import follow_stack
from nxmpi.nexus.values import chosen_entries, open_file
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.signals import wishes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi.params import ScanParams

log = logging.getLogger(__name__)


def positions_in_turn(
    comm: MPI.Intracomm, path: Path, params: ScanParams
) -> Iterator[tuple[str, ...]]:
    """Give names of positions of a scan that are read together.

    Collective on ``comm``, between one and the next too. All of them together; if they are
    followed, one by one, each when there is a file of its frames.

    Raises
    ------
    CollectiveError
        On every rank, if there is none after a time, or it cannot be followed.
    StoppedError
        On every rank, if any hears a wish to stop meanwhile.
    """
    if params.follow is None or params.settings:  # which are for one position
        yield params.entries
        return
    for name in on_root(comm, lambda: _names(path, params)):
        _wait_for_file(comm, path, name, params.follow)
        yield (name,)


def _names(path: Path, params: ScanParams) -> list[str]:
    with open_file(path) as wrapper:
        return chosen_entries(wrapper, params.entries)


def _wait_for_file(comm: MPI.Intracomm, path: Path, name: str, limit: float) -> None:
    with wishes(comm) as wish:
        with all_or_none(comm, wish.heard), suppress(EndedError):
            if comm.rank == 0:
                with open_file(path) as wrapper:
                    log.info("%s: following its frames", name)
                    follow_stack(wrapper[name], limit, wish.heard)
        signal = wish.agreed()
    if signal is not None:
        raise StoppedError(signal)
