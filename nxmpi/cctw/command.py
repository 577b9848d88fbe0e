"""A command line of CCTW: its parameters, and its names of datasets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from nxmpi.cctw.script import CIRCLES, parse_script, read_script
from nxmpi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Place(NamedTuple):
    """A dataset or group of a file."""

    file: Path
    path: str
    """Absolute."""

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.file}#{self.path}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CctwParams:
    """What a command line of CCTW asks for; its names are FILE#DATASET."""

    inputs: tuple[str, ...]
    output: str
    settings: tuple[Path | str, ...] = ()
    """Files and texts of settings, the first read first."""
    mask: str | None = None
    """Of pixels, those that are not 0 left out of all frames."""
    mask3d: str | None = None
    """Of pixels of every frame."""
    weights: tuple[str, ...] = ()
    """At most one of frames, and one of pixels."""
    angles: str | None = None
    """Of frames, those that are NaN left out."""
    normalization: int = 1
    """0 for sums of counts and of weights; anything else for their ratio."""
    compression: int | None = None
    """Level of gzip, below 0 for LZF; None as the settings say, or as is usual for a merge."""
    subset: tuple[int, int] = (0, 1)
    """Which part of the frames, and of how many."""
    skip_bad_frames: bool = False
    """Leave out frames that cannot be read, instead of stopping."""

    def __post_init__(self) -> None:
        part, parts = self.subset
        if not 0 <= part < parts:
            raise InputError(
                f"subset: expected a part from 0 to {parts - 1} of {parts}, found {part}"
            )
        if self.compression is not None and self.compression > 9:
            raise InputError(f"compression: expected at most 9, found {self.compression}")
        masks = {"--mask": self.mask, "--mask3d": self.mask3d, "--angles": self.angles}
        own = [("--output", self.output), *(("input", text) for text in self.inputs)]
        others = [*masks.items(), *(("--weights", text) for text in self.weights)]
        for what, text in own:
            parse_place(text, what)
        for what, name in others:
            if name is not None:
                parse_place(name, what, Path())


def parse_place(text: str, what: str, file: Path | None = None) -> Place:
    """Return the place that FILE#DATASET names. Not collective.

    Parameters
    ----------
    what : str
        For messages, such as ``--mask``.
    file : Path, optional
        What an empty FILE stands for.

    Raises
    ------
    InputError
        If either part is missing.

    Notes
    -----
    As in CCTW the first # divides, and %xx stands for a byte of the name; a ? is part of it here.
    """
    name, _, path = text.partition("#")
    path = "/" + unquote(path).strip("/")
    if path == "/":
        raise InputError(f"{what}: expected FILE#DATASET, found '{text}' without a dataset")
    if not name and file is None:
        raise InputError(f"{what}: expected FILE#DATASET, found '{text}' without a file")
    return Place(file=Path(unquote(name)) if name or file is None else file, path=path)


def parse_subset(text: str) -> tuple[int, int]:
    """Return part and number of parts of a text such as ``0/4``. Raises `InputError`."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None:
        raise InputError(f"subset: expected a part and how many there are, as 0/4, found '{text}'")
    return int(match[1]), int(match[2])


def settings_of_dimensions(text: str) -> str:
    """Return the setting that ``AxBxC``, or ``A`` alone, stands for. Raises `InputError`."""
    sizes = re.split("[xX,]", text.strip())
    if len(sizes) not in (1, 3) or not all(size.isdecimal() for size in sizes):
        raise InputError(f"outputdims: expected such as 501x501x501, found '{text}'")
    return f"outputData.dimensions = [{', '.join(sizes * (3 // len(sizes)))}];"


def settings_of_circle(circle: str, text: str) -> str:
    """Return the settings that ``start`` or ``start,step`` of a circle stand for [radians].

    ``start`` alone leaves the step as it is.

    Raises
    ------
    InputError
        If it is anything else, as the name of a dataset is.
    """
    assert circle in CIRCLES
    try:
        numbers = [float(word) for word in text.split(",", 1)]
    except ValueError:
        raise InputError(
            f"{circle.lower()}: expected a number or 'start,step' in radians, found '{text}'"
        ) from None
    names = ("Nom", "Step")[: len(numbers)]
    return " ".join(
        f"parameters.{circle}{name} = {number!r};"
        for name, number in zip(names, numbers, strict=True)
    )


def read_settings(params: CctwParams) -> Mapping[str, Any]:
    """Return the settings of all files and texts together. Not collective.

    Raises
    ------
    InputError
        If a file cannot be read, or anything is there but settings that are known.
    """
    values: dict[str, Any] = {}
    for given in params.settings:
        if isinstance(given, str):
            values |= parse_script(given, f"'{given[:40]}'")
        else:
            values |= read_script(given)
    return values
