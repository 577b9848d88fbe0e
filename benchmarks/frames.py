"""The pass over frames beside NXRefine's functions and a plain read, on one simulated position.

Runs of different kinds are interleaved, and medians are shown: these figures are of machines
that other work shares.
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
REPEATS = 3
TIMES = 3
"""In memory the frames come several times, so that a seam weighs no more than in a real scan."""
CASES = {
    "read, as the pass does": (1, "read"),
    "read by h5py": (1, "read", "--h5py"),
    "pass, in memory, 1 rank": (1, "memory", "--times", TIMES),
    "pass, in memory, 2 ranks": (2, "memory", "--times", TIMES),
    "nxmpi frames, file, 1 rank": (1, "file"),
    "nxmpi frames, file, 2 ranks": (2, "file"),
}
LIMIT = "read, as the pass does"
PEER = "NXRefine"


def run_stage(ranks, *arguments):
    return run_ranks(ranks, "stage_frames.py", *arguments)


def run_peer(scan, frames):
    raw = scan.parent / scan.stem.rpartition("_")[2]
    python = PEERS / ".venv" / "bin" / "python"
    return run([python, PEERS / "nxrefine.py", raw, "--frames", frames])


def measure(scan, options):
    """Return medians by case, NXRefine's among them."""
    results = {name: [] for name in CASES}
    if not options.no_peer:
        results[PEER] = []
    for repeat in range(options.repeats):
        for name, rows in results.items():
            print(f"run {repeat + 1} of {options.repeats}: {name}", file=sys.stderr)
            if name == PEER:
                rows.append(run_peer(scan, options.peer_frames))
            else:
                ranks, what, *rest = CASES[name]
                rows.append(run_stage(ranks, what, scan, *rest))
    return {name: median(rows) for name, rows in results.items()}


def show(results, options):
    table = Table(
        title=f"sums, peaks and mask, 1679 x 1475 pixels int32, {options.frames} frames, "
        f"in memory {TIMES} x {options.frames}, {PEER} {options.peer_frames} (medians of "
        f"{options.repeats} interleaved runs)"
    )
    table.add_column("")
    columns = (
        "Mpixel per CPU s", "without tables, gather", "Mpixel/s a core", f"ratio to {PEER}",
        "share of the read limit", "peak (imports) [MiB]",
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right")
    table.add_column("CPU time in")
    rows = dict(results)
    peer = rows.pop(PEER, None)
    limit = results[LIMIT]["Mpixel_per_cpu_s"]
    if peer:
        rows |= {f"{PEER}: {name}": peer | part for name, part in peer["parts"].items()}
        rows[f"{PEER}: all three"] = peer
    for name, m in rows.items():
        speed, parts = m["Mpixel_per_cpu_s"], m["parts"] if name in CASES else {}
        table.add_row(
            name, f"{speed:.3g}", f"{m.get('Mpixel_per_cpu_s_of_frames', speed):.3g}",
            f"{m['Mpixel_per_s_and_core']:.3g}",
            f"{speed / peer['Mpixel_per_cpu_s']:.3g}" if peer else "",
            f"{100 * speed / limit:.3g} %", f"{m['peak_MiB']:.0f} ({m['base_MiB']:.0f})",
            ", ".join(f"{part} {100 * share:.0f} %" for part, share in parts.items()
                      if share > 0.005),
        )  # fmt: skip
    console = Console(width=190)
    console.print(table)
    console.print("In memory, the peak is without the frames. Other threads read, rest waits too.")
    for what in ("pass, in memory", "nxmpi frames, file"):
        one, two = (
            results[f"{what}, {ranks}"]["Mpixel_per_cpu_s_of_frames"]
            for ranks in ("1 rank", "2 ranks")
        )
        console.print(
            f"efficiency from 1 to 2 ranks, by CPU time: {100 * two / one:.0f} % ({what})"
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=576, help="10 MB of memory each")
    parser.add_argument("--peer-frames", type=int, default=50, help="a multiple of 50")
    parser.add_argument("--no-peer", action="store_true", help=f"leave out {PEER}")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--scan", type=Path, help="of one position, as simulated before")
    parser.add_argument("--json", type=Path, help="also write the medians here")
    options = parser.parse_args()
    if not options.no_peer:
        subprocess.run([PEERS / "install"], check=True)
    with tempfile.TemporaryDirectory(prefix="nxmpi-frames-") as folder:
        scan = options.scan
        if scan is None:
            print(f"simulating {options.frames} frames", file=sys.stderr)
            scan = Path(run_stage(2, "simulate", folder, "--frames", options.frames)["scan"])
        results = measure(scan, options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    show(results, options)


if __name__ == "__main__":
    main()
