"""What a volume is multiplied by before its Fourier transform, plane by plane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nxmpi.crystal.metric import grid_metric, whole_metric
from nxmpi.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from nxmpi._typing import F8, I8, Mask
    from nxmpi.crystal.laue import VoxelGroup
    from nxmpi.model import HKLGrid, Lattice
    from nxmpi.params import WindowParams, WindowShape


class Window(NamedTuple):
    """A function of r, which is 1 on a sphere or an ellipsoid about 0 0 0."""

    shape: WindowShape
    metric: I8
    """(3, 3) int64: r² of voxel x, counted from that of 0 0 0, is ``unit * x @ metric @ x``."""
    unit: float
    low: I8
    high: I8
    """(3,) int64: first and last voxel along h, k, l."""
    q_max: F8
    """(3,) float64: |Q| where r = 1, towards the faces of the grid [1/Å, with 2π]; NaN if none."""


def window_on(params: WindowParams, group: VoxelGroup, grid: HKLGrid, lattice: Lattice) -> Window:
    """Return a window that is the same, to the bit, for all images of a voxel.

    Raises
    ------
    InputError
        If the grid is to say how large it is, and does not have 0 0 0 inside.

    Notes
    -----
    A face x_i = n of a grid, whose axes have the metric G, is d_i = n / sqrt((inv G)_ii) from 0.
    The ellipsoid x E G E x = 1, E diagonal, touches it for E_i = 1 / d_i: it has the angles of
    the lattice, and another scale along each axis. With E_i = 1 / q_max it is the sphere. Axes
    that the group mixes have E_i in common, so that E G E is invariant as G is.
    """
    if params.window == "none":
        return Window(
            "none", np.zeros((3, 3), np.int64), 0.0, group.low, group.high, np.full(3, np.nan)
        )
    metric = grid_metric(grid, lattice)
    if params.q_max is not None:
        reach = np.full(3, params.q_max)
    else:
        faces = np.minimum(-group.low, group.high)
        if (faces <= 0).any():
            raise InputError(
                f"window: expected a grid with 0 0 0 inside, or a q_max, found voxels "
                f"{group.low.tolist()} to {group.high.tolist()} from it"
            )
        distances = faces / np.sqrt(np.diag(np.linalg.inv(metric)))
        together = np.full((3, 3), params.support == "sphere") | mixed_axes(group)
        reach = np.where(together, distances, np.inf).min(axis=1)
    whole, unit = whole_metric(metric / np.outer(reach, reach), group)
    return Window(params.window, whole, unit, group.low, group.high, reach)


def mixed_axes(group: VoxelGroup) -> Mask:
    """Return which axes of a grid the group adds to or exchanges with each other.

    Returns
    -------
    (3, 3) bool
        An equivalence: symmetric, true on the diagonal.
    """
    linked = (group.matrices != 0).any(axis=0) | np.eye(3, dtype=np.bool_)
    either = (linked | linked.T).astype(np.int64)
    return np.asarray(either @ either > 0)


def window_plane(window: Window, l: int) -> F8:
    """Return the window on a plane of the grid.

    Parameters
    ----------
    l : int
        From 0 0 0.

    Returns
    -------
    (n_k, n_h) float64
        [1]

    Notes
    -----
    tukey: 1 to r = 1/2, then (1 + cos 2π(r - 1/2)) / 2, as NXRefine has it. blackman:
    0.42 + 0.5 cos πr + 0.08 cos 2πr. gaussian: exp(-(2.5 r)² / 2). lanczos: sin(πr) / (πr).
    All are 0 beyond r = 1.
    """
    h, k = (np.arange(window.low[i], window.high[i] + 1) for i in (0, 1))
    if window.shape == "none":
        return np.ones((len(k), len(h)))
    m, k = window.metric, k[:, None]
    along_h = m[0, 0] * h + 2 * (m[0, 1] * k + m[0, 2] * l)
    squares = window.unit * (along_h * h + (m[1, 1] * k + 2 * m[1, 2] * l) * k + m[2, 2] * l**2)
    inside = squares <= 1
    r = np.sqrt(squares[inside])
    if window.shape == "tukey":
        values = np.where(r > 0.5, (1 + np.cos(2 * np.pi * (r - 0.5))) / 2, 1.0)
    elif window.shape == "blackman":
        values = 0.42 + 0.5 * np.cos(np.pi * r) + 0.08 * np.cos(2 * np.pi * r)
    elif window.shape == "gaussian":
        values = np.exp(-((2.5 * r) ** 2) / 2)
    else:
        values = np.sinc(r)
    plane = np.zeros(squares.shape)
    plane[inside] = values
    return plane


def window_slab(window: Window, start: int, stop: int, dtype: DTypeLike) -> NDArray[Any]:
    """Return the window on planes of the grid.

    Parameters
    ----------
    start, stop : int
        Half-open range, the first plane of the grid being 0.
    dtype : float32 or float64

    Returns
    -------
    (stop - start, n_k, n_h)
        [1]
    """
    n_h, n_k, _ = window.high - window.low + 1
    slab = np.empty((stop - start, n_k, n_h), dtype)
    for l, plane in enumerate(slab, start + int(window.low[2])):
        plane[:] = window_plane(window, l)
    return slab
