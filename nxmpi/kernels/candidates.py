"""What is left of the candidates before any is fitted voxel by voxel."""

from numba import njit

from nxmpi._typing import F8
from nxmpi.kernels.boxes import Counts, Range, cut
from nxmpi.kernels.screen import falls_into_one_pixel, fit_coarsely, seems_a_peak
from nxmpi.kernels.start import core_of_box, start_values


@njit(cache=True, nogil=True)
def may_be_a_peak(
    counts: Counts, box: tuple[Range, Range, Range], place: tuple[int, int], window: Range,
    side: int, found: tuple[float, float], sigmas: tuple[float, float],
    one_pixel: tuple[float, float, float], steps: tuple[int, int, int], shortest: float,
    widest: F8, beyond: float, level: float, values: F8,
) -> bool:  # fmt: skip
    """Return whether there may be a peak, and where a fit to single voxels is to begin.

    Most of what is no peak is found out here, at a small part of the cost: hot pixels and hits,
    by a score test what is not significant, and by a fit to sums of voxels what is of another
    size.

    Parameters
    ----------
    counts : Counts
    box : three of (start, stop)
        Frames, rows and columns that a peak is fitted in.
    place : tuple of int
        Row and column.
    window : (start, stop)
        Frames.
    side, found, sigmas
        Side of the box of the search, what was found in it, and widths to begin with; see
        `nxmpi.kernels.start.start_values`.
    one_pixel : tuple of float
        See `nxmpi.kernels.screen.falls_into_one_pixel`.
    steps : tuple of int
        Voxels that the first fit sums, along z, y, x; where all are 1 there is none.
    shortest, widest, beyond, level
        See `nxmpi.kernels.screen.fit_coarsely`.
    values : (N,) float64
        Receives the parameters to begin with, in the box.
    """
    z, y, x = box
    # the heart: 3 x 3 pixels
    rows = max(place[0] - 1, y[0]), min(place[0] + 2, y[1])
    columns = max(place[1] - 1, x[0]), min(place[1] + 2, x[1])
    heart = cut(counts, z, rows, columns, (1, 1, 1))
    start, stop = max(window[0] - z[0], 0), window[1] - z[0]
    part, hit, brief = one_pixel
    if falls_into_one_pixel(heart, start, stop, found[1] / side**2, part, hit, brief):
        return False
    frames = window[0] - z[0], min(window[1], z[1]) - z[0]
    values[:] = start_values((place[1] - x[0], place[0] - y[0]), frames, side, found, sigmas)
    shape = z[1] - z[0], y[1] - y[0], x[1] - x[0]
    along_z, along_y, along_x = core_of_box(shape, steps, values)
    core = cut(
        counts, (z[0] + along_z[0], z[0] + along_z[1]), (y[0] + along_y[0], y[0] + along_y[1]),
        (x[0] + along_x[0], x[0] + along_x[1]), steps,
    )  # fmt: skip
    corner = along_z[0], along_y[0], along_x[0]
    if not seems_a_peak(core, corner, steps, level, values):
        return False
    if steps[0] == 1 and steps[1] == 1 and steps[2] == 1:
        return True
    sums = cut(counts, z, y, x, steps)
    return bool(fit_coarsely(sums, steps, shortest, widest, beyond, level, values))
