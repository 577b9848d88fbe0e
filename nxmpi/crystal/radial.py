"""The summed frame as a powder pattern, by pyFAI."""

from typing import NamedTuple

import numpy as np

from nxmpi._typing import F8, I8, Mask
from nxmpi.crystal.detector import detector_axes
from nxmpi.errors import InputError
from nxmpi.model import Detector

N_BINS = 2048
"""As NXRefine's."""
PYFAI_AXES = np.array([[0.0, 0.0, 1.0], [0.0, -1.0, 0.0], [1.0, 0.0, 0.0]])
"""Rows: pyFAI's axes 1 (up), 2 and 3 (along the beam) in the laboratory."""


class Poni(NamedTuple):
    """A detector in pyFAI's terms."""

    distance: float
    """From the sample to the detector's plane [m]."""
    poni1: float
    """Foot of that distance along the slow axis [m]."""
    poni2: float
    """Along the fast axis [m]."""
    rotations: tuple[float, float, float]
    """rot1, rot2, rot3 [radians]."""
    orientation: int
    """pyFAI's number: 3, or 2 where rows count in the opposite sense."""


class RadialSum(NamedTuple):
    """Intensity by scattering angle; the arrays are (n_bins,)."""

    polar_angle: F8
    """Middle of the bin [degrees]."""
    Q: F8
    """[1/Å]"""
    intensity: F8
    """Counts by solid angle (1 for a pixel at the foot) and polarization [counts]."""


def poni(detector: Detector) -> Poni:
    """Return pyFAI's description of a detector.

    Raises
    ------
    InputError
        If its axes are not perpendicular and of length 1.
    """
    axes = detector_axes(detector)
    fast, slow = axes[:, 0], axes[:, 1]
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-9):
        raise InputError(
            f"radial sum: expected perpendicular detector axes, found {detector.orientation}"
        )
    p = detector.pixel_size
    along_fast, along_slow = detector.distance * fast[0], detector.distance * slow[0]
    poni1 = detector.beam_center[1] * p - along_slow
    poni2 = detector.beam_center[0] * p - along_fast
    mirrored = bool(np.cross(slow, fast)[0] < 0)
    if mirrored:  # a rotation cannot, so the rows are counted from the other end
        slow, poni1 = -slow, detector.shape[0] * p - poni1
    normal = np.cross(slow, fast)
    R = PYFAI_AXES @ np.column_stack([slow, fast, normal])
    rotations = (
        float(np.arctan2(-R[2, 1], R[2, 2])),
        float(np.arctan2(R[2, 0], np.hypot(R[2, 1], R[2, 2]))),
        float(np.arctan2(R[1, 0], R[0, 0])),
    )
    distance = detector.distance * float(normal[0])
    return Poni(distance / 1e3, poni1 / 1e3, poni2 / 1e3, rotations, 2 if mirrored else 3)


def radial_sum(
    detector: Detector, wavelength: float, summed: I8, bad: Mask, polarization: F8
) -> RadialSum:  # fmt: skip
    """Return the mean intensity of a frame by scattering angle.

    Parameters
    ----------
    wavelength : float
        [Å]
    summed : (n_slow, n_fast) int64
        [counts]
    bad : (n_slow, n_fast) bool
        True = leave out.
    polarization : (n_slow, n_fast) float64
        Factor of each pixel [1].

    Raises
    ------
    InputError
        If the detector's axes are not perpendicular.
    """
    # here, because it takes a second that other steps need not spend
    from pyFAI.detectors import Detector as PyfaiDetector  # noqa: TID251
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator  # noqa: TID251

    place, p = poni(detector), detector.pixel_size / 1e3
    integrator = AzimuthalIntegrator(
        place.distance, place.poni1, place.poni2, *place.rotations,
        detector=PyfaiDetector(p, p, max_shape=detector.shape, orientation=place.orientation),
        wavelength=wavelength / 1e10,
    )  # fmt: skip
    polar_angle, intensity = integrator.integrate1d(
        np.where(bad, 0, summed) / polarization, N_BINS, unit="2th_deg", mask=bad,
        correctSolidAngle=True, method=("no", "histogram", "cython"),
    )  # fmt: skip
    polar_angle = np.asarray(polar_angle, np.float64)
    Q = 4 * np.pi * np.sin(np.radians(polar_angle) / 2) / wavelength
    return RadialSum(polar_angle, np.asarray(Q), np.asarray(intensity, np.float64))
