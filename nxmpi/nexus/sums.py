"""Sums of the frames, over them and over their pixels, and the transmission found from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.nexus import schema
from nxmpi.nexus.values import put, read_array, read_flags, replace_group

if TYPE_CHECKING:
    import h5py

    from nxmpi._typing import F8, I8, Mask
    from nxmpi.crystal.radial import RadialSum
    from nxmpi.crystal.transmission import Transmission

IMAGE = {"compression": "gzip", "compression_opts": 1, "shuffle": True}
"""The scan file is copied whenever it is changed, and every HDF5 has this filter."""
READ = {
    schema.SUMMED_DATA: f"{schema.SUMMED_DATA}/{schema.SUMMED_DATA}",
    schema.MAXIMUM_DATA: f"{schema.MAXIMUM_DATA}/{schema.MAXIMUM_DATA}",
    schema.SUMMED_FRAMES: f"{schema.SUMMED_FRAMES}/{schema.SUMMED_FRAMES}",
    schema.PARTIAL_FRAMES: f"{schema.SUMMED_FRAMES}/{schema.PARTIAL_FRAMES}",
    schema.TRANSMISSION: f"{schema.TRANSMISSION}/{schema.TRANSMISSION}",
    schema.TRANSMISSION_RAW: f"{schema.TRANSMISSION}/{schema.TRANSMISSION_RAW}",
    schema.RADIAL_SUM: f"{schema.RADIAL_SUM}/{schema.RADIAL_SUM}",
    schema.POLAR_ANGLE: f"{schema.RADIAL_SUM}/{schema.POLAR_ANGLE}",
    schema.Q: f"{schema.RADIAL_SUM}/{schema.Q}",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameSums:
    """What one pass over the frames leaves, but for peaks and mask."""

    summed_data: I8
    """(n_slow, n_fast) int64, sum over frames [counts]."""
    maximum_data: I8
    """(n_slow, n_fast) int64, maximum over frames [counts]."""
    summed_frames: I8
    """(n_frames,) int64, sum over pixels that are not masked [counts]."""
    bad: Mask
    """(n_slow, n_fast) bool, the pixel mask."""
    hot: Mask
    """(n_slow, n_fast) bool, pixels found to be hot."""
    dead: Mask
    """(n_slow, n_fast) bool, pixels found to be dead."""
    maximum: int
    """Of all pixels but bad and hot ones [counts]."""
    first_frame: int
    last_frame: int
    transmission: Transmission | None
    radial: RadialSum | None
    """None without a geometry."""
    polarization: F8 | None
    """(n_slow, n_fast) float64 [1]."""


def write_sums(entry: h5py.Group, sums: FrameSums, label: str) -> None:
    """Write sums, transmission and hot pixels in the place of older ones. Not collective.

    Groups that NXRefine 0.1.1 looks for in the entry itself are there as well, as hard links:
    through soft ones nexusformat cannot read a field that has a mask.

    Parameters
    ----------
    label : str
        Of the position, for titles.
    """
    for name in schema.OLDER_SUMS:
        if entry.get(name, getlink=True) is not None:
            del entry[name]
    group = replace_group(entry, schema.SUMS, "NXcollection")
    group.attrs["default"] = schema.SUMMED_DATA
    _write_images(group, sums, label)
    _write_curves(group, sums, label)
    if sums.radial is not None:
        _write_radial(group, sums.radial, label)
    for name in (name for name in schema.OLDER_SUMS if name in group):
        entry[name] = group[name]
    entry[schema.DATA].attrs.update(
        {
            schema.MAXIMUM: sums.maximum,
            schema.FIRST_USED: sums.first_frame,
            schema.LAST_USED: sums.last_frame,
        }
    )
    _write_detector(entry.require_group(schema.DETECTOR), sums)


def _new_data(parent: h5py.Group, signal: str, axes: list[str], title: str) -> h5py.Group:
    group = replace_group(parent, signal, "NXdata")
    group.attrs["signal"], group.attrs["axes"] = signal, axes
    put(group, "title", title)
    return group


def _write_images(parent: h5py.Group, sums: FrameSums, label: str) -> None:
    images = {
        schema.SUMMED_DATA: (sums.summed_data, "Sum of the frames"),
        schema.MAXIMUM_DATA: (sums.maximum_data, "Maximum of the frames"),
    }
    for name, (values, title) in images.items():
        axes = [schema.Y_PIXEL, schema.X_PIXEL]
        group = _new_data(parent, name, axes, f"{title} of {label}")
        signal = group.create_dataset(name, data=values, **IMAGE)
        masked = f"{name}_mask"
        signal.attrs.update({"units": "counts", "mask": masked})
        group.create_dataset(masked, data=sums.bad | sums.hot, **IMAGE)
        for axis, n in zip(axes, values.shape, strict=True):
            put(group, axis, np.arange(n, dtype=np.int32), long_name=f"{axis[0]} (pixels)")


def _write_curves(parent: h5py.Group, sums: FrameSums, label: str) -> None:
    title = f"Sum of the pixels of each frame of {label}"
    group = _by_frame(parent, schema.SUMMED_FRAMES, sums.summed_frames, title, units="counts")
    found = sums.transmission
    if found is None:
        return
    title = f"Background of each frame of {label}"
    partial = _by_frame(parent, schema.PARTIAL_FRAMES, found.frame_sums, title, units="counts")
    group[schema.PARTIAL_FRAMES] = partial[schema.PARTIAL_FRAMES]
    group = _by_frame(parent, schema.TRANSMISSION, found.values, f"Transmission of {label}")
    group[schema.TRANSMISSION].attrs[schema.MEDIAN] = found.median
    put(group, schema.TRANSMISSION_RAW, found.raw / found.median, long_name="not filtered")


def _by_frame(
    parent: h5py.Group, name: str, values: F8 | I8, title: str, **attributes: str
) -> h5py.Group:
    group = _new_data(parent, name, [schema.FRAME_NUMBER], title)
    put(group, name, values, **attributes)
    put(group, schema.FRAME_NUMBER, np.arange(values.size, dtype=np.int32), long_name="frame")
    return group


def _write_radial(parent: h5py.Group, radial: RadialSum, label: str) -> None:
    title = f"Radial sum of {label}"
    group = _new_data(parent, schema.RADIAL_SUM, [schema.POLAR_ANGLE], title)
    put(group, schema.RADIAL_SUM, radial.intensity, units="counts")
    put(group, schema.POLAR_ANGLE, radial.polar_angle, units="degrees")
    put(group, schema.Q, radial.Q, units="Ang-1")


def _write_detector(detector: h5py.Group, sums: FrameSums) -> None:
    images = {
        schema.HOT_PIXELS: sums.hot.astype(np.int8),
        schema.DEAD_PIXELS: sums.dead.astype(np.int8),
    }
    if sums.polarization is not None:
        images[schema.POLARIZATION] = sums.polarization.astype(np.float32)
    for name, values in images.items():
        if name in detector:
            del detector[name]
        detector.create_dataset(name, data=values, **IMAGE)


def read_sums(entry: h5py.Group) -> dict[str, F8]:
    """Return what is there of the sums, ours or NXRefine's, by the schema's names. Not collective.

    Images are (n_slow, n_fast), the radial sum and its axes (n_bins,), all else (n_frames,).
    """
    found = {}
    for name, path in READ.items():
        values = read_array(entry, f"{schema.SUMS}/{path}")
        values = read_array(entry, path) if values is None else values
        if values is not None:
            found[name] = values
    return found


def read_faults(entry: h5py.Group, shape: tuple[int, int]) -> Mask:
    """Return True for the pixels found hot or dead, none where nobody looked. Not collective.

    Raises
    ------
    SchemaError
        If they are of another shape than the frames.
    """
    hot, dead = (
        read_flags(entry, f"{schema.DETECTOR}/{name}", shape)
        for name in (schema.HOT_PIXELS, schema.DEAD_PIXELS)
    )
    return hot | dead
