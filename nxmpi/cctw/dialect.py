"""Which CCTW a program is, and what is to be said to it."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nxmpi.cctw.watch import Limits, let_run
from nxmpi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ANSWER_TIME = 60.0
"""In which a program is to say what it is [s]."""
_NUMBER = r"(?<![\w.])v?(?P<version>\d+\.\d+(\.\d+)?)\b"
_NAME = r"(?<![\w/.-])(nx)?cctw(?![\w/.-])"
VERSIONS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{_NAME}\W*(version\W*)?{_NUMBER}",
        rf"^\W*(version\W*)?{_NUMBER}\W*$",
        rf"{_NAME}[^/:]*{_NUMBER}",
    )
]
"""From the surest: after the name, alone in a line, in a line with the name."""
OLD = (0, 2, 3)
"""The last version that knows one list of weights, of frames."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program that understands CCTW's command line."""

    path: str
    version: str
    """Such as ``cctw 0.2.3``."""
    knows_pixels: bool
    """It takes a factor of each pixel beside that of each frame."""
    takes_chunks: bool
    """Its output may be stored in chunks: some later versions stop at the setting."""
    takes_virtual: bool
    """It reads virtual datasets by the frame."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Names of datasets, each FILE#DATASET, for one transform."""

    frames: str
    mask: str
    weights: Sequence[str]
    """Of frames, then of pixels where the program knows them."""
    output: str
    mask3d: str | None = None


def ask(program: str, is_stopped: Callable[[], bool] = lambda: False) -> Program | None:
    """Find a program, and ask it which version it is. Not collective.

    Parameters
    ----------
    program : str
        A path, or a name to be looked for on PATH.
    is_stopped : callable, optional
        Called again and again; must not wait.

    Returns
    -------
    Program or None
        None if there is a wish to stop.

    Raises
    ------
    InputError
        If there is no such program, or it does not say its version.
    """
    path = shutil.which(program)
    if path is None:
        raise InputError(
            f"{program}: expected the program CCTW (--cctw, NXMPI_CCTW or on PATH), found none"
        )
    path = os.path.abspath(path)  # noqa: PTH100 - links are not to be followed
    answers = []
    for option in ("--version", "--help"):
        limits = Limits(time=ANSWER_TIME)
        ran = let_run([path, option], Path.cwd(), limits, is_stopped=is_stopped)
        if ran.stopped:
            return None
        found = _find_version([*ran.printed.lines])
        if found is not None:
            return _program(path, *found)
        ended = "" if ran.wrong is None else f" ({ran.wrong})"
        answers.append(f"{ran.printed}{ended}")
    raise InputError(f"{path}: expected a version, found {answers[0]} (--version)")


def _find_version(lines: list[str]) -> tuple[str, str] | None:
    """Return the name and the version that a program gives itself.

    Others that its lines may name are those of libraries that warn.
    """
    for pattern in VERSIONS:
        for line in lines:
            found = pattern.search(line)
            if found:
                name = "nxcctw" if "nxcctw" in line.lower() else "cctw"
                return name, found["version"]
    return None


def _program(path: str, name: str, version: str) -> Program:
    numbers = tuple(int(number) for number in version.split("."))
    return Program(
        path=path,
        version=f"{name} {version}",
        knows_pixels=name == "nxcctw" or numbers > OLD,
        takes_chunks=name == "nxcctw" or numbers <= OLD,
        takes_virtual=name == "nxcctw",
    )


def transform_command(
    program: Program, script: str, places: Places, n_processors: int
) -> list[str]:
    """Return the command of a transform with sums of counts and of weights apart.

    Notes
    -----
    With ``-j N`` from 2 on the program has N - 1 threads that work, and one that waits for them.
    """
    threads = n_processors + 1 if n_processors > 1 else 1
    mask3d = [] if places.mask3d is None else ["--mask3d", places.mask3d]
    weights = [word for place in places.weights for word in ("--weights", place)]
    return [
        program.path, "transform", "--script", script, "--mask", places.mask, *mask3d, *weights,
        "--output", places.output, "--normalization", "0", "--threads", str(threads),
        places.frames,
    ]  # fmt: skip
