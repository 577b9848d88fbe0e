"""Which frames of a file are there, while it grows."""

import fcntl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from nxmpi.errors import InputError, SchemaError
from nxmpi.nexus import growing
from nxmpi.nexus.frames import StackReader
from nxmpi.nexus.growing import announced_frames, is_closed, missing_frames, opened
from nxmpi.nexus.stack import follow_stack

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
        assert missing_frames(data, 0, 7, 7, settled=False) == [*range(7)]
        data[2] = 1
        data[3, : chunks[1], : chunks[2]] = 1
        file.flush()
        whole = chunks == (1, 4, 6)
        wanted = [0, 1, *([] if whole else [3]), 4, 5, 6]
        assert missing_frames(data, 0, 7, 7, settled=False) == wanted
        assert missing_frames(data, 2, 3, 7, settled=False) == []


def test_chunks_of_several_frames_are_there_once_the_next_begins(tmp_path):
    with h5py.File(tmp_path / "raw.h5", "w", libver="latest") as file:
        data = dataset(file, (3, 4, 6), 4)
        data[0:3] = 1
        file.flush()
        assert missing_frames(data, 0, 6, 6, settled=False) == [*range(6)]
        data[3] = 1
        file.flush()
        assert missing_frames(data, 0, 6, 6, settled=False) == [3, 4, 5]
        assert missing_frames(data, 0, 6, 6, settled=True) == [4, 5]
        assert missing_frames(data, 0, 6, 9, settled=True) == [3, 4, 5]
        assert missing_frames(data, 1, 3, 6, settled=False) == []


def test_a_file_is_closed_when_its_writer_has_closed_it(tmp_path):
    path = tmp_path / "raw.h5"
    assert not is_closed(path)
    with opened(path, PATH) as nothing:
        assert nothing is None
    with h5py.File(path, "w") as file:
        file[PATH] = np.ones((2, *SHAPE), "i4")
        assert not is_closed(path)
        with opened(path, PATH) as nothing:
            assert nothing is None
    assert is_closed(path)
    with opened(path, PATH) as data:
        assert data.shape == (2, *SHAPE)
        assert not data.file.swmr_mode
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
            raw.create_dataset(PATH, data=np.zeros((5, *SHAPE)), chunks=(1, *SHAPE))
        with pytest.raises(SchemaError, match=r"expected frames .* of integers, .* float64"):
            follow_stack(file["f1"], 0.2)


def write_first(path, way):
    """Write the first of the frames that `entry` announces, and room for the others."""
    with h5py.File(path, "w", libver="latest") as file:
        if way == "early":
            space = h5py.h5s.create_simple((6, *SHAPE))
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_chunk((1, *SHAPE))
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            group = file.create_group(PATH.rpartition("/")[0])
            h5py.h5d.create(group.id, b"data", h5py.h5t.NATIVE_INT32, space, layout)
        else:
            chunks = {"contiguous": None, "several": (4, *SHAPE)}[way]
            file.create_dataset(PATH, (6, *SHAPE), "i4", chunks=chunks)
        file[PATH][0] = 1


@pytest.mark.parametrize(
    ("way", "found"), [("contiguous", "not in chunks"), ("early", "all chunks stored beforehand")]
)
def test_room_for_frames_is_not_taken_for_frames(entry, tmp_path, way, found):
    write_first(tmp_path / "raw.h5", way)
    with pytest.raises(SchemaError, match=f"raw.h5:/{PATH}: expected .*, found .*{found}"):
        follow_stack(entry, 0.3)


OTHERS = f"""
import sys, time, h5py
print("ready", flush=True)
for i in range(1, 6):
    time.sleep(0.6)
    with h5py.File(sys.argv[1], "r+") as file:
        file["{PATH}"][i] = i + 1
"""


def test_rest_of_a_chunk_is_not_there_while_its_file_is_closed_between_frames(entry, tmp_path):
    path = tmp_path / "raw.h5"
    write_first(path, "several")
    reader = StackReader(follow_stack(entry, 0.5), None, skip_bad_frames=False)
    with pytest.raises(InputError, match=r"found 0 after .* missing are 0 to 5"):
        reader.read(np.arange(1))
    reader = StackReader(follow_stack(entry, 2.0), None, skip_bad_frames=False)
    with subprocess.Popen([sys.executable, "-c", OTHERS, path], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        # the first ones after more than the time limit, since the file changes meanwhile, and the
        # last two once nothing has come for a while
        for i in range(6):
            data, _, bad = reader.read(np.arange(i, i + 1))
            assert data.tolist() == [[i + 1] * 24]
            assert not bad.size
    assert writer.returncode == 0


REOPENER = f"""
import sys, time, h5py
print("ready", flush=True)
while True:
    with h5py.File(sys.argv[1], "r+") as file:
        file["{PATH}"].attrs["written"] = time.time()
        time.sleep(0.005)
    time.sleep(0.015)
"""


def test_reader_of_a_file_that_is_opened_again_and_again_does_not_fail(
    entry, tmp_path, monkeypatch
):
    monkeypatch.setattr(growing, "PAUSE", 0.005)
    reader = StackReader(follow_stack(entry, 10.0), None, skip_bad_frames=False)
    with subprocess.Popen(
        [sys.executable, "-c", REOPENER, tmp_path / "raw.h5"], stdout=subprocess.PIPE
    ) as writer:
        writer.stdout.readline()
        try:
            for i in range(400):
                data, _, bad = reader.read(np.arange(i % 4, i % 4 + 1))
                assert data.tolist() == [[i % 4] * 24]
                assert not bad.size
            assert writer.poll() is None
        finally:
            writer.kill()


def test_writer_is_never_kept_out(tmp_path):
    path = tmp_path / "raw.h5"
    write_first(path, "several")
    done = threading.Event()

    def look():
        n = 0
        while not done.is_set():
            with opened(path, PATH):
                n += is_closed(path)
        return n

    with ThreadPoolExecutor(1) as pool, path.open("rb") as file:
        looks = pool.submit(look)
        try:
            for _ in range(3000):  # as HDF5 does when it opens a file to write
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.flock(file, fcntl.LOCK_UN)
                time.sleep(1e-4)
        finally:
            done.set()
    assert looks.result() > 10
