"""NXRefine's own refinement of a scan, position by position: prints a line of JSON.

Run by the Python of `peers/.venv`, which `peers/install` makes. The scan file is changed.
"""

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path

OWN = tempfile.TemporaryDirectory(prefix="nxrefine-")
SERVER = Path(OWN.name) / "nxserver"  # its settings, in the user's home otherwise
SERVER.mkdir()
(SERVER / "settings.ini").write_text("[server]\nconcurrent = False\n")
os.environ["NX_SERVER"] = str(SERVER)

import lmfit  # noqa: E402, F401 - here, as NXRefine's first refinement would in its time
import numpy as np  # noqa: E402
from nxrefine.nxreduce import NXReduce  # noqa: E402
from nxrefine.nxrefine import NXRefine  # noqa: E402


def prepare(reduce):
    """Let NXRefine write what its own search for peaks does, and its beam centre.

    It counts pixels from the centre of pixel 0, as the peaks do, where the file has them from
    its outer corner.
    """
    refine = NXRefine(reduce.entry)
    refine.xc, refine.yc = refine.xc - 0.5, refine.yc - 0.5
    refine.write_parameters()
    refine.write_angles(*refine.calculate_angles(refine.xp, refine.yp))


def refined(reduce):
    """Do what the task `nxrefine` does; the cell in the file is the next position's start."""
    cpu, wall = time.process_time(), time.perf_counter()
    NXRefine(reduce.entry)
    reading = time.process_time() - cpu, time.perf_counter() - wall
    cpu, wall = time.process_time(), time.perf_counter()
    refine = reduce.refine_parameters(lattice=reduce.lattice or reduce.is_first_entry())
    total = time.process_time() - cpu, time.perf_counter() - wall
    if refine is None:
        raise SystemExit(f"{reduce.name}: the refinement failed")
    refine.write_parameters()
    return {
        "parts": {"reading": pair(*reading), "refinement": pair(*total)},
        "cell": [float(value) for value in refine.lattice_parameters],
        "UB_cell": cell_of(np.asarray(refine.UBmat)),
        "used": len(refine.idx), "score": float(refine.score()),
    }  # fmt: skip


def pair(cpu, wall):
    return {"cpu_s": cpu, "time_s": wall}


def cell_of(UB):
    """Return the cell that a matrix means, which is not a rotation times B any more."""
    metric = np.linalg.inv(UB.T @ UB)
    lengths = np.sqrt(np.diag(metric))
    cosines = metric / np.outer(lengths, lengths)
    angles = np.degrees(np.arccos([cosines[1, 2], cosines[0, 2], cosines[0, 1]]))
    return [*lengths.tolist(), *angles.tolist()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, help="of the data: SAMPLE/LABEL/SCAN")
    parser.add_argument("entries", nargs="+")
    options = parser.parse_args()
    logging.disable()
    for name in options.entries:
        prepare(NXReduce(name, directory=options.folder))
    found = [refined(NXReduce(name, directory=options.folder)) for name in options.entries]
    print(json.dumps(dict(zip(options.entries, found, strict=True))))


if __name__ == "__main__":
    main()
