"""Scripts of settings: assignments of constants, without the language they are written in."""

from __future__ import annotations

import ast
import json
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from nxmpi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PIECES = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<end>;)|(?P<line>\n)|(?P<open>[\[({])|(?P<close>[\])}])|(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
ASSIGNMENT = re.compile(r"([A-Za-z_$][\w$.]*)\s*=(?!=)\s*(.*)", re.DOTALL)
Setting = float | int | bool | list[float] | list[int] | list[list[float]]
"""That is written."""
WORDS = {"true": "True", "false": "False"}


class Kind(NamedTuple):
    """What a setting is: numbers of a type, in an array of a shape."""

    type: type[float | int | bool]
    shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        """For messages: ``3 x 3 numbers``."""
        if self.type is bool:
            return "true or false"
        one = "a number" if self.type is float else "a whole number"
        many = f"{' x '.join(map(str, self.shape))} {one.removeprefix('a ')}s"
        return many if self.shape else one


NUMBER, WHOLE, SWITCH = Kind(float), Kind(int), Kind(bool)
VECTOR, MATRIX, SIZES = Kind(float, (3,)), Kind(float, (3, 3)), Kind(int, (3,))
CIRCLES = ("twoTheta", "omega", "chi", "phi")
SETTINGS = {
    **dict.fromkeys(
        (
            "parameters.pixelSize", "parameters.wavelength", "parameters.distance",
            "parameters.det0x", "parameters.det0y", "parameters.orientErrorDetPitch",
            "parameters.orientErrorDetRoll", "parameters.orientErrorDetYaw",
            "parameters.orientErrorGonPitch",
            *(f"parameters.{c}{end}" for c in CIRCLES for end in ("Correction", "Nom", "Step")),
        ),
        NUMBER,
    ),
    **dict.fromkeys(
        (
            "parameters.oVec", "parameters.xTrans", "parameters.gridOrigin", "parameters.gridDim",
            "parameters.gridOffset",
        ),
        VECTOR,
    ),
    **dict.fromkeys(("parameters.ubMat", "parameters.oMat", "parameters.gridBasis"), MATRIX),
    "parameters.unitCell": Kind(float, (6,)),
    "parameters.extraFlip": SWITCH,
    "parameters.useGonPitchError": SWITCH,
    "inputData.chunkSize": SIZES,
    "outputData.dimensions": SIZES,
    "outputData.chunkSize": SIZES,
    "outputData.hdfChunkSize": SIZES,
    "outputData.compression": WHOLE,
    "transformer.transformOptions": WHOLE,
    "transformer.oversampleX": WHOLE,
    "transformer.oversampleY": WHOLE,
    "transformer.oversampleZ": WHOLE,
}  # fmt: skip
"""All settings that are known, some of which change nothing: unitCell and two chunk sizes."""


def read_script(path: Path) -> dict[str, Any]:
    """Return the settings that a file makes. Not collective.

    Raises
    ------
    InputError
        If the file cannot be read; see `parse_script`.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected CCTW settings: {error}") from error
    return parse_script(text, str(path))


def parse_script(text: str, where: str) -> dict[str, Any]:
    """Return the settings that a text makes, by name; of several of one name the last.

    Parameters
    ----------
    where : str
        For messages.

    Returns
    -------
    dict
        Numbers, bool, or lists of numbers, and lists of lists, of the shapes in `SETTINGS`.

    Raises
    ------
    InputError
        If anything is there but assignments of constants, a setting is not known, or its value
        is not of its kind.
    """
    values = {}
    for number, statement in _statements(text):
        at = f"{where}, line {number}"
        match = ASSIGNMENT.fullmatch(statement)
        if match is None:
            raise InputError(
                f"{at}: expected an assignment such as 'name = value;', found '{statement[:60]}'"
            )
        name, value = match.groups()
        if name not in SETTINGS:
            raise InputError(f"{at}: expected a setting that is known, found {name}")
        values[name] = _constant(value, SETTINGS[name], f"{at}: {name}")
    return values


def script_of(settings: Mapping[str, Setting]) -> str:
    """Return a script that makes settings, a line each.

    Numbers are written so that they are read back to the last bit.
    """
    return "".join(f"{name} = {json.dumps(value)};\n" for name, value in settings.items())


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield statements and the lines they begin in; one ends at ; or with its line."""
    line, first, depth, words = 1, 1, 0, ""
    for piece in PIECES.finditer(f"{text};"):
        kind, found = piece.lastgroup, piece[0]
        line += found.count("\n")
        depth += (kind == "open") - (kind == "close")
        if kind == "comment":
            found = " "
        goes_on = depth > 0 or words.rstrip().endswith("=")
        if kind == "end" or (kind == "line" and not goes_on):
            if words.strip():
                yield first, words.strip()
            words, depth = "", 0
        else:
            first = first if words.strip() else line
            words += found


def _constant(text: str, kind: Kind, where: str) -> Any:
    wrong = InputError(f"{where}: expected {kind}, found '{text[:60].strip()}'")
    python = re.sub(r"\b(true|false)\b", lambda word: WORDS[word[0]], text)
    try:
        value = ast.literal_eval(python.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise wrong from None
    if kind.type is bool:
        if not (isinstance(value, int) and value in (0, 1)):
            raise wrong
        return bool(value)
    if not _is(value, kind):
        raise wrong
    return value


def _is(value: object, kind: Kind) -> bool:
    if kind.shape:
        inner = Kind(kind.type, kind.shape[1:])
        return (
            isinstance(value, list)
            and len(value) == kind.shape[0]
            and all(_is(each, inner) for each in value)
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and (kind.type is float or value == int(value))
