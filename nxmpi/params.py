"""Choices: one frozen dataclass per stage, validated, written into the output as it is."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nxmpi.errors import InputError

Voxels = Literal["centred", "lower-edge"]
FlatField = Literal["response", "correction"]
Compression = Literal["bitshuffle-lz4", "gzip", "none"]
Reflections = Literal["allowed", "integers", "none"]
Fill = Literal["laplace", "matern", "linear", "none"]
Missing = Literal["window", "fill"]
WindowShape = Literal["tukey", "blackman", "gaussian", "lanczos", "none"]
Support = Literal["sphere", "ellipsoid"]
Precision = Literal["single", "double"]
ExportFormat = Literal["yell", "numpy", "ccp4map"]


def _require_above_0(params: object, *names: str) -> None:
    """Raise `InputError` for a field that is neither a finite number above 0 nor None."""
    for name in names:
        value = getattr(params, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{name}: expected a number above 0, found {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NormParams:
    """Which factors the norm is made of."""

    monitor: bool = True
    """Divide out the incident flux; an error where no monitor was recorded."""
    raw_monitor: bool = False
    """Take the monitor as recorded, without smoothing."""
    attenuator: bool = True
    filter: bool = True
    transmission: bool = True
    """Of the sample, where the pass over the frames has found it."""
    hot_pixels: bool = False
    """Bin those too that the pass over the frames has found hot or dead."""
    polarization: bool = True
    solid_angle: bool = True
    efficiency: float | None = None
    """mu t of the sensor: its thickness in absorption lengths [1]; None leaves it out, as below."""
    air: float | None = None
    """mu of the air [1/mm]."""
    flat_field: FlatField | None = None
    """What the detector's flat field is: each pixel's response, or what its counts are to be
    multiplied by."""
    dead_time: float | None = None
    """Of a pixel after each count [ns]."""

    def __post_init__(self) -> None:
        _require_above_0(self, "efficiency", "air", "dead_time")


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformParams:
    """How frames are binned; what stands above ``batch_frames`` changes the result."""

    voxels: Voxels = "centred"
    """Voxels centred on their coordinate, or beginning there as CCTW's do."""
    skip_bad_frames: bool = False
    """Leave out frames that cannot be read, instead of stopping."""
    split: tuple[int, int, int] = (1, 1, 1)
    """Parts of a pixel along fast and slow, and of a frame's rotation, binned each by itself."""
    hits: bool = False
    """Count the pixels of each voxel too."""
    engine: str = "native"
    """native, cctw, or, when it has been asked, the name and version of the program."""
    batch_frames: int = 32
    """Frames a rank holds at once."""
    memory: int = 0
    """Memory for the volume on this rank [bytes]; 0 = no limit."""
    checkpoint: float = 600.0
    """Time between checkpoints [s]."""
    program: str = "cctw"
    """Path of CCTW, or its name on PATH."""
    program_time: float = 86400.0
    """Which it may take for a volume [s]."""
    program_silence: float = 1800.0
    """In which it may print nothing [s]."""

    def __post_init__(self) -> None:
        if self.engine != "native" and (max(self.split) > 1 or self.hits):
            raise InputError(f"split, hits: expected none with the engine {self.engine}")
        if self.batch_frames < 1:
            raise InputError(f"batch of frames: expected at least 1, found {self.batch_frames}")
        if min(self.split) < 1:
            raise InputError(f"split: expected three numbers of at least 1, found {self.split}")
        if self.memory < 0:
            raise InputError(f"memory: expected a size, found {self.memory}")
        _require_above_0(self, "checkpoint")


