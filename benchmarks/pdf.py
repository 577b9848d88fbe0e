"""From a combined volume to the 3D-ΔPDF beside plain NumPy and SciPy, and NXRefine's own parts.

Of a simulated cubic crystal (m-3m), files read and written by all. NumPy's chain is what a careful
user would write on one workstation, with as many threads in its Fourier transform as ours has
ranks. NXRefine is measured where it runs without Julia: its average over the Laue group, which
is another one, and its Fourier transform. Runs are interleaved, and medians are shown: these
figures are of machines that other work shares.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from launch import HERE, median, run, run_ranks
from rich.console import Console
from rich.table import Table

PEERS = HERE / "peers"
VOXELS, RUNS = 501, 3
TARGET = {"time_s": 60.0, "peak_MiB": 8 * 953.7}
"""Of ours at 501 voxels an axis on 2 ranks: a minute, and 8 GB."""


def measure(options, scan):
    """Return medians by program."""
    programs = {
        f"nxmpi, {options.ranks} ranks": lambda: run_ranks(
            options.ranks, "stage_pdf.py", scan, free=True
        ),
        "NumPy and SciPy": lambda: run(
            [sys.executable, HERE / "numpy_pdf.py", scan, options.ranks], timeout=3600
        ),
    }
    if not options.no_peer:
        subprocess.run([PEERS / "install"], check=True)
        python = PEERS / ".venv" / "bin" / "python"
        programs["NXRefine, without holes"] = lambda: run(
            [python, HERE / "nxrefine_pdf.py", scan, "m-3m", options.ranks],
            timeout=3600,
            settings={"HDF5_USE_FILE_LOCKING": "FALSE"},  # its processes open the scan again
        )
    rows = {name: [] for name in programs}
    for n in range(options.runs):
        for name, program in programs.items():
            print(f"run {n + 1} of {options.runs}: {name}", file=sys.stderr)
            rows[name].append(program())
    return {name: median(each) for name, each in rows.items()}


def show(results, options):
    console = Console(width=110)
    what = f"{options.voxels}³ voxels, medians of {options.runs} interleaved runs"
    table = Table(title=f"combined volume to 3D-ΔPDF, {what}")
    for column in ("", "part"):
        table.add_column(column)
    for column in ("clock [s]", "peak of all ranks [MiB]"):
        table.add_column(column, justify="right")
    for name, found in results.items():
        for part, seconds in found["parts"].items():
            table.add_row(name, part, f"{seconds:.1f}", "")
        if "time_s" in found:
            table.add_row(name, "all", f"{found['time_s']:.1f}", f"{found['peak_MiB']:.0f}")
        table.add_section()
    console.print(table)
    console.print(f"to reach with 501³: {TARGET['time_s']:g} s and {TARGET['peak_MiB']:.0f} MiB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--voxels", type=int, default=VOXELS, help="along each axis, an odd number")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--no-peer", action="store_true", help="leave out NXRefine")
    parser.add_argument("--json", type=Path, help="also write the medians here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nxmpi-pdf-") as folder:
        case = run([sys.executable, HERE / "case_pdf.py", folder, options.voxels])
        results = measure(options, Path(case["scan"]))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    show(results, options)


if __name__ == "__main__":
    main()
