"""What a command line of CCTW names: frames, masks and weights, read by the root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np

from nxmpi.cctw.command import Place, parse_place
from nxmpi.errors import InputError, SchemaError
from nxmpi.kernels.transform import NORM_BITS
from nxmpi.nexus import schema
from nxmpi.nexus.stack import Stack, find_stack
from nxmpi.nexus.values import open_file, require
from nxmpi.nexus.volume import read_part

if TYPE_CHECKING:
    from nxmpi._typing import F8, Mask
    from nxmpi.cctw.command import CctwParams


LEAST_WEIGHT = 2.0 ** -(NORM_BITS + 1)
"""Part of the largest weight from which on one is not rounded to 0 [1]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Frames, and what belongs to them."""

    raw: Stack
    mask3d: Stack | None
    bad: Mask
    """(n_slow, n_fast) bool, True = exclude."""
    weight: F8
    """(n_frames,) float64, 0 = leave out [1]."""
    factor: F8
    """(n_slow, n_fast) float64: weight of each pixel [1]."""


def read_frames(params: CctwParams) -> Frames:
    """Return the frames of a command line. Not collective: the root calls it.

    Frames have no weight whose weight or angle is NaN, or whose weight is not above 0; pixels of
    such a weight are bad. Of the subset nothing is heeded.

    Raises
    ------
    InputError
        If anything is missing, is of another kind or does not go with the frames, or if weights
        are too far apart.
    """
    if len(params.inputs) != 1:
        raise InputError(f"transform: expected one input, found {len(params.inputs)}")
    place = parse_place(params.inputs[0], "input")
    raw = _stack(place)
    n_frames, n_slow, n_fast = raw.shape
    bad, mask3d = np.zeros((n_slow, n_fast), bool), None
    if params.mask is not None:
        bad = _read_mask(parse_place(params.mask, "--mask", place.file), bad.shape)
    if params.mask3d is not None:
        where = parse_place(params.mask3d, "--mask3d", place.file)
        mask3d = _stack(where)
        if mask3d.shape != raw.shape:
            raise SchemaError(*where, f"the shape of the frames, {raw.shape}", f"{mask3d.shape}")
    places = [parse_place(text, "--weights", place.file) for text in params.weights]
    weight, factor = _read_weights(places, n_frames, bad.shape)
    if params.angles is not None:
        where = parse_place(params.angles, "--angles", place.file)
        weight[np.isnan(_of_frames(where, _numbers(where, "angles"), n_frames))] = 0.0
    bad |= ~(factor > 0)
    _require_alike(weight[weight > 0], factor[~bad])
    return Frames(
        raw=raw, mask3d=mask3d, bad=bad,
        weight=np.where(weight > 0, weight, 0.0), factor=np.where(factor > 0, factor, 0.0),
    )  # fmt: skip


def _require_alike(weight: F8, factor: F8) -> None:
    """Raise `InputError` if a pixel would add nothing to the norm, and lose its counts."""
    if weight.size and factor.size:
        ratio = weight.min() / weight.max() * (factor.min() / factor.max())
        if not ratio >= LEAST_WEIGHT:
            raise InputError(
                f"--weights: expected the smallest above 0 to be at least {LEAST_WEIGHT:.2g} of "
                f"the largest, found {ratio:.2g} (0 leaves a frame or pixel out)"
            )


def _stack(place: Place) -> Stack:
    with open_file(place.file) as file:
        return find_stack(file, place.path.lstrip("/"))


def _dataset(file: h5py.File, place: Place, what: str) -> h5py.Dataset:
    found = require(file, place.path.lstrip("/"), what)
    if not isinstance(found, h5py.Dataset):
        raise SchemaError(*place, what, "a group")
    return found


def _read_mask(place: Place, shape: tuple[int, ...]) -> Mask:
    with open_file(place.file) as file:
        dataset = _dataset(file, place, "a mask of pixels")
        if dataset.shape != shape:
            raise SchemaError(*place, f"the shape of a frame, {shape}", f"{dataset.shape}")
        if dataset.dtype.kind not in "biu":
            raise SchemaError(*place, "a mask of integers", f"{dataset.dtype}")
        return np.asarray(dataset[()] != 0)


def _numbers(place: Place, what: str) -> F8:
    with open_file(place.file) as file:
        dataset = _dataset(file, place, what)
        if dataset.dtype.kind not in "biuf":
            raise SchemaError(*place, f"{what}, numbers", f"{dataset.dtype}")
        return np.asarray(dataset[()], dtype=np.float64)


def _of_frames(place: Place, values: F8, n_frames: int) -> F8:
    if values.ndim != 1 or values.size < n_frames:
        expected = f"a number for each of {n_frames} frames"
        raise SchemaError(*place, expected, f"shape {values.shape}")
    return values[:n_frames]


def _read_weights(places: list[Place], n_frames: int, shape: tuple[int, ...]) -> tuple[F8, F8]:
    weights = {1: np.ones(n_frames), 2: np.ones(shape)}
    seen: dict[int, Place] = {}
    for place in places:
        values = _numbers(place, "weights")
        n = values.ndim
        if n not in weights:
            raise SchemaError(*place, "weights of frames or of pixels", f"{n} dimensions")
        if n in seen:
            kind = "frames" if n == 1 else "pixels"
            raise InputError(
                f"--weights: expected one of frames and one of pixels at most, found two of "
                f"{kind}, {seen[n]} and {place}"
            )
        if n == 2 and values.shape != shape:
            raise SchemaError(*place, f"the shape of a frame, {shape}", f"{values.shape}")
        seen[n], weights[n] = place, values if n == 2 else _of_frames(place, values, n_frames)
        if np.isposinf(weights[n]).any():
            raise SchemaError(*place, "weights that are finite", "infinity")
    return weights[1], weights[2]


class Volume(NamedTuple):
    """An open volume, (n_l, n_k, n_h)."""

    counts: h5py.Dataset
    norm: h5py.Dataset | None
    """None for a dataset alone, whose norm is 1 in every voxel."""


def open_volumes(places: list[Place]) -> list[Volume]:
    """Open volumes of one shape. Not collective.

    Raises
    ------
    InputError
        If one is missing, holds no numbers, or is of another shape than the first.
    """
    volumes: list[Volume] = []
    for place in places:
        file = open_file(place.file)
        found = require(file, place.path.lstrip("/"), "a volume, or a group of v and n")
        if isinstance(found, h5py.Group):
            parts = [require(found, name, "a volume") for name in (schema.COUNTS, schema.NORM)]
        else:
            parts = [found]
        shape = volumes[0].counts.shape if volumes else parts[0].shape
        for part in parts:
            if not isinstance(part, h5py.Dataset) or part.ndim != 3 or part.dtype.kind not in "iuf":
                raise SchemaError(place.file, part.name, "a volume of numbers", f"{part}")
            if part.shape != shape:
                expected = f"the shape of {places[0]}, {shape}"
                raise SchemaError(place.file, part.name, expected, f"{part.shape}")
        volumes.append(Volume(parts[0], parts[1] if len(parts) > 1 else None))
    return volumes


def read_sums(volumes: list[Volume], where: tuple[slice, ...]) -> tuple[F8, F8]:
    """Return counts and norm of a part of all volumes together. Not collective.

    Added in the order of the volumes, where the norm is not 0.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    counts, norm = _read_weighted(volumes[0], where)
    for volume in volumes[1:]:
        own, weight = _read_weighted(volume, where)
        counts += own
        norm += weight
    return counts, norm


def _read_weighted(volume: Volume, where: tuple[slice, ...]) -> tuple[F8, F8]:
    """Return counts, 0 where the norm is, and norm of a part of a volume."""
    own = read_part(volume.counts, where)
    weight = np.ones_like(own) if volume.norm is None else read_part(volume.norm, where)
    own[weight == 0] = 0.0
    return own, weight