ParameterGroup = Literal[
    "cell", "orientation", "distance", "centre", "tilts", "omega", "chi", "theta", "phi0",
    "wavelength",
]  # fmt: skip
"""Parameters of the geometry that are free or held together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OrientParams:
    """How orientations are found and refined."""

    cell: tuple[float, float, float, float, float, float] | None = None
    """Of the crystal, in place of the file's [Å, degrees]."""
    find_cell: bool = False
    """Take no notice of the file's."""
    bravais: str | None = None
    """Lattice to take of those that a cell that was found fits, such as ``cF``."""
    tolerance: float = 0.5
    """Largest misfit of a lattice that is taken for one of higher symmetry [degrees]."""
    grains: int = 1
    """Crystals to be looked for."""
    min_indexed: float = 0.5
    """Least part of the strong peaks of each position that is explained [1]."""
    free: tuple[ParameterGroup, ...] = ("cell", "orientation", "centre", "omega", "chi")
    """What is refined."""

    def __post_init__(self) -> None:
        _require_above_0(self, "tolerance")
        if self.grains < 1:
            raise InputError(f"grains: expected at least 1, found {self.grains}")
        if not 0 < self.min_indexed <= 1:
            raise InputError(
                f"min-indexed: expected a part above 0 and up to 1, found {self.min_indexed}"
            )
        if self.cell is not None and (self.find_cell or self.bravais is not None):
            raise InputError("cell: expected to be given or to be found, found both")
        if "orientation" not in self.free:
            raise InputError("orientation: expected to be free, found it held")


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictParams:
    """Which reflections are looked for in the frames."""

    entries: tuple[str, ...] = ()
    """Positions; all by default."""
    hkl: tuple[tuple[float, float, float], ...] = ()
    """These alone, whole numbers or not [r.l.u.]."""
    ranges: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = None
    """Least and largest h, k and l."""
    d_min: float | None = None
    """Least spacing [Å]; None for what the detector reaches."""

    def __post_init__(self) -> None:
        if self.hkl and (self.ranges or self.d_min):
            raise InputError("reflections: expected a list or a range, found both")


