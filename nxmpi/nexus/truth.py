"""The known answer of a simulated scan: groups of named values, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np

from nxmpi.errors import SchemaError
from nxmpi.nexus.values import find, put, replace_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nxmpi._typing import F8


def write_truth(file: h5py.File, path: str, values: Mapping[str, object], formula: str) -> None:
    """Write numbers, arrays and strings into a group, with a text that says what they are.

    Not collective.
    """
    group = replace_group(file, path, "NXcollection")
    group.attrs["formula"] = formula
    for name, value in values.items():
        put(group, name, value)


def read_truth(file: h5py.File, path: str) -> dict[str, F8]:
    """Return the numbers and arrays of a group. Not collective.

    Raises
    ------
    SchemaError
        If there is no such group.
    """
    group = find(file, path)
    if not isinstance(group, h5py.Group):
        raise SchemaError(file.filename, f"/{path}", "the truth of a simulation", "nothing")
    numbers = [name for name in group if group[name].dtype.kind in "fiu"]
    return {name: np.asarray(group[name][()], np.float64) for name in numbers}
