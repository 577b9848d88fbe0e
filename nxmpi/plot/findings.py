"""What the pass over the frames of a position found, as far as it was made."""

from dataclasses import dataclass

import h5py

from nxmpi.nexus import schema
from nxmpi.nexus.values import find
from nxmpi.plot.curves import Radial, Transmission, read_radial, read_transmission
from nxmpi.plot.frames import Picture, masked_frame
from nxmpi.plot.marks import Marks, read_marks
from nxmpi.plot.masks import MaskedParts, masked_parts, used_frames

LOST = "raw frames\ncannot be reached"


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What the frames of a position say; text stands where something is not there yet."""

    name: str
    """Of the position."""
    marks: Marks | str
    """Peaks, for the summed frame."""
    transmission: list[Transmission] | str
    """Of all positions that have one."""
    masked_parts: MaskedParts | str
    masked: Picture | str
    """The frame of which most is masked."""
    radial: Radial | str


def read_findings(
    entry: h5py.Group, names: list[str], raw: h5py.Dataset | None, todo: str
) -> Findings:  # fmt: skip
    """Return what the frames of a position say. Not collective.

    Parameters
    ----------
    names : list of str
        All positions, for their transmission.
    raw : (n_frames, n_slow, n_fast) int, or None
        None where it cannot be reached.
    todo : str
        What leads to what is missing.
    """
    curves = [found for n in names if (found := read_transmission(entry.parent[n])) is not None]
    name = entry.name.strip("/")
    known = any(curve.name == name for curve in curves)
    parts, frame = _read_mask(entry, raw, todo)
    return Findings(
        name=name, marks=read_marks(entry) or todo, transmission=curves if known else todo,
        masked_parts=parts, masked=frame, radial=read_radial(entry) or todo,
    )  # fmt: skip


def _read_mask(
    entry: h5py.Group, raw: h5py.Dataset | None, todo: str
) -> tuple[MaskedParts | str, Picture | str]:
    mask = find(entry, schema.DATA_MASK)
    if not isinstance(mask, h5py.Dataset) or mask.ndim != 3 or mask.shape[0] == 0:
        return todo, todo
    if raw is not None and mask.shape != raw.shape:
        text = "mask and raw frames\ndiffer in shape"
        return text, text
    parts = masked_parts(mask, used_frames(entry, mask.shape[0]))
    if raw is None:
        return parts, LOST
    number, percent = parts.most
    what = f"{percent:.2g} % masked" if percent else "nothing masked"
    title = f"Frame {number} of {mask.shape[0]}, {what}"
    return parts, masked_frame(entry, raw, mask, number, title)
