"""tasks/settings.ini of an experiment, with NXRefine's names."""

from __future__ import annotations

import configparser
import io
from typing import TYPE_CHECKING

from nxmpi.nexus import schema

if TYPE_CHECKING:
    from nxmpi.simulate.experiment import Experiment


def settings_text(experiment: Experiment) -> str:
    """Return the contents of the settings file.

    The frames to use are named where all positions have the same number.
    """
    first = experiment.positions[0]
    numbers = {setting.n_frames for setting in experiment.positions}
    frames = {"first": 0, "last": first.n_frames - 1} if len(numbers) == 1 else {}
    monitor = {"monitor": schema.MONITORS[0]} if experiment.monitor else {}
    sections: dict[str, dict[str, object]] = {
        "instrument": {"source": "simulation", "instrument": "nxmpi"},
        "nxrefine": {
            "wavelength": experiment.wavelength,
            "distance": first.detector.distance,
            "phi": first.phi,
            "phi_end": first.phi + first.n_frames * first.step,
            "phi_step": first.step,
            "chi": first.chi,
            "omega": first.omega,
            "theta": first.theta,
            "x": 0.0,
            "y": 0.0,
            "nsteps": len(experiment.positions),
            "frame_time": first.frame_time,
            "detector_orientation": schema.DEFAULT_ORIENTATION,
        },
        "nxreduce": {
            **frames,
            **monitor,
            "norm": experiment.norm,
            "polarization": experiment.polarization,
            "min_pixels": 10,
            "hkl_tolerance": 0.05,
            **dict(experiment.settings),
        },
    }
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict(sections)
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()
