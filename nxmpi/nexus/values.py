"""Single values as files have them: 0-d or length-1, bytes or str, through any kind of link."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nxmpi._typing import F8, Mask
from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus import schema


def open_file(path: Path) -> h5py.File:
    """Open a file to read. Not collective.

    Raises
    ------
    InputError
        If it is missing, not HDF5, truncated, or not to be read.
    """
    if not path.exists():
        raise InputError(f"{path}: expected a file, found none")
    try:
        return h5py.File(path, "r")
    except (BlockingIOError, PermissionError) as error:
        raise InputError(f"{path}: {_refusal(error)}") from error
    except OSError as error:
        reason = "nothing that HDF5 can open" if not h5py.is_hdf5(path) else f"{error}"
        raise InputError(f"{path}: expected an HDF5 file, found {reason}") from error


def _refusal(error: BlockingIOError | PermissionError) -> str:
    if isinstance(error, BlockingIOError):
        return "is open for writing in another program; close it there"
    return "no permission to read it"


def identity_of(file: Path) -> tuple[int, int]:
    """Return size and time of change of a file [bytes, ns]. Not collective."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def positions_in(file: h5py.File) -> list[str]:
    """Return the detector positions in a file, none if it is no scan's. Not collective."""
    return [name for name in file if name[-1].isdigit() and name != schema.SHARED]


def entry_names(wrapper: h5py.File) -> list[str]:
    """Return the detector positions of a scan, in the order of the file. Not collective.

    Raises
    ------
    SchemaError
        If there are none.
    """
    names = positions_in(wrapper)
    if not names:
        expected = "entries of detector positions, such as f1"
        raise SchemaError(wrapper.filename, "/", expected, f"{', '.join(wrapper) or 'nothing'}")
    return names


def chosen_entries(wrapper: h5py.File, wanted: tuple[str, ...]) -> list[str]:
    """Return the positions that are wanted, all if none is named. Not collective.

    Raises
    ------
    InputError
        If one is not there.
    """
    names = entry_names(wrapper)
    for name in wanted:
        if name not in names:
            raise InputError(f"{wrapper.filename}:/{name}: expected one of {', '.join(names)}")
    return [name for name in names if not wanted or name in wanted]


def location(group: h5py.Group, path: str) -> str:
    """Return the absolute path of something in a group, for messages."""
    return f"{group.name.rstrip('/')}/{path}"


def find(group: h5py.Group, path: str) -> h5py.Dataset | h5py.Group | None:
    """Return what is at a path, None where nothing is or a link leads nowhere."""
    try:
        return group[path]
    except (KeyError, OSError, ValueError):
        return None


def find_whole(group: h5py.Group, path: str) -> h5py.Dataset | h5py.Group | None:
    """Return what is at a path, None where nothing is.

    Raises
    ------
    SchemaError
        If a link leads nowhere: what was measured is lost then, rather than was not measured.
    """
    found = find(group, path)
    absence = "nothing" if found is not None else _absence(group, path)
    if absence != "nothing":
        expected = "something at the end of a link"
        raise SchemaError(group.file.filename, location(group, path), expected, absence)
    return found


def require(group: h5py.Group, path: str, expected: str) -> h5py.Dataset | h5py.Group:
    """Return what is at a path.

    Raises
    ------
    SchemaError
        If nothing is there, or a link leads nowhere; names the link's target.
    """
    found = find(group, path)
    if found is not None:
        return found
    raise SchemaError(group.file.filename, location(group, path), expected, _absence(group, path))


def _absence(group: h5py.Group, path: str) -> str:
    parent, _, name = path.rpartition("/")
    owner = find(group, parent) if parent else group
    if owner is None:
        return _absence(group, parent)
    if not isinstance(owner, h5py.Group):
        return "nothing"
    link = owner.get(name, getlink=True) if owner.get(name, getclass=True, getlink=True) else None
    if isinstance(link, h5py.ExternalLink):
        target = Path(group.file.filename).absolute().parent / link.filename
        return f"a link to {target}:{link.path}, {_why_unreadable(target, link.path)}"
    if isinstance(link, h5py.SoftLink):
        return f"a link to {link.path}, which leads nowhere"
    return "nothing"


def _why_unreadable(target: Path, path: str) -> str:
    """Return what keeps a link to a path in a file from leading there."""
    try:
        if not target.exists():
            return "which does not exist"
        with h5py.File(target, "r") as file:
            return "which cannot be read" if path in file else "which lacks that path"
    except BlockingIOError as error:
        return f"which {_refusal(error)}"
    except PermissionError as error:
        return _refusal(error)
    except OSError:
        return "which cannot be read"


def read_number(group: h5py.Group, path: str) -> float | None:
    """Return a number stored as 0-d or length-1 array, None where there is none.

    Raises
    ------
    SchemaError
        If there is something else, or a link leads nowhere.
    """
    dataset = find_whole(group, path)
    if dataset is None:
        return None
    value = np.asarray(dataset[()]) if isinstance(dataset, h5py.Dataset) else np.empty(0)
    try:
        (number,) = value.ravel().astype(float)
    except (ValueError, TypeError):
        file, where = group.file.filename, location(group, path)
        raise SchemaError(file, where, "one number", _describe(value)) from None
    return float(number)


