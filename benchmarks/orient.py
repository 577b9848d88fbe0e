"""Orienting beside NXRefine's refinement, on the same simulated peaks at three positions.

Both start from the same cell and orientation, which are a little off, on one core. The cell is
orthorhombic, so that NXRefine's B, inv(A) without the transpose, is the reciprocal one. Runs of
both are interleaved, each pair of runs with a crystal and errors of peaks of its own, and medians
are shown: these figures are of machines that other work shares.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from launch import HERE, median, run
from rich.console import Console
from rich.table import Table
from stage_orient import CELL, OFF, POSITIONS, TURNED, copied

PEERS = HERE / "peers"
PEAKS, RUNS = (800, 2000), 3
QUICK = (200,), 1
PEER = "NXRefine"
ONE_CORE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
TARGETS = {("refinement", 800): 0.5, ("indexing, known cell", 2000): 2.0}
"""What parts of ours may take with so many peaks [s]."""
REFINEMENT = "refinement, with reading"
BESIDE = ("refinement", "all of it", REFINEMENT)
"""Parts that end with what NXRefine's refinement does."""
MEAN, WORST = "mean of positions", "worst position"


def run_ours(scan):
    found = run([sys.executable, HERE / "stage_orient.py", "orient", scan], settings=ONE_CORE)
    errors = {"of all positions": error_of(found["cell"])}
    return {"parts": found["parts"], "errors": errors, "used": found["used"]}


def run_peer(scan):
    python = PEERS / ".venv" / "bin" / "python"
    command = [python, HERE / "nxrefine_refine.py", scan.parent / scan.stem.split("_")[1]]
    found = run([*command, *POSITIONS], timeout=3600, settings=ONE_CORE).values()
    errors = {}
    for key, name in (("cell", "cell in the file"), ("UB_cell", "cell of its U B")):
        cells = [each[key] for each in found]
        errors[f"{name}, {MEAN}"] = error_of(np.mean(cells, axis=0))
        errors[f"{name}, {WORST}"] = max(error_of(cell) for cell in cells)
    times = [each["parts"]["refinement"] for each in found]
    parts = {REFINEMENT: {key: sum(one[key] for one in times) for key in times[0]}}
    return {"parts": parts, "errors": errors, "used": sum(each["used"] for each in found)}


def error_of(cell):
    """Return how far the worst of a, b and c is from the truth, to the truth [1]."""
    return float(np.abs(np.divide(cell, CELL)[:3] - 1).max())


def measure(options, programs):
    """Return medians by number of peaks and program."""
    results = {n: {name: [] for name in programs} for n in options.peaks}
    for seed in range(options.runs):
        for n, rows in results.items():
            with tempfile.TemporaryDirectory(prefix="nxmpi-orient-") as folder:
                scan = simulated(Path(folder) / "simulated", n, seed, options.turned)
                for name, program in programs.items():
                    print(f"run {seed + 1} of {options.runs}: {n} peaks, {name}", file=sys.stderr)
                    rows[name].append(program(copied(scan, Path(folder) / name)))
    return {
        n: {name: median(each) for name, each in rows.items()} for n, rows in results.items()
    }  # fmt: skip


def simulated(folder, n_peaks, seed, turned):
    """Return a scan file with peaks."""
    options = ["--peaks", n_peaks, "--seed", seed, "--turned", turned]
    script = HERE / "stage_orient.py"
    return Path(run([sys.executable, script, "simulate", folder, *options])["scan"])


def show(results, options):
    console = Console(width=120)
    off = f"{100 * np.abs(OFF - 1).max():.1f} % and {options.turned:g} degrees off"
    what = f"3 positions, cell and orientation {off}, medians of {options.runs} interleaved runs"
    table = Table(title=f"time on one core: {what}")
    table.add_column("peaks", justify="right")
    table.add_column("")
    for column in ("CPU time [s]", "clock [s]", "target [s]", f"{PEER}'s CPU time to this"):
        table.add_column(column, justify="right")
    for n, programs in results.items():
        peer = programs[PEER]["parts"][REFINEMENT]["cpu_s"] if PEER in programs else None
        for program, found in programs.items():
            for part, seconds in found["parts"].items():
                target = TARGETS.get((part, n)) if program != PEER else None
                table.add_row(
                    f"{n}", f"{program}: {part}", f"{seconds['cpu_s']:.3g}",
                    f"{seconds['time_s']:.3g}", f"{target:g}" if target else "",
                    f"{peer / seconds['cpu_s']:.3g}" if peer and part in BESIDE else "",
                )  # fmt: skip
        table.add_section()
    console.print(table)
    table = Table(title="worst of a, b, c, off the truth")
    table.add_column("peaks", justify="right")
    table.add_column("cell of")
    table.add_column("error [%]", justify="right")
    table.add_column("peaks used", justify="right")
    for n, programs in results.items():
        for program, found in programs.items():
            for name, error in found["errors"].items():
                table.add_row(
                    f"{n}", f"{program}: {name}", f"{100 * error:.2g}", f"{found['used']:.0f}"
                )
        table.add_section()
    console.print(table)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peaks", type=int, nargs="+", help=f"of all positions: {PEAKS}")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--quick", action="store_true", help="a run with few peaks, to try it")
    parser.add_argument("--turned", type=float, default=TURNED, help="orientation's error, degrees")
    parser.add_argument("--no-peer", action="store_true", help=f"leave out {PEER}")
    parser.add_argument("--json", type=Path, help="also write the medians here")
    options = parser.parse_args()
    peaks, runs = QUICK if options.quick else (PEAKS, RUNS)
    options.peaks, options.runs = options.peaks or peaks, options.runs or runs
    programs = {"nxmpi": run_ours}
    if not options.no_peer:
        subprocess.run([PEERS / "install"], check=True)
        programs[PEER] = run_peer
    results = measure(options, programs)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    show(results, options)


if __name__ == "__main__":
    main()
