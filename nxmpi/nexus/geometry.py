"""Sample, detector, goniometer and orientation of a position."""

import logging

import h5py
import numpy as np

from nxmpi._typing import F8
from nxmpi.crystal.detector import as_matrix, parse_orientation
from nxmpi.crystal.lattice import direct_matrix, reciprocal_matrix
from nxmpi.crystal.reciprocal import UB_from_file, offset_from_file
from nxmpi.errors import InputError, SchemaError
from nxmpi.model import Detector, Geometry, Goniometer, Lattice, Matrix, Sample
from nxmpi.nexus import schema
from nxmpi.nexus.values import (
    find,
    find_whole,
    location,
    read_array,
    read_attribute,
    read_number,
    read_text,
    require_number,
)

log = logging.getLogger(__name__)
SPACING_TOLERANCE = 1e-3
"""Of the rotation during a frame, against the steps of phi [1]."""


def read_sample(entry: h5py.Group) -> Sample:
    """Return the sample of an entry, or the one shared by all where it has none. Not collective.

    Raises
    ------
    SchemaError
        If there is no unit cell.
    """
    group, where = find(entry, schema.SAMPLE), location(entry, schema.SAMPLE)
    if group is None:
        where = f"/{schema.SHARED}/{schema.SAMPLE}"
        group = find(entry.file, where)
    if not isinstance(group, h5py.Group):
        raise SchemaError(entry.file.filename, where, "a sample with its unit cell", "nothing")
    cell = _read_cell(group)
    if len(cell) != 6:
        found = f"{len(cell)} of its six parameters"
        raise SchemaError(entry.file.filename, where, "a unit cell", found)
    try:
        lattice = Lattice(**dict(zip(Lattice.__slots__, cell, strict=True)))
    except InputError as error:
        raise SchemaError(entry.file.filename, where, "a unit cell", str(error)) from error
    return Sample(
        lattice=lattice,
        space_group=read_text(group, schema.SPACE_GROUP),
        crystal_system=read_text(group, schema.CELL_GROUP).lower(),
        centring=read_text(group, schema.CENTRING),
        laue_group=read_text(group, schema.LAUE_GROUP),
        name=read_text(group, schema.NAME),
        chemical_formula=read_text(group, schema.FORMULA),
        temperature=_read_temperature(group),
    )


def has_cell(entry: h5py.Group) -> bool:
    """Return whether the sample of an entry has a unit cell, complete or not. Not collective."""
    group = find(entry, schema.SAMPLE) or find(entry.file, f"{schema.SHARED}/{schema.SAMPLE}")
    return isinstance(group, h5py.Group) and bool(_read_cell(group))


def read_space_group(entry: h5py.Group) -> str:
    """Return the space group of an entry's sample, empty where there is none. Not collective."""
    group = find(entry, schema.SAMPLE) or find(entry.file, f"{schema.SHARED}/{schema.SAMPLE}")
    return read_text(group, schema.SPACE_GROUP) if isinstance(group, h5py.Group) else ""


def has_orientation(entry: h5py.Group) -> bool:
    """Return whether an entry has an orientation matrix. Not collective."""
    return find(entry, f"{schema.DETECTOR}/{schema.ORIENTATION_MATRIX}") is not None


def _read_temperature(group: h5py.Group) -> str:
    """Return the temperature as titles show it, empty where it is not one number."""
    dataset = find(group, schema.TEMPERATURE)
    text = read_text(group, schema.TEMPERATURE)
    try:
        degrees = float(text)
    except ValueError:
        return text
    unit = read_attribute(dataset, "units") if dataset is not None else ""
    return f"{degrees:g}{unit or 'K'}" if np.isfinite(degrees) else ""


def _read_cell(group: h5py.Group) -> list[float]:
    vector = read_array(group, schema.UNIT_CELL_VECTOR)
    if vector is not None:
        return [float(x) for x in vector.ravel()]
    lengths = read_array(group, schema.UNIT_CELL_LENGTHS)
    angles = read_array(group, schema.UNIT_CELL_ANGLES)
    if lengths is not None and angles is not None:
        return [float(x) for x in [*lengths.ravel(), *angles.ravel()]]
    numbers = [read_number(group, name) for name in schema.UNIT_CELL]
    return [x for x in numbers if x is not None]


def read_detector(entry: h5py.Group, shape: tuple[int, int]) -> Detector:
    """Return the detector of an entry. Not collective.

    Parameters
    ----------
    shape : tuple of int
        Of the raw frames.

    Raises
    ------
    SchemaError
        If distance, pixel size or beam centre are missing or make no sense.
    """
    path = schema.DETECTOR
    values = {
        "pixel_size": _required(entry, f"{path}/{schema.PIXEL_SIZE}", "the pixel size in mm"),
        "distance": _required(entry, f"{path}/{schema.DISTANCE}", "the distance in mm"),
        **{
            tilt: _optional(entry, f"{path}/{tilt}", "an angle")
            for tilt in (schema.YAW, schema.PITCH, schema.ROLL)
        },
    }
    center = tuple(
        require_number(entry, f"{path}/{name}", "the beam centre in pixels")
        for name in (schema.BEAM_CENTER_X, schema.BEAM_CENTER_Y)
    )
    try:
        return Detector(
            shape=shape,
            beam_center=(center[0], center[1]),
            orientation=_read_orientation(entry),
            **values,
        )
    except SchemaError:
        raise
    except InputError as error:
        where = location(entry, path)
        raise SchemaError(entry.file.filename, where, "a detector", str(error)) from error


def _required(entry: h5py.Group, path: str, expected: str) -> float:
    value = require_number(entry, path, expected)
    if value <= 0:
        raise SchemaError(
            entry.file.filename, location(entry, path), f"{expected}, above 0", f"{value:g}"
        )
    return value


