"""The 3-D mask of a position: its file, and the link that leads to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.nexus import schema
from nxmpi.nexus.values import link_to, replace_group

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import h5py

Shape = tuple[int, int, int]


def create_mask(
    file: h5py.File, shape: Shape, chunks: Shape | None, storage: Mapping[str, Any],
    attributes: Mapping[str, str | float],
) -> None:  # fmt: skip
    """Create the dataset of a mask, with nothing excluded as yet. Not collective.

    Parameters
    ----------
    shape : tuple of int
        (n_frames, n_slow, n_fast).
    chunks : tuple of int or None
        Of the raw frames; None for one frame a chunk.
    storage : mapping
        Arguments of ``create_dataset``, for compression.
    attributes : mapping
        Of the dataset, the fingerprint among them.
    """
    entry = replace_group(file, schema.SHARED, "NXentry")
    file.attrs["default"] = schema.SHARED
    wanted = chunks or (1, *shape[1:])
    mask = entry.create_dataset(
        schema.MASK.rpartition("/")[2], shape=shape, dtype=np.int8, fillvalue=0,
        chunks=tuple(min(c, max(n, 1)) for c, n in zip(wanted, shape, strict=True)), **storage,
    )  # fmt: skip
    mask.attrs["long_name"] = "1 = excluded"
    mask.attrs.update(attributes)


def link_mask(entry: h5py.Group, path: Path) -> None:
    """Link a position to its mask. Not collective."""
    group, _, name = schema.DATA_MASK.rpartition("/")
    link_to(entry[group], name, path, schema.MASK)