@dataclass(frozen=True, kw_only=True, slots=True)
class FramesParams:
    """What is found in the frames, and how.

    ``batch_frames`` and ``checkpoint`` alone do not change it.
    """

    sums: bool = True
    """Sums, largest counts and transmission."""
    peaks: bool = True
    mask: bool = True
    """The 3-D mask."""
    sigma_background: float = 5.0
    """How much a pixel stands out of its surroundings to be looked at [standard deviations]."""
    sigma_strong: float = 7.5
    """Least intensity of a peak [standard deviations]."""
    threshold: float | None = None
    """Least largest count of a peak [counts]; None for any."""
    gain: float = 1.0
    """Counts of one photon."""
    mask_t1: float = 2.0
    """Change between frames that counts, as a mean over a box [counts per pixel], or of its sum
    [standard deviations] with ``mask_in_sigmas``."""
    mask_in_sigmas: bool = False
    mask_h1: int = 11
    """Edge of that box [pixels]."""
    mask_t2: float = 0.8
    """Part of the pixels of a larger box that must have changed [1]."""
    mask_h2: int = 51
    """Edge of that box [pixels]."""
    q_min: float | None = None
    q_max: float | None = None
    """Of the annulus that the transmission comes from [1/Å]; None for a part of the detector."""
    skip_bad_frames: bool = False
    batch_frames: int = 15
    """Frames a rank reads at once."""
    checkpoint: float | None = None
    """Time between checkpoints [s]; None for one after each batch, as far as they take no more
    than a tenth of the time."""

    def __post_init__(self) -> None:
        if self.batch_frames < 1:
            raise InputError(f"batch of frames: expected at least 1, found {self.batch_frames}")
        _require_above_0(self, "sigma_background", "sigma_strong", "gain", "checkpoint")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScanParams:
    """What is taken of a scan; None leaves it to the files."""

    entries: tuple[str, ...] = ()
    """Detector positions; empty for all."""
    first_frame: int | None = None
    last_frame: int | None = None
    monitor: str | None = None
    """Name of the monitor."""
    norm: float | None = None
    """Monitor counts that count as 1."""
    polarization: float | None = None
    """Fraction of the beam polarized in the horizontal plane."""
    grid: tuple[tuple[float, float, float], ...] | None = None
    """(start, step, stop) along h, k, l, or along ``axes`` [r.l.u.]."""
    axes: tuple[tuple[float, float, float], ...] | None = None
    """Of the grid: three vectors [r.l.u.]; None for h, k, l, or as the files say."""
    settings: Path | None = None
    """A settings file of CCTW, in the place of the geometry, grid and factors in the scan."""
    mask: bool = True
    """Make the masked twin where there is a 3-D mask."""
    follow: float | None = None
    """Wait for frames that are still to be written, so long for the next [s]."""

    def __post_init__(self) -> None:
        _require_above_0(self, "follow", "norm")
        if self.polarization is not None and not -1 <= self.polarization <= 1:
            raise InputError(f"polarization: expected -1 to 1, found {self.polarization}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CombineParams:
    """How positions are put together."""

    refine_scale: bool = False
    """Multiply the norm of each position by a scale that its overlaps tell, the first's by 1."""
    background: Path | None = None
    """Scan file of the empty beam or the empty can, transformed on the same grid."""
    background_scale: float = 1.0
    """What its intensity is multiplied by before it is subtracted."""
    engine: str = "native"
    """What adds positions, as in `TransformParams`."""
    program: str = "cctw"
    """Path of CCTW, or its name on PATH."""
    program_time: float = 86400.0
    """Which it may take for a volume [s]."""
    program_silence: float = 1800.0
    """In which it may print nothing [s]."""

    def __post_init__(self) -> None:
        if self.engine != "native" and self.refine_scale:
            raise InputError(
                f"refine-scale: expected none with the engine {self.engine}, which adds positions "
                "as they are (--engine native combines with scales, whatever transformed)"
            )
        _require_above_0(self, "background_scale")


Range = tuple[float, float, float]
"""Start, step and stop [r.l.u.]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceParams:
    """What part of reciprocal space the frames are binned onto."""

    plane: str | None = None
    """A name such as ``h k 0.5`` or ``h h l``; None for a box."""
    box: tuple[float, float, float, float, float, float] | None = None
    """First and last h, k and l [r.l.u.]."""
    ranges: tuple[Range | None, Range | None, Range | None] = (None, None, None)
    """Along what h, k and l stand for; None for what the scan's grid covers."""
    thickness: float | None = None
    """Of a plane, along its normal [r.l.u.]; None for one voxel of the scan's grid."""
    masked: bool = False
    """Leave out what the 3-D mask excludes."""

    def __post_init__(self) -> None:
        if (self.plane is None) == (self.box is None):
            raise InputError("slice: expected a plane or a box")
        if self.box is not None and self.thickness is not None:
            raise InputError("thickness: expected a plane, found a box")
        _require_above_0(self, "thickness")


@dataclass(frozen=True, kw_only=True, slots=True)
class CutParams:
    """What part of a volume is added up, and along what."""

    line: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    """Its ends [r.l.u., or cells in real space]."""
    width: float | None = None
    """Diameter of the line [1/Å, Å in real space]; None for the longest edge of a voxel."""
    step: float | None = None
    """Of the coordinate that changes most along the line; None for the volume's."""
    box: tuple[float, float, float, float, float, float] | None = None
    """First and last centre of voxels along each axis."""
    along: tuple[str, ...] = ()
    """Axes of the box that are left, h, k, l or x, y, z; none for the one of most voxels."""

    def __post_init__(self) -> None:
        if (self.line is None) == (self.box is None):
            raise InputError("cut: expected a line or a box")
        if self.line is None and (self.width is not None or self.step is not None):
            raise InputError("cut: a box has neither width nor step")
        if self.line is not None and self.along:
            raise InputError("cut: a line has no axes that are left")
        _require_above_0(self, "width", "step")


@dataclass(frozen=True, kw_only=True, slots=True)
class SymmetrizeParams:
    """What a volume is averaged over."""

    laue: str | None = None
    """Laue class or space group; None for the sample's."""
    outliers: float | None = None
    """Leave out images that are farther from the others of their orbit [standard deviations]."""

    def __post_init__(self) -> None:
        _require_above_0(self, "outliers")


@dataclass(frozen=True, kw_only=True, slots=True)
class PunchParams:
    """What is cut out of a symmetrized volume, and how the holes are filled."""

    reflections: Reflections = "allowed"
    """Those the space group allows, all integers, or none besides those listed."""
    listed: tuple[tuple[float, ...], ...] = ()
    """Further ones: h, k, l [r.l.u.] and, where there is a fourth number, radius [1/Å]."""
    satellites: tuple[tuple[float, float, float], ...] = ()
    """Wave vectors q: holes at +q and -q of every reflection too [r.l.u.]."""
    radius: float | None = None
    """Of the ellipsoids [1/Å], |Q| with 2 pi, as everywhere in this class; None leaves it to the
    files, and is 0.2 where they say nothing."""
    growth: float = 0.0
    """What is added to the radius with |Q| [1]."""
    satellite_radius: float | None = None
    """Of satellites [1/Å]; None for that of reflections."""
    central_radius: float | None = None
    """Around 0 0 0, for the direct beam [1/Å]; None for that of reflections."""
    fill: Fill = "laplace"
    power: int = 1
    """m of Matérn's equation (epsilon² - nabla²)^m u = 0."""
    epsilon: float = 0.0
    """Its epsilon [Å]."""
    missing: Missing = "window"
    """Voxels that were not measured: left to the window, or filled by the same equation."""
    karen: int | None = None
    """Edge of the box of a running median [voxels], which then stands in for all of this."""

    def __post_init__(self) -> None:
        _require_above_0(self, "radius", "satellite_radius", "central_radius")
        if not all(math.isfinite(value) for row in self.satellites for value in row):
            raise InputError(f"satellites: expected numbers, found {self.satellites}")
        if not 0 <= self.growth < 0.5 or not self.epsilon >= 0 or self.power < 1:
            raise InputError(
                f"punch: expected a growth from 0 to 0.5, epsilon not below 0 and a power of at "
                "least 1, found "
                f"{self.growth}, {self.epsilon}, {self.power}"
            )
        if self.missing == "fill" and (self.fill != "laplace" or self.karen is not None):
            raise InputError(
                "punch: expected holes to be filled by laplace where what was not measured is "
                f"filled too, found {'karen' if self.karen else self.fill}"
            )
        if self.karen is not None and (not 3 <= self.karen <= 51 or self.karen % 2 == 0):
            raise InputError(
                f"karen: expected an odd number of voxels from 3 to 51, found {self.karen}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowParams:
    """What a volume is multiplied by before its Fourier transform."""

    window: WindowShape = "tukey"
    """As a function of r = |Q| / q_max, 0 beyond r = 1; none is 1 everywhere."""
    support: Support = "sphere"
    """Where r = 1: at |Q| = q_max, or on the ellipsoid of the lattice that touches the grid."""
    q_max: float | None = None
    """[1/Å]; None for the largest sphere that the grid holds."""

    def __post_init__(self) -> None:
        _require_above_0(self, "q_max")
        if self.q_max is not None and self.support == "ellipsoid":
            raise InputError("q_max: expected none with the ellipsoid, which touches the grid")


@dataclass(frozen=True, kw_only=True, slots=True)
class PdfParams:
    """How a volume is transformed."""

    subtract_mean: bool = True
    """Take away the mean under the window, which would peak at 0 0 0."""
    spacing: float | None = None
    """Widest spacing in real space [Å], reached by zeros around the volume; None for none."""
    precision: Precision = "single"

    def __post_init__(self) -> None:
        _require_above_0(self, "spacing")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutputParams:
    """How results are written; none of it changes them."""

    compression: Compression = "bitshuffle-lz4"
    root_writes: bool = False
    """Let the root write what the others send, even with parallel HDF5."""
    overwrite: bool = False
    """Do again what is complete, and replace what another program wrote."""
    scratch: Path | None = None
    """Folder for volumes that memory does not hold; None for the scan's own."""