def _optional(entry: h5py.Group, path: str, expected: str) -> float:
    return require_number(entry, path, expected) if find_whole(entry, path) is not None else 0.0


def _read_orientation(entry: h5py.Group) -> Matrix:
    path = f"{schema.DETECTOR}/{schema.ORIENTATION}"
    dataset = find_whole(entry, path)
    if dataset is None:
        log.info("%s: no %s, taking %s", entry.name, schema.ORIENTATION, schema.DEFAULT_ORIENTATION)
        return parse_orientation(schema.DEFAULT_ORIENTATION)
    values = np.asarray(dataset[()]) if isinstance(dataset, h5py.Dataset) else np.empty(0)
    if values.size == 9 and values.dtype.kind in "iuf":
        return as_matrix(values.astype(float))
    return parse_orientation(read_text(entry, path))


def read_goniometer(entry: h5py.Group, n_frames: int) -> Goniometer:
    """Return the goniometer of an entry, phi at the start of each frame. Not collective.

    Raises
    ------
    SchemaError
        If phi, its step or an angle is missing, or phi is an array shorter than the frames.
    """
    path = schema.GONIOMETER
    phi_path = f"{path}/{schema.PHI}"
    phi = read_array(entry, phi_path)
    if phi is None:
        phi = np.array(require_number(entry, phi_path, "the rotation angle phi"))
    phi = np.atleast_1d(phi).ravel()
    attribute = entry[phi_path].attrs.get("step")
    if phi.size > 1:
        if phi.size < n_frames:
            raise SchemaError(
                entry.file.filename, location(entry, phi_path),
                f"phi of {n_frames} frames", f"{phi.size} values",
            )  # fmt: skip
        spacing = float(np.median(np.diff(phi)))
        step = spacing if attribute is None else float(np.asarray(attribute).ravel()[0])
        if abs(step - spacing) > SPACING_TOLERANCE * abs(spacing):
            log.warning(
                "%s: phi has steps of %g°, its attribute 'step' says that %g° are turned during a "
                "frame: taking that", location(entry, phi_path), spacing, step,
            )  # fmt: skip
        angles = phi[:n_frames]
    else:
        if attribute is None:
            raise SchemaError(
                entry.file.filename, location(entry, phi_path),
                "an attribute 'step', the rotation during a frame", "none",
            )  # fmt: skip
        step = float(np.asarray(attribute).ravel()[0])
        angles = phi[0] + step * np.arange(n_frames)
    if not np.isfinite([step, *angles]).all():
        raise SchemaError(
            entry.file.filename, location(entry, phi_path),
            "numbers for phi and its step", "NaN or infinity",
        )  # fmt: skip
    x, y, z = (_optional(entry, f"{path}/{name}", "a place in mm") for name in schema.OFFSETS)
    return Goniometer(
        theta=_read_angle(entry, schema.THETA),
        omega=_read_angle(entry, (schema.OMEGA,)),
        chi=_read_angle(entry, (schema.CHI,)),
        phi=tuple(float(angle) for angle in angles),
        step=step,
        sample_offset=offset_from_file((x, y, z), step),
    )


def _read_angle(entry: h5py.Group, names: tuple[str, ...]) -> float:
    """Return an angle of the goniometer, under the first of its names that is there."""
    paths = [f"{schema.GONIOMETER}/{name}" for name in names]
    path = next((path for path in paths if find_whole(entry, path) is not None), None)
    if path is None:
        log.info("%s: no %s, taking 0", entry.name, paths[0])
        return 0.0
    return require_number(entry, path, "an angle")


def read_UB(entry: h5py.Group, step: float, lattice: Lattice) -> F8:
    """Return UB from the orientation matrix of an entry. Not collective.

    Returns
    -------
    (3, 3) float64
        [1/Å]

    Raises
    ------
    SchemaError
        If there is no orientation matrix, or a singular one.
    """
    path = f"{schema.DETECTOR}/{schema.ORIENTATION_MATRIX}"
    M = read_array(entry, path)
    where = location(entry, path)
    if M is None:
        expected = "an orientation matrix (nxmpi orient finds it)"
        raise SchemaError(entry.file.filename, where, expected, "nothing")
    if M.shape != (3, 3):
        raise SchemaError(entry.file.filename, where, "a 3 x 3 matrix", f"shape {M.shape}")
    if not np.isfinite(M).all() or abs(np.linalg.det(M)) < 1e-6:
        found = f"{M.tolist()}"
        raise SchemaError(entry.file.filename, where, "an invertible matrix", found)
    return UB_from_file(M, step, direct_matrix(lattice))


def read_wavelength(entry: h5py.Group) -> float:
    """Return the wavelength [Å]. Raises `SchemaError` if it is missing or not above 0."""
    return _required(entry, schema.WAVELENGTH, "the wavelength in Å")


def read_geometry(
    entry: h5py.Group, shape: tuple[int, int], n_frames: int, sample: Sample, *, guess: bool = False
) -> Geometry:
    """Return everything that leads from a pixel to hkl. Not collective.

    Parameters
    ----------
    guess : bool, optional
        Take some orientation where there is none yet.

    Raises
    ------
    SchemaError
        If a quantity is missing or unusable; see the functions this is made of.
    """
    goniometer = read_goniometer(entry, n_frames)
    if guess and not has_orientation(entry):
        UB = reciprocal_matrix(sample.lattice)
    else:
        UB = read_UB(entry, goniometer.step, sample.lattice)
    return Geometry(
        wavelength=read_wavelength(entry),
        detector=read_detector(entry, shape),
        goniometer=goniometer,
        UB=as_matrix(UB),
    )
