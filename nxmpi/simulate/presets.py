"""Experiments with a name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nxmpi.crystal.detector import as_matrix, parse_orientation
from nxmpi.crystal.goniometer import rotation
from nxmpi.errors import InputError
from nxmpi.model import Detector, HKLGrid, Lattice
from nxmpi.nexus import schema
from nxmpi.simulate.bragg import Bragg
from nxmpi.simulate.diffuse import Diffuse
from nxmpi.simulate.experiment import Experiment, PositionSetting
from nxmpi.simulate.halos import Halos
from nxmpi.simulate.pixels import Pixels

if TYPE_CHECKING:
    from nxmpi.model import Matrix, Vector

ORIENTATION = parse_orientation(schema.DEFAULT_ORIENTATION)


def rotated(angles: Vector) -> Matrix:
    """Return U = Rx Ry Rz for angles about x, y, z [degrees]."""
    x, y, z = angles
    return as_matrix(rotation(0, x) @ rotation(1, y) @ rotation(2, z))


def tiny() -> Experiment:
    """Return a triclinic crystal on two small positions: a second's work."""
    first = Detector(
        shape=(48, 64), pixel_size=0.9, distance=61.0, beam_center=(30.3, 22.6),
        orientation=ORIENTATION, yaw=0.4, pitch=-0.3, roll=0.2,
    )  # fmt: skip
    second = replace(first, beam_center=(34.1, 26.2), yaw=-0.5, pitch=0.2, roll=-0.6)
    setting = PositionSetting(
        detector=first, n_frames=11, step=2.0, phi=-10.0, chi=-90.0, omega=3.0,
        sample_offset=(0.02, -0.03, 0.05), attenuator=0.5,
        row_gaps=((23, 25),), column_gaps=((40, 42),),
    )  # fmt: skip
    return Experiment(
        name="triclinite",
        chemical_formula="Ca Si O3",
        lattice=Lattice(a=5.1, b=6.3, c=7.2, alpha=83.0, beta=97.0, gamma=105.0),
        space_group="P -1",
        U=rotated((12.0, -31.0, 57.0)),
        wavelength=0.7,
        positions=(
            setting,
            replace(
                setting, detector=second, chi=-75.0, omega=15.0, theta=2.0,
                sample_offset=(0.0, 0.0, 0.0), attenuator=None, filter=0.4,
            ),
        ),
        diffuse=Diffuse(
            flat=1.0, air=2.0, air_width=1.5, amplitude=5.0,
            shells=(((1, 0, 0), -0.4), ((0, 1, 0), 0.3), ((0, 1, 1), -0.2)),
        ),
        bragg=Bragg(strength=2000.0, B=1.5, sigma=(0.8, 0.8, 0.45)),
        grid=HKLGrid(origin=(-3.0, -4.0, -4.0), step=(0.2, 0.2, 0.2), shape=(31, 41, 41)),
        settings=(("threshold", "100"), ("radius", "0.3"), ("qmin", "1.0"), ("qmax", "3.0")),
    )  # fmt: skip


def demo() -> Experiment:
    """Return a hexagonal alloy that orders on a triangular net: three rotations of 180 frames.

    Neighbours in a layer are of unlike kinds, and layers know little of each other, so that the
    diffuse scattering forms rods through (1/3 1/3 l), strongest at l = 1/2: a honeycomb in hk
    planes.
    """
    detector = Detector(
        shape=(360, 400), pixel_size=0.172, distance=55.0, beam_center=(204.3, 176.8),
        orientation=ORIENTATION, yaw=0.35, pitch=-0.25, roll=0.15,
    )  # fmt: skip
    setting = PositionSetting(
        detector=detector, n_frames=180, step=1.0, phi=-5.0, chi=-90.0,
        row_gaps=((118, 124), (236, 242)), column_gaps=((197, 203),),
    )  # fmt: skip
    return Experiment(
        name="alloy",
        chemical_formula="Ni Si2",
        lattice=Lattice(a=5.8, b=5.8, c=7.4, alpha=90.0, beta=90.0, gamma=120.0),
        space_group="P 6/m m m",
        U=rotated((21.0, -38.0, 14.0)),
        wavelength=0.5,
        positions=(
            setting,
            replace(
                setting,
                detector=replace(
                    detector, beam_center=(187.9, 191.4), yaw=-0.2, pitch=0.4, roll=-0.3
                ),
                chi=-70.0, omega=12.0, attenuator=0.8,
            ),
            replace(
                setting,
                detector=replace(
                    detector, beam_center=(211.2, 184.6), yaw=0.5, pitch=0.1, roll=0.45
                ),
                chi=-115.0, omega=-14.0, theta=1.0, filter=0.6,
            ),
        ),
        diffuse=Diffuse(
            flat=0.4, air=1.2, air_width=2.0, amplitude=6.0, falloff=0.02,
            shells=(
                ((1, 0, 0), -0.42), ((2, 1, 0), 0.26), ((2, 0, 0), -0.16),
                ((0, 0, 1), -0.06), ((1, 0, 1), 0.09),
            ),
        ),
        bragg=Bragg(strength=4000.0, B=1.0, sigma=(0.9, 0.9, 0.45)),
        grid=HKLGrid(origin=(-6.0, -6.0, -8.0), step=(0.075, 0.075, 0.1), shape=(161, 161, 161)),
        settings=(("threshold", "200"), ("radius", "0.35"), ("qmin", "2.0"), ("qmax", "6.0")),
    )  # fmt: skip


