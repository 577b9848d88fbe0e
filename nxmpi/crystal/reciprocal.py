"""Pixel and frame to hkl, hkl to pixel and frame, hkl to voxel."""

from typing import NamedTuple

import numpy as np

from nxmpi._typing import F8, Mask
from nxmpi.crystal.detector import detector_axes, pixel_centres, pixel_positions
from nxmpi.crystal.goniometer import centred, frame_matrices, goniometer_matrix, rotation
from nxmpi.model import Geometry, HKLGrid, Vector
from nxmpi.params import Voxels

ALONG = 33
"""Pixels along a side of the detector of which `hkl_ranges` knows."""


class Sights(NamedTuple):
    """Where pixels are, and what leads from there to a grid; see `frame_transforms`."""

    places: F8
    """(n_slow, n_fast, 3) float64: pixels in the laboratory [mm]."""
    matrices: F8
    """(n_frames * views, 3, 3) float64 [voxels]."""
    offset: F8
    """(3,) float64 [voxels]."""
    samples: F8
    """(n_frames * views, 3) float64 [mm]."""
    views: int
    """In how many ways each frame is seen: parts of its pixels and of its rotation."""


def scattering_vectors(positions: F8, wavelength: float) -> F8:
    """Return k = (v/|v| - x)/wavelength for points v seen from the sample.

    Parameters
    ----------
    positions : (..., 3) float64
        [any length]
    wavelength : float
        [Å]

    Returns
    -------
    (..., 3) float64
        [1/Å]
    """
    unit = positions / np.linalg.norm(positions, axis=-1, keepdims=True)
    return np.asarray((unit - [1.0, 0.0, 0.0]) / wavelength)


def UB_from_file(orientation_matrix: F8, step: float, A: F8) -> F8:
    """Return UB from a file's ``orientation_matrix`` M: Rz(-step/2) M inv(A).

    M means phi0 + k step for the middle of frame k, and is multiplied by inv(A) without the
    transpose (NXRefine's B). phi is the innermost rotation, so half a frame is a rotation of
    the crystal, and any programs sharing the file compute the same hkl.

    Parameters
    ----------
    orientation_matrix : (3, 3) float64
        [1]
    step : float
        Rotation during a frame [degrees].
    A : (3, 3) float64
        Direct matrix of the unit cell in the same file [Å].

    Returns
    -------
    (3, 3) float64
        [1/Å]
    """
    return np.asarray(rotation(2, -step / 2) @ orientation_matrix @ np.linalg.inv(A))


def UB_to_file(UB: F8, step: float, A: F8) -> F8:
    """Return the ``orientation_matrix`` of a file, M = Rz(step/2) UB A. See `UB_from_file`."""
    return np.asarray(rotation(2, step / 2) @ UB @ A)


def offset_from_file(offset: Vector, step: float) -> Vector:
    """Return the sample's displacement from a file's xs, ys, zs: Rz(-step/2) of it.

    As with the orientation matrix, files mean phi0 + k step for the middle of frame k.
    """
    x, y, z = (float(value) for value in rotation(2, -step / 2) @ np.array(offset))
    return x, y, z


def offset_to_file(offset: Vector, step: float) -> Vector:
    """Return xs, ys, zs of a file, Rz(step/2) of the displacement. See `offset_from_file`."""
    return offset_from_file(offset, -step)


def pixel_to_hkl(geometry: Geometry, x: F8, y: F8, phi: F8) -> F8:
    """Return hkl of points of the detector.

    Parameters
    ----------
    x, y : (n,) float64
        From the outer corner of pixel 0 [pixels].
    phi : (n,) float64
        True angle: phi0 + (k + 1/2) step for the middle of frame k [degrees].

    Returns
    -------
    (n, 3) float64
        [r.l.u.]
    """
    UB, offset = np.array(geometry.UB), np.array(geometry.goniometer.sample_offset)
    R = np.array([goniometer_matrix(geometry.goniometer, angle) for angle in phi])
    v = pixel_positions(geometry.detector, x, y) - R @ offset
    k = scattering_vectors(v, geometry.wavelength)
    return np.asarray(np.linalg.solve(R @ UB, k[..., None])[..., 0])


def reflecting_angles(geometry: Geometry, hkl: F8) -> F8:
    """Return the two phi at which each reciprocal-lattice point crosses the Ewald sphere.

    Parameters
    ----------
    hkl : (n, 3) float64
        [r.l.u.]

    Returns
    -------
    (n, 2) float64
        In [-180, 180); NaN where the point never reflects [degrees].

    Notes
    -----
    |G + x/wavelength| = 1/wavelength requires G_x = -wavelength |G|^2 / 2 in the laboratory.
    With e the beam seen from the inside of the outer rotations, e.(Rz(phi) g) =
    c cos(phi) + s sin(phi) + e_z g_z, which is solved for phi.
    """
    outer = goniometer_matrix(geometry.goniometer, 0.0)
    e = outer[0]
    g = np.asarray(hkl) @ np.array(geometry.UB).T
    c = e[0] * g[:, 0] + e[1] * g[:, 1]
    s = e[1] * g[:, 0] - e[0] * g[:, 1]
    target = -geometry.wavelength * (g**2).sum(axis=1) / 2 - e[2] * g[:, 2]
    amplitude = np.hypot(c, s)
    with np.errstate(invalid="ignore", divide="ignore"):
        delta = np.arccos(target / amplitude)
    middle = np.arctan2(s, c)
    phi = np.degrees(np.stack([middle - delta, middle + delta], axis=-1))
    return np.asarray((phi + 180) % 360 - 180)


