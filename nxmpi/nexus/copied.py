"""Volumes' files copied in part, without H5Ocopy, which crashes where the disk has no room."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import h5py

from nxmpi.nexus import schema
from nxmpi.nexus.chunks import BITSHUFFLE, filters_of
from nxmpi.nexus.values import replace_group

if TYPE_CHECKING:
    from collections.abc import Container

OF_BITSHUFFLE = 3
"""Options that bitshuffle itself puts before those it is given, whenever a dataset is created."""


def copy_all_but(source: h5py.File, file: h5py.File, left_out: Container[str]) -> h5py.Group:
    """Copy a volume's file without some of its datasets, and return the new group of the others.

    Not collective. Chunks stay compressed as they are.
    """
    parent, _, name = schema.VOLUME.rpartition("/")
    file.attrs.update(source.attrs)
    entry = replace_group(file, parent, "NXentry")
    entry.attrs.update(source[parent].attrs)
    for other in source[parent]:
        if other != name:
            _copy(source[parent][other], entry, other)
    data = replace_group(file, schema.VOLUME, "NXdata")
    data.attrs.update(source[schema.VOLUME].attrs)
    for dataset in source[schema.VOLUME]:
        if dataset not in left_out:
            _copy(source[schema.VOLUME][dataset], data, dataset)
    return data


def _copy(source: h5py.Group | h5py.Dataset, group: h5py.Group, name: str) -> None:
    if isinstance(source, h5py.Group):
        copy = group.create_group(name)
        for other in source:
            _copy(source[other], copy, other)
    else:
        copy = _create_like(source, group, name)
        if source.chunks is None:
            copy[()] = source[()]
        else:
            _copy_chunks(source, copy)
    copy.attrs.update(source.attrs)


def _create_like(source: h5py.Dataset, group: h5py.Group, name: str) -> h5py.Dataset:
    old = source.id
    storage = old.get_create_plist()
    for code, flags, options, _ in filters_of(source):
        if code == BITSHUFFLE:
            options = options[OF_BITSHUFFLE:]
        storage.remove_filter(code)  # all in turn: the order stays
        storage.set_filter(code, flags, options)
    new = h5py.h5d.create(group.id, name.encode(), old.get_type(), old.get_space(), storage)
    return h5py.Dataset(new)


def _copy_chunks(source: h5py.Dataset, copy: h5py.Dataset) -> None:
    ranges = (range(0, n, step) for n, step in zip(source.shape, source.chunks, strict=True))
    for start in product(*ranges):
        try:
            skipped, stored = source.id.read_direct_chunk(start)
        except (OSError, RuntimeError):
            # to look first would take HDF5 1.10 a walk over all chunks each time
            if source.id.get_chunk_info_by_coord(start).byte_offset is not None:
                raise
        else:
            copy.id.write_direct_chunk(start, stored, skipped)
