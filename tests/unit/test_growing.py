"""Which frames of a file are there, while it grows."""

import h5py
import numpy as np
import pytest

from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus.frames import StackReader, follow_stack
from nxmpi.nexus.growing import announced_frames, is_closed, missing_frames, opened

SHAPE = (4, 6)
PATH = "entry/data/data"


def dataset(file, chunks, n=0):
    return file.create_dataset(
        PATH, (n, *SHAPE), "i4", maxshape=(None, *SHAPE), chunks=chunks, fillvalue=0
    )


@pytest.mark.parametrize("chunks", [(1, 4, 6), (1, 2, 6), (1, 4, 5)])
def test_frames_are_there_once_all_their_chunks_are(tmp_path, chunks):
    with h5py.File(tmp_path / "raw.h5", "w", libver="latest") as file:
        data = dataset(file, chunks, 5)
        assert missing_frames(data, 0, 7, closed=False) == [*range(7)]
        data[2] = 1
        data[3, : chunks[1], : chunks[2]] = 1
        file.flush()
        whole = chunks == (1, 4, 6)
        wanted = [0, 1, *([] if whole else [3]), 4, 5, 6]
        assert missing_frames(data, 0, 7, closed=False) == wanted
        assert missing_frames(data, 2, 3, closed=False) == []


def test_chunks_of_several_frames_are_there_once_the_next_begins(tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w", libver="latest") as file:
        data = dataset(file, (3, 4, 6), 4)
        data[0:3] = 1
        file.flush()
        assert missing_frames(data, 0, 6, closed=False) == [*range(6)]
        data[3] = 1
        file.flush()
        assert missing_frames(data, 0, 6, closed=False) == [3, 4, 5]
        assert missing_frames(data, 0, 6, closed=True) == [4, 5]
        assert missing_frames(data, 1, 3, closed=False) == []


def test_a_file_is_closed_when_its_writer_has_closed_it(tmp_path):
    path = tmp_path / "raw.h5"
    assert not is_closed(path)
    with opened(path, PATH) as nothing:
        assert nothing is None
    with h5py.File(path, "w") as file:
        file[PATH] = np.ones((2, *SHAPE), "i4")
    assert is_closed(path)
    with opened(path, PATH) as data:
        assert missing_frames(data, 0, 3, closed=True) == [2]  # not chunked
        assert missing_frames(data, 0, 2, closed=False) == [0, 1]
    with opened(path, "none") as nothing:
        assert nothing is None


@pytest.fixture
def entry(tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w", libver="latest") as file:
        data = dataset(file, (1, *SHAPE), 4)
        data[...] = np.arange(4)[:, None, None]
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        file["f1/data/data"] = h5py.ExternalLink("raw.h5", PATH)
        file["f1/data/frame_number"] = np.arange(6)
    with h5py.File(tmp_path / "scan.nxs") as file:
        yield file["f1"]


def test_readers_wait_for_what_is_announced(entry):
    assert announced_frames(entry) == 6
    stack = follow_stack(entry, 0.3)
    assert stack.shape == (6, *SHAPE)
    reader = StackReader(stack, None, skip_bad_frames=False)
    data, _, bad = reader.read(np.arange(1, 4))
    np.testing.assert_array_equal(data, np.arange(1, 4)[:, None] * np.ones((1, 24)))
    assert not bad.size
    told = r"raw.h5.* expected 6 frames, found 4 after 0.3 s .* missing are 4 to 5"
    with pytest.raises(InputError, match=told):
        reader.read(np.arange(3, 6))
    with h5py.File(entry.file.filename.replace("scan.nxs", "raw.h5"), "r+") as file:
        file[PATH].resize(6, axis=0)
        file[PATH][5] = 5
    with pytest.raises(InputError, match=r"found 5 .* missing are 4 "):
        reader.read(np.arange(3, 6))
    reader.close()


def test_what_cannot_be_followed(tmp_path):
    with h5py.File(tmp_path / "scan.nxs", "w") as file:
        file["f1/instrument/goniometer/phi"] = 1.0
        with pytest.raises(SchemaError, match="numbers of all frames"):
            announced_frames(file["f1"])
        del file["f1/instrument/goniometer/phi"]
        file["f1/instrument/goniometer/phi"] = np.arange(5.0)
        assert announced_frames(file["f1"]) == 5
        file[f"f1/{PATH.partition('/')[2]}"] = np.zeros((5, *SHAPE), int)
        with pytest.raises(SchemaError, match="a link to a file of its own"):
            follow_stack(file["f1"], 1.0)
        del file["f1/data/data"]
        file["f1/data/data"] = h5py.ExternalLink("raw.h5", PATH)
        with pytest.raises(InputError, match="expected frames to be written, found none"):
            follow_stack(file["f1"], 0.2)
        with h5py.File(tmp_path / "raw.h5", "w") as raw:
            raw[PATH] = np.zeros((5, *SHAPE))
        with pytest.raises(SchemaError, match="of integers in the file itself"):
            follow_stack(file["f1"], 0.2)
