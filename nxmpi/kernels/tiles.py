"""Small tiles of the detector, and the voxels that their pixels fall in."""

from math import floor, sqrt
from typing import NamedTuple

import numpy as np
from numba import njit

from nxmpi._typing import F8, I4, I8, Frames, Mask

SLACK = 1e-6
"""By how much the pixels of a tile may lie outside of its bounds, through rounding [voxels]."""
OUTSIDE, PARTLY, INSIDE = 0, 1, 2
"""Where a tile is in a frame: outside of the grid, partly, or wholly inside."""


class Tables(NamedTuple):
    """What binning needs to know of the pixels and frames of a position, on a grid."""

    pixels: I4
    """(n,) int32: good pixels, tile after tile, in a flattened frame."""
    tiles: I4
    """(n_tiles + 1,) int32: where each tile begins in ``pixels``."""
    corners: I4
    """(n_tiles, 4) int32: first and last row, and one more, first and last column, of each."""
    middles: F8
    """(n_tiles, 3) float64: of a box that holds all unit vectors of a tile, in any frame [1]."""
    halves: F8
    """(n_tiles, 3) float64: half its edges [1]."""
    vectors: F8
    """(3, n) float64: as `unit_vectors` writes them [1], or places [mm] where the sample moves."""
    weight: F8
    """(n,) float64: factor of each pixel, divided by the largest [1]."""
    matrices: F8
    """(n_frames * views, 3, 3) float64: ``floor(matrix @ vector + offset)`` is the voxel along h,
    k, l, see `nxmpi.crystal.reciprocal.frame_transforms` [voxels]."""
    offset: F8
    """(3,) float64 [voxels]."""
    samples: F8
    """(n_frames * views, 3) float64 [mm]."""
    scales: F8
    """(n_frames,) float64: factor of each frame, divided by the largest, times 2^30 [1]."""
    shape: I8
    """(3,) int64: of the grid along h, k, l."""
    n_fast: int
    """Length of a frame's rows."""
    unit: float
    """Norm that the integer 1 stands for: the largest possible factor times 2^-30."""
    moving: bool
    """The sample is off the goniometer's centre, so that unit vectors differ by frame."""
    views: int
    """In how many ways each frame is added: parts of its pixels and of its rotation."""
    blocked: float
    """Part of a frame in which a pixel is dead after each count [1/count]."""


@njit(cache=True, nogil=True)
def unit_vectors(x: F8, y: F8, z: F8, sample: F8, out: F8) -> None:
    """Write (v - t)/|v - t| - x for points v seen from the sample t.

    Parameters
    ----------
    x, y, z : (n,) float64
        Pixels in the laboratory [mm].
    sample : (3,) float64
        [mm]
    out : (3, n or more) float64
        Times 1/wavelength this is the scattering vector [1].
    """
    for p in range(x.shape[0]):
        dx = x[p] - sample[0]
        dy = y[p] - sample[1]
        dz = z[p] - sample[2]
        length = sqrt(dx * dx + dy * dy + dz * dz)
        out[0, p] = dx / length - 1.0
        out[1, p] = dy / length
        out[2, p] = dz / length


@njit(cache=True, nogil=True)
def place_of_tile(
    middle: F8, half: F8, matrix: F8, offset: F8, shape: I8, lower: I8, upper: I8
) -> int:  # fmt: skip
    """Widen ranges of voxels to hold those of a tile in a frame; return where the tile is.

    Parameters
    ----------
    middle, half : (3,) float64
        See `Tables`, as of the next three.
    matrix, offset, shape
    lower, upper : (3,) int64
        First and last voxel along l, k, h.

    Notes
    -----
    By interval arithmetic: along each axis the voxels of a box are at most the sum of
    |matrix| half away from that of its middle.
    """
    first, last = np.empty(3, np.int64), np.empty(3, np.int64)
    inside = INSIDE
    for i in range(3):
        centre, reach = offset[i], SLACK
        for j in range(3):
            centre += matrix[i, j] * middle[j]
            reach += abs(matrix[i, j]) * half[j]
        low, high, n = centre - reach, centre + reach, float(shape[i])
        if high < 0.0 or low >= n:
            return OUTSIDE
        if low < 0.0 or high >= n:
            inside = PARTLY
        first[2 - i], last[2 - i] = max(floor(low), 0.0), min(floor(high), n - 1.0)
    for i in range(3):
        lower[i], upper[i] = min(lower[i], first[i]), max(upper[i], last[i])
    return inside