def hkl_to_pixel(geometry: Geometry, hkl: F8, phi: F8) -> tuple[F8, F8]:
    """Return where the rays of reflecting points meet the detector's plane.

    Parameters
    ----------
    hkl : (n, 3) float64
        [r.l.u.]
    phi : (n,) float64
        True angle at which the point reflects [degrees].

    Returns
    -------
    x, y : (n,) float64
        From the outer corner of pixel 0; NaN where the ray goes away from it [pixels].
    """
    R = np.array([goniometer_matrix(geometry.goniometer, angle) for angle in phi])
    kf = (R @ np.array(geometry.UB) @ np.asarray(hkl)[..., None])[..., 0]
    kf = kf + np.array([1 / geometry.wavelength, 0.0, 0.0])
    axes = detector_axes(geometry.detector) * geometry.detector.pixel_size
    normal = np.cross(axes[:, 0], axes[:, 1])
    sample = R @ np.array(geometry.goniometer.sample_offset)
    origin = np.array([geometry.detector.distance, 0.0, 0.0]) - sample
    with np.errstate(divide="ignore", invalid="ignore"):
        length = (origin @ normal) / (kf @ normal)
    length = np.where(length > 0, length, np.nan)
    in_plane = np.linalg.pinv(axes[:, :2])
    uv = (length[:, None] * kf - origin) @ in_plane.T
    return uv[:, 0] + geometry.detector.beam_center[0], uv[:, 1] + geometry.detector.beam_center[1]


def frame_transforms(
    geometry: Geometry, grid: HKLGrid, voxels: Voxels, split: tuple[int, int, int] = (1, 1, 1)
) -> tuple[F8, F8, F8]:
    """Return what leads from a pixel of each frame to places on the grid.

    With v the centre of a pixel, t the frame's sample and k = (v-t)/|v-t| - x, the place is
    ``matrix @ k + offset`` and the voxel its floor. A pixel that is split is seen from a sample
    that is displaced the other way.

    Parameters
    ----------
    split : tuple of int, optional
        Parts of a pixel along fast and slow, and of a frame's rotation; n parts in all.

    Returns
    -------
    matrices : (n_frames * n, 3, 3) float64
        ``diag(1/step) inv(R UB E) / wavelength`` with E the grid's axes in its columns; rows are
        along the grid's axes [voxels].
    offset : (3,) float64
        ``-origin/step``, and one half more for centred voxels [voxels].
    samples : (n_frames * n, 3) float64
        R s, where the sample is in each frame, less where the part is in its pixel [mm].
    """
    n_fast, n_slow, n_phi = split
    R = frame_matrices(geometry.goniometer, n_phi)
    step = np.array(grid.step)
    axes = np.array(geometry.UB) @ np.array(grid.axes).T
    inverse = np.linalg.inv(R @ axes) if len(R) else R
    matrices = inverse / (step[:, None] * geometry.wavelength)
    offset = -np.array(grid.origin) / step + (0.5 if voxels == "centred" else 0.0)
    samples = R @ np.array(geometry.goniometer.sample_offset)
    along = detector_axes(geometry.detector) * geometry.detector.pixel_size
    fast, slow = np.meshgrid(centred(n_fast), centred(n_slow))
    parts = fast.ravel()[:, None] * along[:, 0] + slow.ravel()[:, None] * along[:, 1]
    return (
        np.repeat(matrices, len(parts), axis=0),
        offset,
        (samples[:, None] - parts).reshape(-1, 3),
    )


def hkl_ranges(geometry: Geometry, used: Mask) -> F8:
    """Return from where to where h, k and l of frames go, about: every so many pixels are asked.

    Parameters
    ----------
    used : (n_frames,) bool
        Frames that count, at least one.

    Returns
    -------
    (3, 2) float64
        Lowest and highest of each [r.l.u.].
    """
    n_slow, n_fast = geometry.detector.shape
    slow, fast = (np.linspace(0, n - 1, min(n, ALONG)).astype(int) for n in (n_slow, n_fast))
    places = pixel_centres(geometry.detector)[np.ix_(slow, fast)].reshape(-1, 3)
    plain = HKLGrid(origin=(0.0,) * 3, step=(1.0,) * 3, shape=(1, 1, 1))
    matrices, _, samples = frame_transforms(geometry, plain, "lower-edge")
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for matrix, sample in zip(matrices[used], samples[used], strict=True):
        hkl = scattering_vectors(places - sample, 1.0) @ matrix.T
        low, high = np.minimum(low, hkl.min(axis=0)), np.maximum(high, hkl.max(axis=0))
    return np.stack([low, high], axis=1)


def corners_of(grid: HKLGrid) -> F8:
    """Return hkl of the centres of the voxels in the corners of a grid, (8, 3) float64 [r.l.u.]."""
    ends = np.stack(np.meshgrid(*[[0, n - 1] for n in grid.shape], indexing="ij"), axis=-1)
    along = np.array(grid.origin) + ends.reshape(-1, 3) * np.array(grid.step)
    return np.asarray(along @ np.array(grid.axes))
