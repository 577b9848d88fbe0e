"""Scans of the tests, with 3-D masks or of a combined volume alone, and sums of transforms."""

import h5py
import numpy as np

from nxmpi.nexus import schema

CELLS = {
    "P 6/m m m": (5, 5, 7, 90, 90, 120), "P m -3 m": (5, 5, 5, 90, 90, 90),
    "C 1 2/c 1": (5, 6, 7, 90, 105, 90),
}  # fmt: skip
"""By space group."""


def add_masks(wrapper, part=0.3, seed=3):
    """Give each position a 3-D mask that excludes a part of its pixels."""
    files = schema.ScanFiles(wrapper)
    with h5py.File(wrapper, "r+") as file:
        for name in positions(file):
            shape = file[name][schema.RAW].shape
            with h5py.File(files.mask(name), "w") as mask:
                mask[schema.MASK] = (np.random.default_rng(seed).random(shape) < part).astype("i1")
            where = files.mask(name).relative_to(wrapper.parent)
            file[name][schema.DATA_MASK] = h5py.ExternalLink(str(where), schema.MASK)


def positions(file):
    """Return the names of the positions of a scan file."""
    return [name for name in file if name != "entry"]


def sums(wrapper, twin=schema.REGULAR):
    """Return counts and norm of the transforms of all positions together, [l, k, h]."""
    counts, norm = 0.0, 0.0
    with h5py.File(wrapper) as file:
        names = positions(file)
    for name in names:
        with h5py.File(schema.ScanFiles(wrapper).transform(name, twin)) as file:
            counts = counts + file[schema.VOLUME][schema.COUNTS][()]
            norm = norm + file[schema.VOLUME][schema.NORM][()]
    return counts, norm


def scan_of_volume(comm, root, symbol, axes, volume, **attributes):
    """Write a scan with a combined volume, on the root, and return its path on all ranks.

    Parameters
    ----------
    symbol : str
        Of `CELLS`.
    axes : sequence of (n,) float
        Along h, k, l.
    volume : callable
        Returns the datasets by name, [l, k, h]; called on the root. They are written as float32.
    attributes
        Of the group of the volume.
    """
    path = root / "quartz" / "label" / "quartz_300K.nxs"
    if comm.rank == 0:
        (path.parent / "300K").mkdir(parents=True)
        with h5py.File(path.parent / "300K" / "transform.nxs", "w") as file:
            data = file.create_group("entry/data")
            data.attrs.update(attributes)
            for name, values in volume().items():
                data[name] = values.astype(np.float32)
        with h5py.File(path, "w") as file:
            sample = file.create_group("entry/sample")
            names = ("a", "b", "c", "alpha", "beta", "gamma")
            for name, value in zip(names, CELLS[symbol], strict=True):
                sample[f"unitcell_{name}"] = float(value)
            sample["space_group"] = symbol
            file["f1/sample"] = sample
            for name, values in zip(("Qh", "Qk", "Ql"), axes, strict=True):
                file[f"entry/transform/{name}"] = values
    return comm.bcast(path)
