"""The nouns: what was measured, and the grid it is brought to. Frozen; no files, no processes."""

import math
from dataclasses import dataclass, fields
from enum import IntFlag

import numpy as np

from nxmpi._typing import F4, F8, I8, Mask
from nxmpi.errors import InputError

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]
HKL: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
"""The axes of a grid along the reciprocal lattice's own."""


def _require_finite(owner: object, **values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise InputError(f"{type(owner).__name__}.{name}: expected a number, found {value}")


def _require_positive(owner: object, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(
                f"{type(owner).__name__}.{name}: expected a positive number, found {value}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lattice:
    """Unit cell."""

    a: float
    """[Å]"""
    b: float
    """[Å]"""
    c: float
    """[Å]"""
    alpha: float
    """Angle between b and c [degrees]."""
    beta: float
    """Angle between a and c [degrees]."""
    gamma: float
    """Angle between a and b [degrees]."""

    def __post_init__(self) -> None:
        _require_positive(self, a=self.a, b=self.b, c=self.c)
        _require_positive(self, alpha=self.alpha, beta=self.beta, gamma=self.gamma)
        ca, cb, cg = (math.cos(math.radians(x)) for x in (self.alpha, self.beta, self.gamma))
        possible = max(self.alpha, self.beta, self.gamma) < 180
        if not possible or 1 - ca * ca - cb * cb - cg * cg + 2 * ca * cb * cg < 1e-9:
            raise InputError(
                f"unit cell angles {self.alpha}, {self.beta}, {self.gamma}: no cell has these"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The crystal as the file names it; the strings are empty where the file says nothing."""

    lattice: Lattice
    space_group: str = ""
    """Hermann-Mauguin or Hall symbol, or number."""
    laue_group: str = ""
    crystal_system: str = ""
    """Such as ``hexagonal``."""
    centring: str = ""
    """One letter."""
    name: str = ""
    chemical_formula: str = ""
    temperature: str = ""
    """With its unit, as titles show it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Goniometer:
    """Angles of the goniometer and the sample's place on it."""

    theta: float
    """[degrees]"""
    omega: float
    """[degrees]"""
    chi: float
    """[degrees]"""
    phi: tuple[float, ...]
    """Start of the rotation of each frame [degrees]."""
    step: float
    """Rotation during a frame [degrees]."""
    sample_offset: Vector = (0.0, 0.0, 0.0)
    """Sample's displacement from the goniometer's centre, turning with it [mm]."""

    def __post_init__(self) -> None:
        _require_finite(self, theta=self.theta, omega=self.omega, chi=self.chi, step=self.step)
        if not np.isfinite(self.phi).all():
            raise InputError("Goniometer.phi: expected numbers, found NaN or infinity")


@dataclass(frozen=True, kw_only=True, slots=True)
class Detector:
    """A flat area detector."""

    shape: tuple[int, int]
    """(n_slow, n_fast) [pixels]."""
    pixel_size: float
    """[mm]"""
    distance: float
    """From the goniometer's centre along the beam [mm]."""
    beam_center: tuple[float, float]
    """(x, y), from the outer corner of pixel 0 [pixels]."""
    orientation: Matrix
    """Row i: laboratory axis along detector axis i when the tilts are zero."""
    yaw: float = 0.0
    """[degrees]"""
    pitch: float = 0.0
    """[degrees]"""
    roll: float = 0.0
    """[degrees]"""

    def __post_init__(self) -> None:
        _require_positive(self, pixel_size=self.pixel_size, distance=self.distance)
        x, y = self.beam_center
        _require_finite(
            self, beam_center_x=x, beam_center_y=y, yaw=self.yaw, pitch=self.pitch, roll=self.roll
        )
        axes = np.array(self.orientation)
        if not np.isfinite(axes).all() or abs(np.linalg.det(axes)) < 1e-6:
            raise InputError(
                f"detector orientation: expected three independent axes, found {self.orientation}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """All that leads from a pixel of a frame to hkl."""

    wavelength: float
    """[Å]"""
    detector: Detector
    goniometer: Goniometer
    UB: Matrix
    """Orientation times B; reciprocal lattice vectors without 2 pi [1/Å]."""

    def __post_init__(self) -> None:
        _require_positive(self, wavelength=self.wavelength)
        matrix = np.array(self.UB)
        if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix, tol=1e-9) < 3:
            raise InputError(f"UB: expected an invertible matrix, found {matrix.tolist()}")


@dataclass(frozen=True, kw_only=True, slots=True)
class HKLGrid:
    """Regular grid in reciprocal space; arrays on it are indexed [l, k, h].

    A place (a, b, c) on it is that of ``hkl = a * axes[0] + b * axes[1] + c * axes[2]``.
    """

    origin: Vector
    """Centre of voxel (0, 0, 0) along h, k, l [r.l.u.]."""
    step: Vector
    """Voxel spacing along h, k, l [r.l.u.]."""
    shape: tuple[int, int, int]
    """Number of voxels along h, k, l."""
    axes: Matrix = HKL
    """Rows: the axes of the grid, on which 1 is as far as the vector is long [r.l.u.]."""

    def __post_init__(self) -> None:
        if not np.isfinite(self.axes).all() or abs(np.linalg.det(self.axes)) < 1e-6:
            raise InputError(
                f"grid: expected three independent axes, found {[list(row) for row in self.axes]}"
            )
        if not min(self.step) > 0 or not np.isfinite([*self.step, *self.origin]).all():
            raise InputError(f"grid: expected a positive step, found {self.step}")
        if min(self.shape) < 1 or max(self.shape) >= 2**15:
            raise InputError(f"grid: expected 1 to 32767 voxels along an axis, found {self.shape}")

    @property
    def array_shape(self) -> tuple[int, int, int]:
        """(n_l, n_k, n_h): the shape of arrays on this grid."""
        n_h, n_k, n_l = self.shape
        return n_l, n_k, n_h


@dataclass(frozen=True, kw_only=True, eq=False)
class Position:
    """One rotation of the crystal in front of the detector: an entry of the scan file."""

    name: str
    """The entry, such as ``f1``."""
    geometry: Geometry
    sample: Sample | None
    """None where a settings file stands in for the geometry and no cell is known."""
    n_frames: int
    first_frame: int
    """First frame used."""
    last_frame: int
    """Last frame used."""
    bad: Mask
    """(n_slow, n_fast) bool, True = exclude."""
    weight: F8
    """(n_frames,) float64, product of the factors of each frame; 0 = leave out [1]."""


class PeakFlag(IntFlag):
    """What may make a peak's position or intensity wrong."""

    GAP = 1
    """Touches a gap or masked pixels."""
    EDGE = 2
    """Touches the detector's edge."""
    ENDS = 4
    """Reaches the first or the last frame."""
    SATURATED = 8
    OVERLAP = 16
    """Another peak reaches into it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Peaks:
    """Bragg peaks of one rotation, each array (n,) and float64 unless said; NaN where unknown.

    Places are indices: the centre of pixel 0 is 0, the middle of frame 0 is 0.
    """

    x: F8
    """[pixels]"""
    y: F8
    """[pixels]"""
    z: F8
    """[frames]"""
    intensity: F8
    """Above the background [counts]."""
    intensity_error: F8
    """[counts]"""
    x_error: F8
    """[pixels]"""
    y_error: F8
    """[pixels]"""
    z_error: F8
    """[frames]"""
    sigx: F8
    """Width, not an error [pixels]."""
    sigy: F8
    """[pixels]"""
    sigz: F8
    """[frames]"""
    background: F8
    """[counts per pixel and frame]"""
    n_pixels: I8
    """int64, pixels of all frames."""
    maximum: I8
    """int64 [counts]."""
    flags: I8
    """int64, sums of `PeakFlag`."""

    def __post_init__(self) -> None:
        shapes = {field.name: getattr(self, field.name).shape for field in fields(self)}
        if len(set(shapes.values())) > 1 or self.x.ndim != 1:
            raise InputError(f"peaks: expected one value a peak in every column, found {shapes}")

    def __len__(self) -> int:
        return self.x.size

    def chosen(self, which: Mask) -> "Peaks":
        """Return some of the peaks; ``which`` is (n,) bool."""
        return Peaks(**{field.name: getattr(self, field.name)[which] for field in fields(self)})


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """How well positions agree in the voxels that several of them reached.

    Between positions p and q, as in all (n_positions, n_positions) arrays, is row p and column q;
    NaN where they do not overlap.
    """

    names: tuple[str, ...]
    """Of the positions."""
    scales: F8
    """(n_positions,) float64, what each norm was multiplied by [1]."""
    scale_errors: F8
    """(n_positions,) float64 [1]."""
    chi2: float
    """Chi squared per degree of freedom, without bright voxels; 1 where positions agree."""
    chi2_error: float
    """Its standard deviation if positions agree."""
    disagreeing: float
    """Part of the cubes in which a position differs, or chi squared, by five deviations [1]."""
    voxels: I8
    """(n_positions, n_positions) int64, reached by both."""
    ratio: F8
    """(n_positions, n_positions) float64, intensity of p by that of q [1]."""
    ratio_errors: F8
    """(n_positions, n_positions) float64 [1]."""
    scatter: F8
    """(n_positions, n_positions) float64, of the ratio from cube to cube beyond noise [1]."""
    pair_chi2: F8
    """(n_positions, n_positions) float64, as ``chi2``, of two positions."""
    bright: F8
    """(n_positions, n_positions) float64, rms relative difference in bright voxels, beyond
    noise [1]."""
    map_grid: HKLGrid
    """Of the cubes of 8^3 voxels."""
    maps: dict[str, F4]
    """(n_l, n_k, n_h) float32 each, by name in the file; NaN where nothing overlaps."""