def require_number(group: h5py.Group, path: str, expected: str) -> float:
    """Return a number that must be there. Raises `SchemaError` otherwise."""
    value = read_number(group, path)
    if value is None:
        file, where = group.file.filename, location(group, path)
        raise SchemaError(file, where, expected, _absence(group, path))
    if not np.isfinite(value):
        raise SchemaError(group.file.filename, location(group, path), expected, f"{value}")
    return value


def read_text(group: h5py.Group, path: str) -> str:
    """Return a string, empty where there is none. Raises `SchemaError` if a link leads nowhere."""
    dataset = find_whole(group, path)
    if not isinstance(dataset, h5py.Dataset):
        return ""
    value = np.asarray(dataset[()]).ravel()
    if value.size != 1:
        return ""
    return _as_text(value[0])


def read_attribute(thing: h5py.Dataset | h5py.Group, name: str) -> str:
    """Return an attribute that is a string or an array of one, empty where there is none."""
    value = np.asarray(thing.attrs.get(name, "")).ravel()
    return _as_text(value[0]) if value.size == 1 else ""


def _as_text(value: object) -> str:
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).strip()


def read_array(group: h5py.Group, path: str) -> F8 | None:
    """Return an array as float64, None where there is none; of a group, its signal.

    Raises
    ------
    SchemaError
        If these are no numbers, or a link leads nowhere.
    """
    found = find_whole(group, path)
    if isinstance(found, h5py.Group):
        found = find_whole(found, signal_name(found))
    if not isinstance(found, h5py.Dataset):
        return None
    try:
        return np.asarray(found[()], dtype=np.float64)
    except (ValueError, TypeError):
        raise SchemaError(
            group.file.filename, location(group, path), "numbers", f"{found.dtype}"
        ) from None


def read_flags(group: h5py.Group, path: str, shape: tuple[int, int]) -> Mask:
    """Return True for the pixels where an image is not 0, none where there is no image.

    Raises
    ------
    SchemaError
        If it is of another shape than the frames, or a link leads nowhere.
    """
    dataset = find_whole(group, path)
    if dataset is None:
        return np.zeros(shape, bool)
    if dataset.shape != shape:
        file, where = group.file.filename, location(group, path)
        raise SchemaError(file, where, f"the shape of the frames, {shape}", f"{dataset.shape}")
    return np.asarray(dataset[()] != 0)


def signal_name(group: h5py.Group) -> str:
    """Return the name of a group's signal: by attribute, else old style, else the only one."""
    if "signal" in group.attrs:
        return read_attribute(group, "signal")
    names = [name for name in group if isinstance(find(group, name), h5py.Dataset)]
    marked = [name for name in names if "signal" in group[name].attrs]
    return str((marked or names or ["data"])[0])


def own(group: h5py.Group, path: str) -> None:
    """Copy what external links on the way to a path lead to, in their place. Not collective.

    What is written at the path then stays in the file of the group.
    """
    names = path.split("/")
    for n in range(1, len(names) + 1):
        step = "/".join(names[:n])
        if isinstance(group.get(step, getlink=True), h5py.ExternalLink):
            there = require(group, step, "something at the end of a link")
            del group[step]
            group.copy(there, step)


def put(group: h5py.Group, path: str, value: object, **attributes: object) -> h5py.Dataset:
    """Write a dataset in the place of whatever was there, with its attributes.

    Strings have a fixed length, which parallel HDF5 can write.

    Raises
    ------
    SchemaError
        If a link on the way leads to another file, which is not ours to change.
    """
    require_own(group, path)
    if group.get(path, getlink=True) is not None:
        del group[path]
    if isinstance(value, str):
        text = value.encode() or b" "
        value = np.array(text, dtype=h5py.string_dtype("utf-8", len(text)))
    dataset = group.create_dataset(path, data=value)
    dataset.attrs.update(attributes)
    return dataset


def require_own(group: h5py.Group, path: str) -> None:
    """Make sure that what is written at a path goes into the file of the group. Not collective.

    Raises
    ------
    SchemaError
        If a link on the way leads to another file.
    """
    owner = path.rpartition("/")[0]
    there = find(group, owner) if owner else None
    if there is not None and there.file.filename != group.file.filename:
        raise SchemaError(
            group.file.filename, location(group, owner), "a group of this file, to write into",
            f"a link to {there.file.filename}:{there.name}",
        )  # fmt: skip


def replace_group(parent: h5py.Group, path: str, nx_class: str) -> h5py.Group:
    """Return a new group in the place of whatever was there."""
    require_own(parent, path)
    if parent.get(path, getlink=True) is not None:
        del parent[path]
    group = parent.create_group(path)
    group.attrs["NX_class"] = nx_class
    return group


def link_to(group: h5py.Group, name: str, file: Path, path: str) -> None:
    """Put an external link into a group, relative to its file where that is possible."""
    if group.get(name, getlink=True) is not None:
        del group[name]
    folder = Path(group.file.filename).absolute().parent
    target = file.relative_to(folder) if file.is_relative_to(folder) else file
    group[name] = h5py.ExternalLink(str(target), f"/{path}")


def _describe(value: NDArray[Any]) -> str:
    return f"an array of shape {value.shape}" if value.size != 1 else f"{value.ravel()[0]!r}"
