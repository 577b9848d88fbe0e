"""What a program reads of a position: one file, in a folder that it may write to.

The program opens masks and weights for writing, unless they are in the file of the frames: so they
are copied, and the frames themselves are linked to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import hdf5plugin
import numpy as np

from nxmpi.cctw.dialect import Places
from nxmpi.errors import InputError
from nxmpi.nexus.chunks import filters_of
from nxmpi.parallel.h5 import edited
from nxmpi.parallel.packed import unpack_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from nxmpi._typing import F8, Mask
    from nxmpi.cctw.dialect import Program
    from nxmpi.nexus.stack import Stack

INPUT, SCRIPT, OUTPUT = "input.nxs", "position.pars", "output.nxs"
FRAMES, MASK, WEIGHTS, FACTORS, MASK3D = "frames", "mask", "weights", "factors", "mask3d"
VOLUME = "entry/data"
"""In the output."""
BUILT_IN = 255
"""Last number of the filters that are HDF5's own."""
UNCHUNKED = (32, 32, 32)
"""Pieces in which the program reads what is not stored in chunks."""
LZF = 32000
"""Filter that the program brings."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What the program is given of a position."""

    frames: Stack
    bad: Mask
    """(n_slow, n_fast) bool, True = exclude."""
    weight: F8
    """(n_frames,) float64, 0 = leave out [1]."""
    factor: F8 | None
    """(n_slow, n_fast) float64 [1]; None where the program does not know of them."""
    lost: Mapping[int, bytes]
    """Pixels without a count, of a flattened frame, by frame, as `nxmpi.parallel.packed` packs
    them."""


def require_readable(stack: Stack, program: Program) -> None:
    """Make sure that the program can read frames, or their mask. Not collective.

    It would add zeros for what it cannot.

    Raises
    ------
    InputError
        If they are stored with a filter that is neither HDF5's own nor among the plugins that
        this package brings; or are a virtual dataset, whose sources may be, and of which CCTW
        would read pieces of `UNCHUNKED`, so that each frame were decompressed again and again.
    """
    with h5py.File(stack.file, "r") as file:
        dataset = file[stack.path]
        if dataset.is_virtual and not program.takes_virtual:
            raise InputError(
                f"{stack.file}:{stack.path}: expected frames that are stored there, found a "
                f"virtual dataset, which {program.version} would take too long to read (--engine "
                "native)"
            )
        require_filters(dataset)


def require_filters(dataset: h5py.Dataset) -> None:
    """Make sure that the program has the filters of a dataset. Not collective.

    Raises
    ------
    InputError
        If one is neither HDF5's own nor among the plugins that this package brings.
    """
    known = {LZF, *hdf5plugin.FILTERS.values()}
    for code, *_ in filters_of(dataset):
        if code > BUILT_IN and code not in known:
            raise InputError(
                f"{dataset.file.filename}:{dataset.name}: expected a filter that CCTW can be "
                f"given, found number {code}"
            )


def unneeded_chunks(given: Given) -> frozenset[int]:
    """Return the chunks of frames none of which has a weight. Not collective.

    The program reads them all the same, and may fail to.

    Returns
    -------
    frozenset of int
        Their numbers, as the program counts: along fast, then slow, then by frame.
    """
    with h5py.File(given.frames.file, "r") as file:
        length, *sides = file[given.frames.path].chunks or UNCHUNKED
    n_frames, *shape = given.frames.shape
    together = math.prod(-(-n // side) for n, side in zip(shape, sides, strict=True))
    used = np.flatnonzero(given.weight > 0) // length
    unused = np.setdiff1d(np.arange(-(-n_frames // length)), used)
    return frozenset(int(i) * together + j for i in unused for j in range(together))


def write_input(folder: Path, given: Given) -> None:
    """Write all but the 3-D mask into a new file. Not collective."""
    n_frames = given.frames.shape[0]
    weight = np.zeros(n_frames)
    weight[: given.weight.size] = given.weight
    with edited(folder / INPUT, anew=True) as file:
        file[FRAMES] = h5py.ExternalLink(str(given.frames.file.absolute()), given.frames.path)
        file[MASK] = given.bad.astype(np.int8)
        file[WEIGHTS] = weight
        if given.factor is not None:
            file[FACTORS] = given.factor


def write_mask3d(
    folder: Path, given: Given, mask: Stack | None, is_stopped: Callable[[], bool]
) -> bool:
    """Put the 3-D mask of a volume into the file, and return whether it needs one.

    Not collective. Pixels without a count are masked beside those that a mask excludes.

    Parameters
    ----------
    mask : Stack or None
        None for the volume of all pixels.
    is_stopped : callable
        Called after each frame, to leave out the others; must not wait.
    """
    with edited(folder / INPUT) as file:
        if MASK3D in file:
            del file[MASK3D]
        if not given.lost:
            if mask is not None:
                file[MASK3D] = h5py.ExternalLink(str(mask.file.absolute()), mask.path)
            return mask is not None
        shape = given.frames.shape
        dataset = file.create_dataset(
            MASK3D, shape, np.int8, chunks=(1, *shape[1:]), compression="gzip", compression_opts=1
        )
        for number, excluded in _masks_of(given, mask):
            dataset[number] = excluded
            if is_stopped():
                break
    return True


def _masks_of(given: Given, mask: Stack | None) -> Iterator[tuple[int, Mask]]:
    """Yield the frames of a 3-D mask in which something may be excluded, and what is."""
    n_slow, n_fast = given.frames.shape[1:]

    def lost_in(number: int) -> Mask:
        packed = given.lost.get(number)
        if packed is None:
            return np.zeros((n_slow, n_fast), bool)
        return unpack_mask(packed, n_slow * n_fast).reshape(n_slow, n_fast)

    if mask is None:
        yield from ((number, lost_in(number)) for number in given.lost)
        return
    with h5py.File(mask.file, "r") as file:
        for number in map(int, np.flatnonzero(given.weight > 0)):
            yield number, (file[mask.path][number] != 0) | lost_in(number)


def places_of(given: Given, *, masked: bool) -> Places:
    """Return the names of all datasets, from inside of the folder: others might be misread."""
    weights = [WEIGHTS, *([] if given.factor is None else [FACTORS])]
    return Places(
        frames=f"{INPUT}#/{FRAMES}",
        mask=f"{INPUT}#/{MASK}",
        weights=[f"{INPUT}#/{name}" for name in weights],
        output=f"{OUTPUT}#/{VOLUME}",
        mask3d=f"{INPUT}#/{MASK3D}" if masked else None,
    )
