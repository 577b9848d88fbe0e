"""What one rank has done of its work, saved in the middle of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.parallel.publish import remove_quietly

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = dict[str, NDArray[Any]]

log = logging.getLogger(__name__)
KEY, NUMBER = "key", "number"


@dataclass(kw_only=True)
class Saved:
    """Named arrays of one rank alone, in two files in turn. Nothing here is collective.

    One of the two is always whole: files are written over where they are, which is several times
    as fast as to write new ones. What was saved outlives the process; it is not forced to disk, and
    a file that was cut short has wrong sums and is not used.
    """

    path: Path
    """Without the ending."""
    key: str
    """Of all that the work depends on; what was saved under another one is not used."""
    number: int = 0
    """How often it was saved."""

    @property
    def files(self) -> tuple[Path, Path]:
        """The two files."""
        one, other = (self.path.with_name(f"{self.path.name}.{i}.npz") for i in range(2))
        return one, other

    def load(self) -> Arrays | None:
        """Return what was saved last, None if there is nothing of use."""
        found: Arrays | None = None
        errors = []
        for path in self.files:
            if not path.exists():
                continue
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
                    arrays = dict(saved)
            except Exception as error:  # noqa: BLE001 - damage may show as anything
                errors.append(f"{path}: not used, it cannot be read: {error}")
                continue
            number = int(arrays.pop(NUMBER, 0))
            if str(arrays.pop(KEY, "")) == self.key and number > self.number:
                found, self.number = arrays, number
        if found is None:
            for text in errors:
                log.warning(text)
        return found

    def save(self, arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Save arrays; return False if that is not possible.

        It is a warning then: the work goes on, and what was saved before stays.
        """
        path = self.files[(self.number + 1) % 2]
        named = {KEY: np.array(self.key), NUMBER: np.array(self.number + 1), **arrays}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("r+b" if path.exists() else "wb") as file:
                np.savez(file, allow_pickle=False, **named)
                file.truncate()
        except OSError as error:
            log.warning("%s: not saved: %s", path, error)
            remove_quietly(path)
            return False
        self.number += 1
        return True
