"""Scan files whose peaks are simulated, written with h5py alone: no frames to go through."""

from dataclasses import dataclass, replace

import h5py
import numpy as np
from scipy.spatial.transform import Rotation

from nxmpi.crystal.detector import as_matrix, parse_orientation
from nxmpi.crystal.lattice import reciprocal_matrix
from nxmpi.crystal.prediction import predict
from nxmpi.crystal.reciprocal import reflecting_angles
from nxmpi.crystal.symmetry import reflections
from nxmpi.model import Detector, Geometry, Goniometer, Lattice

NAMES = ("a", "b", "c", "alpha", "beta", "gamma")
ANGLES = ((0.0, -90.0), (15.0, -90.0), (-15.0, -70.0))
"""omega and chi of the positions."""
CENTRES = ((743.3, 806.1), (712.6, 835.4), (772.1, 781.9))
STEP, N_FRAMES, START = 0.1, 3600, -5.0
ERRORS = np.array([0.04, 0.05, 0.06])
"""Typical ones of places [pixels, pixels, frames]."""
DETECTOR = Detector(
    shape=(1679, 1475), pixel_size=0.172, distance=650.0, beam_center=CENTRES[0],
    orientation=parse_orientation("-y +z -x"), yaw=0.12, pitch=-0.08, roll=0.21,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Crystal:
    """What is simulated."""

    cell: tuple[float, ...]
    space_group: str
    U: object
    wavelength: float = 0.2
    n_peaks: int = 250
    """Of each position."""
    n_false: int = 0
    distance: float = 650.0

    @property
    def lattice(self):
        return Lattice(**dict(zip(NAMES, self.cell, strict=True)))


def geometry_of(crystal, index):
    omega, chi = ANGLES[index]
    goniometer = Goniometer(
        theta=0.0, omega=omega, chi=chi, phi=tuple(START + STEP * np.arange(N_FRAMES)), step=STEP
    )
    detector = replace(DETECTOR, beam_center=CENTRES[index], distance=crystal.distance)
    UB = np.asarray(crystal.U) @ reciprocal_matrix(crystal.lattice)
    return Geometry(
        wavelength=crystal.wavelength, detector=detector, goniometer=goniometer, UB=as_matrix(UB)
    )


def true_places(crystal, geometry, offset=(0.0, 0.0, 0.0)):
    """Return places of all reflections on the detector, and their hkl shifted by an offset."""
    hkl = reflections(crystal.lattice, crystal.space_group, 0.75 * crystal.wavelength / 0.22)
    hkl = np.repeat(hkl + offset, 2, axis=0)
    both = reflecting_angles(geometry, hkl)[np.arange(len(hkl)), np.tile([0, 1], len(hkl) // 2)]
    seen = np.isfinite(both)
    hkl, near = hkl[seen], both[seen]
    near = START + (near - START) % 360
    places, changes = predict(geometry, crystal.lattice, hkl, near, ("turn_x", "turn_y", "turn_z"))
    x, y, phi = places.T
    slow, fast = geometry.detector.shape
    use = (x > 0) & (x < fast) & (y > 0) & (y < slow) & (phi > START) & (phi < START + 360)
    use &= np.linalg.norm(changes[:, 2], axis=1) < 15  # near the axis they are not recorded whole
    return places[use], hkl[use]


def peaks_of(crystal, index, seed=0, offset=(0.0, 0.0, 0.0), n=None):
    """Return columns of peaks with errors, and their true hkl (NaN of false ones)."""
    rng, geometry = np.random.default_rng([seed, index]), geometry_of(crystal, index)
    places, hkl = true_places(crystal, geometry, offset)
    chosen = rng.permutation(len(places))[: n or crystal.n_peaks]
    places, hkl = places[chosen], hkl[chosen]
    false = rng.uniform([0, 0, START], [1475, 1679, START + 360], (crystal.n_false, 3))
    places = np.concatenate([places, false])
    errors = ERRORS * np.exp(rng.normal(0, 0.5, (len(places), 1)))
    places = np.column_stack(
        [places[:, 0] - 0.5, places[:, 1] - 0.5, (places[:, 2] - START) / STEP - 0.5]
    )
    places += rng.normal(0, 1, places.shape) * errors
    columns = dict(zip(("x", "y", "z"), places.T, strict=True))
    columns |= dict(zip(("x_errors", "y_errors", "z_errors"), errors.T, strict=True))
    columns["intensity"] = 100 / errors[:, 0] ** 2
    columns["flags"] = np.zeros(len(places), np.int64)
    return columns, np.concatenate([hkl, np.full((crystal.n_false, 3), np.nan)])


def join(*parts):
    """Return the columns of several lists of peaks as one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_scan(root, crystal, peaks, *, cell=True, orientation=None, **changes):
    """Write EXPERIMENT/SAMPLE/LABEL/SAMPLE_SCAN.nxs with the peaks of each position.

    Parameters
    ----------
    peaks : list of dict
        Columns.
    cell : bool or tuple, optional
        False leaves it out; another one is written instead.
    changes
        Of the detector, such as ``beam_center_x`` of all positions; ``phi_sign``.
    """
    folder = root / "quartz" / "label"
    (folder / "300K").mkdir(parents=True)
    path = folder / "quartz_300K.nxs"
    with h5py.File(path, "w") as file:
        sample = file.create_group("entry/sample")
        if cell is not False:
            for name, value in zip(NAMES, crystal.cell if cell is True else cell, strict=True):
                sample[f"unitcell_{name}"] = value
            sample["space_group"] = crystal.space_group
        for i, columns in enumerate(peaks):
            _write_entry(file, f"f{i + 1}", crystal, i, columns, changes)
            if orientation is not None:
                file[f"f{i + 1}/instrument/detector/orientation_matrix"] = orientation
    return path


def _write_entry(file, name, crystal, index, columns, changes):
    geometry = geometry_of(crystal, index)
    detector, (omega, chi) = geometry.detector, ANGLES[index]
    raw = file.filename.replace("quartz_300K.nxs", f"300K/{name}.h5")
    with h5py.File(raw, "w") as frames:
        frames.create_dataset(
            "entry/data/data", (N_FRAMES, *detector.shape), "i4", chunks=(1, *detector.shape)
        )
    entry = file.create_group(name)
    entry["sample"] = file["entry/sample"]
    entry["instrument/monochromator/wavelength"] = crystal.wavelength
    values = {
        "distance": detector.distance, "pixel_size": detector.pixel_size,
        "beam_center_x": detector.beam_center[0], "beam_center_y": detector.beam_center[1],
        "yaw": detector.yaw, "pitch": detector.pitch, "roll": detector.roll,
        "detector_orientation": "-y +z -x",
    }  # fmt: skip
    for key, value in (values | {k: v for k, v in changes.items() if k in values}).items():
        value = value + values[key] if key.startswith("beam_center") and key in changes else value
        entry[f"instrument/detector/{key}"] = value
    sign = changes.get("phi_sign", 1)
    entry["instrument/goniometer/phi"] = sign * (START + changes.get("phi0", (0, 0, 0))[index])
    entry["instrument/goniometer/phi"].attrs.update(step=sign * STEP, end=sign * (START + 360))
    entry["instrument/goniometer/omega"], entry["instrument/goniometer/chi"] = omega, chi
    entry["data/data"] = h5py.ExternalLink(f"300K/{name}.h5", "/entry/data/data")
    entry["data/frame_number"] = np.arange(N_FRAMES)
    for key, value in columns.items():
        entry[f"peaks/{key}"] = value


def random_rotation(seed):
    return Rotation.random(random_state=seed).as_matrix()
