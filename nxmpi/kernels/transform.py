"""Pixels of many frames into voxels, a small tile of the detector at a time."""

from math import sqrt

import numpy as np
from numba import njit

from nxmpi._typing import F8, I4, I8, Frames
from nxmpi.kernels.bricks import EDGE, add_box, take_slot


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
def voxels_of_tile(
    kx: F8, ky: F8, kz: F8, weight: F8, matrix: F8, offset: F8, scale: float, shape: I8,
    h: I4, k: I4, l: I4, norm: I4,
) -> None:  # fmt: skip
    """Write the voxel and the integer norm of each pixel of a tile in one frame.

    All arrays of pixels are contiguous, so that the loop becomes vector instructions.

    Parameters
    ----------
    kx, ky, kz : (n,) float64
        As `unit_vectors` writes them [1].
    weight : (n,) float64
        Factor of each pixel, at most 1 [1].
    matrix, offset : (3, 3), (3,) float64
        ``floor(matrix @ k + offset)`` is the voxel along h, k, l [voxels].
    scale : float
        2^30 times the factor of the frame, which is at most 1 [1].
    shape : (3,) int64
        Of the grid along h, k, l [voxels].
    h, k, l : (n,) int32
        Receive the voxel; meaningless where norm is zero.
    norm : (n,) int32
        Receives the weight in units of 2^-30; zero outside the grid.
    """
    hx, hy, hz = matrix[0]
    kx_, ky_, kz_ = matrix[1]
    lx, ly, lz = matrix[2]
    h0, k0, l0 = offset
    nh, nk, nl = float(shape[0]), float(shape[1]), float(shape[2])
    for p in range(kx.shape[0]):
        x, y, z = kx[p], ky[p], kz[p]
        ph = hx * x + hy * y + hz * z + h0
        pk = kx_ * x + ky_ * y + kz_ * z + k0
        pl = lx * x + ly * y + lz * z + l0
        inside = (ph >= 0.0) & (ph < nh) & (pk >= 0.0) & (pk < nk) & (pl >= 0.0) & (pl < nl)
        h[p] = np.int32(ph)  # truncation is the floor where it counts, inside
        k[p] = np.int32(pk)
        l[p] = np.int32(pl)
        norm[p] = np.int32(scale * weight[p] + 0.5) if inside else np.int32(0)


@njit(cache=True, nogil=True)
def widen(voxel: I4, norm: I4, low: int, high: int) -> tuple[np.int32, np.int32]:
    """Return the range low to high, inclusive, widened to hold the voxels of these pixels."""
    big, none = np.int32(2**30), np.int32(-1)
    least, most = np.int32(low), np.int32(high)
    for p in range(voxel.shape[0]):
        least = np.int32(min(least, voxel[p] if norm[p] > 0 else big))
        most = np.int32(max(most, voxel[p] if norm[p] > 0 else none))
    return least, most


@njit(cache=True, nogil=True)
def cells_of_tile(h: I4, k: I4, l: I4, lower: I8, extent: I8, cell: I4) -> None:
    """Write the place in a box, in C order over l, k, h, of each voxel. May replace h."""
    l0, k0, h0 = np.int32(lower[0]), np.int32(lower[1]), np.int32(lower[2])
    nk, nh = np.int32(extent[1]), np.int32(extent[2])
    for p in range(h.shape[0]):
        cell[p] = ((l[p] - l0) * nk + (k[p] - k0)) * nh + (h[p] - h0)


@njit(cache=True, nogil=True)
def scatter_to_box(
    frame: Frames, pixels: I4, sentinel: int, cell: I4, norm: I4, box: I8
) -> None:  # fmt: skip
    """Add the pixels of a tile in one frame to a box."""
    for p in range(pixels.shape[0]):
        count = np.int64(frame[pixels[p]])
        if norm[p] > 0 and count >= 0 and count != sentinel:
            box[cell[p], 0] += count
            box[cell[p], 1] += norm[p]


