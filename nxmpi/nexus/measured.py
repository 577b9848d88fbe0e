"""Any volume, of counts or intensities, of this program or another, with all that comes with it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np

from nxmpi.errors import SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, open_file, read_array, read_text, signal_name
from nxmpi.nexus.volume import REAL, RECIPROCAL, Space

if TYPE_CHECKING:
    from pathlib import Path

    from nxmpi._typing import F8

OF_POSITION = r"f\d+_(masked_)?transform"
"""Names of files, by any program, whose signal is counts."""


class MeasuredVolume(NamedTuple):
    """An open volume; datasets are (n_l, n_k, n_h), those it does not have None."""

    signal: h5py.Dataset
    is_counts: bool
    """The intensity is ``signal`` over ``norm``."""
    norm: h5py.Dataset | None
    errors: h5py.Dataset | None
    counts: h5py.Dataset | None
    background: tuple[h5py.Dataset, h5py.Dataset, float] | None
    """Counts and norm of what was subtracted, and its scale."""
    parts: int
    """That a count was divided into."""
    spread: h5py.Dataset | None
    """Variance of signal times norm, of an average less a background."""
    axes: tuple[F8, F8, F8]
    """Centres along h, k, l, or x, y, z."""
    steps: F8
    """(3,) float64"""
    vectors: F8
    """(3, 3) float64: rows, the axes in r.l.u."""
    lengths: tuple[float, ...]
    """Of the axes [1/Å, Å in real space]; empty where the file does not tell."""
    angles: tuple[float, ...]
    """Between k and l, h and l, h and k [degrees]."""
    space: Space
    title: str


def open_measured(path: Path) -> MeasuredVolume:
    """Open the volume in a file. Not collective.

    Raises
    ------
    InputError
        If the file cannot be opened.
    SchemaError
        If there is none, or its axes are missing.
    """
    file = open_file(path)
    for space in (RECIPROCAL, REAL):
        group = find(file, space.group)
        if isinstance(group, h5py.Group):
            break
    else:
        raise SchemaError(str(path), f"/{schema.VOLUME}", "a volume", "none")
    name = signal_name(group)
    signal = find(group, name)
    if not isinstance(signal, h5py.Dataset) or signal.ndim != 3:
        raise SchemaError(str(path), f"/{space.group}", "a signal in 3 dimensions", "none")
    norm, errors = group.get(schema.NORM), group.get(f"{name}_errors")
    background = None
    if norm is not None and schema.BACKGROUND_SCALE in group.attrs:
        background = (
            group[schema.BACKGROUND_SUM], group[schema.BACKGROUND_NORM],
            float(group.attrs[schema.BACKGROUND_SCALE]),
        )  # fmt: skip
    of_position = errors is None and re.fullmatch(OF_POSITION, path.stem) is not None
    axes, steps, lengths = _axes(group, space, signal.shape)
    return MeasuredVolume(
        signal=signal,
        is_counts=norm is not None and (schema.NORM_UNIT in group.attrs or of_position),
        norm=norm,
        errors=errors,
        counts=group.get(schema.SUM) if background else None,
        background=background,
        parts=int(group.attrs.get(schema.COUNT_PARTS, 1)),
        spread=group.get(schema.SPREAD) if norm is not None else None,
        axes=axes,
        steps=steps,
        vectors=np.array(group.attrs.get(schema.GRID_AXES, np.eye(3)), float),
        lengths=lengths,
        angles=tuple(float(x) for x in reversed(np.ravel(group.attrs.get("angles", ())))),
        space=space,
        title=read_text(group, "title") or path.stem,
    )


def _axes(
    group: h5py.Group, space: Space, shape: tuple[int, ...]
) -> tuple[tuple[F8, F8, F8], F8, tuple[float, ...]]:
    axes, steps, lengths = [], [], []
    for name, n in zip(reversed(space.axes), reversed(shape), strict=True):
        values = read_array(group, name)
        if values is None or values.shape != (n,):
            found = "none" if values is None else f"shape {values.shape}"
            raise SchemaError(
                group.file.filename, f"{group.name}/{name}", f"the centres of {n} voxels", found
            )
        axes.append(values)
        attributes = group[name].attrs
        width = (values[-1] - values[0]) / (n - 1) if n > 1 else attributes.get("step", 1.0)
        steps.append(float(width))
        lengths.append(float(attributes.get("scaling_factor", 0.0)))
    return (axes[0], axes[1], axes[2]), np.array(steps), tuple(lengths) if all(lengths) else ()
