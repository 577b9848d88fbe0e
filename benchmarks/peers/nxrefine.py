"""NXRefine's own functions on the frames of a position: prints a line of JSON.

Run by the Python of `.venv` beside this file, which `install` makes.
"""

import argparse
import json
import logging
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.pop(0)  # this folder, where a file is called as the package

OWN = tempfile.TemporaryDirectory(prefix="nxrefine-")
SERVER = Path(OWN.name) / "nxserver"  # its settings, in the user's home otherwise
SERVER.mkdir()
(SERVER / "settings.ini").write_text("[server]\nconcurrent = False\n")
os.environ["NX_SERVER"] = str(SERVER)

from nxrefine.nxreduce import NXReduce  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="of the raw frames: SAMPLE/LABEL/SCAN")
    parser.add_argument("--entry", default="f1")
    parser.add_argument("--frames", type=int, default=50, help="a multiple of 50")
    options = parser.parse_args()
    logging.disable()
    # The last frame counts for peaks and mask, and not for the sums, which go in steps of 50.
    reduce = NXReduce(options.entry, directory=options.folder, first=0, last=options.frames - 1)
    n_pixels = options.frames * reduce.shape[1] * reduce.shape[2]
    # 0.1.1 adds ".h5" to a Path, and fails: a str it is
    reduce.mask_file = str(Path(OWN.name) / "mask.nxs")
    base = peak()
    parts, total = {}, (0.0, 0.0)
    for name, function in (
        ("sums", reduce.find_maximum),
        ("peaks", reduce.find_peaks),
        ("mask", reduce.prepare_mask),
    ):
        cpu, wall = time.process_time(), time.perf_counter()
        function()
        seconds = time.process_time() - cpu, time.perf_counter() - wall
        total = [sum(pair) for pair in zip(total, seconds, strict=True)]
        parts[name] = speeds(n_pixels, *seconds)
    print(json.dumps({**speeds(n_pixels, *total), "parts": parts, "base_MiB": base}))


def speeds(n_pixels, cpu, wall):
    """Return what the table shows; the peak is that of all so far."""
    return {
        "Mpixel_per_cpu_s": n_pixels / cpu / 1e6, "Mpixel_per_s_and_core": n_pixels / wall / 1e6,
        "peak_MiB": peak(),
    }  # fmt: skip


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
