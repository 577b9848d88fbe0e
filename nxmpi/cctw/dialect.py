"""Which CCTW a program is, and what is to be said to it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nxmpi.cctw.watch import environment
from nxmpi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

ANSWER_TIME = 60.0
"""In which a program is to say what it is [s]."""
VERSION = re.compile(r"\b(\d+)\.(\d+)(?:\.(\d+))?\b")
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


@dataclass(frozen=True, kw_only=True)
class Places:
    """Names of datasets, each FILE#DATASET, for one transform."""

    frames: str
    mask: str
    weights: Sequence[str]
    """Of frames, then of pixels where the program knows them."""
    output: str
    mask3d: str | None = None


def ask(program: str) -> Program:
    """Find a program, and ask it which version it is. Not collective.

    Parameters
    ----------
    program : str
        A path, or a name to be looked for on PATH.

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
    texts = []
    for option in ("--version", "--help"):
        text = _answer(path, option)
        version = VERSION.search(text)
        if version:
            name = "nxcctw" if "nxcctw" in text.lower() else "cctw"
            numbers = tuple(int(number or 0) for number in version.groups())
            return Program(
                path=path,
                version=f"{name} {version[0]}",
                knows_pixels=name == "nxcctw" or numbers > OLD,
                takes_chunks=name == "nxcctw" or numbers <= OLD,
            )
        texts.append(" ".join(text.split())[:200] or "nothing")
    raise InputError(f"{path}: expected a version, found {texts[0]} (--version)")


def _answer(path: str, option: str) -> str:
    """Return what a program prints, which cannot fill a pipe or keep anybody waiting."""
    with tempfile.TemporaryFile() as printed:
        try:
            subprocess.run(
                [path, option], stdin=subprocess.DEVNULL, stdout=printed,
                stderr=subprocess.STDOUT, timeout=ANSWER_TIME, check=False,
                env=environment(os.environ),
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"{path} {option}: expected an answer, found: {error}") from error
        printed.seek(0)
        return printed.read(2**16).decode(errors="replace")


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
