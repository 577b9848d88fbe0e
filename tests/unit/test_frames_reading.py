"""Frames read chunk by chunk, ahead or not: what HDF5 reads, and damage by its name."""

import threading
import weakref

import h5py
import hdf5plugin
import numpy as np
import pytest

from nxmpi.errors import InputError
from nxmpi.nexus import chunks
from nxmpi.nexus.chunks import find_decoder
from nxmpi.nexus.frames import StackReader
from nxmpi.nexus.stack import find_stack
from nxmpi.parallel.readahead import read_ahead

N, SHAPE = 11, (37, 53)
INTEGERS = [f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)]
OURS = {
    "bitshuffle-lz4": hdf5plugin.Bitshuffle(cname="lz4"),
    "bitshuffle-lz4, small blocks": hdf5plugin.Bitshuffle(nelems=64, cname="lz4"),
    "bitshuffle": hdf5plugin.Bitshuffle(cname="none"),
    "bitshuffle, small blocks": hdf5plugin.Bitshuffle(nelems=128, cname="none"),
    "lz4": hdf5plugin.LZ4(),
    "lz4, small blocks": hdf5plugin.LZ4(nbytes=1000),
}
HDF5S = {
    "plain": {},
    "gzip": {"compression": "gzip"},
    "gzip, shuffled": {"compression": "gzip", "shuffle": True},
    "bitshuffle-zstd": hdf5plugin.Bitshuffle(cname="zstd"),
    "bitshuffle, summed": {**hdf5plugin.Bitshuffle(), "fletcher32": True},
}


def counts(dtype="i4", shape=(N, *SHAPE)):
    """Return low counts, a few high ones and a few of each extreme."""
    rng = np.random.default_rng(3)
    values = rng.poisson(0.7, shape).astype(dtype)
    limits = np.iinfo(dtype)
    for value in (limits.min, limits.max, limits.max // 3):
        values[rng.random(shape) < 0.01] = value
    return values


@pytest.fixture
def path(tmp_path):
    return tmp_path / "raw.h5"


def write(path, data, length=1, **storage):
    with h5py.File(path, "w") as file:
        if length:
            storage["chunks"] = (length, *data.shape[1:])
        file.create_dataset("entry/data/data", data=data, **storage)
    return stack(path)


def stack(path):
    with h5py.File(path) as file:
        return find_stack(file["entry"])


def decoded_here(path):
    with h5py.File(path) as file:
        return find_decoder(file["entry/data/data"]) is not None


def read(path, frames=range(N), **options):
    options = {"skip_bad_frames": False} | options
    reader = StackReader(stack(path), None, **options)
    data, _, bad = reader.read(np.array(frames))
    reader.close()
    return data, bad


def read_as_hdf5_does(path, frames):
    with h5py.File(path) as file:
        data = file["entry/data/data"][frames.start : frames.stop]
    return data.reshape(len(data), -1)


# --- however they are stored


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("storage", [*OURS, *HDF5S])
def test_frames_are_those_that_hdf5_reads(path, storage, length, dtype):
    write(path, counts(dtype), length, **(OURS | HDF5S)[storage])
    assert decoded_here(path) == (storage in OURS)
    for frames in (range(N), range(1, 3), range(2, 8), range(N - 1, N)):
        data, bad = read(path, frames)
        assert data.dtype == dtype
        np.testing.assert_array_equal(data, read_as_hdf5_does(path, frames))
        assert not bad.size


@pytest.mark.parametrize("shape", [(1, 3), (1, 8), (4, 5), (97, 128)])
@pytest.mark.parametrize("storage", OURS)
def test_frames_of_any_size_are_those_that_hdf5_reads(path, storage, shape):
    data = counts("u2", (2, *shape))
    write(path, data, **OURS[storage])
    np.testing.assert_array_equal(read(path, range(2))[0], data.reshape(2, -1))


def test_noise_that_nothing_shrinks_is_read(path):
    data = np.random.default_rng(1).integers(0, 2**32, (N, *SHAPE), np.uint32)
    for storage in OURS.values():
        write(path, data, **storage)
        np.testing.assert_array_equal(read(path)[0], data.reshape(N, -1))


@pytest.mark.parametrize(
    ("length", "storage"),
    [(0, {}), (0, {"chunks": (1, 10, 53), **OURS["bitshuffle-lz4"]})],
    ids=["contiguous", "tiles"],
)
def test_frames_that_are_not_in_chunks_of_their_own_are_left_to_hdf5(path, length, storage):
    write(path, counts(), length, **storage)
    assert not decoded_here(path)
    np.testing.assert_array_equal(read(path)[0], counts().reshape(N, -1))


@pytest.mark.parametrize("dtype", [">i4", ">u2", bool])
def test_other_types_are_the_same_numbers(path, dtype):
    data = (counts() > 1).astype(dtype)
    write(path, data, **OURS["bitshuffle-lz4"])
    assert decoded_here(path) == (dtype is bool)
    found = read(path)[0]
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, data.reshape(N, -1))


