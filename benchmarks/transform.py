"""The transform beside CCTW, a plain loop and its limits, on the same frames in one run.

Runs of different kinds are interleaved, and medians are shown: these figures are of machines
that other work shares.
"""

import argparse
import json
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from launch import HERE, median, run, run_ranks
from rich.console import Console
from rich.table import Table

EFFICIENCY = 90
"""Bar of the CPU time's efficiency from 1 to 2 ranks [%]."""
LONG = 3600
"""Seconds that a run of many frames may take."""


class Case(NamedTuple):
    """A kind of run."""

    what: str
    """`stage`, a kind of `limits.py`, or `cctw`."""
    grid: int
    """Voxels along each axis."""
    frames: int
    ranks: int = 1
    arguments: tuple = ()
    at_once: int = 1
    """Programs that run at the same time and have nothing to do with each other."""


class Sizes(NamedTuple):
    """How much is measured."""

    grids: tuple
    """Voxels along each axis; all kinds of run for the first."""
    frames: int
    few_frames: int
    """Of the plain loop and CCTW, which are slow."""
    cost_frames: tuple
    cost_parts: tuple
    cost_grids: tuple
    compressions: tuple
    """Of volumes; other grids have the first."""
    repeats: int
    bars: bool
    """These sizes are those that the bars are of."""


FULL = Sizes(
    grids=(1001, 501), frames=256, few_frames=32,
    cost_frames=(32, 64, 128), cost_parts=(0.25, 0.5), cost_grids=(251,),
    compressions=("bitshuffle-lz4", "gzip", "none"), repeats=3, bars=True,
)  # fmt: skip
QUICK = Sizes(
    grids=(201,), frames=16, few_frames=8,
    cost_frames=(8,), cost_parts=(), cost_grids=(101,),
    compressions=("bitshuffle-lz4",), repeats=1, bars=False,
)  # fmt: skip
ONE, TWO = "in memory, 1 rank", "in memory, 2 ranks"
APART = "in memory, twice 1 rank at once"
BATCHES, BOTH = "in memory, batches of 11", "in memory, 3-D mask, both"
FROM_FILE, TO_FILE = "from file, 1 rank", "file to file, 2 ranks"
PLAIN, CCTW = "plain loop", "cctw"
FILE = ("--from-file",)
BARS = {ONE: 150, TWO: 150, BATCHES: 130, BOTH: 130, FROM_FILE: 100, TO_FILE: 100}
"""Mpixel/s a core to reach, by the beginning of a case's name; 1001³ voxels."""
MEMORY_RUNS = {
    "3650 frames": (3650, (), 18.0),
    "3650 frames, --memory 6G": (3650, ("--memory", "6G"), None),
    "3650 frames, --memory 4G": (3650, ("--memory", "4G"), None),
    "200 frames": (200, (), 6.0),
}
"""Frames, arguments, and the bar of the memory of all ranks [GB]."""


def main_cases(sizes, cctw_threads):
    """Return cases by grid and name, in the order of the table."""
    cases = {}
    for grid in sizes.grids:
        cases |= {(grid, name): c for name, c in cases_of(grid, sizes, cctw_threads).items()}
    grid, n = sizes.grids[0], sizes.frames
    cases["", "frames copied in memory"] = Case("copy", grid, n)
    cases["", "file read, decompressed"] = Case("read", grid, n)
    return cases


