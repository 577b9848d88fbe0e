"""What binning needs to know of every pixel and frame: computed by the root, sent to all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nxmpi.crystal.detector import pixel_centres
from nxmpi.crystal.reciprocal import Sights, frame_transforms
from nxmpi.errors import InputError
from nxmpi.kernels.bricks import EDGE, VOXELS
from nxmpi.kernels.tiles import Tables, reaches, unit_vectors
from nxmpi.kernels.transform import NORM_BITS
from nxmpi.parallel.arrays import bcast_array
from nxmpi.stages.bricks import BRICK_BYTES

if TYPE_CHECKING:
    from mpi4py import MPI

    from nxmpi._typing import F8, Mask
    from nxmpi.model import HKLGrid, Position
    from nxmpi.params import TransformParams

MANY_HITS = 64
"""Pixels in a voxel, on average, from which on in many a brick some voxel gets 512."""
TILE = (16, 64)
"""Pixels of a tile along slow and fast: few voxels, hit many times."""
APART = 4
"""Pixels of a tile come from every so many rows in turn: neighbours, which most often fall into
one voxel, would wait for each other."""


def build_tables(
    position: Position, factor: F8, grid: HKLGrid, params: TransformParams, blocked: float = 0.0
) -> Tables:
    """Return the tables of a position. Not collective: the root calls it.

    Frames that do not reach the grid have no weight in them.

    Parameters
    ----------
    factor : (n_slow, n_fast) float64
        Of each pixel [1].
    blocked : float
        Part of a frame in which a pixel is dead after each count [1/count].

    Raises
    ------
    InputError
        If no pixel is good, or no frame has a weight.
    """
    require_some(position.name, position.bad, position.weight)
    geometry = position.geometry
    matrices, offset, samples = frame_transforms(geometry, grid, params.voxels, params.split)
    sights = Sights(
        places=pixel_centres(geometry.detector),
        matrices=matrices,
        offset=offset,
        samples=samples,
        views=int(np.prod(params.split)),
    )
    return tables_of_sights(sights, position.bad, position.weight, factor, grid.shape, blocked)


def require_some(name: str, bad: Mask, weight: F8) -> None:
    """Make sure that there is something to bin. Raises `InputError` otherwise."""
    if bad.all():
        raise InputError(f"{name}: expected good pixels, found all of them masked")
    if not weight.max() > 0:
        raise InputError(f"{name}: expected frames with a weight above 0, found none")


def tables_of_sights(
    sights: Sights, bad: Mask, scale: F8, factor: F8, shape: tuple[int, int, int], blocked: float
) -> Tables:
    """Return the tables of frames that are seen in a given way. Not collective.

    Parameters
    ----------
    bad : (n_slow, n_fast) bool
        Pixels to leave out, not all of them.
    scale : (n_frames,) float64
        Of each frame, 0 to leave it out [1].
    factor, blocked
        See `build_tables`.
    shape : tuple of int
        Voxels along the axes of the grid.
    """
    n_fast = bad.shape[1]
    slow, fast = np.nonzero(~bad)
    tile = slow // TILE[0] * -(-n_fast // TILE[1]) + fast // TILE[1]
    order = np.lexsort((slow // APART, fast, slow % APART, tile))
    slow, fast, tile = slow[order], fast[order], tile[order]
    pixels = slow * n_fast + fast
    starts = np.flatnonzero(np.diff(tile, prepend=-1))
    corners = [
        edge
        for each in (slow, fast)
        for edge in (np.minimum.reduceat(each, starts), np.maximum.reduceat(each, starts) + 1)
    ]
    moving = bool(sights.samples.any())
    places = np.ascontiguousarray(sights.places.reshape(-1, 3)[pixels].T)
    vectors = np.empty_like(places)
    unit_vectors(places[0], places[1], places[2], np.zeros(3), vectors)
    low = np.minimum.reduceat(vectors, starts, axis=1).T
    high = np.maximum.reduceat(vectors, starts, axis=1).T
    # unit vectors of v - t and of v are at most 2 |t|/|v| apart
    shift = 2 * np.linalg.norm(sights.samples, axis=1).max() / np.linalg.norm(places, axis=0).min()
    weight, largest = factor.ravel()[pixels], float(scale.max()) or 1.0
    tables = Tables(
        pixels=pixels.astype(np.int32),
        tiles=np.append(starts, pixels.size).astype(np.int32),
        corners=np.stack(corners, axis=1).astype(np.int32),
        middles=(low + high) / 2,
        halves=(high - low) / 2 + shift,
        vectors=places if moving else vectors,
        weight=weight / weight.max(),
        matrices=sights.matrices,
        offset=sights.offset,
        samples=sights.samples,
        scales=scale / largest * 2.0**NORM_BITS,
        shape=np.array(shape, np.int64),
        n_fast=n_fast,
        unit=float(largest * weight.max() * 2.0**-NORM_BITS),
        moving=moving,
        views=sights.views,
        blocked=blocked,
    )
    tables.scales[~reaches(tables)] = 0.0
    return tables


def bcast_tables(comm: MPI.Intracomm, tables: Tables | None) -> Tables:
    """Return the root's tables on every rank. Collective on ``comm``."""
    values: dict[str, Any] = {}
    for name in Tables._fields:
        value = getattr(tables, name, None)
        is_array = comm.bcast(isinstance(value, np.ndarray))
        values[name] = bcast_array(comm, value) if is_array else comm.bcast(value)
    return Tables(**values)


def tables_bytes(tables: Tables) -> int:
    """Return what `bcast_tables` brings to a rank. Not collective."""
    return sum(value.nbytes for value in tables if isinstance(value, np.ndarray))


def tables_of_volumes(tables: Tables) -> int:
    """Return the bytes that the tables of the volumes take on every rank. Not collective."""
    return 32 * int(np.prod(-(-tables.shape // EDGE)))


def covered_bytes(tables: Tables) -> int:
    """Return about how many bytes the bricks of a position take, over all ranks. Not collective.

    Wide ones as well as narrow ones where voxels are hit so often that most will need them.
    """
    n_bricks = covered_bricks(tables)
    n_frames = int((tables.scales > 0).sum())
    hits = tables.pixels.size * n_frames * tables.views / max(n_bricks * VOXELS, 1)
    return n_bricks * BRICK_BYTES * (3 if hits > MANY_HITS else 1)


def covered_bricks(tables: Tables) -> int:
    """Return about how many bricks of the grid the position reaches. Not collective.

    From every eighth pixel and about 700 frames, so a few at the rim are missed.
    """
    n_bricks = -(-tables.shape // EDGE)
    hit = np.zeros(n_bricks, bool)
    used = np.flatnonzero(tables.scales > 0)
    vectors = tables.vectors[:, ::64]
    for frame in used[:: max(used.size // 700, 1)] * tables.views:
        here = vectors - tables.samples[frame][:, None] if tables.moving else vectors
        if tables.moving:
            here = here / np.linalg.norm(here, axis=0) - np.array([[1.0], [0.0], [0.0]])
        place = tables.matrices[frame] @ here + tables.offset[:, None]
        inside = ((place >= 0) & (place < tables.shape[:, None])).all(axis=0)
        brick = place[:, inside].astype(int) // EDGE
        hit[tuple(brick)] = True
    return int(hit.sum())
