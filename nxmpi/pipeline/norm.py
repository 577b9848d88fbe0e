"""The factors of the norm of a position, from its entry in the scan file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.factors import PixelFactors
from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_detector
from nxmpi.nexus.process import read_inputs
from nxmpi.nexus.values import entry_names, find, location, read_array, read_number, require_number
from nxmpi.nexus.weights import read_transmission
from nxmpi.pipeline.flux import read_frame_factors, weight_of
from nxmpi.pipeline.inputs import hash_input
from nxmpi.pipeline.parameters import Layers, resolve

if TYPE_CHECKING:
    import h5py

    from nxmpi._typing import F8, Mask
    from nxmpi.params import NormParams, ScanParams

POLARIZATION = 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class Norm:
    """What counts are to be divided by."""

    frames: dict[str, F8]
    """Factors of each frame by name, (n_frames,) float64 [1]."""
    pixels: PixelFactors
    blocked: float
    """Part of a frame in which a pixel is dead after each count; 0 leaves it out [1/count]."""
    origins: dict[str, str]
    """Where each factor in use came from."""
    doubt: str = ""
    """Why the sample's transmission is not that for this flux; empty if it is."""


def read_norm(
    entry: h5py.Group, params: ScanParams, norm: NormParams, layers: Layers, used: slice, n: int
) -> Norm:
    """Return the factors of a position that belong to frames. Not collective.

    Raises
    ------
    InputError
        If a factor that is asked for lacks its input, or makes no sense.
    """
    frames, origins = read_frame_factors(entry, params, norm, layers, used, n)
    path = f"{schema.SUMS}/{schema.TRANSMISSION}"
    sample = read_transmission(entry, path, used, n) if norm.transmission else None
    doubt = ""
    if sample is not None:
        doubt = _doubt(entry, frames, origins, used, n)
        frames["transmission"] = sample
        origins["transmission"] = location(entry, path)
    blocked = 0.0
    if norm.dead_time:
        path = f"{schema.DETECTOR}/{schema.FRAME_TIME}"
        time = require_number(entry, path, "the time of a frame in s")
        if not time > norm.dead_time * 1e-9:
            expected = f"more than the dead time, {norm.dead_time:g} ns"
            raise SchemaError(entry.file.filename, location(entry, path), expected, f"{time:g} s")
        blocked = norm.dead_time * 1e-9 / time
        origins["dead_time"] = f"{norm.dead_time:.9g} ns of {time:.9g} s"
    return Norm(
        frames=frames, pixels=PixelFactors(), blocked=blocked, origins=origins, doubt=doubt
    )  # fmt: skip


def _doubt(
    entry: h5py.Group, frames: dict[str, F8], origins: dict[str, str], used: slice, n: int
) -> str:  # fmt: skip
    """Return why a transmission that was found earlier is not that for this flux.

    Both would hold what the flux has gained or lost: it would count twice, or not at all.
    """
    recorded = read_inputs(entry, schema.MAX_TASK)
    if not recorded:  # of another program, which does not tell
        return ""
    before = {
        name.removeprefix("factor_"): f"{text}"
        for name, text in recorded.items() if name.startswith("factor_")
    }  # fmt: skip
    then, now = ({_without_unit(text) for text in each.values()} for each in (before, origins))
    if then != now:
        return f"that for {_told(then)}, not for {_told(now)}"
    frames_then = (recorded["first_frame"], recorded["last_frame"])
    is_alike = before == origins and frames_then == (used.start, used.stop - 1)
    if is_alike and recorded["weight"] != hash_input(weight_of(frames, n)):
        return f"that for other values of {_told(now)}"
    return ""


def _without_unit(origin: str) -> str:
    """Return where a factor came from, without what counts as 1."""
    return origin.partition(" / ")[0]


def _told(origins: set[str]) -> str:
    return ", ".join(sorted(origins)) or "a constant flux"


def with_pixels(
    factors: Norm, entry: h5py.Group, params: ScanParams, norm: NormParams, layers: Layers,
    bad: Mask,
) -> Norm:  # fmt: skip
    """Return factors together with those of the pixels. Not collective.

    Parameters
    ----------
    bad : (n_slow, n_fast) bool
        Pixels that are not used.

    Raises
    ------
    InputError
        If a factor that is asked for lacks its input, or makes no sense.
    """
    polarization = _polarization(entry, params, layers) if norm.polarization else None
    unit = _solid_angle_unit(entry.file) if norm.solid_angle else None
    origins = dict(factors.origins)
    for name, value, what in (
        ("polarization", polarization, ""),
        ("solid_angle", unit, " sr counts as 1"),
        ("efficiency", norm.efficiency, " absorption lengths"),
        ("air", norm.air, " per mm"),
    ):
        if value is not None:
            origins[name] = f"{value:.9g}{what}"
    flat_field = None
    if norm.flat_field:
        flat_field = _read_flat_field(entry, norm.flat_field, bad)
        where = location(entry, f"{schema.DETECTOR}/{schema.FLAT_FIELD}")
        origins["flat_field"] = f"{where}, {norm.flat_field}"
    pixels = PixelFactors(
        polarization=polarization,
        solid_angle_unit=unit,
        efficiency=norm.efficiency,
        air=norm.air,
        flat_field=flat_field,
    )
    return replace(factors, pixels=pixels, origins=origins)


def _solid_angle_unit(file: h5py.File) -> float:
    """Return the solid angle of a pixel at the first position's distance, one for all [sr]."""
    detector = read_detector(file[entry_names(file)[0]], (1, 1))
    return (detector.pixel_size / detector.distance) ** 2


def _polarization(entry: h5py.Group, params: ScanParams, layers: Layers) -> float:
    fraction = resolve("polarization", params.polarization, layers, POLARIZATION, float)
    if not -1 <= fraction <= 1:
        raise InputError(
            f"{entry.file.filename}: polarization: expected -1 to 1, found {fraction:g}"
        )
    return fraction


def _read_flat_field(entry: h5py.Group, meaning: str, bad: Mask) -> F8:
    """Return the response of each pixel, 1 for bad ones. Not collective."""
    path = f"{schema.DETECTOR}/{schema.FLAT_FIELD}"
    file, where = entry.file.filename, location(entry, path)
    values = read_array(entry, path)
    if values is None:
        raise SchemaError(file, where, f"a flat field of {bad.shape} pixels", "none")
    if values.shape != bad.shape:
        raise SchemaError(file, where, f"{bad.shape} pixels", f"shape {values.shape}")
    applied = f"{schema.DETECTOR}/{schema.FLAT_FIELD_APPLIED}"
    if find(entry, applied) is not None and read_number(entry, applied):
        expected = "counts that it has not been applied to"
        raise SchemaError(file, location(entry, applied), expected, "that it has")
    good = values[~bad]
    if not ((good > 0) & np.isfinite(good)).all():
        wrong = int((~((good > 0) & np.isfinite(good))).sum())
        expected = "numbers above 0 in all good pixels"
        raise SchemaError(file, where, expected, f"others in {wrong} of them")
    flat = np.where(bad, 1.0, values)
    return flat if meaning == "response" else 1.0 / flat
