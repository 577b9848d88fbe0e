"""Averages over Laue groups beside plain flips and transposes of NumPy, on volumes in memory.

NumPy's are on one core, for groups that they can do, and only the sums: special voxels count as
often as operators lead to them, and nothing says how images agree. Runs of all are interleaved and
medians shown: these figures are of machines that other work shares.
"""

import argparse
import json
import sys
from pathlib import Path

from launch import HERE, median, run, run_ranks
from rich.console import Console
from rich.table import Table

GROUPS, PLAIN = ("mmm", "m-3m", "6/mmm"), ("mmm", "m-3m")
GRID, RANKS, RUNS = 301, (1, 2), 3
QUICK = 61, 1
TARGET, LARGE = 20.0, 601
"""What all of it may take with so many voxels an axis, m-3m on two ranks [s]."""
TARGET_SHARES = 3.0
"""Memory, in those of counts and norm of a rank's voxels."""
NUMPY = "NumPy"


def programs(options):
    """Return what is run, by group and name."""
    grid = ["--grid", options.grid]
    outliers = ["--outliers", options.outliers] if options.outliers else []
    every = {}
    for group in options.groups:
        for ranks in options.ranks:
            every[group, f"nxmpi, {ranks} ranks" if ranks > 1 else "nxmpi, 1 rank"] = (
                lambda ranks=ranks, group=group: run_ranks(
                    ranks, "stage_symmetrize.py", group, *grid, *outliers, free=True
                )
            )
        if group in PLAIN and not options.no_peer:
            every[group, NUMPY] = lambda group=group: run(
                [sys.executable, HERE / "stage_symmetrize.py", group, *grid, "--plain"]
            )
    return every


def measure(options):
    """Return medians by group and program."""
    every = programs(options)
    results = {key: [] for key in every}
    for i in range(options.runs):
        for key, program in every.items():
            print(f"run {i + 1} of {options.runs}: {', '.join(key)}", file=sys.stderr)
            results[key].append(program())
    for group in options.groups:
        found = {rows[0]["counts"] for key, rows in results.items() if key[0] == group}
        if len(found) > 1 and not options.outliers:
            sys.exit(f"{group}: sums differ between programs: {found}")
    return {key: median(rows) for key, rows in results.items()}


def show(results, options):
    n = options.grid**3
    what = f"{options.grid}³ voxels, medians of {options.runs} interleaved runs"
    table = Table(title=f"averages over Laue groups: {what}")
    for column in ("group", ""):
        table.add_column(column)
    for column in (
        "clock [s]", "CPU time [s]", "ns/voxel CPU", f"{NUMPY}'s CPU time to this", "peak [shares]",
    ):  # fmt: skip
        table.add_column(column, justify="right")
    for (group, program), found in results.items():
        peer = results.get((group, NUMPY))
        for part, seconds in found["parts"].items():
            cpu = found["cpu"][part]
            beside = peer and part == "sums" and program != NUMPY
            table.add_row(
                group, f"{program}: {part}", f"{seconds:.3g}", f"{cpu:.3g}", f"{cpu / n * 1e9:.3g}",
                f"{peer['cpu'][part] / cpu:.2g}" if beside else "",
                f"{found['peak_by_share']:.2f}" if part in ("all of it", "sums") else "",
            )  # fmt: skip
        table.add_section()
    Console(width=120).print(table)
    if options.grid == LARGE and ("m-3m", "nxmpi, 2 ranks") in results:
        found = results["m-3m", "nxmpi, 2 ranks"]
        print(
            f"m-3m on two ranks: {found['parts']['all of it']:.3g} s of {TARGET:g}, "
            f"{found['peak_by_share']:.2f} shares of {TARGET_SHARES:g}"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--grid", type=int, help=f"voxels along each axis: {GRID}")
    parser.add_argument("--groups", nargs="+", default=GROUPS)
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--outliers", type=float, help="also leave out images, of ours")
    parser.add_argument("--quick", action="store_true", help="a run of a small one, to try it")
    parser.add_argument("--no-peer", action="store_true", help=f"leave out {NUMPY}")
    parser.add_argument("--json", type=Path, help="also write the medians here")
    options = parser.parse_args()
    grid, runs = QUICK if options.quick else (GRID, RUNS)
    options.grid, options.runs = options.grid or grid, options.runs or runs
    results = measure(options)
    if options.json:
        told = {", ".join(key): found for key, found in results.items()}
        options.json.write_text(json.dumps(told, indent=1))
    show(results, options)


if __name__ == "__main__":
    main()
