"""Work saved in the middle of a step: two generations, the manifest renamed last."""

from __future__ import annotations

import json
import logging
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.errors import CollectiveError
from nxmpi.parallel.collective import all_or_none, on_root
from nxmpi.parallel.publish import publish_text, remove_quietly

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mpi4py import MPI

    from nxmpi._typing import I8

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"


class Checkpoint:
    """Saves and loads numbered arrays of integers, and a state, in a folder of its own.

    The manifest names the generation that is complete. A generation that a crash left
    incomplete is never named, and is overwritten by the next.
    """

    def __init__(self, folder: Path, key: str) -> None:
        """Not collective.

        Parameters
        ----------
        folder : Path
            Seen by all ranks.
        key : str
            Of all that the work depends on; what was saved under another one is not used.
        """
        self.folder = folder
        self.key = key
        self.generation = 0

    def load(self, comm: MPI.Intracomm) -> tuple[object | None, Iterator[tuple[int, I8]]]:
        """Return the state and this rank's share of the arrays, or None and nothing.

        Collective on ``comm``. However many ranks saved, each array reaches one rank.
        """
        manifest = on_root(comm, self._read_manifest)
        if manifest is None:
            return None, iter(())
        self.generation = manifest["generation"] + 1  # other work's too is kept until then
        if manifest["key"] != self.key:
            return None, iter(())
        return manifest["state"], self._pieces(manifest["files"][comm.rank :: comm.size])

    def _read_manifest(self) -> dict[str, Any] | None:
        path = self.folder / MANIFEST
        return json.loads(path.read_text()) if path.exists() else None

    def _pieces(self, names: list[str]) -> Iterator[tuple[int, I8]]:
        for name in names:
            with (self.folder / name).open("rb") as file:
                while (header := np.fromfile(file, np.int64, 2)).size:
                    yield int(header[0]), np.fromfile(file, np.int64, int(header[1]))

    def save(
        self, comm: MPI.Intracomm, state: object, pieces: Iterable[tuple[int, I8]]
    ) -> None:  # fmt: skip
        """Save every rank's arrays and the root's state.

        Collective on ``comm``. A checkpoint that cannot be written is a warning: the work goes
        on, and an earlier one stays.

        Parameters
        ----------
        state : object
            What JSON can hold.
        pieces : iterable of (number, (n,) int64)
        """
        name = f"{self.generation % 2}-{{}}.bin"
        try:
            with all_or_none(comm):
                self.folder.mkdir(parents=True, exist_ok=True)
                with (self.folder / name.format(comm.rank)).open("wb") as file:
                    for number, words in pieces:
                        file.write(np.array([number, words.size]).tobytes())
                        file.write(np.ascontiguousarray(words).data)
                    file.flush()
                    os.fsync(file.fileno())
            files = [name.format(rank) for rank in range(comm.size)]
            on_root(comm, lambda: self._write_manifest(state, files))
        except CollectiveError as error:
            if comm.rank == 0:
                log.warning("no checkpoint was written: %s", error)
            remove_quietly(self.folder / name.format(comm.rank))
            return
        self.generation += 1

    def _write_manifest(self, state: object, files: list[str]) -> None:
        manifest = {
            "key": self.key, "generation": self.generation, "state": state, "files": files,
        }  # fmt: skip
        publish_text(self.folder / MANIFEST, json.dumps(manifest))

    def remove(self) -> None:
        """Remove all that was saved. Not collective: the root calls it."""
        shutil.rmtree(self.folder, ignore_errors=True)
