"""Transmissions of several scans to those of their sum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.errors import InputError
from nxmpi.nexus import schema
from nxmpi.nexus.weights import read_monitor, read_transmission
from nxmpi.pipeline.parameters import read_layers, resolve

if TYPE_CHECKING:
    import h5py

    from nxmpi._typing import F8


def mean_transmissions(sources: list[h5py.Group], n_frames: int) -> dict[str, F8]:
    """Return means of attenuators and filters so that their products with the monitor add up.

    Not collective. By path, (n_frames,) float64 each [1]. With M the sum of monitors m,
    A = Σ m a / M and F = Σ m a f / Σ m a, so that M A F = Σ m a f. Those that are the same
    in all scans are left out.

    Parameters
    ----------
    sources : list of h5py.Group
        The same position of each scan.

    Raises
    ------
    InputError
        If a scan lacks a transmission that others have, or has no monitor where they differ.
    """
    used = slice(0, n_frames)
    values = {
        path: [read_transmission(each, path, used, n_frames) for each in sources]
        for path in (schema.ATTENUATOR, schema.FILTER)
    }
    if all(_alike(found) for found in values.values()):
        return {}
    means, weights = {}, [_monitor(each, n_frames) for each in sources]
    for path, found in values.items():
        there = [each for each in found if each is not None]
        if not there:
            continue
        if len(there) < len(found):
            lacking = sources[[each is None for each in found].index(True)]
            raise InputError(
                f"{lacking.file.filename}:{lacking.name}/{path}: expected a transmission as in the "
                "other scans, found none"
            )
        products = [weight * each for weight, each in zip(weights, there, strict=True)]
        if not _alike(found):
            means[path] = np.sum(products, axis=0) / np.sum(weights, axis=0)
        weights = products
    return means


def _alike(values: list[F8 | None]) -> bool:
    first = values[0]
    return all(
        each is None if first is None else each is not None and np.array_equal(each, first)
        for each in values
    )


def _monitor(entry: h5py.Group, n_frames: int) -> F8:
    """Return the smoothed monitor that a scan is divided by."""
    layers = read_layers(entry.file, schema.ScanFiles(Path(entry.file.filename)))
    name = resolve("monitor", None, layers, None, str)
    return read_monitor(entry, name, slice(0, n_frames), n_frames, raw=False)[0]
