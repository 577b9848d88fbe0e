"""Volumes that a program adds: what it can add, its command, and whether its sums are right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.cctw.result import EXACT
from nxmpi.cctw.scratch import OUTPUT, VOLUME, require_filters
from nxmpi.errors import InputError
from nxmpi.nexus.schema import COUNTS, NORM
from nxmpi.nexus.volume import open_volume

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nxmpi._typing import F8
    from nxmpi.cctw.dialect import Program

TOLERANCE = 1e-6
"""Relative difference of sums in single precision from true ones."""


def require_mergeable(files: Sequence[Path], shape: tuple[int, int, int]) -> None:
    """Make sure that the program can add volumes. Not collective.

    It would write zeros, or nothing, for what it cannot, and end with status 0.

    Raises
    ------
    InputError
        If one is missing, or has another shape, no chunks, chunks of another shape than the first,
        or a filter that the program cannot be given.
    """
    chunks = None
    for path in files:
        volumes = open_volume(path)
        with volumes[0].file:
            chunks = chunks or volumes[0].chunks
            for dataset in volumes:
                expected, found = (shape, chunks), (dataset.shape, dataset.chunks)
                if found != expected or chunks is None:
                    raise InputError(
                        f"{path}:{dataset.name}: expected a volume of {shape} in chunks of "
                        f"{chunks or 'any shape'}, found {found[0]} in chunks of {found[1]} "
                        "(--engine native adds any)"
                    )
                require_filters(dataset)


def link_volumes(folder: Path, files: Sequence[Path]) -> list[str]:
    """Make links to volumes in a folder, and return what the program is to call them.

    Not collective. Names from inside of the folder: others might be misread.
    """
    names = [f"position_{number}.nxs" for number in range(1, len(files) + 1)]
    for name, path in zip(names, files, strict=True):
        (folder / name).symlink_to(path.absolute())
    return [f"{name}#/{VOLUME}" for name in names]


def merge_command(program: Program, inputs: Sequence[str]) -> list[str]:
    """Return the command that adds volumes, with sums of counts and of norm apart."""
    return [
        program.path, "merge", *inputs, "--output", f"{OUTPUT}#/{VOLUME}", "--normalization", "0",
        "--compression", "0",
    ]  # fmt: skip


def first_wrong(
    found: tuple[F8, F8], expected: tuple[F8, F8], *, whole: bool
) -> tuple[tuple[int, ...], str] | None:
    """Return the first voxel whose sums are wrong, and in which way; None if all are right.

    Parameters
    ----------
    found, expected : two (n_l, n_k, n_h) float64 each
        Counts and norm.
    whole : bool
        Counts are whole numbers, exact in single precision below 2^24.
    """
    far = [~(abs(f - e) <= TOLERANCE * e) for f, e in zip(found, expected, strict=True)]
    exact = whole & (expected[0] < EXACT)
    far[0] = np.where(exact, found[0] != expected[0], far[0])
    wrong = np.argwhere(far[0] | far[1])
    if not wrong.size:
        return None
    voxel = tuple(int(i) for i in wrong[0])
    which = 0 if far[0][voxel] else 1
    name, sums = (COUNTS, NORM)[which], (expected[which][voxel], found[which][voxel])
    return voxel, f"expected {name} to be {sums[0]:.9g}, found {sums[1]:.9g}"