@njit(cache=True, nogil=True)
def scatter_to_bricks(
    frame: Frames, pixels: I4, sentinel: int, h: I4, k: I4, l: I4, norm: I4,
    table: I4, arena: I8, free: I4, used: I8,
) -> None:  # fmt: skip
    """Add the pixels of a tile in one frame to the bricks one by one, where no box fits."""
    for p in range(pixels.shape[0]):
        count = np.int64(frame[pixels[p]])
        if norm[p] > 0 and count >= 0 and count != sentinel:
            slot = take_slot(table, free, used, l[p] // EDGE, k[p] // EDGE, h[p] // EDGE)
            cell = ((l[p] % EDGE) * EDGE + k[p] % EDGE) * EDGE + h[p] % EDGE
            arena[slot, cell, 0] += count
            arena[slot, cell, 1] += norm[p]


@njit(cache=True, nogil=True)
def keep_part(excluded: Frames, pixels: I4, norm: I4, part: int, kept: I4) -> bool:
    """Write the norm of the pixels that belong to a part (0 kept, 1 excluded), else zero.

    Returns
    -------
    bool
        Whether there are any that the mask excludes.
    """
    some = False
    for p in range(pixels.shape[0]):
        out = excluded[pixels[p]] != 0
        some |= out
        kept[p] = norm[p] if out == (part == 1) else np.int32(0)
    return some


@njit(cache=True, nogil=True)
def bin_batch(
    frames: Frames, excluded: Frames, sentinel: int, numbers: I8, pixels: I4, tiles: I4,
    vectors: F8, moving: bool, weight: F8, matrices: F8, offset: F8, samples: F8, scales: F8,
    shape: I8, voxel: I4, norm: I4, kept: I4, room: F8, box: I8,
    table: I4, arena: I8, free: I4, used: I8,
    x_table: I4, x_arena: I8, x_free: I4, x_used: I8,
) -> None:  # fmt: skip
    """Add a batch of frames to the volume, tile by tile.

    Parameters
    ----------
    frames : (n_batch, n_pixels) integer
        Counts; negative ones and those equal to ``sentinel`` are left out.
    excluded : (n_batch, n_pixels) int8, or (0, 0)
        Where not zero, the pixel goes to the second volume.
    sentinel : int
        All ones of an unsigned type; -1 for signed types.
    numbers : (n_batch,) int64
        Which row of ``matrices``, ``samples`` and ``scales`` each frame has.
    pixels : (n,) int32
        Good pixels, tile after tile, as positions in a flattened frame.
    tiles : (n_tiles + 1,) int32
        Where each tile begins in ``pixels``.
    vectors : (3, n) float64
        As `unit_vectors` writes them [1]; if ``moving``, places in the laboratory [mm].
    moving : bool
        The sample is off the goniometer's centre, so that unit vectors differ by frame.
    weight : (n,) float64
        Factor of each pixel, at most 1 [1].
    matrices, offset, samples : (n_frames, 3, 3), (3,), (n_frames, 3) float64
        See `nxmpi.crystal.reciprocal.frame_transforms`.
    scales : (n_frames,) float64
        2^30 times the factor of each frame, which is at most 1 [1].
    shape : (3,) int64
        Of the grid along h, k, l.
    voxel, norm, kept, room, box
        Room to work: (n_batch, 3, m) int32, (n_batch, m) int32, (m,) int32, (3, m) float64
        for tiles of up to m pixels, and (largest box, 2) int64 holding zeros.
    table, arena, free, used, and the same with x_
        The volume, and the one of the excluded pixels; see `nxmpi.kernels.bricks`.
    """
    lower, upper, extent = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3, np.int64)
    masked = excluded.shape[0] > 0
    for tile in range(tiles.shape[0] - 1):
        start, stop = tiles[tile], tiles[tile + 1]
        n = stop - start
        lower[:], upper[:] = 2**30, -1
        mine = pixels[start:stop]
        for f in range(frames.shape[0]):
            number = numbers[f]
            if moving:
                unit_vectors(
                    vectors[0, start:stop], vectors[1, start:stop], vectors[2, start:stop],
                    samples[number], room,
                )  # fmt: skip
                kx, ky, kz = room[0, :n], room[1, :n], room[2, :n]
            else:
                kx, ky, kz = (
                    vectors[0, start:stop], vectors[1, start:stop], vectors[2, start:stop],
                )  # fmt: skip
            voxels_of_tile(
                kx, ky, kz, weight[start:stop], matrices[number], offset, scales[number], shape,
                voxel[f, 0, :n], voxel[f, 1, :n], voxel[f, 2, :n], norm[f, :n],
            )  # fmt: skip
            for axis in range(3):
                lower[2 - axis], upper[2 - axis] = widen(
                    voxel[f, axis, :n], norm[f, :n], lower[2 - axis], upper[2 - axis]
                )
        if upper[0] < 0:
            continue
        for axis in range(3):
            extent[axis] = upper[axis] - lower[axis] + 1
        fits = extent[0] * extent[1] * extent[2] <= box.shape[0]
        some_excluded = False
        for part in range(2 if masked else 1):
            if part == 1 and not some_excluded:
                break
            for f in range(frames.shape[0]):
                h, k, l = voxel[f, 0, :n], voxel[f, 1, :n], voxel[f, 2, :n]
                here = norm[f, :n]
                if masked:
                    some_excluded |= keep_part(excluded[f], mine, here, part, kept[:n])
                    here = kept[:n]
                if fits:
                    if part == 0:
                        cells_of_tile(h, k, l, lower, extent, h)
                    scatter_to_box(frames[f], mine, sentinel, h, here, box)
                elif part == 0:
                    scatter_to_bricks(
                        frames[f], mine, sentinel, h, k, l, here, table, arena, free, used
                    )
                else:
                    scatter_to_bricks(
                        frames[f], mine, sentinel, h, k, l, here,
                        x_table, x_arena, x_free, x_used,
                    )  # fmt: skip
            if fits and part == 0:
                add_box(box, lower, extent, table, arena, free, used)
            elif fits:
                add_box(box, lower, extent, x_table, x_arena, x_free, x_used)
