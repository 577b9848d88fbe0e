"""NXRefine's symmetrization and Fourier transform of a combined volume: a line of JSON.

Run by the Python of `peers/.venv`, which `peers/install` makes. Its holes are filled by Julia,
which is left out; the transform is the text of its method `total_pdf`, with the window given.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import scipy.fft
from nexusformat.nexus import nxopen, nxsetconfig
from nxrefine.nxsymmetry import NXSymmetry


def main():
    scan, laue, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    nxsetconfig(memory=20000)
    parts, last = {}, time.perf_counter()
    with nxopen(scan, "r") as root:
        volume = NXSymmetry(root["entry/transform"], laue_group=laue).symmetrize(entries=True)
    parts["symmetrize"], last = time.perf_counter() - last, time.perf_counter()
    fft = np.real(
        scipy.fft.fftshift(
            scipy.fft.fftn(scipy.fft.fftshift(volume[:-1, :-1, :-1]), workers=workers)
        )
    )
    fft *= 1.0 / np.prod(fft.shape)
    parts["transform"] = time.perf_counter() - last
    assert np.isfinite(fft).all()
    print(json.dumps({"parts": parts}))


if __name__ == "__main__":
    main()
