"""How fast a machine is, and what the program takes there before it works: kept in a file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING

from nxmpi.configuration import user_file
from nxmpi.errors import InputError
from nxmpi.parallel.publish import publish_text

if TYPE_CHECKING:
    from pathlib import Path

MIB = 2**20
RATES = "NXMPI_RATES"
"""Variable that names the file."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one rank does in a second, and the memory that it has before it begins."""

    where: str
    """Machine and folder."""
    when: str
    """Day."""
    frames: float
    """Pixels of the pass over the frames [1/s]."""
    transform: float
    """Pixels that are binned [1/s]."""
    combine: float
    """Voxels of each position [1/s]."""
    symmetrize: float
    """Voxels of the grid [1/s]."""
    fourier: float
    """Voxels of a transform to real space [1/s]."""
    pack: float
    """Bytes of volumes that are compressed and handed to the system [1/s]."""
    write: float
    """Bytes that a node brings to disk [1/s]."""
    read: float
    """Bytes that a node reads from disk [1/s]."""
    send: float
    """Bytes to another rank [1/s]."""
    ratio: float
    """Of volumes on disk, compressed, to their chunks in memory [1]."""
    base: dict[str, float] = field(default_factory=dict)
    """Memory of a rank with everything loaded, by step [bytes]."""


BUILT_IN = Rates(
    where="two virtual cores of a shared AMD EPYC machine", when="2026-11",
    frames=60e6, transform=110e6, combine=20e6, symmetrize=9e6, fourier=25e6, pack=270e6,
    write=400e6, read=1000e6, send=1000e6, ratio=0.36,
    base={
        "frames": 331.0 * MIB, "orient": 246.0 * MIB, "transform": 295.0 * MIB,
        "combine": 289.0 * MIB, "symmetrize": 287.0 * MIB, "pdf": 289.0 * MIB,
    },
)  # fmt: skip
"""What holds where nothing was measured."""


def rates_file() -> Path:
    """Return where the rates of this machine are kept."""
    return user_file(RATES, "rates.json")


def read_rates() -> tuple[Rates, Path | None]:
    """Return the rates that hold, and the file they are from; None for those built in.

    Raises
    ------
    InputError
        If there is a file, and it is none of these.
    """
    path = rates_file()
    if not path.exists():
        if os.environ.get(RATES):
            raise InputError(f"{path}: expected rates, found no file (nxmpi plan --calibrate)")
        return BUILT_IN, None
    try:
        found = json.loads(path.read_text())
        rates = Rates(**found)
        numbers = [getattr(rates, each.name) for each in fields(rates) if each.type == "float"]
        if not all(value > 0 for value in [*numbers, *rates.base.values()]):
            raise ValueError("a rate that is not above 0")  # noqa: TRY301 - one message for all
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: expected rates as nxmpi plan --calibrate writes them, found {error}"
        ) from error
    return rates, path


def write_rates(rates: Rates) -> Path:
    """Write the rates of this machine, in place of others; return where."""
    path = rates_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    publish_text(path, f"{json.dumps(asdict(rates), indent=2)}\n")
    return path
