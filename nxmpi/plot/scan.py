"""A scan file to a picture of it."""

import re
from pathlib import Path

import h5py

from nxmpi.errors import InputError, SchemaError
from nxmpi.model import Sample
from nxmpi.nexus import schema
from nxmpi.nexus.geometry import read_sample
from nxmpi.nexus.values import entry_names, find, open_file
from nxmpi.plot.agreement import Maps, read_maps
from nxmpi.plot.figure import Contents, draw
from nxmpi.plot.findings import LOST, read_findings
from nxmpi.plot.frames import middle_frame, raw_frames, summed_frame
from nxmpi.plot.png import save
from nxmpi.plot.real_space import read_real_space, read_symmetrized
from nxmpi.plot.reflections import read_reflections
from nxmpi.plot.slices import (
    Plane,
    Volume,
    combined_volume,
    position_volume,
    read_norm_plane,
    read_plane,
)


def plot_scan(
    path: Path,
    output: Path,
    *,
    entry: str | None = None,
    masked: bool = False,
    vmax: float | None = None,
) -> None:
    """Write one PNG of a scan: planes and coverage of its volume, frames, and what they say.

    Not collective. Steps that were not done yet are named in their place.

    Parameters
    ----------
    path : Path
        Scan file, read only.
    output : Path
        Appears when complete, or not at all.
    entry : str, optional
        Show this position and its own volume; by default the volume of all positions where
        they are combined, and the frames of the first.
    masked : bool
        Show the volume without what the 3-D mask excludes.
    vmax : float, optional
        Intensity of the brightest colour.

    Raises
    ------
    InputError
        If the scan cannot be read or the picture not be written.
    """
    if output.suffix.lower() != ".png":
        raise InputError(f"{output}: expected a name that ends in .png")
    if vmax is not None and not vmax > 0:
        raise InputError(f"vmax: expected an intensity above 0, found {vmax}")
    contents = read_contents(path, entry, masked=masked)
    save(draw(contents, vmax), output)


def read_contents(path: Path, entry: str | None = None, *, masked: bool = False) -> Contents:
    """Return what there is to show of a scan; see `plot_scan`. Not collective."""
    with open_file(path) as file:
        try:
            return _read(file, path, entry, schema.MASKED if masked else schema.REGULAR)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error})") from error


def _read(file: h5py.File, path: Path, wanted: str | None, twin: schema.Twin) -> Contents:
    names = entry_names(file)
    if wanted is not None and wanted not in names:
        raise InputError(f"{path}:/{wanted}: expected one of {', '.join(names)}")
    entry = file[wanted or names[0]]
    raw, volume = raw_frames(entry), _find_volume(file, names, wanted, twin)
    sample = _find_sample(entry, volume)
    todo = _commands(entry, path, twin)
    name = entry.name.strip("/")
    shown = [] if volume is None else [volume.source]
    shown += ["masked"] if twin is schema.MASKED else []
    planes = [todo if volume is None else read_plane(volume, normal) for normal in "lkh"]
    coverage: Plane | str = todo if volume is None else "the norm was not kept"
    if volume is not None and volume.norms:
        coverage = read_norm_plane(volume, "l")
    return Contents(
        title=_title(sample, schema.ScanFiles(path)),
        subtitle="  ·  ".join([*shown, f"frames of {name}"]),
        lattice=None if sample is None else sample.lattice,
        planes=planes,
        coverage=coverage,
        agreement=_agreement(file, path, names, twin),
        frame=LOST if raw is None else middle_frame(entry, raw, masked=twin is schema.MASKED),
        summed=summed_frame(entry, raw) or LOST,
        findings=read_findings(entry, names, raw, f"not there yet\nnxmpi frames {path.name}"),
        reflections=read_reflections(entry, raw) or _orienting(entry, path),
        symmetrized=read_symmetrized(file, twin, _waiting(file, path, twin)),
        real_space=read_real_space(file, twin) or _waiting(file, path, twin),
    )


def _waiting(file: h5py.File, path: Path, twin: schema.Twin) -> str:
    """Return the commands that lead from the combined volume to real space, one a line."""
    is_averaged = find(file, f"{schema.SHARED}/{twin.symmetrized}") is not None
    steps = ["pdf"] if is_averaged else ["symmetrize", "pdf"]
    return "\n".join(["not there yet", *(f"nxmpi {step} {path.name}" for step in steps)])


def _orienting(entry: h5py.Group, path: Path) -> str:
    """Return the commands that lead to an orientation, one a line."""
    steps = ["orient"] if find(entry, schema.PEAKS) is not None else ["frames", "orient"]
    return "\n".join(["not there yet", *(f"nxmpi {step} {path.name}" for step in steps)])


def _agreement(file: h5py.File, path: Path, names: list[str], twin: schema.Twin) -> Maps | str:
    if len(names) == 1:
        return "one position: nothing to compare"
    return read_maps(file, names, twin) or f"not there yet\nnxmpi combine {path.name}"


def _find_volume(
    file: h5py.File, names: list[str], wanted: str | None, twin: schema.Twin
) -> Volume | None:
    volume = None if wanted else combined_volume(file, names, twin)
    volumes = (position_volume(file, name, twin) for name in ([wanted] if wanted else names))
    return volume or next((found for found in volumes if found is not None), None)


def _find_sample(entry: h5py.Group, volume: Volume | None) -> Sample | None:
    groups = (entry, find(entry.file, schema.SHARED))
    known = any(isinstance(g, h5py.Group) and find(g, schema.SAMPLE) is not None for g in groups)
    try:
        return read_sample(entry) if known or volume is not None else None
    except SchemaError:
        if volume is not None:
            raise
        return None  # the cell may still be to be found, and only planes need it


def _commands(entry: h5py.Group, path: Path, twin: schema.Twin) -> str:
    """Return the commands that lead to a volume, one a line."""
    matrix = f"{schema.DETECTOR}/{schema.ORIENTATION_MATRIX}"
    steps = []
    if find(entry, matrix) is None:
        steps = ["frames", "orient"]
    elif twin is schema.MASKED and find(entry, schema.DATA_MASK) is None:
        steps = ["frames"]
    lines = [f"nxmpi {step} {path.name}" for step in [*steps, "transform"]]
    return "\n".join(["not there yet", *lines])


def _title(sample: Sample | None, files: schema.ScanFiles) -> str:
    if sample is None:
        return f"{files.sample}  ·  scan {files.scan}"
    formula = sample.chemical_formula.replace(" ", "")
    formula = re.sub(r"(?<=[A-Za-z)])([\d.]+)", r"$_{\1}$", formula)
    temperature = re.sub(r"(?<=\d)(?=[A-Za-z°])", " ", sample.temperature)
    name = (sample.name or files.sample).replace("$", r"\$")
    parts = [name, formula, temperature, f"scan {files.scan}"]
    return "  ·  ".join(part for part in parts if part)
