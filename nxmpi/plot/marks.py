"""Bragg peaks as they are marked on the summed frame."""

from dataclasses import dataclass

import h5py
import numpy as np

from nxmpi._typing import F8, Mask
from nxmpi.nexus import schema
from nxmpi.nexus.peaks import read_peaks
from nxmpi.nexus.values import find

MOST_MARKED = 1000
"""More would hide what they mark; the strongest are drawn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """The strongest peaks of a position, and how many there are."""

    x: F8
    """(n,) from the outer corner of pixel 0 [pixels]."""
    y: F8
    """(n,) [pixels]"""
    flagged: Mask
    """(n,) bool, something may be wrong with the peak."""
    n_whole: int
    """Of all peaks."""
    n_flagged: int


def read_marks(entry: h5py.Group) -> Marks | None:
    """Return what to mark of the peaks of a position, None where none were searched for.

    Not collective.

    Raises
    ------
    SchemaError
        If the list of peaks is not complete.
    """
    if not isinstance(find(entry, schema.PEAKS), h5py.Group):
        return None
    peaks = read_peaks(entry)
    flagged = peaks.flags != 0
    n_flagged = int(np.count_nonzero(flagged))
    strongest = np.argsort(-np.nan_to_num(peaks.intensity), kind="stable")[:MOST_MARKED]
    return Marks(
        x=peaks.x[strongest] + 0.5, y=peaks.y[strongest] + 0.5, flagged=flagged[strongest],
        n_whole=len(peaks) - n_flagged, n_flagged=n_flagged,
    )  # fmt: skip
