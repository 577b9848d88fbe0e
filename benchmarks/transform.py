"""Speed, memory and traffic of the transform: runs `stage.py` under mpiexec, side by side.

Runs of different kinds are interleaved, and medians are shown: these figures are of machines
that other work shares.
"""

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

REPEATS = 3
CASES = {
    "in memory, 1 rank": (1, []),
    "in memory, 2 ranks": (2, []),
    "in memory, batches of 11": (1, ["--batch", "11"]),
    "bitshuffle-LZ4 file, 2 ranks": (2, ["--from-file"]),
    "2 ranks, 0.5 GiB a rank": (2, ["--memory", "0.5"]),
}


def run(ranks, arguments):
    environment = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("OMPI_COMM", "PMIX_", "PRTE_"))
    }  # fmt: skip
    script = Path(__file__).with_name("stage.py")
    done = subprocess.run(
        ["mpiexec", "-n", str(ranks), sys.executable, str(script), *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{' '.join(done.args)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main():
    results = {name: [] for name in CASES}
    for repeat in range(REPEATS):
        for name, (ranks, arguments) in CASES.items():
            print(f"run {repeat + 1} of {REPEATS}: {name}", file=sys.stderr)
            results[name].append(run(ranks, ["--frames", "128", *arguments]))
    table = Table(
        title="transform, 1679 x 1475 pixels, 128 frames a rank, 1001³ voxels (medians of "
        f"{REPEATS} interleaved runs)"
    )
    for column in ("", "Mpixel per CPU s", "Mpixel/s a core", "reading", "binning", "exchange",
                   "peak / formula [MiB]", "sent / formula [MiB]"):  # fmt: skip
        table.add_column(column, justify="left" if not column else "right")
    for name, rows in results.items():
        m = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        table.add_row(
            name, f"{m['Mpixel_per_cpu_s']:.0f}", f"{m['Mpixel_per_s_and_core']:.0f}",
            f"{100 * m['read']:.0f} %", f"{100 * m['bin']:.0f} %", f"{100 * m['exchange']:.0f} %",
            f"{m['peak_MiB']:.0f} / {m['peak_formula_MiB']:.0f}",
            f"{m['sent_MiB']:.0f} / {m['sent_formula_MiB']:.0f}",
        )  # fmt: skip
    one, two = (
        statistics.median(row["Mpixel_per_cpu_s"] for row in results[f"in memory, {n}"])
        for n in ("1 rank", "2 ranks")
    )
    console = Console(width=140)
    console.print(table)
    console.print(f"efficiency from 1 to 2 ranks, by CPU time: {100 * two / one:.0f} %")


if __name__ == "__main__":
    main()
