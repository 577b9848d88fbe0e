"""One run of the chain from a combined volume to the 3D-ΔPDF, under mpiexec: a line of JSON."""

import json
import sys
import time
from pathlib import Path

from measure import MIB, memory
from mpi4py import MPI

import nxmpi  # noqa: F401 - before all that brings numba
from nxmpi.params import OutputParams, PdfParams, PunchParams, SymmetrizeParams, WindowParams
from nxmpi.pipeline.pdf import run_pdf
from nxmpi.pipeline.real_space import Choices
from nxmpi.pipeline.symmetrize import run_symmetrize


def main():
    scan, comm = Path(sys.argv[1]), MPI.COMM_WORLD
    output = OutputParams(overwrite=True)
    choices = Choices(punch=PunchParams(radius=0.2), window=WindowParams(), pdf=PdfParams())
    comm.Barrier()
    started = time.perf_counter()
    run_symmetrize(comm, scan, SymmetrizeParams(), output)
    comm.Barrier()
    middle = time.perf_counter()
    run_pdf(comm, scan, choices, output)
    comm.Barrier()
    ended = time.perf_counter()
    peaks = comm.gather(memory("VmHWM") / MIB)
    if comm.rank == 0:
        print(json.dumps({
            "parts": {"symmetrize": middle - started, "pdf": ended - middle},
            "time_s": ended - started, "peak_MiB": sum(peaks), "ranks": comm.size,
        }))  # fmt: skip


if __name__ == "__main__":
    main()