def cases_of(grid, sizes, cctw_threads):
    """Return the cases of a grid by name."""
    n, few, first = sizes.frames, sizes.few_frames, grid == sizes.grids[0]
    cases = {
        ONE: Case("stage", grid, n),
        TWO: Case("stage", grid, n, 2),
        APART: Case("stage", grid, n // 2, at_once=2),
    }
    if first:
        cases |= {
            BATCHES: Case("stage", grid, n, 1, ("--batch", 11)),
            BOTH: Case("stage", grid, n, 1, ("--masked",)),
            f"{TWO}, 1 GiB": Case("stage", grid, n, 2, ("--memory", "1G")),
            FROM_FILE: Case("stage", grid, n, 1, FILE),
        }
    for compression in sizes.compressions[: None if first else 1]:
        arguments = (*FILE, "--write", compression)
        cases[f"{TO_FILE}, {compression}"] = Case("stage", grid, n, 2, arguments)
    if cctw_threads:
        arguments = ("--threads", cctw_threads)
        cases[f"{CCTW} -j {cctw_threads}"] = Case(CCTW, grid, few, 1, arguments)
    cases[f"{PLAIN} into one array"] = Case("plain", grid, few)
    cases["index without scatter"] = Case("index", grid, n)
    return cases


def cost_cases(sizes):
    """Return cases on one rank by what is varied; some are among those of the main table."""
    grid, n = sizes.grids[0], sizes.frames
    return {
        **{("frames", k): Case("stage", grid, k) for k in sizes.cost_frames},
        ("frames", n): Case("stage", grid, n),
        **{
            ("pixels", part): Case("stage", grid, n, 1, ("--part", part))
            for part in sizes.cost_parts
        },
        ("pixels", 1.0): Case("stage", grid, n),
        **{("voxels", m): Case("stage", m, n) for m in (*sizes.cost_grids, *sizes.grids[::-1])},
    }


def run_case(case, folder, timeout=900, free=False):
    """Return what a run printed; of several at once, their medians."""
    if case.at_once > 1:
        with ThreadPoolExecutor(case.at_once) as pool:
            alone = [case._replace(at_once=1)] * case.at_once
            return median(list(pool.map(lambda each: run_case(each, folder, timeout, True), alone)))
    arguments = (folder, "--frames", case.frames, "--grid", case.grid, *case.arguments)
    if case.what == "stage":
        return run_ranks(case.ranks, "stage.py", *arguments, timeout=timeout, free=free)
    if case.what == CCTW:
        return run([sys.executable, "-m", "peers.cctw", *arguments], timeout)
    return run([sys.executable, HERE / "limits.py", case.what, *arguments], timeout)


def measure(cases, folder, repeats):
    """Return medians by case, whose runs are interleaved."""
    rows = {case: [] for case in cases}
    done, total = 0, repeats * len(rows)
    for _ in range(repeats):
        for case, own in rows.items():
            done += 1
            words = " ".join(str(word) for word in (case.what, *case.arguments))
            print(
                f"run {done} of {total}: {words}, {case.ranks} ranks, {case.frames} frames, "
                f"{case.grid}³ voxels", file=sys.stderr,
            )  # fmt: skip
            own.append(run_case(case, folder))
    return {case: median(own) for case, own in rows.items()}


def bar_of(name, m):
    """Return the bar of a case and whether both clock and CPU time reach it, or the latter."""
    bar = next((bar for start, bar in BARS.items() if name.startswith(start)), None)
    if bar is None:
        return ""
    by_cpu, by_clock = m["Mpixel_per_cpu_s"] >= bar, m["Mpixel_per_s_and_core"] >= bar
    if by_cpu and by_clock:
        return f"{bar} reached"
    return f"{bar} by CPU time" if by_cpu else f"{bar} missed"


def show_main(console, cases, results, sizes):
    table = Table(
        title=f"transform, 1679 x 1475 pixels int32, {sizes.frames} frames, {PLAIN} and {CCTW} "
        f"{sizes.few_frames} of them (medians of {sizes.repeats} interleaved runs)"
    )
    columns = (
        "time\n[s]", "CPU\n[s]", "Mpixel per\nCPU s", "Mpixel/s\na core", "bar",
        "read, bin,\nexchange [%]", "write [s]", "peak of all\nranks [MiB]",
        "of a rank /\nformula [MiB]", "frames\nin [MiB]", "sent / formula\n[MiB]",
        "written\n[MiB]",
    )  # fmt: skip
    table.add_column("voxels", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for (grid, name), case in cases.items():
        m = results[case]
        bar = bar_of(name, m) if sizes.bars and grid == sizes.grids[0] else ""
        table.add_row(
            f"{grid}³" if grid else "", name, *figures(m), bar,
            ", ".join(f"{100 * share:.0f}" for share in m.get("parts", {}).values()),
            written(m), f"{m['peak_MiB']:.0f}", pair(m, "beyond_MiB", "formula_MiB"),
            f"{m['read_MiB']:.0f}", pair(m, "sent_MiB", "sent_formula_MiB"),
            f"{m['written_MiB']:.0f}" if m.get("written_MiB") else "",
        )  # fmt: skip
        if "again" in m:
            table.add_row(f"{grid}³", f"{PLAIN} again, memory touched before", *figures(m["again"]))
    console.print(table)
    console.print(
        f"Time, CPU time and speed of the transform are without the write, whose share is of "
        f"both; {CCTW}'s are of all it does. Peaks are without frames held in memory; that of a "
        "rank is what comes on top of imports and tables."
    )


def figures(m):
    speeds = (f"{m[key]:.3g}" for key in ("Mpixel_per_cpu_s", "Mpixel_per_s_and_core"))
    return f"{m['time_s']:.2f}", f"{m['cpu_s']:.2f}", *speeds


def written(m):
    if not m.get("write_s"):
        return ""
    return f"{m['write_s']:.2f} ({100 * m['write_s'] / (m['write_s'] + m['time_s']):.0f} %)"


def pair(m, found, formula):
    """Return a figure beside what a formula gives for it, where there is one."""
    if found not in m:
        return ""
    return f"{m[found]:.0f} / {m[formula]:.0f}" if formula in m else f"{m[found]:.0f}"


def show_cost(console, costs, results):
    table = Table(title="cost, in memory, 1 rank")
    for column in (
        "varied", "", "Mpixel", "time [s]", "CPU [s]", "CPU [ns a pixel]",
        "peak of a rank / formula [MiB]",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "varied" else "right")
    for (what, value), case in costs.items():
        m = results[case]
        table.add_row(
            what, f"{value}³" if what == "voxels" else f"{value:g}", f"{m['pixels'] / 1e6:.0f}",
            f"{m['time_s']:.2f}", f"{m['cpu_s']:.2f}", f"{1e3 / m['Mpixel_per_cpu_s']:.2f}",
            pair(m, "beyond_MiB", "formula_MiB"),
        )  # fmt: skip
    console.print(table)


def show_efficiency(console, cases, results, sizes):
    for grid in sizes.grids:
        one, two, apart = (results[cases[grid, name]] for name in (ONE, TWO, APART))
        for name, base in (("1 rank alone", one), ("a rank beside another program's", apart)):
            cpu, clock = (
                100 * two[key] / base[key] for key in ("Mpixel_per_cpu_s", "Mpixel_per_s_and_core")
            )
            bar = ""
            if sizes.bars and grid == sizes.grids[0]:
                bar = f" (bar {EFFICIENCY} %: {'reached' if cpu >= EFFICIENCY else 'missed'})"
            console.print(
                f"efficiency of 2 ranks, {grid}³ voxels, to {name}: by CPU time {cpu:.0f} %{bar}, "
                f"by the clock {clock:.0f} %"
            )


def show_bits(console, results, sizes):
    """Say whether sums are the same in all settings, and those of the plain loop and of CCTW."""
    for grid in sizes.grids:
        here = {case: m for case, m in results.items() if case.grid == grid}
        stages = [
            m["key"] for case, m in here.items()
            if case.what == "stage" and case.frames == sizes.frames
            and "--part" not in case.arguments
        ]  # fmt: skip
        same = "the same" if len(set(stages)) == 1 else "NOT the same"
        console.print(f"{grid}³ voxels: {len(stages)} settings of the transform, sums {same}")
        few = {case.what: m for case, m in here.items() if case.frames == sizes.few_frames}
        if "stage" in few:
            same = "the same" if few["stage"]["key"] == few["plain"]["key"] else "NOT the same"
            console.print(f"{grid}³ voxels: plain loop and transform, sums {same}")
        if CCTW in few:
            console.print(
                f"{grid}³ voxels: counts {few[CCTW]['counts']:.0f} of {CCTW}, "
                f"{few['plain']['counts']:.0f} of the plain loop"
            )


def show_memory_runs(console, folder):
    """Run what takes much memory, and show it."""
    cases = {
        name: Case("stage", 1001, frames, 2, (*FILE, "--write", "bitshuffle-lz4", *arguments))
        for name, (frames, arguments, _) in MEMORY_RUNS.items()
    }
    table = Table(title="memory, from file to file, 1001³ voxels, 2 ranks")
    columns = (
        "time [s]", "write [s]", "Mpixel/s a core", "peak, all ranks [GB]", "bar [GB]",
        "of it files' pages [GB]", "of a rank / formula [MiB]", "scratch file", "sums",
    )  # fmt: skip
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name, case in cases.items():
        print(f"memory: {name}", file=sys.stderr)
        m, bar = run_case(case, folder, LONG), MEMORY_RUNS[name][-1]
        gb = 2**20 / 1e9
        peak = m["peak_MiB"] * gb
        table.add_row(
            name, f"{m['time_s']:.0f}", written(m), f"{m['Mpixel_per_s_and_core']:.3g}",
            f"{peak:.1f}", f"{bar:g} {'reached' if peak <= bar else 'missed'}" if bar else "",
            f"{m['file_pages_MiB'] * gb:.1f}", pair(m, "beyond_MiB", "formula_MiB"),
            "yes" if m["scratch"] else "no", m["key"],
        )  # fmt: skip
    console.print(table)


def read_options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a smoke test of a minute")
    parser.add_argument(
        "--memory-runs", action="store_true",
        help="instead of all else, what takes 18 GB of memory and 40 of disk, for minutes",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, help=f"{FULL.repeats} by default")
    parser.add_argument("--cctw-threads", type=int, default=1, help="-j of cctw")
    parser.add_argument("--folder", type=Path, help="on a disk, for frames, volumes and scratch")
    parser.add_argument("--json", type=Path, help="also write the medians here")
    return parser.parse_args()


def main():
    options = read_options()
    sizes = QUICK if options.quick else FULL
    if options.repeats:
        sizes = sizes._replace(repeats=options.repeats)
    threads = options.cctw_threads if shutil.which(CCTW) else 0
    console = Console(width=220)
    with tempfile.TemporaryDirectory(prefix="nxmpi-transform-", dir=options.folder) as folder:
        print("writing frames", file=sys.stderr)
        run([sys.executable, HERE / "case.py", folder])
        if options.memory_runs:
            show_memory_runs(console, folder)
            return
        cases, costs = main_cases(sizes, threads), cost_cases(sizes)
        wanted = dict.fromkeys([*cases.values(), *costs.values()])
        results = measure(wanted, folder, sizes.repeats)
    if options.json:
        options.json.write_text(
            json.dumps([{**case._asdict(), **m} for case, m in results.items()], indent=1)
        )
    show_main(console, cases, results, sizes)
    if not threads:
        console.print(f"{CCTW}: not on the PATH, left out")
    show_efficiency(console, cases, results, sizes)
    show_cost(console, costs, results)
    show_bits(console, results, sizes)


if __name__ == "__main__":
    main()
