"""The factors of the norm that belong to frames: monitor, attenuator, filter."""

import h5py
import numpy as np

from nxmpi._typing import F8
from nxmpi.crystal.monitor import mend_ends, smooth_monitor
from nxmpi.errors import SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.values import find, find_whole, location, read_array, read_attribute


def read_monitor(
    entry: h5py.Group, name: str | None, used: slice, n_frames: int, *, raw: bool
) -> tuple[F8, str]:  # fmt: skip
    """Return the incident flux of each frame, and the path it came from. Not collective.

    Parameters
    ----------
    name : str or None
        Group in the entry or in its instrument's logs; None looks for the usual names.
    used : slice
        Frames that are used: these must have a positive monitor.
    raw : bool
        Do not smooth.

    Returns
    -------
    (n_frames,) float64
        [counts]

    Raises
    ------
    SchemaError
        If there is no monitor, it is too short, or it is zero, negative or NaN where used.
    """
    candidates = [name] if name else list(schema.MONITORS)
    paths = [*candidates, *(f"{schema.LOGS}/{candidate}" for candidate in candidates)]
    path = next((path for path in paths if find_whole(entry, path) is not None), None)
    file = entry.file.filename
    if path is None:
        there = [key for key in entry if _is_monitor(find(entry, key))]
        found = f"only {', '.join(there)}" if there else "none"
        expected = "a monitor of the incident flux (--no-monitor goes on without)"
        raise SchemaError(file, location(entry, candidates[0]), expected, found)
    where = location(entry, path)
    values = read_array(entry, path)
    if values is None:
        raise SchemaError(file, where, "a monitor signal", "none")
    if values.size < n_frames:
        raise SchemaError(file, where, f"{n_frames} values, one a frame", f"{values.size}")
    monitor = mend_ends(values.ravel()[:n_frames])
    wrong = np.flatnonzero(~(monitor[used] > 0))
    if wrong.size:
        frame = int(wrong[0]) + used.start
        raise SchemaError(
            file, where, "positive values in all frames used",
            f"{monitor[frame]:g} in frame {frame} ({wrong.size} such frames)",
        )  # fmt: skip
    if not raw:  # of others, such as those with a closed shutter, nothing may leak in
        monitor[used] = smooth_monitor(monitor[used])
    return monitor, where


def _is_monitor(found: h5py.Group | h5py.Dataset | None) -> bool:
    return isinstance(found, h5py.Group) and read_attribute(found, "NX_class") == "NXmonitor"


def read_transmission(entry: h5py.Group, path: str, used: slice, n_frames: int) -> F8 | None:
    """Return an attenuator's or filter's transmission, None where there is none. Not collective.

    Returns
    -------
    (n_frames,) float64 or None
        [1]

    Raises
    ------
    SchemaError
        If it is neither one number nor one a frame, or not positive in a frame used.
    """
    values = read_array(entry, path)
    if values is None:
        return None
    values = values.ravel()
    if values.size != 1 and values.size < n_frames:
        expected = f"one value or {n_frames}, one a frame"
        raise SchemaError(entry.file.filename, location(entry, path), expected, f"{values.size}")
    values = np.broadcast_to(values, n_frames) if values.size == 1 else values[:n_frames]
    if not (values[used] > 0).all():
        found = f"{np.nanmin(values[used]):g}" if not np.isnan(values[used]).all() else "NaN"
        raise SchemaError(
            entry.file.filename, location(entry, path), "a transmission above 0", found
        )
    return np.array(values)


def read_weight(entry: h5py.Group, n_frames: int) -> F8:
    """Return the weights that CCTW is given for each frame. Not collective.

    Returns
    -------
    (n_frames,) float64
        Zero where CCTW drops the frame: not positive, NaN, or beyond the list; ones where the
        file has no weights [1].
    """
    values = read_array(entry, schema.MONITOR_WEIGHT)
    if values is None:
        return np.ones(n_frames)
    weight = np.zeros(n_frames)
    n = min(values.size, n_frames)
    weight[:n] = np.where(values.ravel()[:n] > 0, values.ravel()[:n], 0.0)
    return weight


def read_factor(entry: h5py.Group, shape: tuple[int, int]) -> F8 | None:
    """Return the weights that CCTW is given for each pixel, None where there are none.

    Not collective.

    Returns
    -------
    (n_slow, n_fast) float64 or None
        Zero where it leaves the pixel out: not positive, or NaN [1].

    Raises
    ------
    SchemaError
        If they are not of the shape of a frame, or infinite.
    """
    values = read_array(entry, schema.FACTOR)
    if values is None:
        return None
    file, where = entry.file.filename, location(entry, schema.FACTOR)
    if values.shape != shape:
        raise SchemaError(file, where, f"the shape of a frame, {shape}", f"{values.shape}")
    if np.isposinf(values).any():
        raise SchemaError(file, where, "weights that are finite", "infinity")
    return np.where(values > 0, values, 0.0)
