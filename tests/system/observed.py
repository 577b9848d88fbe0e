"""Runs of nxmpi whose ranks tell what they do, so that a test can interrupt them in the middle."""

import time
from pathlib import Path

from system.mpi import LIMIT, finish, start_mpi

TELLER = Path(__file__).with_name("tell_frames.py")


class Observed:
    """A run that is under way, and what its ranks tell."""

    def __init__(self, n, folder, pause, *args, **options):
        """Start nxmpi with arguments ``args`` on ``n`` ranks; ``folder`` is new."""
        folder.mkdir(parents=True)
        self.n, self.folder = n, folder
        self.process = start_mpi(n, TELLER, folder, pause, "--", *args, **options)

    def pids(self):
        """Return the process of each rank."""
        return [int((self.folder / f"{rank}.pid").read_text()) for rank in range(self.n)]

    def frames(self):
        """Return the frames read until now, by rank, in their order: lists of (file, number)."""
        return [self._frames_of(rank) for rank in range(self.n)]

    def _frames_of(self, rank):
        path = self.folder / f"{rank}.frames"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(line.split()[0], int(n)) for line in lines for n in line.split()[1:]]

    def n_frames(self):
        """Return how many frames have been read until now."""
        return sum(len(some) for some in self.frames())

    def wait(self, n_frames=1):
        """Wait until each rank heeds signals and ``n_frames`` have been read, or the run ended."""
        deadline = time.monotonic() + LIMIT
        while self.process.poll() is None and time.monotonic() < deadline:
            if len([*self.folder.glob("*.pid")]) == self.n and self.n_frames() >= n_frames:
                return
            time.sleep(0.005)
        result = self.finish(0.1)
        raise AssertionError(f"the run did not come to frame {n_frames}: {result.stderr}")

    def finish(self, limit=LIMIT):
        """Wait for the end of the run; see `system.mpi.finish`."""
        return finish(self.process, limit)

    def statuses(self):
        """Return what each rank ended with, None where it was killed."""
        paths = [self.folder / f"{rank}.status" for rank in range(self.n)]
        return [int(path.read_text()) if path.exists() else None for path in paths]
