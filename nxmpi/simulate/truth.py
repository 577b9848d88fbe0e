"""The known answer: written beside the frames, and read by whoever checks a reduction."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import h5py
import numpy as np

import nxmpi
from nxmpi.nexus import schema
from nxmpi.nexus.truth import read_truth, write_truth
from nxmpi.simulate import diffuse, peaks
from nxmpi.simulate.diffuse import DiffuseParameters, expand
from nxmpi.simulate.experiment import entry_name, geometry
from nxmpi.simulate.factors import frame_factors, pixel_factors, solid_angle_unit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nxmpi._typing import F8
    from nxmpi.simulate.experiment import Experiment
    from nxmpi.simulate.peaks import TruePeaks

INCLUDED = (
    "Diffuse intensity is counts per pixel and frame where all factors are 1. Expected counts are "
    "it times frame_total = monitor / norm x attenuator x filter x transmission and times "
    "polarization x solid_angle / solid_angle_unit, evaluated at the centre of the pixel and in "
    "the middle of the frame. No Lorentz factor, no detector efficiency, no air. The sample's "
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
    parameters = expand(experiment.diffuse, experiment.space_group)
    values = {field.name: getattr(parameters, field.name) for field in fields(parameters)}
    write_truth(file, schema.TRUTH_DIFFUSE, values, diffuse.FORMULA)
    write_truth(file, schema.TRUTH_BRAGG, asdict(experiment.bragg), peaks.FORMULA)
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
        write_truth(file, f"{name}/{schema.TRUTH_PEAKS}", _table(experiment, position), PEAKS)
        file[name].attrs["NX_class"] = "NXcollection"


PEAKS = (
    "x, y, z are index coordinates: the centre of pixel or frame 0 is 0. phi is the true angle. "
    "intensity: counts expected were no pixel masked and no frame missing; recorded: counts "
    "expected on unmasked pixels of all frames; sigx, sigy, sigz: widths of the Gaussian. "
    "Peaks that begin outside of the frames and reach into them are listed too. " + peaks.FORMULA
)


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


def _table(experiment: Experiment, found: TruePeaks) -> dict[str, object]:
    values = {
        name: found.hkl[:, axis].astype(np.int32) for axis, name in enumerate("hkl")
    }  # fmt: skip
    for name in ("x", "y", "z", "phi", "lorentz", "intensity", "recorded"):
        values[name] = getattr(found, name)
    for name, sigma in zip(("sigx", "sigy", "sigz"), experiment.bragg.sigma, strict=True):
        values[name] = np.full(len(found.x), sigma)
    return dict(values)


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
        flat=float(values["flat"]),
        halo=float(values["halo"]),
        halo_width=float(values["halo_width"]),
        amplitude=float(values["amplitude"]),
        falloff=float(values["falloff"]),
        vectors=values["vectors"],
        alphas=values["alphas"],
    )
    return parameters, UB


def read_peaks(path: Path, entry: str) -> dict[str, F8]:
    """Return the columns of a position's true peaks. Not collective."""
    with h5py.File(path, "r") as file:
        return read_truth(file, f"{entry}/{schema.TRUTH_PEAKS}")
