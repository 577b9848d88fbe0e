"""Grids that no frame reaches: what is said of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nxmpi.crystal.reciprocal import corners_of, hkl_ranges
from nxmpi.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi.model import HKLGrid
    from nxmpi.pipeline.scan import Measured


def nothing_reached(wrapper: Path, measured: list[Measured], grid: HKLGrid) -> InputError:
    """Return the error that says where a grid is, and where frames are. Not collective.

    Parameters
    ----------
    measured : list of Measured
        Of whose frames none reaches the grid; each has a frame with a weight.
    """
    names = ", ".join(each.position.name for each in measured)
    ranges = [hkl_ranges(m.position.geometry, m.position.weight > 0) for m in measured]
    low = [min(float(each[i, 0]) for each in ranges) for i in range(3)]
    high = [max(float(each[i, 1]) for each in ranges) for i in range(3)]
    wanted = corners_of(grid)
    return InputError(
        f"{wrapper}: expected frames of {names} that reach the grid, "
        f"{_told(wanted.min(axis=0), wanted.max(axis=0))}; found them at {_told(low, high)}"
    )


def _told(low: list[float], high: list[float]) -> str:
    ends = zip("hkl", low, high, strict=True)
    return ", ".join(f"{name} from {first:.4g} to {last:.4g}" for name, first, last in ends)
