"""Volumes out of their files, a few planes at a time, for other programs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np

from nxmpi.crystal.lattice import reciprocal_parameters
from nxmpi.errors import InputError
from nxmpi.model import Lattice
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, open_file, read_array, signal_name
from nxmpi.nexus.volume import CHUNK, REAL, RECIPROCAL, Space

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nxmpi._typing import F4, F8


class Exported(NamedTuple):
    """An open volume."""

    data: h5py.Dataset
    """(n_l, n_k, n_h) or (n_z, n_y, n_x); NaN where there is no value."""
    name: str
    """Of the dataset."""
    axes: tuple[F8, F8, F8]
    """Along h, k, l [r.l.u.], or x, y, z in units of a, b, c."""
    steps: tuple[float, float, float]
    lattice: Lattice
    """The cell in direct space, also of a volume of reciprocal space."""
    space: Space


@contextmanager
def opened_volume(path: Path, dataset: str | None) -> Iterator[Exported]:
    """Open a volume. Not collective.

    Parameters
    ----------
    dataset : str or None
        Beside the signal of the file; None for that itself.

    Raises
    ------
    InputError
        If there is no such volume, or its axes do not say what they are.
    """
    with open_file(path) as file:
        yield _describe(_find_group(file, path), path, dataset)


def slabs(volume: Exported) -> Iterator[tuple[int, F4]]:
    """Yield the first plane, and planes along l or z from it on. Not collective.

    Raises
    ------
    InputError
        If they cannot be read.
    """
    for start in range(0, volume.data.shape[0], CHUNK):
        try:
            yield start, np.asarray(volume.data[start : start + CHUNK], dtype=np.float32)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{volume.data.file.filename}:{volume.data.name}: expected plane {start} and "
                f"those after it to be readable, found: {error}"
            ) from error


def _find_group(file: h5py.File, path: Path) -> h5py.Group:
    for place in (schema.VOLUME, schema.PDF_VOLUME):
        group = find(file, place)
        if isinstance(group, h5py.Group):
            return group
    raise InputError(
        f"{path}: expected a volume in /{schema.VOLUME} or /{schema.PDF_VOLUME}, found none"
    )


def _describe(group: h5py.Group, path: Path, dataset: str | None) -> Exported:
    datasets = [name for name in group if _is_volume(find(group, name))]
    name = dataset or signal_name(group)
    if name not in datasets:
        expected = f"one of {', '.join(datasets)}" if datasets else "three dimensions"
        raise InputError(f"{path}:{group.name}: expected {expected}, found {name}")
    names = tuple(str(one) for one in np.ravel(group.attrs.get("axes", [])))
    space = next((one for one in (RECIPROCAL, REAL) if one.axes == names), None)
    if space is None:
        raise InputError(
            f"{path}:{group.name}: expected the axes {', '.join(RECIPROCAL.axes)} or "
            f"{', '.join(REAL.axes)}, found {', '.join(names) or 'none'}"
        )
    h, k, l = (_axis(group, one, path) for one in reversed(names))
    return Exported(
        data=group[name], name=name, axes=(h[0], k[0], l[0]), steps=(h[1], k[1], l[1]),
        lattice=_lattice(group, space, path), space=space,
    )  # fmt: skip


def _is_volume(found: object) -> bool:
    return isinstance(found, h5py.Dataset) and found.ndim == 3


def _axis(group: h5py.Group, name: str, path: Path) -> tuple[F8, float]:
    values = read_array(group, name)
    if values is None or not values.size:
        raise InputError(f"{path}:{group.name}/{name}: expected the places of voxels, found none")
    if values.size == 1:
        return values, float(group[name].attrs.get("step", 1.0))
    digits = 6 if group[name].dtype.itemsize < 8 else 10
    return values, float(f"{(values[-1] - values[0]) / (values.size - 1):.{digits}g}")


def _lattice(group: h5py.Group, space: Space, path: Path) -> Lattice:
    lengths = [group[name].attrs.get("scaling_factor") for name in reversed(space.axes)]
    angles = np.ravel(group.attrs.get("angles", []))
    if angles.size != 3 or any(length is None for length in lengths):
        raise InputError(
            f"{path}:{group.name}: expected axes with scaling_factor, and three angles, found "
            f"{sum(length is not None for length in lengths)} of the former, {angles.size} angles"
        )
    a, b, c = (float(length) for length in lengths)
    gamma, beta, alpha = (float(angle) for angle in angles)
    if space is REAL:
        return Lattice(a=a, b=b, c=c, alpha=alpha, beta=beta, gamma=gamma)
    turn = 2 * np.pi
    reciprocal = Lattice(
        a=a / turn, b=b / turn, c=c / turn, alpha=alpha, beta=beta, gamma=gamma
    )  # fmt: skip
    a, b, c, alpha, beta, gamma = reciprocal_parameters(reciprocal)
    return Lattice(a=a, b=b, c=c, alpha=alpha, beta=beta, gamma=gamma)
