"""Runs a program as the head of its process group, and ends all of it when nobody waits any more.

Started as a file, by its path, with the processors it may use and the command: the one who waits
holds the other end of standard input, which closes when that process ends, however it does.
"""

import os
import signal
import subprocess
import sys
import threading


def main() -> int:
    """Run the command and return its status, 128 and the signal's number where one ended it."""
    processors, *command = sys.argv[1:]
    if processors:
        os.sched_setaffinity(0, {int(number) for number in processors.split(",")})
    try:
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"{command[0]}: cannot be started: {error.strerror}\n")
        return os.EX_UNAVAILABLE
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # meant for the program; its end is waited for
    threading.Thread(target=_end_with_the_other, daemon=True).start()
    status = program.wait()
    return status if status >= 0 else 128 - status


def _end_with_the_other() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
