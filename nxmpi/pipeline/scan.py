"""A scan file to positions, grid and tables: all that the stages need, read by the root."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.cctw.settings import geometry_and_grid
from nxmpi.crystal.grid import default_axes, largest_G
from nxmpi.errors import InputError, SchemaError
from nxmpi.model import Position
from nxmpi.nexus import schema
from nxmpi.nexus.frames import Stack, find_stack, read_pixel_mask
from nxmpi.nexus.geometry import read_detector, read_geometry, read_sample, read_wavelength
from nxmpi.nexus.values import entry_names, find, location, open_file, read_array
from nxmpi.nexus.volume import grid_from_axes, read_grid
from nxmpi.nexus.weights import read_monitor, read_transmission, read_weight
from nxmpi.pipeline.parameters import Layers, read_layers, resolve

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

    from nxmpi._typing import F8
    from nxmpi.model import HKLGrid, Sample
    from nxmpi.params import NormParams, ScanParams

log = logging.getLogger(__name__)
MONITOR_COUNTS = 50000.0
"""Monitor counts that count as 1 unless a number is given; NXRefine's default."""
POLARIZATION = 0.99


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A position with its raw frames."""

    position: Position
    raw: Stack
    mask: Stack | None
    """3-D mask, where there is one and it is to be used."""
    polarization: float | None
    """Fraction, None where the factor is left out."""
    solid_angle_unit: float | None
    """[sr]; None where the factor is left out."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """What was asked for of a scan."""

    files: schema.ScanFiles
    measured: list[Measured]
    grid: HKLGrid
    sample: Sample | None


def read_scan(path: Path, params: ScanParams, norm: NormParams) -> Scan:
    """Return a scan's positions and grid. Not collective: the root calls it.

    Raises
    ------
    InputError
        If anything that is needed is missing or makes no sense; names file and path.
    """
    files = schema.ScanFiles(path)
    with open_file(path) as wrapper:
        names = entry_names(wrapper)
        for name in params.entries:
            if name not in names:
                raise InputError(f"{path}:/{name}: expected one of {', '.join(names)}")
        layers = read_layers(wrapper, files)
        chosen = [wrapper[name] for name in names if not params.entries or name in params.entries]
        if params.settings:
            measured, grid = _read_with_settings(chosen, params, layers)
            return Scan(files=files, measured=measured, grid=grid, sample=None)
        sample = read_sample(chosen[0])
        everything = [wrapper[name] for name in names]
        unit = _solid_angle_unit(everything[0]) if norm.solid_angle else None
        measured = [_read_position(entry, params, norm, layers, unit) for entry in chosen]
        grid = _find_grid(everything, params, layers, sample)
    return Scan(files=files, measured=measured, grid=grid, sample=sample)


def _solid_angle_unit(entry: h5py.Group) -> float:
    detector = read_detector(entry, (1, 1))
    return (detector.pixel_size / detector.distance) ** 2


def frames_used(n_frames: int, params: ScanParams, layers: Layers, where: str) -> tuple[int, int]:
    """Return the first and the last frame that are used. Not collective."""
    first = resolve(schema.FIRST, params.first_frame, layers, 0, _whole)
    last = resolve(schema.LAST, params.last_frame, layers, n_frames - 1, _whole)
    if last > n_frames - 1:
        log.info("%s: last frame %d is beyond the last there is, %d", where, last, n_frames - 1)
        last = n_frames - 1
    if not 0 <= first <= last:
        raise InputError(
            f"{where}: expected first_frame from 0 to last_frame, found {first} to {last} "
            f"of {n_frames} frames"
        )
    return first, last


def _whole(text: str) -> int:
    return int(float(text))


def read_stacks(entry: h5py.Group) -> tuple[Stack, int]:
    """Return where the raw frames of a position are, and how many of them count.

    Not collective.
    """
    raw = find_stack(entry)
    n_frames = raw.shape[0]
    numbers = read_array(entry, f"{schema.DATA}/{schema.FRAME_NUMBER}")
    if numbers is not None and numbers.size != n_frames:
        log.warning(
            "%s: frame_number counts %d frames, the data have %d: taking %d",
            entry.name, numbers.size, n_frames, min(numbers.size, n_frames),
        )  # fmt: skip
        n_frames = min(numbers.size, n_frames)
    return raw, n_frames


def _read_mask(entry: h5py.Group, params: ScanParams, raw: Stack) -> Stack | None:
    if not params.mask or entry.get(schema.DATA_MASK, getlink=True) is None:
        return None
    mask = find_stack(entry, schema.DATA_MASK)
    if mask.shape != raw.shape:
        where = location(entry, schema.DATA_MASK)
        expected = f"the shape of the frames, {raw.shape}"
        raise SchemaError(entry.file.filename, where, expected, f"{mask.shape}")
    return mask


def _read_position(
    entry: h5py.Group, params: ScanParams, norm: NormParams, layers: Layers, unit: float | None
) -> Measured:
    name = entry.name.strip("/")
    raw, n_frames = read_stacks(entry)
    mask = _read_mask(entry, params, raw)
    shape = raw.shape[1:]
    first, last = frames_used(n_frames, params, layers, name)
    sample = read_sample(entry)
    weight, factors = frame_factors(entry, params, norm, layers, slice(first, last + 1), n_frames)
    polarization = None
    if norm.polarization:
        fraction = params.polarization
        polarization = resolve("polarization", fraction, layers, POLARIZATION, float)
        if not -1 <= polarization <= 1:
            raise InputError(
                f"{entry.file.filename}: polarization: expected -1 to 1, found {polarization:g}"
            )
        factors["polarization"] = f"{polarization:g}"
    if unit is not None:
        factors["solid_angle"] = f"{unit:.9g} sr counts as 1"
    weight[:first] = 0.0
    weight[last + 1 :] = 0.0
    position = Position(
        name=name,
        geometry=read_geometry(entry, shape, n_frames, sample),
        sample=sample,
        n_frames=n_frames,
        first_frame=first,
        last_frame=last,
        bad=read_pixel_mask(entry, shape),
        weight=weight,
        factors=factors,
    )
    return Measured(
        position=position, raw=raw, mask=mask, polarization=polarization, solid_angle_unit=unit
    )


def frame_factors(
    entry: h5py.Group, params: ScanParams, norm: NormParams, layers: Layers, used: slice, n: int
) -> tuple[F8, dict[str, str]]:
    """Return the factors of each frame, (n_frames,) float64, and what they are. Not collective."""
    weight, factors = np.ones(n), {}
    if norm.monitor:
        name = resolve("monitor", params.monitor, layers, None, str)
        counts = resolve("norm", params.norm, layers, MONITOR_COUNTS, float)
        if not counts > 0:
            raise InputError(f"{entry.file.filename}: norm: expected above 0, found {counts:g}")
        monitor, where = read_monitor(entry, name, used, n, raw=norm.raw_monitor)
        weight = weight * monitor / counts
        factors["monitor"] = f"{where} / {counts:g}{' unsmoothed' if norm.raw_monitor else ''}"
    for factor, path, wanted in (
        ("attenuator", schema.ATTENUATOR, norm.attenuator),
        ("filter", schema.FILTER, norm.filter),
    ):
        transmission = read_transmission(entry, path, used, n) if wanted else None
        if transmission is not None:
            weight = weight * transmission
            factors[factor] = location(entry, path)
    if not (weight[used] > 0).all():
        frame = int(np.flatnonzero(~(weight[used] > 0))[0]) + used.start
        raise InputError(
            f"{entry.file.filename}:{entry.name}: expected a positive weight in all frames used, "
            f"found {weight[frame]:g} in frame {frame}, of {', '.join(factors)}"
        )
    return weight, factors


def _read_with_settings(
    entries: list[h5py.Group], params: ScanParams, layers: Layers
) -> tuple[list[Measured], HKLGrid]:
    if len(entries) != 1 or params.settings is None:
        raise InputError("a settings file holds for one position: name it with --entry")
    (entry,) = entries
    raw, n_frames = read_stacks(entry)
    mask = _read_mask(entry, params, raw)
    shape = raw.shape[1:]
    first, last = frames_used(n_frames, params, layers, entry.name)
    geometry, grid = geometry_and_grid(params.settings, shape, n_frames)
    weight = read_weight(entry, n_frames)
    weight[:first] = 0.0
    weight[last + 1 :] = 0.0
    position = Position(
        name=entry.name.strip("/"),
        geometry=geometry,
        sample=None,
        n_frames=n_frames,
        first_frame=first,
        last_frame=last,
        bad=read_pixel_mask(entry, shape),
        weight=weight,
        factors={"weights": location(entry, schema.MONITOR_WEIGHT)},
    )
    measured = Measured(
        position=position, raw=raw, mask=mask, polarization=None, solid_angle_unit=None
    )
    return [measured], grid


def _find_grid(
    entries: list[h5py.Group], params: ScanParams, layers: Layers, sample: Sample
) -> HKLGrid:
    if params.grid:
        return grid_from_axes(params.grid)
    if layers.parent_grid:
        log.info("grid from %s", layers.parent)
        return layers.parent_grid
    for twin in (schema.REGULAR, schema.MASKED):
        for entry in entries:
            grid = read_grid(find(entry, twin.group))
            if grid:
                log.info("grid from %s", location(entry, twin.group))
                return grid
    log.info("grid from the geometry")
    radii = []
    for entry in entries:
        shape = find_stack(entry).shape[1:]
        radii.append(largest_G(read_detector(entry, shape), read_wavelength(entry)))
    return grid_from_axes(default_axes(max(radii), sample.lattice))