def test_integers_of_odd_precision_are_left_to_hdf5(path):
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, *SHAPE))
    data = (counts() % 7).astype("i2") - 3
    with h5py.File(path, "w") as file:
        file.create_group("entry/data")
        space = h5py.h5s.create_simple(data.shape)
        h5py.h5d.create(file.id, b"entry/data/data", kind, space, plist)
        file["entry/data/data"][...] = data
    assert not decoded_here(path)
    np.testing.assert_array_equal(read(path)[0], data.reshape(N, -1))


def test_without_the_decompressor_hdf5_reads(path, monkeypatch):
    write(path, counts(), **OURS["bitshuffle-lz4"])
    monkeypatch.setattr(chunks, "lz4_address", lambda: 0)
    assert not decoded_here(path)
    np.testing.assert_array_equal(read(path)[0], counts().reshape(N, -1))


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("storage", ["bitshuffle-lz4", "lz4", "plain"])
def test_frames_that_were_never_written_are_bad(path, storage, length):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "entry/data/data", (N, *SHAPE), "i4", chunks=(length, *SHAPE), **(OURS | HDF5S)[storage]
        )
        dataset[4] = counts()[4]
    there = [4] if length == 1 else [3, 4, 5]  # of a chunk that is there the others are 0
    with pytest.raises(InputError, match="expected frame 0 to be readable, found: it was never"):
        read(path)
    data, bad = read(path, skip_bad_frames=True)
    assert [*bad] == [n for n in range(N) if n not in there]
    expected = np.zeros((N, *SHAPE), int)
    expected[4] = counts()[4]
    np.testing.assert_array_equal(data, expected[there].reshape(len(there), -1))


def test_a_frame_with_a_part_that_was_never_written_is_bad(path):
    y, x = SHAPE[0] // 2 + 1, SHAPE[1] // 3 + 1
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "entry/data/data", (N, *SHAPE), "i4", chunks=(1, y, x), compression="gzip"
        )
        dataset[:6] = counts()[:6]
        dataset[6, :y] = counts()[6, :y]
        dataset[7:] = counts()[7:]
    assert [*read(path, skip_bad_frames=True)[1]] == [6]


