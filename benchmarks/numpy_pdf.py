"""The chain from a combined volume to the 3D-ΔPDF in plain NumPy and SciPy: a line of JSON.

What a careful user would write for one cubic crystal on one workstation: all of it in memory,
one factorization for the holes, one Fourier transform.
"""

import itertools
import json
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import scipy.fft
import scipy.sparse
import scipy.sparse.linalg
from measure import MIB, memory

EDGE, REACH, RADIUS = 5.0, 10.0, 0.2
"""Those of `case_pdf.py`, which has to be imported before SciPy and cannot be here."""


def main():
    scan, workers = Path(sys.argv[1]), int(sys.argv[2])
    started = time.perf_counter()
    parts, last = {}, started

    def note(name):
        nonlocal last
        parts[name], last = time.perf_counter() - last, time.perf_counter()

    folder = scan.parent / "300K"
    with h5py.File(folder / "transform.nxs") as file:
        intensity, norm = file["entry/data/v"][()], file["entry/data/n"][()]
    note("read")
    counts = np.where(norm > 0, intensity * norm, 0)
    counts, norm = sum_of_images(counts), sum_of_images(norm)
    with np.errstate(invalid="ignore", divide="ignore"):
        volume = np.where(norm > 0, counts / norm, 0).astype(np.float32)
    del counts, norm, intensity
    note("symmetrize")
    filled = punch_and_fill(volume)
    note("punch and fill")
    window = tukey(volume.shape[0])
    for name, values in (("total_pdf", volume), ("pdf", filled)):
        mean = (values * window).sum(dtype=float) / window.sum(dtype=float)
        result = transform((values - np.float32(mean)) * window, workers)
        note(f"transform, {name}")
        with h5py.File(folder / f"numpy_{name}.h5", "w") as file:
            file["pdf"] = result
        note(f"write, {name}")
    with h5py.File(folder / "numpy_symm.h5", "w") as file:
        file["data"], file["fill"], file["weights"] = volume, filled, window
    note("write, symm_transform")
    print(json.dumps({
        "parts": parts, "time_s": time.perf_counter() - started,
        "peak_MiB": memory("VmHWM") / MIB,
    }))  # fmt: skip


def sum_of_images(values):
    """Return the sum of the 48 images of each voxel under m-3m; voxels on mirrors count again."""
    for axis in range(3):
        values = values + np.flip(values, axis)
    return sum(values.transpose(order) for order in itertools.permutations(range(3)))


def punch_and_fill(volume):
    n = volume.shape[0]
    step = 2 * REACH / (n - 1)
    reach = int(RADIUS / (2 * np.pi / EDGE * step) + 1e-9)
    offsets = np.arange(-reach, reach + 1)
    squares = offsets**2
    hole = (squares[:, None, None] + squares[:, None] + squares) * (
        2 * np.pi / EDGE * step
    ) ** 2 <= RADIUS**2
    edge = 2 * reach + 3
    inside = np.zeros((edge,) * 3, bool)
    inside[1:-1, 1:-1, 1:-1] = hole
    laplacian = laplace(edge)
    rows = np.flatnonzero(inside)
    rest = np.flatnonzero(~inside)
    matrix = scipy.sparse.csc_matrix(laplacian[rows][:, rows])
    solve = scipy.sparse.linalg.splu(matrix).solve
    coupling = laplacian[rows][:, rest]
    filled = volume.copy()
    middles = np.rint((np.arange(-REACH, REACH + 1) + REACH) / step).astype(int)
    for l, k, h in itertools.product(middles, repeat=3):
        low = np.array([l, k, h]) - reach - 1
        if low.min() < 0 or low.max() + edge > n:
            continue
        box = tuple(slice(start, start + edge) for start in low)
        values = filled[box].astype(float).ravel()
        values[rows] = solve(-(coupling @ values[rest]))
        filled[box] = values.reshape((edge,) * 3)
    return filled


def laplace(edge):
    line = scipy.sparse.diags([1.0, -2.0, 1.0], [-1, 0, 1], shape=(edge, edge))
    one = scipy.sparse.identity(edge)
    kron = scipy.sparse.kron
    return (
        kron(kron(line, one), one) + kron(kron(one, line), one) + kron(kron(one, one), line)
    ).tocsr()


def tukey(n):
    axis = np.linspace(-REACH, REACH, n, dtype=np.float32) / np.float32(REACH)
    squares = axis**2
    r = np.sqrt(squares[:, None, None] + squares[:, None] + squares)
    return np.where(r < 0.5, 1, np.where(r < 1, (1 + np.cos(2 * np.pi * (r - 0.5))) / 2, 0)).astype(
        np.float32
    )


def transform(values, workers):
    result = scipy.fft.fftn(scipy.fft.ifftshift(values), workers=workers)
    return scipy.fft.fftshift(result.real) / values.size


if __name__ == "__main__":
    main()
