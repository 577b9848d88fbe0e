"""What is simulated: crystal, scattering, instrument and how it is recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from nxmpi.crystal.detector import as_matrix
from nxmpi.crystal.lattice import reciprocal_matrix, unit_cell
from nxmpi.crystal.symmetry import space_group_info
from nxmpi.errors import InputError
from nxmpi.model import Detector, Geometry, Goniometer, HKLGrid, Lattice, Matrix, Vector
from nxmpi.simulate.bragg import Bragg
from nxmpi.simulate.diffuse import Diffuse, expand
from nxmpi.simulate.pixels import Pixels, require_room

if TYPE_CHECKING:
    from nxmpi.params import Compression
    from nxmpi.simulate.halos import Halos

Dtype = Literal["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
Gap = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class PositionSetting:
    """One rotation of the crystal in front of the detector."""

    detector: Detector
    n_frames: int
    step: float
    """Rotation during a frame [degrees]."""
    phi: float = 0.0
    """Start of the rotation [degrees]."""
    theta: float = 0.0
    """[degrees]"""
    omega: float = 0.0
    """[degrees]"""
    chi: float = 0.0
    """[degrees]"""
    sample_offset: Vector = (0.0, 0.0, 0.0)
    """[mm]"""
    row_gaps: tuple[Gap, ...] = ()
    """Half-open ranges of rows between modules."""
    column_gaps: tuple[Gap, ...] = ()
    attenuator: float | None = None
    """Transmission of a plate in the beam [1]; None writes no attenuator."""
    filter: float | None = None
    """Transmission of a filter, in the beam during the middle third [1]; None writes none."""
    frame_time: float = 0.1
    """[s]"""

    def __post_init__(self) -> None:
        if self.n_frames < 1:
            raise InputError(f"frames of a position: expected at least 1, found {self.n_frames}")
        if not abs(self.step) > 0:
            raise InputError("rotation during a frame: expected an angle, found 0")
        for name in ("attenuator", "filter"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{name}: expected a transmission in (0, 1], found {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """A scan with a known answer. Vary one with `dataclasses.replace`."""

    lattice: Lattice
    space_group: str
    """Hermann-Mauguin or Hall symbol, or number."""
    positions: tuple[PositionSetting, ...]
    U: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    """Orientation: UB = U B."""
    wavelength: float = 0.5
    """[Å]"""
    name: str = "simulated"
    """Of the sample."""
    label: str = "crystal1"
    scan: str = "300K"
    chemical_formula: str = ""
    temperature: float = 300.0
    """[K]"""
    diffuse: Diffuse = field(default_factory=Diffuse)
    bragg: Bragg = field(default_factory=Bragg)
    halos: Halos | None = None
    """Around the strongest peaks; None makes none."""
    pixels: Pixels = field(default_factory=Pixels)
    polarization: float = 0.99
    """Fraction of the beam polarized along y."""
    norm: float = 1e5
    """Monitor that counts as 1."""
    monitor: bool = True
    """Record the flux; without, it is constant."""
    monitor_drift: float = 0.1
    """Relative change of the flux during a rotation [1]."""
    transmission_drift: float = 0.0
    """Relative change of the sample's own transmission during a rotation, not recorded [1]."""
    poisson: bool = True
    """Counting noise; without, expected counts are rounded."""
    seed: int = 0
    dtype: Dtype = "int32"
    """Of the raw frames."""
    compression: Compression = "bitshuffle-lz4"
    chunk_frames: int = 1
    """Frames stored together."""
    orientation: bool = True
    """Write the orientation matrix."""
    grid: HKLGrid | None = None
    """Suggested in the scan file."""
    settings: tuple[tuple[str, str], ...] = ()
    """More of tasks/settings.ini's section for the reduction, as (name, value)."""

    def __post_init__(self) -> None:
        if not self.positions:
            raise InputError("experiment: expected at least one position, found none")
        if not np.allclose(np.array(self.U) @ np.array(self.U).T, np.eye(3), atol=1e-9) or (
            np.linalg.det(np.array(self.U)) < 0
        ):
            raise InputError(f"U: expected a rotation, found {self.U}")
        group = space_group_info(self.space_group).group()
        if not group.is_compatible_unit_cell(unit_cell(self.lattice)):
            raise InputError(
                f"space group {self.space_group}: expected a cell that has its symmetry, "
                f"found {self.lattice}"
            )
        if self.dtype not in get_args(Dtype):
            raise InputError(f"dtype: expected an integer type, found {self.dtype}")
        if not (0 <= self.monitor_drift < 1 and 0 <= self.transmission_drift < 1):
            raise InputError("drift: expected a fraction from 0 to below 1")
        if not self.norm > 0:
            raise InputError(f"norm: expected a monitor above 0, found {self.norm}")
        if self.chunk_frames < 1 or self.seed < 0:
            raise InputError("chunk_frames must be at least 1 and seed at least 0")
        expand(self.diffuse, self.space_group, self.lattice)
        require_room(self.pixels, self.positions)


def entry_name(index: int) -> str:
    """Return the name of a position's entry in the scan file, ``f1`` for the first."""
    return f"f{index + 1}"


def geometry(experiment: Experiment, index: int) -> Geometry:
    """Return all that leads from a pixel of a position's frames to hkl."""
    setting = experiment.positions[index]
    phi = setting.phi + setting.step * np.arange(setting.n_frames)
    return Geometry(
        wavelength=experiment.wavelength,
        detector=setting.detector,
        goniometer=Goniometer(
            theta=setting.theta,
            omega=setting.omega,
            chi=setting.chi,
            phi=tuple(float(angle) for angle in phi),
            step=setting.step,
            sample_offset=setting.sample_offset,
        ),
        UB=as_matrix(np.array(experiment.U) @ reciprocal_matrix(experiment.lattice)),
    )