def test_a_dataset_that_was_never_written_is_bad(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("entry/data/data", (N, *SHAPE), "i4")
    assert [*read(path, skip_bad_frames=True)[1]] == [*range(N)]


@pytest.mark.parametrize("chunks", [(1, *SHAPE), (2, 3, 5)])
def test_of_masks_what_was_never_written_excludes_nothing(path, chunks):
    write(path, counts(), **HDF5S["plain"])
    mask = path.with_name("mask.h5")
    with h5py.File(mask, "w") as file:
        dataset = file.create_dataset("entry/data/data", (N, *SHAPE), "i1", chunks=chunks)
        dataset[3] = 1
    reader = StackReader(stack(path), stack(mask), skip_bad_frames=False)
    excluded = reader.read(np.arange(N))[1]
    reader.close()
    assert excluded[3].all()
    assert not np.delete(excluded, 3, axis=0).any()


@pytest.mark.parametrize("storage", ["bitshuffle-lz4", "bitshuffle", "lz4"])
def test_chunks_stored_without_their_filter_are_read(path, storage):
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "entry/data/data", (N, *SHAPE), "i4", chunks=(3, *SHAPE), **OURS[storage]
        )
        dataset[:3] = counts()[:3]
    put(path, 3, counts()[3:6].tobytes(), filter_mask=1)
    np.testing.assert_array_equal(read(path, range(6))[0], counts()[:6].reshape(6, -1))


def test_chunks_of_several_frames_are_decompressed_once(path, monkeypatch):
    write(path, counts(), 4, **OURS["bitshuffle-lz4"])
    decoded = []
    decode = chunks.unshuffle_lz4
    monkeypatch.setattr(
        chunks, "unshuffle_lz4", lambda *args: (decoded.append(1), decode(*args))
    )  # fmt: skip
    reader = StackReader(stack(path), None, skip_bad_frames=False)
    found = [reader.read(np.array(frames))[0] for frames in ([0], [1], [2, 3, 4], [5, 6, 7, 8])]
    found.append(reader.read(np.array([9, 10]))[0])
    reader.close()
    np.testing.assert_array_equal(np.concatenate(found), counts().reshape(N, -1))
    assert len(decoded) == 3


# --- room


def test_rooms_are_filled_in_turn_and_grow_where_they_are_too_small(path):
    reader = StackReader(write(path, counts(), 1, **OURS["bitshuffle-lz4"]), None,
                         skip_bad_frames=False, n_rooms=2)  # fmt: skip
    wanted = counts().reshape(N, -1)
    runs = [np.arange(0, 3), np.arange(3, 5), np.arange(5, 7), np.arange(7, 10), np.arange(10, 11)]
    found = []
    for run in runs:
        found.append(reader.read(run)[0])
        for each, numbers in zip(found[-2:], runs[max(len(found) - 2, 0) :], strict=False):
            np.testing.assert_array_equal(each, wanted[numbers])
    reader.close()
    shared = [np.shares_memory(one, two) for one, two in zip(found, found[2:], strict=False)]
    assert shared == [True, False, True]  # the fourth run is longer than the second


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("storage", ["bitshuffle-lz4", "plain", "gzip"])
def test_data_are_put_where_they_are_wanted(path, storage, length):
    reader = StackReader(
        write(path, counts(), length, **(OURS | HDF5S)[storage]), None, skip_bad_frames=False
    )
    out = np.full((8, SHAPE[0] * SHAPE[1]), 99, np.int32)
    data, _, _ = reader.read(np.arange(2, 7), out)
    reader.close()
    assert np.shares_memory(data, out)
    np.testing.assert_array_equal(data, counts().reshape(N, -1)[2:7])
    np.testing.assert_array_equal(out[:5], data)
    assert (out[5:] == 99).all()


# --- masks


@pytest.mark.parametrize("dtype", ["i1", "u1", bool, "i2", "u4"])
@pytest.mark.parametrize("storage", ["bitshuffle-lz4", "gzip"])
def test_masks_exclude_where_they_are_not_0(path, tmp_path, storage, dtype):
    wanted = np.random.default_rng(2).random((N, *SHAPE)) < 0.3
    value = 256 if np.dtype(dtype).itemsize > 1 else 1
    masks = write(tmp_path / "mask.h5", (wanted * value).astype(dtype), **(OURS | HDF5S)[storage])
    reader = StackReader(write(path, counts()), masks, skip_bad_frames=False)
    _, excluded, _ = reader.read(np.arange(N))
    reader.close()
    assert excluded.dtype == np.int8
    np.testing.assert_array_equal(excluded != 0, wanted.reshape(N, -1))


