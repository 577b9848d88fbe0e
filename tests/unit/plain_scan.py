"""A scan file in its plainest form, written with h5py alone, for tests that vary one thing."""

import h5py
import numpy as np

N_FRAMES, SHAPE = 9, (12, 14)
CELL = (5.1, 6.3, 7.2, 83.0, 97.0, 105.0)
CELL_NAMES = ("a", "b", "c", "alpha", "beta", "gamma")
M = np.array([[0.5, -0.7, 0.51], [0.8, 0.6, 0.04], [-0.33, 0.39, 0.86]])
"""Orientation matrix."""
DETECTOR = {
    "distance": 61.0, "pixel_size": 1.3, "beam_center_x": 6.6, "beam_center_y": 5.2,
    "yaw": 0.4, "pitch": -0.3, "roll": 0.2,
}  # fmt: skip
GONIOMETER = {"chi": -88.0, "omega": 3.0, "theta": 1.5, "xs": 0.02, "ys": -0.03, "zs": 0.05}
PHI, STEP = -10.0, 2.0
AXES = {"Qh": np.linspace(-2, 2, 41), "Qk": np.linspace(-2, 2, 41), "Ql": np.linspace(-3, 3, 31)}


def counts(dtype=np.int32):
    """Return frames with all small counts, some large, and what stands for nothing."""
    frames = np.random.default_rng(5).integers(0, 100, (N_FRAMES, *SHAPE))
    return frames.astype(dtype)


def write_scan(root):
    """Write EXPERIMENT/SAMPLE/LABEL/SAMPLE_SCAN.nxs with one position, f1.

    Returns
    -------
    Path
    """
    folder = root / "quartz" / "label"
    (folder / "300K").mkdir(parents=True)
    path = folder / "quartz_300K.nxs"
    with h5py.File(folder / "300K" / "f1.h5", "w") as raw:
        raw["entry/data/data"] = counts()
    with h5py.File(path, "w") as file:
        sample = file.create_group("entry/sample")
        for name, value in zip(CELL_NAMES, CELL, strict=True):
            sample[f"unitcell_{name}"] = value
        sample["space_group"] = "P -1"
        entry = file.create_group("f1")
        entry["sample"] = sample
        entry["instrument/monochromator/wavelength"] = 0.7
        for name, value in DETECTOR.items():
            entry[f"instrument/detector/{name}"] = value
        entry["instrument/detector/detector_orientation"] = "-y +z -x"
        entry["instrument/detector/orientation_matrix"] = M
        entry["instrument/detector/pixel_mask"] = np.zeros(SHAPE, np.int8)
        for name, value in GONIOMETER.items():
            entry[f"instrument/goniometer/{name}"] = value
        entry["instrument/goniometer/phi"] = PHI
        entry["instrument/goniometer/phi"].attrs["step"] = STEP
        entry["data/data"] = h5py.ExternalLink("300K/f1.h5", "/entry/data/data")
        entry["data/frame_number"] = np.arange(N_FRAMES)
        entry["monitor1/data"] = np.linspace(90000, 70000, N_FRAMES)
        entry["monitor1"].attrs["signal"] = "data"
        for name, values in AXES.items():
            entry[f"transform/{name}"] = values
    return path


def replace(file, path, value, **attributes):
    """Put something in the place of what is there; None takes it away."""
    if file.get(path, getlink=True) is not None:
        del file[path]
    if value is not None:
        file[path] = value
        file[path].attrs.update(attributes)
