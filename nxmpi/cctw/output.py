"""Files as CCTW writes them: v and n in a group, or their ratio alone."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py

from nxmpi.cctw.command import Place, parse_place
from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.values import open_file
from nxmpi.parallel.publish import require_place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nxmpi.cctw.command import CctwParams

CHUNK_CACHE = 128 * 2**20
"""For chunks of which several pieces are written, one after another [bytes]."""
RATIO = "ratio"
"""What `Layout` calls v/n."""


class Layout(NamedTuple):
    """The datasets of an output."""

    place: Place
    paths: Mapping[str, str]
    """Absolute, by what they hold."""
    shape: tuple[int, int, int]
    """(n_l, n_k, n_h) [voxels]."""
    chunks: tuple[int, int, int] | None
    """None for a contiguous dataset."""
    storage: Mapping[str, Any]
    """Arguments of ``create_dataset``, for compression."""
    old: Path | None
    """File whose other contents are kept."""


def find_output(params: CctwParams) -> Place:
    """Return where the output goes, links in the name of its file followed. Not collective.

    Raises
    ------
    InputError
        If nothing can be written there.
    """
    place = parse_place(params.output, "--output")
    target = place.file.resolve()
    require_place(target)
    if target.exists() and not os.access(target, os.W_OK):
        raise InputError(f"{place.file}: expected a file to write, found it not writable")
    return place._replace(file=target)


def layout_of(
    params: CctwParams, shape: tuple[int, int, int], chunks: tuple[int, int, int] | None,
    compression: int,
) -> Layout:  # fmt: skip
    """Return what is to be written. Not collective: the root calls it.

    Parameters
    ----------
    compression : int
        Level of gzip, below 0 for LZF, 0 for none; nothing where datasets are contiguous.

    Raises
    ------
    InputError
        If something else, or something of another shape, is there already.
    """
    place = find_output(params)
    paths = {RATIO: place.path}
    if params.normalization == 0:
        paths = {name: f"{place.path}/{name}" for name in (schema.COUNTS, schema.NORM)}
    storage: dict[str, Any] = {}
    if chunks is not None and compression:
        storage = {"compression": "lzf"}
        if compression > 0:
            storage = {"compression": "gzip", "compression_opts": compression}
    return Layout(
        place=place,
        paths=paths,
        shape=shape,
        chunks=None if chunks is None else _within(chunks, shape),
        storage=storage,
        old=_file_to_keep(place.file, list(paths.values()), shape),
    )


def _within(chunks: tuple[int, int, int], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    l, k, h = (min(pair) for pair in zip(chunks, shape, strict=True))
    return l, k, h


def create_datasets(file: h5py.File, layout: Layout) -> list[h5py.Dataset]:
    """Create the datasets in the place of those that were there. Not collective.

    Contiguous ones get their room, all of it zero.

    Returns
    -------
    list of Dataset
        As long as they are kept, their chunks are in memory until all of a chunk is there.
    """
    datasets = []
    for path in layout.paths.values():
        if path in file:
            del file[path]
        dataset = file.create_dataset(
            path, shape=layout.shape, dtype="f4", fillvalue=0.0, chunks=layout.chunks,
            rdcc_nbytes=CHUNK_CACHE, **layout.storage,
        )  # fmt: skip
        if layout.chunks is None:
            dataset[0, 0, 0] = 0.0
        datasets.append(dataset)
    return datasets


def _file_to_keep(target: Path, paths: list[str], shape: tuple[int, int, int]) -> Path | None:
    """Return the file that is there if anything but the datasets is in it, else None."""
    if not target.exists():
        return None
    with open_file(target) as file:
        for path in paths:
            _require_room(file, path, shape)
        return None if _holds_only(file, set(paths)) else target


def _require_room(file: h5py.File, path: str, shape: tuple[int, int, int]) -> None:
    parts = path.strip("/").split("/")
    for n in range(1, len(parts) + 1):
        here = "/" + "/".join(parts[:n])
        link = file.get(here, getlink=True)
        if link is None:
            return
        expected = "a group or nothing" if n < len(parts) else f"a dataset of {shape} or nothing"
        if not isinstance(link, h5py.HardLink):
            raise SchemaError(file.filename, here, f"{expected} (--output)", "a link")
        found = file[here]
        if isinstance(found, h5py.Dataset) == (n < len(parts)) or (
            n == len(parts) and found.shape != shape
        ):
            what = f"a dataset of {found.shape}" if isinstance(found, h5py.Dataset) else "a group"
            raise SchemaError(file.filename, here, f"{expected} (--output)", what)


def _holds_only(group: h5py.Group, paths: set[str]) -> bool:
    """Return whether a group, its groups included, holds nothing but these datasets."""
    if len(group.attrs):
        return False
    for name in group:
        path = f"{group.name.rstrip('/')}/{name}"
        link = group.get(name, getlink=True)
        if path in paths:
            continue
        is_group = isinstance(link, h5py.HardLink) and isinstance(group[name], h5py.Group)
        if not is_group or not _holds_only(group[name], paths):
            return False
    return True