def pilatus2m() -> Experiment:
    """Return a cubic alloy at high energy: three rotations of 3650 frames of a Pilatus 2M.

    With what real measurements suffer from: mosaic, scattering of air, thermal diffuse
    scattering, halos, dead and hot pixels.
    """
    row_gaps = tuple((n * 212 - 17, n * 212) for n in range(1, 8))
    column_gaps = tuple((n * 494 - 7, n * 494) for n in range(1, 3))
    detector = Detector(
        shape=(1679, 1475), pixel_size=0.172, distance=650.0, beam_center=(737.2, 839.6),
        orientation=ORIENTATION, yaw=0.12, pitch=-0.08, roll=0.21,
    )  # fmt: skip
    setting = PositionSetting(
        detector=detector, n_frames=3650, step=0.1, phi=-5.0, chi=-90.0,
        row_gaps=row_gaps, column_gaps=column_gaps,
    )  # fmt: skip
    centres = ((721.6, 858.3), (752.9, 820.4))
    return Experiment(
        name="heusler",
        chemical_formula="Cu2 Mn Al",
        lattice=Lattice(a=5.95, b=5.95, c=5.95, alpha=90.0, beta=90.0, gamma=90.0),
        space_group="F m -3 m",
        U=rotated((17.0, -26.0, 41.0)),
        wavelength=0.142,
        positions=(
            setting,
            replace(
                setting, detector=replace(detector, beam_center=centres[0]), chi=-83.0, omega=6.0
            ),
            replace(
                setting, detector=replace(detector, beam_center=centres[1]), chi=-96.0, omega=-7.0
            ),
        ),
        diffuse=Diffuse(
            flat=0.2, air=3.0, air_width=3.0, amplitude=1.5, falloff=0.008, tds=0.02,
            tds_width=0.15,
            shells=(((0.5, 0.5, 0), -0.4), ((1, 0, 0), 0.25), ((1, 0.5, 0.5), -0.2)),
        ),
        bragg=Bragg(strength=3000.0, B=1.0, sigma=(0.8, 0.8, 0.6), mosaic=0.05),
        halos=Halos(threshold=20000.0, fraction=2e-4),
        pixels=Pixels(dead=40, hot=20, saturation=2**20 - 1),
        grid=HKLGrid(origin=(-10.0, -10.0, -10.0), step=(0.05, 0.05, 0.05), shape=(401, 401, 401)),
        settings=(("threshold", "1000"), ("radius", "0.2"), ("qmin", "4.0"), ("qmax", "10.0")),
    )  # fmt: skip


PRESETS = {"tiny": tiny, "demo": demo, "pilatus2m": pilatus2m}


def preset(name: str, **overrides: Any) -> Experiment:
    """Return a named experiment, fields of it replaced.

    Parameters
    ----------
    name : str
        One of `PRESETS`.
    overrides
        Fields of `Experiment`.

    Raises
    ------
    InputError
        If there is no such preset, or the experiment makes no sense.
    """
    if name not in PRESETS:
        raise InputError(f"preset: expected one of {', '.join(PRESETS)}, found {name}")
    return replace(PRESETS[name](), **overrides)
