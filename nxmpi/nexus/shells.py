"""How well the images of voxels agree by shells of |Q|, beside a symmetrized volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nxmpi.nexus import schema
from nxmpi.nexus.values import put, replace_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    import h5py

    from nxmpi._typing import F8, I8

R_INT, R_WEIGHTED = "r_int", "r_int_weighted"
MEANINGS = {
    R_INT: "sum of |I - mean| over images by sum of I",
    R_WEIGHTED: "the same with the norm of each image as its weight",
    schema.CHI2: "of images against their mean, per degree of freedom",
    "orbits": "with two measured images or more",
    "voxels": "measured images of these",
}


def write_shells(
    parent: h5py.Group, name: str, title: str, edges: F8, columns: Mapping[str, F8 | I8]
) -> None:
    """Write numbers of shells as an NXdata group that shows R_int against |Q|. Not collective.

    Parameters
    ----------
    edges : (n + 1,) float64
        [1/Å, with 2π]
    columns : mapping
        (n,) arrays by the names of `MEANINGS`.
    """
    group = replace_group(parent, name, "NXdata")
    centres = np.asarray((edges[1:] + edges[:-1]) / 2)
    put(group, schema.Q, centres, units="1/Angstrom", long_name="|Q| (1/Å)")
    put(group, f"{schema.Q}_edges", edges, units="1/Angstrom")
    for column, values in columns.items():
        put(group, column, values, long_name=MEANINGS[column])
    put(group, "title", title)
    group.attrs["signal"] = R_INT
    group.attrs["axes"] = [schema.Q]
    group.attrs["auxiliary_signals"] = [R_WEIGHTED, schema.CHI2]


def describe_residuals(file: h5py.File) -> None:
    """Say in a symmetrized volume's file what its residual map is. Not collective."""
    dataset = file[f"{schema.VOLUME}/{schema.CHI2}"]
    dataset.attrs["long_name"] = "chi squared of the images against their mean, by images less one"
