"""The volume of a scan, as far as it is made, and planes of it; only a plane is ever read."""

from dataclasses import dataclass

import h5py
import numpy as np

from nxmpi._typing import F8
from nxmpi.errors import SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, location, read_array, require, signal_name

INDICES = "lkh"
"""What the array's axes are, in their order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """An open volume on an HKL grid."""

    data: h5py.Dataset
    """(n_l, n_k, n_h) intensity, or counts where ``is_counts``."""
    is_counts: bool
    """The intensity is ``data`` over the sum of ``norms``."""
    norms: tuple[h5py.Dataset, ...]
    """(n_l, n_k, n_h) each, to be added; empty where the norm is not known."""
    axes: tuple[F8, F8, F8]
    """Centres of the voxels along l, k, h [r.l.u.]."""
    source: str
    """Which positions it is of."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """Values on a plane of the grid."""

    normal: str
    """The index that is constant."""
    value: float
    """Its value [r.l.u.]."""
    has_zero: bool
    """Whether the grid contains 0 along the normal; if not, this is its middle."""
    u: F8
    """(n_u,) centres along the horizontal index [r.l.u.]."""
    v: F8
    """(n_v,) centres along the other one [r.l.u.]."""
    values: F8
    """(n_v, n_u), NaN where nothing was measured."""
    letters: str = "hkl"
    """Of the axes; ``xyz`` in real space, whose coordinates are in units of a, b, c."""

    @property
    def indices(self) -> str:
        """The two indices that vary, horizontal first: ``hk``, ``hl`` or ``kl``."""
        return self.letters.replace(self.normal, "")


def position_volume(file: h5py.File, name: str, twin: schema.Twin) -> Volume | None:
    """Return the volume of a position, None where it was not transformed. Not collective."""
    group = find(file, f"{name}/{twin.group}")
    data = _signal(group)
    if not isinstance(group, h5py.Group) or data is None:
        return None
    norm = _norm(group)
    if norm is None:
        where = location(group, schema.WEIGHTS)
        raise SchemaError(file.filename, where, "the norm of the counts", "nothing")
    return Volume(
        data=data, is_counts=True, norms=(norm,), axes=_axes(group, data.shape),
        source=f"position {name}",
    )  # fmt: skip


def combined_volume(file: h5py.File, names: list[str], twin: schema.Twin) -> Volume | None:
    """Return the volume of all positions, None where they were not combined. Not collective."""
    group = find(file, f"{schema.SHARED}/{twin.group}")
    data = _signal(group)
    if not isinstance(group, h5py.Group) or data is None:
        return None
    found = [_norm(group)]
    if found[0] is None:  # other programs keep the intensity alone; the positions have norms
        groups = [find(file, f"{name}/{twin.group}") for name in names]
        found = [_norm(part) if isinstance(part, h5py.Group) else None for part in groups]
    norms = tuple(norm for norm in found if norm is not None and norm.shape == data.shape)
    return Volume(
        data=data, is_counts=False, norms=norms if len(norms) == len(found) else (),
        axes=_axes(group, data.shape), source=f"combined from {', '.join(names)}",
    )  # fmt: skip


def map_volume(group: h5py.Group, name: str) -> Volume | None:
    """Return one of the maps in a group, None where it cannot be found. Not collective."""
    data = find(group, name)
    if not isinstance(data, h5py.Dataset) or data.ndim != 3:
        return None
    return Volume(
        data=data, is_counts=False, norms=(), axes=_axes(group, data.shape), source=name
    )  # fmt: skip


def read_plane(volume: Volume, normal: str) -> Plane:
    """Return the intensity on the plane nearest to 0 along an index. Not collective.

    Parameters
    ----------
    normal : str
        ``l`` for hk0, ``k`` for h0l, ``h`` for 0kl.
    """
    where, _ = _section(volume, normal)
    values = np.asarray(volume.data[where], dtype=np.float64)
    if volume.norms:
        norm = _sum(volume, normal)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = values / norm if volume.is_counts else values
        values = np.where(norm > 0, values, np.nan)
    return _plane(volume, normal, values)


def read_norm_plane(volume: Volume, normal: str) -> Plane:
    """Return the norm on that plane, NaN where it is 0. Not collective."""
    norm = _sum(volume, normal)
    return _plane(volume, normal, np.where(norm > 0, norm, np.nan))


def _signal(group: object) -> h5py.Dataset | None:
    data = find(group, signal_name(group)) if isinstance(group, h5py.Group) else None
    return data if isinstance(data, h5py.Dataset) and data.ndim == 3 else None


def _norm(group: h5py.Group) -> h5py.Dataset | None:
    norm = find(group, schema.WEIGHTS)
    if norm is None:  # beside the data, in the file the link leads to
        norm = find(group[signal_name(group)].parent, schema.NORM)
    return norm if isinstance(norm, h5py.Dataset) else None


def _axes(group: h5py.Group, shape: tuple[int, ...]) -> tuple[F8, F8, F8]:
    axes = []
    for name, n in zip(schema.AXES, shape, strict=True):
        require(group, name, f"the centres of {n} voxels")
        axis = read_array(group, name)
        if axis is None or axis.shape != (n,) or not np.isfinite(axis).all():
            found = "none" if axis is None else f"shape {axis.shape}"
            file, where = group.file.filename, location(group, name)
            raise SchemaError(file, where, f"the centres of {n} voxels", found)
        axes.append(axis)
    return axes[0], axes[1], axes[2]


def _section(volume: Volume, normal: str) -> tuple[tuple[int | slice, ...], bool]:
    dimension = INDICES.index(normal)
    axis = volume.axes[dimension]
    nearest = int(np.abs(axis).argmin())
    half = abs(axis[1] - axis[0]) * 0.5 if axis.size > 1 else 0.0
    has_zero = bool(abs(axis[nearest]) <= half * (1 + 1e-6))
    where: list[int | slice] = [slice(None)] * 3
    where[dimension] = nearest if has_zero else axis.size // 2
    return tuple(where), has_zero


def _sum(volume: Volume, normal: str) -> F8:
    where, _ = _section(volume, normal)
    return np.asarray(sum(np.asarray(norm[where], dtype=np.float64) for norm in volume.norms))


def _plane(volume: Volume, normal: str, values: F8) -> Plane:
    where, has_zero = _section(volume, normal)
    dimension = INDICES.index(normal)
    v, u = (volume.axes[i] for i in range(3) if i != dimension)
    value = float(volume.axes[dimension][where[dimension]])
    return Plane(normal=normal, value=value, has_zero=has_zero, u=u, v=v, values=values)
