# ruff: noqa: T201
"""CCTW 0.2.3 in NumPy, by the formulas of its source; FAKE_CCTW says how it is to misbehave.

Started as a program; tells of itself in the file FAKE_CCTW_LOG.
"""

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - brings the filters
import numpy as np

HOW = os.environ.get("FAKE_CCTW", "good")
VERSION = os.environ.get("FAKE_CCTW_VERSION", "0.2.3")


def rotation(axis, angle):
    c, s = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def read_script(path):
    """Return settings as they stand, without the words before the dot."""
    lines = re.findall(r"\w+\.(\w+)\s*=\s*([^;]*);", Path(path).read_text())
    return {name: np.array(json.loads(value)) for name, value in lines}


def places(s, z, shape):
    """Return where pixels of frame z are on the grid, (n_pixels, 3) along h, k, l."""
    angle = s["phiNom"] + z * s["phiStep"] + s["phiCorrection"]
    G = rotation(1, s["orientErrorGonPitch"]) @ rotation(2, s["omegaNom"] + s["omegaCorrection"])
    G = G @ rotation(0, s["chiNom"] + s["chiCorrection"]) @ rotation(2, angle)
    D = rotation(0, s["orientErrorDetRoll"]) @ rotation(1, s["orientErrorDetPitch"])
    D = D @ rotation(2, s["orientErrorDetYaw"])
    y, x = (index.ravel() for index in np.indices(shape))
    p = np.stack([x + 0.5 - s["det0x"], y + 0.5 - s["det0y"], 0 * x]) * s["pixelSize"]
    r = D @ (np.linalg.inv(s["oMat"]) @ p) - (G @ s["xTrans"] - [s["distance"], 0, 0])[:, None]
    k = r / np.linalg.norm(r, axis=0) / s["wavelength"]
    k[0] -= 1 / s["wavelength"]
    hkl = np.linalg.inv(s["ubMat"]) @ (np.linalg.inv(G) @ k)
    at = np.linalg.inv(s["gridBasis"]) @ (hkl - s["gridOrigin"][:, None])
    return (at * s["gridDim"][:, None] + s["gridOffset"][:, None]).T


def dataset(name):
    file, path = name.split("#")
    return h5py.File(file, "r")[path]


def options_of(words):
    options = {"--weights": []}
    values = iter(words)
    for word in values:
        if word == "--weights":
            options[word].append(next(values))
        elif word.startswith("--"):
            options[word] = next(values)
        else:
            options["frames"] = word
    return options


def transform(options):
    s = read_script(options["--script"])
    frames = dataset(options["frames"])
    shape = frames.shape[1:]
    mask = dataset(options["--mask"])[()] != 0
    weights = [dataset(name)[()] for name in options["--weights"]]
    factor = weights[1].ravel() if weights[1:] else np.ones(mask.size)
    n_h, n_k, n_l = s["dimensions"]
    v, n = np.zeros((n_l, n_k, n_h)), np.zeros((n_l, n_k, n_h))
    print(f"MESSAGE: 12:00:00 {len(frames)} frames", flush=True)
    for z in range(len(frames)):
        if HOW == "slow":
            time.sleep(0.3)
        frame = read_frame(frames, z)
        if weights[0][z] > 0:
            good = ~mask.ravel()
            if "--mask3d" in options:
                good &= dataset(options["--mask3d"])[z].ravel() == 0
            at = np.floor(places(s, z, shape)[good]).astype(int)
            inside = ((at >= 0) & (at < (n_h, n_k, n_l))).all(axis=1)
            h, k, l = at[inside].T
            np.add.at(v, (l, k, h), frame.ravel()[good][inside].astype(np.float32))
            np.add.at(n, (l, k, h), weights[0][z] * factor[good][inside])
        sys.stdout.write(f"\r{100 * (z + 1) // len(frames)}% completed")
        sys.stdout.flush()
        misbehave_at(z)
    return v, n


def merge(words):
    """Return sums over volumes, in single precision."""
    inputs = words[: words.index("--output")]
    parts = ([dataset(f"{name}/{which}")[()].astype("f4") for name in inputs] for which in "vn")
    misbehave_at(1)
    return [sum(part[1:], part[0]) for part in parts]


def read_frame(frames, z):
    """Return a frame whether it is used or not: zeros, and a line, where it cannot be read."""
    try:
        return frames[z]
    except OSError:
        print(f"\nMESSAGE: 12:00:01 Error reading chunk {z}", flush=True)  # one a frame
        return np.zeros(frames.shape[1:])


def misbehave_at(z):
    if z == 1 and HOW == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if z == 1 and HOW == "exit1":
        print("\nmask is smaller than the frame", file=sys.stderr)
        sys.exit(1)
    if z == 1 and HOW in ("hanging", "deaf"):
        if HOW == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if z == 1 and HOW == "noise":
        for _ in range(5):
            sys.stdout.buffer.write(os.urandom(2**20))
        sys.stdout.write("\n")
    if z == 1 and HOW == "unreadable":
        print("\nMESSAGE: 12:00:01 Error reading chunk 7", flush=True)
        time.sleep(1000)


def write(options, v, n):
    if HOW == "nothing":
        return
    if HOW == "zeros":
        v, n = 0 * v, 0 * n
    if HOW == "no counts":
        v = 0 * v
    if HOW == "lost":  # a part of what fell into a block
        v[:16, :16, :16] = n[:16, :16, :16] = 0
        v[16:32, 16:32, 16:32] = n[16:32, 16:32, 16:32] = 0
    if HOW == "bright":  # what is left is a single pixel's
        v[..., ::2][v[..., ::2] < 1e6] = 0
    if HOW == "negative":
        v[tuple(np.argwhere(v > 0)[0])] = -1
    if HOW == "one more":
        v[tuple(np.argwhere(v > 0)[100])] += 1
    if HOW == "norm":
        n[tuple(np.argwhere(n > 0)[200])] *= 1.00001
    if HOW == "shape":
        v, n = v[1:], n[1:]
    file, path = options["--output"].split("#")
    with h5py.File(file, "w") as out:
        for name, values in (("v", v), ("n", n)):
            if HOW != "half" or name == "v":
                out.create_dataset(f"{path}/{name}", data=values.astype("f4"))
    if HOW == "truncated":
        os.truncate(file, Path(file).stat().st_size // 3)


def main():
    if "--version" in sys.argv:
        print(f"CCTW version {VERSION}")
        return
    log = os.environ.get("FAKE_CCTW_LOG")
    if log:
        with Path(log).open("a") as file:
            line = [os.getpid(), time.time(), str(Path.cwd()), *sys.argv[1:]]
            file.write(f"{json.dumps(line)}\n")
    options = options_of(sys.argv[2:])
    if sys.argv[1] == "merge":
        write(options, *merge(sys.argv[2:]))
        return
    assert sys.argv[1] == "transform"
    write(options, *transform(options))
    print("\nMESSAGE: 12:00:02 Transform complete after 5 msec")


if __name__ == "__main__":
    main()
