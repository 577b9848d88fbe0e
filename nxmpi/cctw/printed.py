"""What a program prints: its last lines, how far it is, and whether it tells of trouble."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

LONGEST_LINE = 400
"""Characters of a line that are kept."""
TOLD = 5
"""Last lines of a program that an error tells."""
KEPT = 200
"""Last lines that are recorded."""
PERCENT = re.compile(r"(\d+)\s*% completed")
TROUBLE = re.compile(r"error (reading|writing)( mask)? chunk|resulted in exception", re.IGNORECASE)
"""In lines of a program that goes on as if nothing were the matter."""
UNREAD = re.compile(r"error reading(?: mask)? chunk (\d+)", re.IGNORECASE)


@dataclass(kw_only=True)
class Printed:
    """What a program printed, line by line; a carriage return ends one too."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    """The last ones, without percentages."""
    percent: int = 0
    """What it said last."""
    unneeded: frozenset[int] = frozenset()
    """Chunks that may be unreadable."""
    _rest: bytes = b""

    def add(self, data: bytes) -> str | None:
        """Take what was read, and return a line that tells of trouble, if there is one."""
        *whole, self._rest = re.split(rb"[\r\n]+", self._rest + data)
        self._rest = self._rest[-LONGEST_LINE:]
        trouble = [self._add_line(line) for line in whole]
        return next((line for line in trouble if line), None)

    def finish(self) -> str | None:
        """Take the last line, which may have no end."""
        return self.add(b"\n")

    def _add_line(self, data: bytes) -> str | None:
        text = data[:LONGEST_LINE].decode(errors="replace")
        line = "".join(c if c.isprintable() else "?" for c in text).strip()
        percents = PERCENT.findall(line)
        if percents:
            self.percent = int(percents[-1])
            line = PERCENT.sub("", line).strip()  # a message may follow on the same line
        if not line or (percents and self.lines and self.lines[-1] == line):
            return None
        self.lines.append(line)
        told = TROUBLE.findall(line)
        unread = [int(chunk) for chunk in UNREAD.findall(line)]
        harmless = len(unread) == len(told) and self.unneeded.issuperset(unread)
        return None if harmless else line

    def __str__(self) -> str:
        """Return the last lines, for messages."""
        return " | ".join([*self.lines][-TOLD:]) or "nothing"
