"""A scan file to what the pass over its frames needs, read by the root."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nxmpi.crystal.angles import pixel_Q
from nxmpi.crystal.transmission import annulus, background_blocks, block_pixels
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_detector, read_wavelength
from nxmpi.nexus.stack import read_pixel_mask
from nxmpi.nexus.values import chosen_entries, find, open_file, read_number
from nxmpi.pipeline.flux import read_frame_factors, weight_of
from nxmpi.pipeline.inputs import frames_geometry
from nxmpi.pipeline.norm import POLARIZATION
from nxmpi.pipeline.parameters import read_layers, resolve
from nxmpi.pipeline.scan import frames_used, read_stacks
from nxmpi.stages.own_frames import FrameTables

if TYPE_CHECKING:
    import h5py

    from nxmpi._typing import F8, I8, Mask
    from nxmpi.model import Detector
    from nxmpi.nexus.stack import Stack
    from nxmpi.params import FramesParams, NormParams, ScanParams
    from nxmpi.pipeline.inputs import Inputs
    from nxmpi.pipeline.parameters import Layers

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Searched:
    """A position whose frames are to be gone through."""

    wrapper: Path
    """The scan file."""
    name: str
    raw: Stack
    n_frames: int
    """In the scan."""
    first_frame: int
    last_frame: int
    bad: Mask
    """(n_slow, n_fast) bool"""
    weight: F8
    """(n_frames,) float64: incident flux of each frame [1]."""
    factors: dict[str, str]
    """What the flux is a product of."""
    detector: Detector | None
    """None where the file has no geometry."""
    wavelength: float | None
    geometry: Inputs
    """What of these is recorded."""
    polarization: float
    saturation: float
    """Count from which a pixel is saturated [counts]."""
    threshold: float | None
    """Least largest count of a peak."""


def read_searched(
    path: Path, params: ScanParams, norm: NormParams, frames: FramesParams
) -> list[Searched]:  # fmt: skip
    """Return the positions of a scan. Not collective: the root calls it.

    Raises
    ------
    InputError
        If anything that is needed is missing or makes no sense; names file and path.
    """
    files = schema.ScanFiles(path)
    with open_file(path) as wrapper:
        chosen = chosen_entries(wrapper, params.entries)
        layers = read_layers(wrapper, files)
        return [_read(wrapper[name], params, norm, frames, layers) for name in chosen]


def _read(
    entry: h5py.Group, params: ScanParams, norm: NormParams, frames: FramesParams, layers: Layers
) -> Searched:  # fmt: skip
    name = entry.name.strip("/")
    raw, n_frames = read_stacks(entry, params.follow)
    first, last = frames_used(n_frames, params, layers, name)
    used = slice(first, last + 1)
    factors, origins = read_frame_factors(entry, params, norm, layers, used, n_frames)
    detector, wavelength = _read_geometry(entry, raw.shape[1:])
    saturation = read_number(entry, f"{schema.DETECTOR}/{schema.SATURATION}")
    return Searched(
        wrapper=Path(entry.file.filename),
        name=name,
        raw=raw,
        n_frames=n_frames,
        first_frame=first,
        last_frame=last,
        bad=read_pixel_mask(entry, raw.shape[1:]),
        weight=weight_of(factors, n_frames),
        factors=origins,
        detector=detector,
        wavelength=wavelength,
        geometry=frames_geometry(entry, detector, wavelength),
        polarization=resolve("polarization", params.polarization, layers, POLARIZATION, float),
        saturation=np.iinfo(raw.dtype).max - 1.0 if saturation is None else saturation,
        threshold=frames.threshold,
    )


def _read_geometry(
    entry: h5py.Group, shape: tuple[int, int]
) -> tuple[Detector | None, float | None]:
    needed = (f"{schema.DETECTOR}/{schema.DISTANCE}", schema.WAVELENGTH)
    if any(find(entry, path) is None for path in needed):
        log.warning(
            "%s: no geometry: the transmission is that of the whole detector, and there are no "
            "radial sum and no angles of the peaks",
            entry.name,
        )
        return None, None
    return read_detector(entry, shape), read_wavelength(entry)


def frame_tables(position: Searched, params: FramesParams) -> tuple[FrameTables, I8]:
    """Return the tables of the pass, and the pixels of each block of the background.

    Not collective: the root calls it.

    Raises
    ------
    InputError
        If no pixel is left for the background.
    """
    Q, limits = None, (0.0, 0.0)
    if position.detector is not None and position.wavelength is not None:
        Q = pixel_Q(position.detector, position.wavelength)
        default = annulus(position.detector, position.wavelength)
        given = (params.q_min, params.q_max)
        low, high = (d if g is None else g for d, g in zip(default, given, strict=True))
        limits = (low, high)
        log.info("%s: transmission from |Q| of %.3f to %.3f 1/Å", position.name, *limits)
    blocks = background_blocks(position.bad.shape, position.bad, Q, *limits)
    pixels = block_pixels(blocks)
    tables = FrameTables(
        first_frame=position.first_frame,
        n_frames=position.last_frame - position.first_frame + 1,
        bad=position.bad.astype(np.uint8),
        blocks=blocks,
        n_blocks=pixels.size,
    )
    return tables, pixels
