"""A scan file to positions, grid and tables: all that the stages need, read by the root."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.cctw.settings import geometry_and_grid
from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.factors import PixelFactors
from nxmpi.crystal.grid import default_axes, largest_G
from nxmpi.crystal.lattice import lattice_along
from nxmpi.errors import InputError, SchemaError
from nxmpi.log import ONCE
from nxmpi.model import HKL, Position
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_detector, read_geometry, read_sample, read_wavelength
from nxmpi.nexus.stack import Stack, find_stack, follow_stack, read_pixel_mask
from nxmpi.nexus.sums import read_faults
from nxmpi.nexus.values import chosen_entries, entry_names, find, location, open_file, read_array
from nxmpi.nexus.volume import grid_from_axes, read_grid
from nxmpi.nexus.weights import read_factor, read_weight
from nxmpi.pipeline.flux import weight_of
from nxmpi.pipeline.norm import Norm, read_norm, with_pixels
from nxmpi.pipeline.parameters import Layers, read_layers, resolve

if TYPE_CHECKING:
    from pathlib import Path

    import h5py

    from nxmpi._typing import F8
    from nxmpi.model import HKLGrid, Lattice, Matrix, Sample
    from nxmpi.params import NormParams, ScanParams

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A position with its raw frames."""

    position: Position
    raw: Stack
    mask: Stack | None
    """3-D mask, where there is one and it is to be used."""
    norm: Norm


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """What was asked for of a scan."""

    files: schema.ScanFiles
    measured: list[Measured]
    grid: HKLGrid
    sample: Sample | None


def read_scan(path: Path, params: ScanParams, norm: NormParams, *, guess: bool = False) -> Scan:
    """Return a scan's positions and grid. Not collective: the root calls it.

    Parameters
    ----------
    guess : bool, optional
        Take some orientation where there is none yet.

    Raises
    ------
    InputError
        If anything that is needed is missing or makes no sense; names file and path.
    """
    files = schema.ScanFiles(path)
    with open_file(path) as wrapper:
        names = entry_names(wrapper)
        chosen = [wrapper[name] for name in chosen_positions(wrapper, params)]
        layers = read_layers(wrapper, files)
        if params.settings:
            one, grid = _read_with_settings(chosen[0], params, layers, params.settings)
            return Scan(files=files, measured=[one], grid=grid, sample=None)
        sample = read_sample(chosen[0])
        everything = [wrapper[name] for name in names]
        measured = [_read_position(entry, params, norm, layers, guess=guess) for entry in chosen]
        # that of the first does for positions that have no frames yet
        shape = measured[0].raw.shape[1:]
        grid = _find_grid(everything, params, layers, sample, shape)
    return Scan(files=files, measured=measured, grid=grid, sample=sample)


def read_scan_to_bin(path: Path, params: ScanParams, norm: NormParams) -> Scan:
    """Return a scan whose frames are going to be binned as they are. Not collective.

    Raises
    ------
    InputError
        As `read_scan`, and if the sample's transmission is not that for the flux in use.
    """
    scan = read_scan(path, params, norm)
    for each in scan.measured:
        if each.norm.doubt:
            raise InputError(
                f"{path}:/{each.position.name}: expected the sample's transmission for this flux, "
                f"found {each.norm.doubt} (run nxmpi frames with the same options, or use "
                "--no-transmission)"
            )
    return scan


def chosen_positions(wrapper: h5py.File, params: ScanParams) -> list[str]:
    """Return the positions that are asked for. Not collective.

    Raises
    ------
    InputError
        If there is none of a name, or a settings file is for several.
    """
    names = chosen_entries(wrapper, params.entries)
    if params.settings and len(names) != 1:
        raise InputError("a settings file holds for one position: name it with --entry")
    return names


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


def read_stacks(entry: h5py.Group, follow: float | None = None) -> tuple[Stack, int]:
    """Return where the raw frames of a position are, and how many of them count.

    Not collective.

    Parameters
    ----------
    follow : float, optional
        Frames are still to be written: how long to wait for one [s].
    """
    raw = find_stack(entry) if follow is None else follow_stack(entry, follow)
    n_frames = raw.shape[0]
    numbers = read_array(entry, f"{schema.DATA}/{schema.FRAME_NUMBER}")
    if numbers is not None and numbers.size != n_frames:
        log.warning(
            "%s: frame_number counts %d frames, the data have %d: taking %d",
            entry.name, numbers.size, n_frames, min(numbers.size, n_frames),
        )  # fmt: skip
        n_frames = min(numbers.size, n_frames)
    if numbers is not None:
        _look_for_gaps(entry, numbers.ravel()[:n_frames])
    return raw, n_frames


