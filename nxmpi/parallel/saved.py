"""What one rank has done of its work, saved in the middle of it."""

from __future__ import annotations

import logging
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.parallel.publish import remove_quietly, temporary

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

log = logging.getLogger(__name__)
KEY = "key"


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A file of named arrays, of one rank alone. Nothing here is collective."""

    path: Path
    key: str
    """Of all that the work depends on; what was saved under another one is not used."""

    def load(self) -> dict[str, NDArray[Any]] | None:
        """Return what was saved last, None if there is nothing of use."""
        if not self.path.exists():
            return None
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                arrays = dict(saved)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            log.warning("%s: not used, it cannot be read: %s", self.path, error)
            return None
        return arrays if str(arrays.pop(KEY, "")) == self.key else None

    def save(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Save arrays in the place of earlier ones; return False if that is not possible.

        It is a warning then: the work goes on, and what was saved earlier stays. What
        was saved outlives the process; it is not forced to disk, and a file that the end of the
        machine cut short has wrong sums and is not used.
        """
        written = temporary(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with written.open("wb") as file:
                np.savez(file, allow_pickle=False, **{KEY: np.array(self.key)}, **arrays)
            written.replace(self.path)
        except OSError as error:
            log.warning("%s: not saved: %s", self.path, error)
            remove_quietly(written)
            return False
        return True
