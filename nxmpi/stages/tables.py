"""What binning needs to know of every pixel and frame: computed by the root, sent to all."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.crystal.detector import pixel_centres, polarization_factor, solid_angle
from nxmpi.crystal.reciprocal import frame_transforms
from nxmpi.errors import InputError
from nxmpi.kernels.bricks import EDGE
from nxmpi.kernels.transform import unit_vectors
from nxmpi.parallel.arrays import bcast_array

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F8, I4, I8
    from nxmpi.model import Geometry, HKLGrid, Position
    from nxmpi.params import Voxels

TILE = (16, 32)
"""Pixels of a tile along slow and fast: few voxels, hit many times."""
NORM_BITS = 30
"""Norm is summed in integers, in units of the largest factor times 2^-30."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """Tables of a position on a grid; see `nxmpi.kernels.transform.bin_batch`."""

    pixels: I4
    """(n,) int32: good pixels, tile after tile, in a flattened frame."""
    tiles: I4
    """(n_tiles + 1,) int32: where each tile begins in ``pixels``."""
    vectors: F8
    """(3, n) float64: unit vectors, or places [mm] where the sample moves."""
    weight: F8
    """(n,) float64: factor of each pixel, divided by the largest [1]."""
    matrices: F8
    """(n_frames, 3, 3) float64 [voxels]."""
    offset: F8
    """(3,) float64 [voxels]."""
    samples: F8
    """(n_frames, 3) float64 [mm]."""
    scales: F8
    """(n_frames,) float64: factor of each frame, divided by the largest, times 2^30 [1]."""
    shape: I8
    """(3,) int64: of the grid along h, k, l."""
    unit: float
    """Norm that the integer 1 stands for: the largest possible factor times 2^-30."""
    moving: bool
    """The sample is off the goniometer's centre."""


def pixel_factors(
    geometry: Geometry, *, polarization: float | None, solid_angle_unit: float | None
) -> F8:
    """Return the product of the factors of each pixel.

    Parameters
    ----------
    polarization : float or None
        Fraction of the beam polarized along y; None leaves the factor out.
    solid_angle_unit : float or None
        Solid angle that counts as 1 [sr], one for all positions of a scan; None leaves it out.

    Returns
    -------
    (n_slow, n_fast) float64
        [1]

    Notes
    -----
    Seen from the goniometer's centre: a sample off by 0.1 mm at 500 mm changes them by 10^-4.
    """
    positions = pixel_centres(geometry.detector)
    factor = np.ones(geometry.detector.shape)
    if polarization is not None:
        factor *= polarization_factor(positions, polarization)
    if solid_angle_unit is not None:
        factor *= solid_angle(geometry.detector, positions) / solid_angle_unit
    return factor


def build_tables(position: Position, factor: F8, grid: HKLGrid, voxels: Voxels) -> Tables:
    """Return the tables of a position. Not collective: the root calls it.

    Parameters
    ----------
    factor : (n_slow, n_fast) float64
        Of each pixel [1].

    Raises
    ------
    InputError
        If no pixel is good, or no frame has a weight.
    """
    n_fast = position.geometry.detector.shape[1]
    slow, fast = np.nonzero(~position.bad)
    if not slow.size:
        raise InputError(f"{position.name}: expected good pixels, found all of them masked")
    if not position.weight.max() > 0:
        raise InputError(f"{position.name}: expected frames with a weight above 0, found none")
    tile = slow // TILE[0] * -(-n_fast // TILE[1]) + fast // TILE[1]
    order = np.argsort(tile, kind="stable")
    pixels = (slow * n_fast + fast)[order].astype(np.int32)
    starts = np.flatnonzero(np.diff(tile[order], prepend=-1))
    matrices, offset, samples = frame_transforms(position.geometry, grid, voxels)
    moving = any(position.geometry.goniometer.sample_offset)
    vectors = np.ascontiguousarray(
        pixel_centres(position.geometry.detector).reshape(-1, 3)[pixels].T
    )
    if not moving:
        unit_vectors(vectors[0], vectors[1], vectors[2], np.zeros(3), vectors)
    weight = factor.ravel()[pixels]
    return Tables(
        pixels=pixels,
        tiles=np.append(starts, pixels.size).astype(np.int32),
        vectors=vectors,
        weight=weight / weight.max(),
        matrices=matrices,
        offset=offset,
        samples=samples,
        scales=position.weight / position.weight.max() * 2.0**NORM_BITS,
        shape=np.array(grid.shape, np.int64),
        unit=float(position.weight.max() * weight.max() * 2.0**-NORM_BITS),
        moving=moving,
    )


def bcast_tables(comm: MPI.Intracomm, tables: Tables | None) -> Tables:
    """Return the root's tables on every rank. Collective on ``comm``."""
    values: dict[str, Any] = {}
    for field in fields(Tables):
        value = getattr(tables, field.name, None)
        is_array = comm.bcast(isinstance(value, np.ndarray))
        values[field.name] = bcast_array(comm, value) if is_array else comm.bcast(value)
    return Tables(**values)


def covered_bricks(tables: Tables) -> int:
    """Return about how many bricks of the grid the position reaches. Not collective.

    From every eighth pixel and about 700 frames, so a few at the rim are missed.
    """
    n_bricks = -(-tables.shape // EDGE)
    hit = np.zeros(n_bricks, bool)
    used = np.flatnonzero(tables.scales > 0)
    vectors = tables.vectors[:, ::64]
    for frame in used[:: max(used.size // 700, 1)]:
        here = vectors - tables.samples[frame][:, None] if tables.moving else vectors
        if tables.moving:
            here = here / np.linalg.norm(here, axis=0) - np.array([[1.0], [0.0], [0.0]])
        place = tables.matrices[frame] @ here + tables.offset[:, None]
        inside = ((place >= 0) & (place < tables.shape[:, None])).all(axis=0)
        brick = place[:, inside].astype(int) // EDGE
        hit[tuple(brick)] = True
    return int(hit.sum())
