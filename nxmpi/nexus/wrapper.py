"""A new scan file: the shared entry and one entry per detector position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.crystal.detector import orientation_text
from nxmpi.crystal.reciprocal import offset_to_file
from nxmpi.nexus import schema
from nxmpi.nexus.values import link_to, put, replace_group
from nxmpi.nexus.volume import axis_values

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import h5py

    from nxmpi._typing import F8, Mask
    from nxmpi.model import Geometry, HKLGrid, Lattice


def create_shared(file: h5py.File) -> h5py.Group:
    """Create the entry that positions share. Not collective."""
    file.attrs["NX_class"] = "NXroot"
    file.attrs["default"] = schema.SHARED
    return replace_group(file, schema.SHARED, "NXentry")


def write_sample(
    entry: h5py.Group, lattice: Lattice, texts: dict[str, str], temperature: float
) -> None:
    """Write the sample into the shared entry. Not collective.

    Parameters
    ----------
    texts : dict of str
        By the names of the schema: name, label, space_group, chemical_formula, …
    temperature : float
        [K]
    """
    sample = replace_group(entry, schema.SAMPLE, "NXsample")
    sample.attrs["target"] = sample.name
    for name in (field for field, text in texts.items() if text):
        put(sample, name, texts[name])
    put(sample, schema.TEMPERATURE, temperature, units="K")
    for name, key in zip(schema.UNIT_CELL, lattice.__slots__, strict=True):
        angle = key in {"alpha", "beta", "gamma"}
        put(sample, name, getattr(lattice, key), units="degree" if angle else "Angstrom")


def create_position(file: h5py.File, name: str, raw: Path, geometry: Geometry) -> h5py.Group:
    """Create the entry of a position, its sample and its data linked. Not collective.

    Parameters
    ----------
    name : str
        Of the entry.
    raw : Path
        File with the frames.
    """
    entry = replace_group(file, name, "NXentry")
    entry.attrs["default"] = schema.DATA
    entry[schema.SAMPLE] = file[schema.SHARED][schema.SAMPLE]
    put(entry, "title", name)
    n_slow, n_fast = geometry.detector.shape
    data = replace_group(entry, schema.DATA, "NXdata")
    data.attrs["signal"] = schema.RAW.rpartition("/")[2]
    data.attrs["axes"] = [schema.FRAME_NUMBER, schema.Y_PIXEL, schema.X_PIXEL]
    link_to(data, schema.RAW.rpartition("/")[2], raw, schema.RAW_IN_FILE)
    n_frames = len(geometry.goniometer.phi)
    put(data, schema.FRAME_NUMBER, np.arange(n_frames, dtype=np.int32), long_name="frame")
    put(data, schema.Y_PIXEL, np.arange(n_slow, dtype=np.int32), long_name="y (pixels)")
    put(data, schema.X_PIXEL, np.arange(n_fast, dtype=np.int32), long_name="x (pixels)")
    put(data, "title", f"Raw frames of {name}")
    return entry


def write_instrument(
    entry: h5py.Group, geometry: Geometry, bad: Mask, frame_time: float
) -> None:  # fmt: skip
    """Write monochromator, detector and goniometer of a position. Not collective.

    Parameters
    ----------
    bad : (n_slow, n_fast) bool
        True where the pixel is masked.
    frame_time : float
        [s]
    """
    instrument = replace_group(entry, schema.INSTRUMENT, "NXinstrument")
    put(instrument, "name", "simulation")
    replace_group(entry, schema.WAVELENGTH.rpartition("/")[0], "NXmonochromator")
    put(entry, schema.WAVELENGTH, geometry.wavelength, units="Angstrom")
    group = replace_group(entry, schema.DETECTOR, "NXdetector")
    detector = geometry.detector
    put(group, "description", "simulated area detector")
    put(group, schema.DISTANCE, detector.distance, units="mm")
    put(group, schema.PIXEL_SIZE, detector.pixel_size, units="mm")
    put(group, schema.PIXEL_MASK, bad.astype(np.int8))
    put(group, schema.DETECTOR_SHAPE, np.array(detector.shape))
    put(group, schema.BEAM_CENTER_X, detector.beam_center[0], units="pixel")
    put(group, schema.BEAM_CENTER_Y, detector.beam_center[1], units="pixel")
    for name in (schema.YAW, schema.PITCH, schema.ROLL):
        put(group, name, getattr(detector, name), units="degree")
    text = orientation_text(detector.orientation)
    put(group, schema.ORIENTATION, np.array(detector.orientation) if text is None else text)
    put(group, schema.FRAME_TIME, frame_time, units="s")
    put(entry, f"{schema.DATA}/{schema.FRAME_TIME}", frame_time, units="s")
    for name in (schema.TRANSLATION_X, schema.TRANSLATION_Y):
        put(group, name, 0.0, units="mm")
    _write_goniometer(entry, geometry)


def _write_goniometer(entry: h5py.Group, geometry: Geometry) -> None:
    goniometer = geometry.goniometer
    group = replace_group(entry, schema.GONIOMETER, "NXgoniometer")
    start, n_frames = goniometer.phi[0], len(goniometer.phi)
    put(group, schema.PHI, start, units="degree", step=goniometer.step,
        end=start + n_frames * goniometer.step)  # fmt: skip
    put(group, schema.CHI, goniometer.chi, units="degree")
    put(group, schema.OMEGA, goniometer.omega, units="degree")
    put(group, schema.THETA[0], goniometer.theta, units="degree")
    offset = offset_to_file(goniometer.sample_offset, goniometer.step)
    for name, value in zip(schema.OFFSETS, offset, strict=True):
        put(group, name, value, units="mm")


def write_monitor(entry: h5py.Group, counts: F8) -> None:
    """Write the incident flux, (n_frames,) float64 [counts]. Not collective."""
    group = replace_group(entry, schema.MONITORS[0], "NXmonitor")
    _write_by_frame(group, schema.MONITOR_SIGNAL, counts, "counts")


def write_attenuator(entry: h5py.Group, transmission: float) -> None:
    """Write the transmission of an attenuator [1]. Not collective."""
    replace_group(entry, schema.ATTENUATOR.rpartition("/")[0], "NXattenuator")
    put(entry, schema.ATTENUATOR, transmission)


def write_filter(entry: h5py.Group, transmission: F8) -> None:
    """Write the transmission of a filter, (n_frames,) float64 [1]. Not collective."""
    replace_group(entry, schema.FILTER.rpartition("/")[0], "NXfilter")
    group = replace_group(entry, schema.FILTER, "NXdata")
    _write_by_frame(group, schema.FILTER.rpartition("/")[2], transmission, "")
    put(group, "title", "Transmission of the filter")


def _write_by_frame(group: h5py.Group, signal: str, values: F8, units: str) -> None:
    group.attrs["signal"], group.attrs["axes"] = signal, schema.FRAME_NUMBER
    put(group, signal, values, **({"units": units} if units else {}))
    put(group, schema.FRAME_NUMBER, np.arange(values.size, dtype=np.int32), long_name="frame")


def write_suggested_grid(entry: h5py.Group, grid: HKLGrid) -> None:
    """Write the axes of a volume still to be made. Not collective."""
    group = replace_group(entry, schema.REGULAR.group, "NXcollection")  # no NXdata as yet
    for axis, (name, index) in enumerate(zip(reversed(schema.AXES), "HKL", strict=True)):
        put(group, name, axis_values(grid, axis), long_name=f"{index} (r.l.u.)")


def create_raw(
    file: h5py.File, shape: tuple[int, ...], dtype: str, chunk_frames: int,
    storage: Mapping[str, Any],
) -> None:  # fmt: skip
    """Create the dataset of raw frames in a file of its own. Not collective.

    Parameters
    ----------
    shape : tuple of int
        (n_frames, n_slow, n_fast).
    storage : mapping
        Arguments of ``create_dataset``, for compression.
    """
    group_path, _, name = schema.RAW_IN_FILE.rpartition("/")
    entry = replace_group(file, schema.SHARED, "NXentry")
    file.attrs["default"], entry.attrs["default"] = schema.SHARED, schema.DATA
    data = replace_group(file, group_path, "NXdata")
    data.attrs["signal"] = name
    put(data, "title", "Raw frames")
    data.create_dataset(
        name, shape=shape, dtype=dtype,
        chunks=(min(chunk_frames, shape[0]), *shape[1:]), **storage,
    )  # fmt: skip
