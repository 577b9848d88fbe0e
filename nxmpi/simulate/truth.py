"""The known answer: written beside the frames, and read by whoever checks a reduction."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import h5py
import numpy as np

import nxmpi
from nxmpi.nexus import schema
from nxmpi.nexus.truth import read_truth, write_truth
from nxmpi.simulate import bragg, diffuse, halos
from nxmpi.simulate.diffuse import LEVELS, DiffuseParameters, expand
from nxmpi.simulate.experiment import entry_name, geometry
from nxmpi.simulate.factors import frame_factors, pixel_factors, solid_angle_unit
from nxmpi.simulate.halos import true_halos
from nxmpi.simulate.pixels import largest_count, true_pixels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nxmpi._typing import F8
    from nxmpi.simulate.experiment import Experiment
    from nxmpi.simulate.peaks import TruePeaks

INCLUDED = (
    "Diffuse intensity, scattering of air included, is counts per pixel and frame where all "
    "factors are 1. Expected counts are "
    "it times frame_total = monitor / norm x attenuator x filter x transmission and times "
    "polarization x solid_angle / solid_angle_unit, evaluated at the centre of the pixel and in "
    "the middle of the frame. No Lorentz factor, no detector efficiency. The sample's "
    "transmission is recorded nowhere else; it is 1 unless a drift was asked for."
)


def write_scan_truth(
    file: h5py.File, experiment: Experiment, found: Sequence[TruePeaks]
) -> None:  # fmt: skip
    """Write the known answer of an experiment. Not collective.

    Parameters
    ----------
    found : sequence of TruePeaks
        Of each position.
    """
    file.attrs["NX_class"] = "NXroot"
    file.attrs["creator"] = f"nxmpi {nxmpi.__version__}"
    file.attrs["factors"] = INCLUDED
    parameters = expand(experiment.diffuse, experiment.space_group, experiment.lattice)
    values = {field.name: getattr(parameters, field.name) for field in fields(parameters)}
    write_truth(file, schema.TRUTH_DIFFUSE, values, diffuse.FORMULA)
    values = {name: value for name, value in asdict(experiment.bragg).items() if value is not None}
    write_truth(file, schema.TRUTH_BRAGG, values, f"{bragg.FORMULA}. {bragg.WIDTHS}")
    crystal = {
        "unit_cell": [getattr(experiment.lattice, name) for name in experiment.lattice.__slots__],
        "space_group": experiment.space_group,
        "U": np.array(experiment.U),
        "UB": np.array(geometry(experiment, 0).UB),
        "wavelength": experiment.wavelength,
        "seed": experiment.seed,
        "poisson": int(experiment.poisson),
    }
    write_truth(file, schema.TRUTH_CRYSTAL, crystal, "UB = U B, B = inv(A).T [1/Angstrom]")
    for index, position in enumerate(found):
        name = entry_name(index)
        write_truth(file, f"{name}/{schema.TRUTH_FACTORS}", _factors(experiment, index), INCLUDED)
        write_truth(file, f"{name}/{schema.TRUTH_PEAKS}", _table(position), PEAKS)
        rings = asdict(true_halos(experiment, index, position))
        write_truth(file, f"{name}/{schema.TRUTH_HALOS}", rings, halos.FORMULA)
        write_truth(file, f"{name}/{schema.TRUTH_PIXELS}", _pixels(experiment, index), PIXELS)
        file[name].attrs["NX_class"] = "NXcollection"


PEAKS = (
    "x, y, z are index coordinates: the centre of pixel or frame 0 is 0. phi is the true angle. "
    "intensity: counts expected were no pixel masked and no frame missing; recorded: counts "
    "expected on pixels that are neither in gaps nor dead, of all frames, before saturation; peak: "
    "the part of these in the strongest pixel of the strongest frame; background: expected "
    "diffuse counts per pixel and frame at x, y, z; saturated: 1 where peak + background is "
    "beyond saturation; sigx, sigy, sigz: widths of the Gaussian, which is integrated over pixel "
    "and frame. Each is of one peak alone: others may overlap with it, and halos lie about the "
    "strongest. Peaks that begin outside of the frames and reach into them are listed too. "
    f"{bragg.FORMULA}. {bragg.WIDTHS}"
)
COLUMNS = ("x", "y", "z", "phi", "lorentz", "intensity", "sigx", "sigy", "sigz", "background",
           "recorded", "peak")  # fmt: skip
PIXELS = (
    "dead and hot: rows and columns. Dead pixels record 0, and are in the pixel mask where "
    "dead_known is 1. Hot ones are not in it, and count hot_rates per frame above the scattering, "
    "with counting noise. Counts above saturation are recorded as saturation."
)


def _pixels(experiment: Experiment, index: int) -> dict[str, object]:
    values: dict[str, object] = asdict(true_pixels(experiment, index))
    values["dead_known"] = np.asarray(values["dead_known"], np.int8)
    return {**values, "saturation": largest_count(experiment)}


def _factors(experiment: Experiment, index: int) -> dict[str, object]:
    factors = frame_factors(experiment, index)
    polarization, solid_angle = pixel_factors(experiment, index)
    return {
        "frame_monitor": factors.monitor,
        "frame_attenuator": factors.attenuator,
        "frame_filter": factors.filter,
        "frame_transmission": factors.transmission,
        "frame_total": factors.total,
        "norm": experiment.norm,
        "polarization_fraction": experiment.polarization,
        "pixel_polarization": polarization,
        "pixel_solid_angle": solid_angle,
        "solid_angle_unit": solid_angle_unit(experiment),
    }


def _table(found: TruePeaks) -> dict[str, object]:
    values: dict[str, object] = {
        name: found.hkl[:, axis].astype(np.int32) for axis, name in enumerate("hkl")
    }
    for name in COLUMNS:
        values[name] = getattr(found, name)
    return {**values, "saturated": found.saturated.astype(np.int8)}


def read_diffuse(path: Path) -> tuple[DiffuseParameters, F8]:
    """Return the parameters of the diffuse scattering, and UB. Not collective.

    Parameters
    ----------
    path : Path
        The truth of a scan.

    Returns
    -------
    DiffuseParameters
    (3, 3) float64
        [1/Å]
    """
    with h5py.File(path, "r") as file:
        values = read_truth(file, schema.TRUTH_DIFFUSE)
        UB = read_truth(file, schema.TRUTH_CRYSTAL)["UB"]
    parameters = DiffuseParameters(
        vectors=values["vectors"],
        alphas=values["alphas"],
        stiffness=values["stiffness"],
        **{name: float(values[name]) for name in LEVELS},
    )
    return parameters, UB


def read_peaks(path: Path, entry: str) -> dict[str, F8]:
    """Return the columns of a position's true peaks. Not collective."""
    return _read(path, f"{entry}/{schema.TRUTH_PEAKS}")


def read_halos(path: Path, entry: str) -> dict[str, F8]:
    """Return the columns of a position's halos. Not collective."""
    return _read(path, f"{entry}/{schema.TRUTH_HALOS}")


def read_pixels(path: Path, entry: str) -> dict[str, F8]:
    """Return a position's dead and hot pixels, and its saturation. Not collective."""
    return _read(path, f"{entry}/{schema.TRUTH_PIXELS}")


def _read(path: Path, group: str) -> dict[str, F8]:
    with h5py.File(path, "r") as file:
        return read_truth(file, group)
