"""How well positions agree: maps beside the combined volume, and numbers in the record too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.nexus import schema
from nxmpi.nexus.values import link_to, put, replace_group
from nxmpi.nexus.volume import CHUNK, describe_map

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import h5py

    from nxmpi.model import Agreement
    from nxmpi.nexus.volume import VolumeFile

MATRICES = {
    "voxels": "voxels", "ratio": "ratio", "ratio_errors": "ratio_errors", "scatter": "scatter",
    "pair_chi2": "pair_chi2", "bright": "bright_difference",
}  # fmt: skip
"""Fields of the model's agreement that are of pairs: their names in files."""
MEANINGS = {
    "scale": "what the norm of each position was multiplied by",
    "chi2": "of all positions, per degree of freedom, without bright voxels",
    "chi2_errors": "standard deviation of chi2 if positions agree",
    "disagreeing": "part of the cubes in which a position differs by 5 standard deviations",
    "voxels": "reached by both positions",
    "ratio": "intensity of the row's position by that of the column's",
    "scatter": "of the ratio from cube to cube, relative, beyond noise",
    "pair_chi2": "of two positions, per degree of freedom",
    "bright_difference": "rms relative difference in bright voxels, beyond noise",
}


def write_agreement(
    file: h5py.File, volume: VolumeFile, agreement: Agreement, storage: Mapping[str, Any]
) -> None:
    """Write maps and numbers beside a combined volume. Not collective.

    Parameters
    ----------
    storage : mapping
        Arguments of ``create_dataset``, for compression.
    """
    data = replace_group(file, f"{schema.SHARED}/{schema.AGREEMENT}", "NXdata")
    for name, values in agreement.maps.items():
        chunks = tuple(min(CHUNK, n) for n in values.shape)
        data.create_dataset(name, data=values, chunks=chunks, fillvalue=np.nan, **storage)
    _describe(data, volume, agreement)
    write_numbers(file[schema.SHARED], agreement)


def link_agreement(
    entry: h5py.Group, twin: schema.Twin, volume: VolumeFile, agreement: Agreement
) -> None:
    """Write the NXdata group that shows the maps in the wrapper. Not collective."""
    data = replace_group(entry, f"{twin.prefix}{schema.AGREEMENT}", "NXdata")
    for name in agreement.maps:
        link_to(data, name, volume.path, f"{schema.SHARED}/{schema.AGREEMENT}/{name}")
    _describe(data, volume, agreement)


def _describe(data: h5py.Group, volume: VolumeFile, agreement: Agreement) -> None:
    title = f"{volume.title}: chi squared per degree of freedom between positions"
    describe_map(data, agreement.map_grid, volume.lattice, schema.CHI2, title)
    others = [n for n in agreement.maps if n != schema.CHI2 and not n.endswith("_errors")]
    data.attrs["auxiliary_signals"] = others


def write_numbers(parent: h5py.Group, agreement: Agreement) -> None:
    """Write scales and what is known of pairs. Not collective."""
    group = replace_group(parent, schema.OVERLAPS, "NXcollection")
    put(group, "positions", np.array(agreement.names, "S"))
    values = {
        "scale": agreement.scales, "scale_errors": agreement.scale_errors,
        "chi2": agreement.chi2, "chi2_errors": agreement.chi2_error,
        "disagreeing": agreement.disagreeing,
        **{name: getattr(agreement, field) for field, name in MATRICES.items()},
    }  # fmt: skip
    for name, value in values.items():
        meaning = {"long_name": MEANINGS[name]} if name in MEANINGS else {}
        put(group, name, value, **meaning)
