"""Orders of stabilizers, and variances of real space from sums over a Laue group."""

import numpy as np
from numba import njit

from nxmpi._typing import F4, F8, I8


@njit(cache=True, nogil=True)
def stabilizer_orders(matrices: I8, low: I8, l: int, orders: I8) -> None:
    """Count how many operators map each voxel of a plane to itself.

    Parameters
    ----------
    matrices : (m, 3, 3) int64
        A group, on columns (h, k, l) of voxels counted from that of 0 0 0.
    low : (3,) int64
        First voxel along h, k, l.
    l : int
    orders : (n_k, n_h) int64
        Overwritten.
    """
    orders[:] = 0
    n_k, n_h = orders.shape
    for k_place in range(n_k):
        k = low[1] + k_place
        for g in range(matrices.shape[0]):
            a, start, stop = matrices[g], low[0], low[0] + n_h
            for i in range(3):
                slope = a[i, 0] - (1 if i == 0 else 0)
                rest = a[i, 1] * k + a[i, 2] * l - (k if i == 1 else l if i == 2 else 0)
                if slope == 0:
                    if rest != 0:
                        stop = start
                elif rest % slope != 0:
                    stop = start
                else:
                    start, stop = max(start, -rest // slope), min(stop, -rest // slope + 1)
            for h in range(start, stop):
                orders[k_place, h - low[0]] += 1


@njit(cache=True, nogil=True)
def add_over_group(
    half: F4 | F8, changes: I8, times: I8, planar: I8, size_y: int, y: int, total: F8
) -> None:
    """Add up S(m r) over matrices m, for a plane of y.

    Parameters
    ----------
    half : (size_y // 2 + 1, n_z, n_x) float32 or float64
        S at y >= 0, z and x from -(n // 2) on; S(-r) = S(r), and S has the periods of the grid.
    changes : (m, 3, 3) int64
        On columns (x, y, z), as indices from 0.
    times : (m,) int64
        How often each counts.
    planar : (p, 3, 3) int64
        On such columns: a group under which the sum is invariant, and that leaves y as it is.
    y : int
        At least 0.
    total : (n_z, n_x) float64
        Overwritten. Of places that are images of each other one is summed, and copied.
    """
    _, n_z, n_x = half.shape
    middle_x, middle_z = n_x // 2, n_z // 2
    steps = np.empty((changes.shape[0], 3, n_x), np.int64)
    for g in range(changes.shape[0]):
        m = changes[g]
        for x in range(n_x):
            steps[g, 0, x] = m[0, 0] * x % n_x
            steps[g, 1, x] = m[1, 0] * x % size_y
            steps[g, 2, x] = m[2, 0] * x % n_z
    leaders, same_row = np.empty(n_x, np.int64), np.empty(n_x, np.int64)
    for z_place in range(n_z):
        z = z_place - middle_z
        row = total[z_place]
        n_leaders = 0
        same_row[:] = -1
        for x_place in range(n_x):
            x = x_place - middle_x
            first_z, first_x = z_place, x_place
            for g in range(planar.shape[0]):
                m = planar[g]
                z_image = (m[2, 0] * x + m[2, 1] * y + m[2, 2] * z + middle_z) % n_z
                if z_image > first_z:
                    continue
                x_image = (m[0, 0] * x + m[0, 1] * y + m[0, 2] * z + middle_x) % n_x
                if z_image < first_z or x_image < first_x:
                    first_z, first_x = z_image, x_image
            if first_z == z_place and first_x == x_place:
                leaders[n_leaders] = x_place
                n_leaders += 1
                row[x_place] = 0.0
            elif first_z == z_place:
                same_row[x_place] = first_x
            else:
                row[x_place] = total[first_z, first_x]
        for g in range(changes.shape[0]):
            m, factor = changes[g], times[g]
            # at the least x, as places of arrays; y modulo its period
            first_u = (middle_x - m[0, 0] * middle_x + m[0, 1] * y + m[0, 2] * z) % n_x
            first_v = (-m[1, 0] * middle_x + m[1, 1] * y + m[1, 2] * z) % size_y
            first_w = (middle_z - m[2, 0] * middle_x + m[2, 1] * y + m[2, 2] * z) % n_z
            for i in range(n_leaders):
                x_place = leaders[i]
                u = first_u + steps[g, 0, x_place]
                v = first_v + steps[g, 1, x_place]
                w = first_w + steps[g, 2, x_place]
                u -= n_x if u >= n_x else 0
                v -= size_y if v >= size_y else 0
                w -= n_z if w >= n_z else 0
                if 2 * v > size_y:
                    v, u, w = size_y - v, 2 * middle_x - u, 2 * middle_z - w
                    u -= n_x if u >= n_x else 0
                    w -= n_z if w >= n_z else 0
                row[x_place] += factor * half[v, w, u]
        for x_place in range(n_x):
            if same_row[x_place] >= 0:
                row[x_place] = row[same_row[x_place]]