def test_frames_bad_in_data_or_mask_are_left_out_of_both(path, tmp_path):
    mask = (counts() > 1).astype("i1")
    stacks = [
        write(path, counts(), **OURS["bitshuffle-lz4"]),
        write(tmp_path / "mask.h5", mask, 3, **OURS["bitshuffle-lz4"]),
    ]
    damage(path, 1)
    damage(tmp_path / "mask.h5", 6)
    reader = StackReader(*stacks, skip_bad_frames=True)
    data, excluded, bad = reader.read(np.arange(N), np.empty((N, SHAPE[0] * SHAPE[1]), np.int32))
    reader.close()
    assert list(bad) == [1, 6, 7, 8]
    np.testing.assert_array_equal(data, np.delete(counts(), bad, 0).reshape(7, -1))
    np.testing.assert_array_equal(excluded, np.delete(mask, bad, 0).reshape(7, -1))


# --- damage


def stored(path, frame):
    with h5py.File(path) as file:
        return bytearray(file["entry/data/data"].id.read_direct_chunk((frame, 0, 0))[1])


def put(path, frame, chunk, filter_mask=0):
    with h5py.File(path, "r+") as file:
        file["entry/data/data"].id.write_direct_chunk((frame, 0, 0), bytes(chunk), filter_mask)


def damage(path, frame):
    chunk = stored(path, frame)
    chunk[:12] = bytes(12)
    put(path, frame, chunk)


def with_bytes(start, value):
    return lambda chunk: chunk[:start] + value + chunk[start + len(value) :]