@njit(cache=True, nogil=True)
def reaches(tables: Tables) -> Mask:
    """Return whether any tile of each frame may reach the grid, (n_frames,) bool."""
    lower, upper = np.empty(3, np.int64), np.empty(3, np.int64)
    found = np.zeros(tables.scales.shape[0], np.bool_)
    for view in range(tables.matrices.shape[0]):
        frame = view // tables.views
        for tile in range(tables.middles.shape[0]):
            if found[frame]:
                break
            found[frame] = place_of_tile(
                tables.middles[tile], tables.halves[tile], tables.matrices[view],
                tables.offset, tables.shape, lower, upper,
            ) != OUTSIDE  # fmt: skip
    return found


@njit(cache=True, nogil=True)
def cells_of_tile(
    vectors: tuple[F8, F8, F8], weight: F8, matrix: F8, offset: F8, scale: float,
    lower: I8, extent: I8, cell: I4, norm: I4,
) -> None:  # fmt: skip
    """Write the cell of a box and the integer norm of each pixel of a tile in one frame.

    All arrays of pixels are contiguous, so that the loop becomes vector instructions.

    Parameters
    ----------
    vectors, weight, matrix, offset, scale
        See `Tables`; three times (n,) and (n,) of the pixels of the tile.
    lower, extent : (3,) int64
        First voxel and number of voxels of the box along l, k, h.
    cell : (n,) int32
        Receives the place in the box, in C order; meaningless for pixels outside of the grid.
    norm : (n,) int32
        Receives the weight in units of 2^-30.
    """
    x, y, z = vectors
    hx, hy, hz = matrix[0]
    kx, ky, kz = matrix[1]
    lx, ly, lz = matrix[2]
    h0, k0, l0 = offset
    nk, nh = np.int32(extent[1]), np.int32(extent[2])
    start = np.int32((lower[0] * extent[1] + lower[1]) * extent[2] + lower[2])  # may wrap, and back
    for p in range(x.shape[0]):
        # truncation is the floor inside of the grid
        h = np.int32(hx * x[p] + hy * y[p] + hz * z[p] + h0)
        k = np.int32(kx * x[p] + ky * y[p] + kz * z[p] + k0)
        l = np.int32(lx * x[p] + ly * y[p] + lz * z[p] + l0)
        row = np.int32(np.int32(l * nk) + k)
        cell[p] = np.int32(np.int32(np.int32(row * nh) + h) - start)
        norm[p] = np.int32(scale * weight[p] + 0.5)


@njit(cache=True, nogil=True)
def leave_out(
    vectors: tuple[F8, F8, F8], matrix: F8, offset: F8, shape: I8, cell: I4, norm: I4
) -> None:  # fmt: skip
    """Make the norm zero, and the cell the first, of pixels that are outside of the grid."""
    x, y, z = vectors
    hx, hy, hz = matrix[0]
    kx, ky, kz = matrix[1]
    lx, ly, lz = matrix[2]
    h0, k0, l0 = offset
    nh, nk, nl = float(shape[0]), float(shape[1]), float(shape[2])
    for p in range(x.shape[0]):
        h = hx * x[p] + hy * y[p] + hz * z[p] + h0
        k = kx * x[p] + ky * y[p] + kz * z[p] + k0
        l = lx * x[p] + ly * y[p] + lz * z[p] + l0
        inside = (h >= 0.0) & (h < nh) & (k >= 0.0) & (k < nk) & (l >= 0.0) & (l < nl)
        cell[p] = cell[p] if inside else np.int32(0)
        norm[p] = norm[p] if inside else np.int32(0)


@njit(cache=True, nogil=True)
def excludes_any(excluded: Frames, corner: I4, n_fast: int) -> bool:
    """Return whether a mask, (n_pixels,), excludes any pixel of a tile."""
    some = False
    for row in range(corner[0], corner[1]):
        line = excluded[row * n_fast + corner[2] : row * n_fast + corner[3]]
        for value in line:
            some |= value != 0
    return bool(some)


@njit(cache=True, nogil=True)
def keep_live(frame: Frames, pixels: I4, blocked: float, norm: I4) -> None:
    """Multiply the norm of pixels by the part of the frame in which they were not dead.

    Each count makes a pixel dead for a part ``blocked`` of the frame, in which it misses others
    but is not kept dead by them: it was alive for 1 - count * blocked (Knoll, Radiation Detection
    and Measurement, 4th ed., section 4.VII). The norm of pixels that were never alive is zero.
    """
    for p in range(pixels.shape[0]):
        live = 1.0 - blocked * max(frame[pixels[p]], 0)
        part = max(np.int32(norm[p] * live + 0.5), np.int32(1))
        norm[p] = part if live > 0.0 and norm[p] > 0 else np.int32(0)


@njit(cache=True, nogil=True)
def keep_part(excluded: Frames, pixels: I4, out: bool, norm: I4) -> None:
    """Make the norm zero of pixels that a mask excludes, or of those that it keeps if ``out``."""
    for p in range(pixels.shape[0]):
        norm[p] = norm[p] if (excluded[pixels[p]] != 0) == out else np.int32(0)
