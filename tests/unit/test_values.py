"""Files that cannot be read now, and why."""

import fcntl

import h5py
import pytest

from nxmpi.errors import InputError
from nxmpi.nexus import values
from nxmpi.nexus.values import open_file, require

ELSEWHERE = "is open for writing in another program; close it there"


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "f1.h5"
    with h5py.File(path, "w") as file:
        file["data"] = [1, 2]
    return path


@pytest.fixture
def wrapper(raw):
    path = raw.with_name("scan.nxs")
    with h5py.File(path, "w") as file:
        file["frames"] = h5py.ExternalLink("f1.h5", "/data")
        file["lost"] = h5py.ExternalLink("f1.h5", "/lost")
        file["gone"] = h5py.ExternalLink("gone.h5", "/data")
    with open_file(path) as file:
        yield file


def absence(wrapper, name):
    with pytest.raises(InputError) as error:
        require(wrapper, name, "raw frames")
    return str(error.value).partition("expected raw frames, found a link to ")[2]


def test_file_that_another_program_writes_is_to_be_closed_there(raw, wrapper):
    with raw.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as HDF5 does when it opens a file for writing
        with pytest.raises(InputError) as error:
            open_file(raw)
        assert str(error.value) == f"{raw}: {ELSEWHERE}"
        assert absence(wrapper, "frames") == f"{raw}:/data, which {ELSEWHERE}"


def test_file_that_may_not_be_read_is_told_so(raw, wrapper, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Unable to open file")

    # played: root may read everything
    monkeypatch.setattr(values, "find", lambda group, path: None)
    monkeypatch.setattr(values.h5py, "File", refuse)
    with pytest.raises(InputError) as error:
        open_file(raw)
    assert str(error.value) == f"{raw}: no permission to read it"
    assert absence(wrapper, "frames") == f"{raw}:/data, no permission to read it"


def test_link_that_leads_nowhere_says_where_it_ends(raw, wrapper):
    assert absence(wrapper, "lost") == f"{raw}:/lost, which lacks that path"
    gone = raw.with_name("gone.h5")
    assert absence(wrapper, "gone") == f"{gone}:/data, which does not exist"
    raw.write_bytes(b"no HDF5")
    assert absence(wrapper, "frames") == f"{raw}:/data, which cannot be read"