def _look_for_gaps(entry: h5py.Group, numbers: F8) -> None:
    """Warn if frames between others are not there, and nothing says at which phi the others are."""
    phi = read_array(entry, f"{schema.GONIOMETER}/{schema.PHI}")
    gaps = np.flatnonzero(np.diff(numbers) != 1)
    if gaps.size and (phi is None or phi.size == 1):
        log.warning(
            "%s: frame_number is not consecutive: from %g to %g, then from %g on%s; phi is taken "
            "as start + step times the place in the file, which is wrong if frames were lost (an "
            "array of phi says where each is)", entry.name, numbers[0], numbers[gaps[0]],
            numbers[gaps[0] + 1], f" ({gaps.size} such places)" if gaps.size > 1 else "",
            extra=ONCE,
        )  # fmt: skip


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
    entry: h5py.Group, params: ScanParams, norm: NormParams, layers: Layers, *, guess: bool
) -> Measured:
    name = entry.name.strip("/")
    raw, n_frames = read_stacks(entry, params.follow)
    mask = _read_mask(entry, params, raw)
    shape = raw.shape[1:]
    first, last = frames_used(n_frames, params, layers, name)
    sample = read_sample(entry)
    bad = read_pixel_mask(entry, shape)
    faults = read_faults(entry, shape) & ~bad
    if faults.any() and not norm.hot_pixels:
        told = int(faults.sum())
        log.info("%s: %d hot or dead pixels are left out (--keep-hot-pixels)", name, told)
        bad |= faults
    used = slice(first, last + 1)
    factors = read_norm(entry, params, norm, layers, used, n_frames)
    factors = with_pixels(factors, entry, params, norm, layers, bad)
    weight = weight_of(factors.frames, n_frames)
    weight[:first] = 0.0
    weight[last + 1 :] = 0.0
    position = Position(
        name=name,
        geometry=read_geometry(entry, shape, n_frames, sample, guess=guess),
        sample=sample,
        n_frames=n_frames,
        first_frame=first,
        last_frame=last,
        bad=bad,
        weight=weight,
    )
    return Measured(position=position, raw=raw, mask=mask, norm=factors)


def _read_with_settings(
    entry: h5py.Group, params: ScanParams, layers: Layers, settings: Path
) -> tuple[Measured, HKLGrid]:
    raw, n_frames = read_stacks(entry, params.follow)
    mask = _read_mask(entry, params, raw)
    shape = raw.shape[1:]
    first, last = frames_used(n_frames, params, layers, entry.name)
    geometry, grid = geometry_and_grid(settings, shape, n_frames)
    weight = read_weight(entry, n_frames)
    weight[:first] = 0.0
    weight[last + 1 :] = 0.0
    bad, factor = read_pixel_mask(entry, shape), read_factor(entry, shape)
    origins = {"weights": location(entry, schema.MONITOR_WEIGHT)}
    if factor is not None:
        bad |= factor == 0
        origins["flat_field"] = location(entry, schema.FACTOR)
    position = Position(
        name=entry.name.strip("/"),
        geometry=geometry,
        sample=None,
        n_frames=n_frames,
        first_frame=first,
        last_frame=last,
        bad=bad,
        weight=weight,
    )
    pixels = PixelFactors(flat_field=factor)
    factors = Norm(frames={"weights": weight}, pixels=pixels, blocked=0.0, origins=origins)
    return Measured(position=position, raw=raw, mask=mask, norm=factors), grid


def _find_grid(
    entries: list[h5py.Group], params: ScanParams, layers: Layers, sample: Sample,
    shape: tuple[int, int],
) -> HKLGrid:  # fmt: skip
    axes = as_matrix(np.array(params.axes or HKL))
    if params.grid:
        return grid_from_axes(params.grid, axes)
    if params.axes:
        return _default_grid(entries, lattice_along(sample.lattice, axes), axes, shape)
    if layers.parent_grid:
        log.info("grid from %s", layers.parent, extra=ONCE)
        return layers.parent_grid
    for twin in (schema.REGULAR, schema.MASKED):
        for entry in entries:
            grid = read_grid(find(entry, twin.group))
            if grid:
                log.info("grid from %s", location(entry, twin.group), extra=ONCE)
                return grid
    return _default_grid(entries, sample.lattice, HKL, shape)


def _default_grid(
    entries: list[h5py.Group], lattice: Lattice, axes: Matrix, shape: tuple[int, int]
) -> HKLGrid:  # fmt: skip
    log.info("grid from the geometry")
    radii = [largest_G(read_detector(entry, shape), read_wavelength(entry)) for entry in entries]
    return grid_from_axes(default_axes(max(radii), lattice), axes)
