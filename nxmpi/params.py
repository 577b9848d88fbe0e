"""Choices: one frozen dataclass per stage, validated, written into the output as it is."""

from dataclasses import dataclass
from typing import Literal

from nxmpi.errors import InputError

Voxels = Literal["centred", "lower-edge"]
Compression = Literal["bitshuffle-lz4", "gzip", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NormParams:
    """Which factors the norm is made of."""

    monitor: bool = True
    """Divide out the incident flux; an error where no monitor was recorded."""
    raw_monitor: bool = False
    """Take the monitor as recorded, without smoothing."""
    attenuator: bool = True
    filter: bool = True
    polarization: bool = True
    solid_angle: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformParams:
    """How frames are binned; only ``voxels`` and ``skip_bad_frames`` change the result."""

    voxels: Voxels = "centred"
    """Voxels centred on their coordinate, or beginning there as CCTW's do."""
    skip_bad_frames: bool = False
    """Leave out frames that cannot be read, instead of stopping."""
    batch_frames: int = 32
    """Frames a rank holds at once."""
    memory: int = 0
    """Memory for the volume on this rank [bytes]; 0 = no limit."""
    checkpoint: float = 600.0
    """Seconds between checkpoints."""

    def __post_init__(self) -> None:
        if self.batch_frames < 1:
            raise InputError(f"batch of frames: expected at least 1, found {self.batch_frames}")
        if self.memory < 0:
            raise InputError(f"memory: expected a size, found {self.memory}")
        if not self.checkpoint > 0:
            raise InputError(f"checkpoint: expected a time above 0, found {self.checkpoint}")