DAMAGES = {
    "size": (with_bytes(0, (10**15).to_bytes(8)), "header tells of 1000000000000000 bytes"),
    "size of a block": (with_bytes(8, bytes(4)), "blocks of 0 "),
    "huge blocks": (with_bytes(8, b"\xff" * 4), "blocks of 4294967295 bytes"),
    "length": (with_bytes(12, b"\xff" * 4), "cannot be decompressed after 0.0%"),
    "length 0": (with_bytes(12, bytes(4)), "cannot be decompressed after 0.0%"),
    "other bytes": (with_bytes(16, b"\xff" * 64), "cannot be decompressed"),
    "header alone": (lambda chunk: chunk[:12], "cannot be decompressed"),
    "part of the header": (lambda chunk: chunk[:7], "7 bytes, shorter than its header"),
    "part of a length": (lambda chunk: chunk[:15], "cannot be decompressed"),
    "half": (lambda chunk: chunk[: len(chunk) // 2], "cannot be decompressed"),
    "end missing": (lambda chunk: chunk[:-1], "cannot be decompressed"),
}


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("storage", ["bitshuffle-lz4", "lz4"])
@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(path, name, storage, length):
    change, message = DAMAGES[name]
    write(path, counts(), length, **OURS[storage])
    put(path, 6, change(stored(path, 6)))
    with pytest.raises(InputError, match=r"raw\.h5:/entry/data/data: expected frame 6 to be ") as e:
        read(path)
    assert message in str(e.value)
    data, bad = read(path, skip_bad_frames=True)
    assert list(bad) == [6, 7, 8][:length]
    np.testing.assert_array_equal(data, np.delete(counts(), bad, 0).reshape(N - length, -1))


def test_blocks_that_bitshuffle_cannot_make_are_refused(path):
    write(path, counts(), **OURS["bitshuffle-lz4"])
    put(path, 6, with_bytes(8, (4 * 60).to_bytes(4))(stored(path, 6)))
    with pytest.raises(InputError, match="blocks of 60 pixels, not of a multiple of 8"):
        read(path)


def test_damage_is_named_where_nothing_is_compressed(path):
    write(path, counts(), **OURS["bitshuffle"])
    put(path, 6, stored(path, 6)[:-5])
    with pytest.raises(InputError, match="expected frame 6 to be readable, found: a chunk"):
        read(path)


def test_chunk_without_its_filter_has_the_size_of_its_frames(path):
    write(path, counts(), **OURS["bitshuffle-lz4"])
    put(path, 6, bytes(100), filter_mask=1)
    with pytest.raises(InputError, match="frame 6 to be readable, found: a chunk of 100 bytes"):
        read(path)


@pytest.mark.parametrize("storage", ["bitshuffle-lz4", "lz4"])
@pytest.mark.parametrize("seed", range(200))
def test_random_damage_is_never_worse_than_other_numbers(path, storage, seed):
    rng = np.random.default_rng(seed)
    data = counts("u2", (1, *SHAPE))
    write(path, data, **OURS[storage])
    chunk = stored(path, 0)
    for place in rng.integers(0, len(chunk), rng.integers(1, 20)):
        chunk[place] = rng.integers(256)
    put(path, 0, chunk)
    out = np.full((3, data[0].size), 99, np.uint16)
    with h5py.File(path) as file:
        dataset = file["entry/data/data"]
        reader = chunks.ChunkReader(dataset, find_decoder(dataset))
        bad = reader.read(0, out[1:2])
    assert set(bad) <= {0}
    assert (out[[0, 2]] == 99).all()


# --- ahead


@pytest.mark.parametrize("depth", [0, 1, 3])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_batches_come_in_order_with_what_was_read(depth, n):
    found = list(read_ahead(lambda batch: batch**2, range(n), depth))
    assert found == [(i, i**2) for i in range(n)]


@pytest.mark.parametrize("depth", [1, 2])
def test_reading_goes_on_while_the_caller_computes(depth):
    begun = [threading.Event() for _ in range(9)]

    def read(batch):
        begun[batch].set()
        return batch

    for batch, _ in read_ahead(read, range(9), depth):
        assert all(event.wait(10) for event in begun[batch : batch + depth + 1])
        assert not any(event.is_set() for event in begun[batch + depth + 1 :])


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_no_more_batches_than_those_ahead_and_one_are_alive(depth):
    alive, most = weakref.WeakSet(), []

    def read(batch):
        most.append(len(alive) + 1)
        alive.add(result := Result())
        return result

    for _, result in read_ahead(read, range(9), depth):
        del result
    assert max(most) <= depth + 1


class Result:
    """Something that can be watched."""


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_failure_comes_in_the_place_of_its_batch(depth):
    def read(batch):
        if batch == 3:
            raise InputError("frame 3")
        return batch

    ahead = read_ahead(read, range(9), depth)
    assert [next(ahead)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(InputError, match="frame 3"):
        next(ahead)


def test_nothing_is_read_after_a_failure():
    asked = []

    def read(batch):
        asked.append(batch)
        if batch == 3:
            raise InputError("frame 3")
        return batch

    with pytest.raises(InputError, match="frame 3"):
        list(read_ahead(read, range(99), 3))
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_early_end_reads_no_further_and_leaves_no_thread(depth):
    read = []
    ahead = read_ahead(lambda batch: read.append(batch), range(99), depth)
    next(ahead)
    next(ahead)
    ahead.close()
    assert len(read) <= 2 + depth
    assert not [t for t in threading.enumerate() if t.name.startswith("read-ahead")]


def test_frames_are_read_ahead_into_two_buffers(path):
    reader = StackReader(write(path, counts(), 2, **OURS["bitshuffle-lz4"]), None,
                         skip_bad_frames=False)  # fmt: skip
    room = [np.empty((2, SHAPE[0] * SHAPE[1]), np.int32) for _ in range(2)]
    batches = [np.arange(i, min(i + 2, N)) for i in range(0, N, 2)]
    ahead = read_ahead(lambda i: reader.read(batches[i], room[i % 2]), range(len(batches)))
    for i, (data, _, _) in ahead:
        np.testing.assert_array_equal(data, counts()[batches[i]].reshape(len(data), -1))
    reader.close()
