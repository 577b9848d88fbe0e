"""Clock, CPU time and memory of a piece of work in this process."""

import time
from pathlib import Path

MIB = 2**20


def memory(name):
    """Return what /proc/self/status says of this process's memory [bytes]."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name}")


def file_pages():
    """Return the memory in use that is of files or shared [bytes]."""
    return memory("RssFile") + memory("RssShmem")


class Measured:
    """Work that begins when this is made; the peak of memory begins anew."""

    def __init__(self):
        Path("/proc/self/clear_refs").write_text("5")
        self.resident, self.file_pages = memory("VmRSS"), file_pages()
        self.started = time.process_time(), time.perf_counter()

    def times(self):
        """Return CPU time and clock until now [s]."""
        cpu, wall = self.started
        return time.process_time() - cpu, time.perf_counter() - wall


def speeds(n_pixels, cpu, wall, ranks=1):
    """Return what the tables show of pixels that took some CPU time of all ranks together."""
    return {
        "ranks": ranks, "pixels": n_pixels, "cpu_s": cpu, "time_s": wall,
        "Mpixel_per_cpu_s": n_pixels / cpu / 1e6,
        "Mpixel_per_s_and_core": n_pixels / wall / ranks / 1e6,
    }  # fmt: skip
