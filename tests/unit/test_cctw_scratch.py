"""The file that a program reads: frames, masks and weights of a position."""

from dataclasses import replace

import h5py
import hdf5plugin
import numpy as np
import pytest

from nxmpi.cctw.dialect import Program
from nxmpi.cctw.scratch import (
    Given,
    places_of,
    require_readable,
    unneeded_chunks,
    write_input,
    write_mask3d,
)
from nxmpi.errors import InputError
from nxmpi.nexus.stack import find_stack
from nxmpi.parallel.packed import pack_mask

SHAPE = (5, 6, 7)
LOST = {1: [3, 41], 4: [0]}


@pytest.fixture
def files(tmp_path):
    """Return stacks of frames and of their mask, and the arrays."""
    rng = np.random.default_rng(2)
    frames = rng.poisson(2.0, SHAPE).astype(np.uint16)
    mask = (rng.random(SHAPE) < 0.3).astype(np.uint8) * 255
    with h5py.File(tmp_path / "f1.h5", "w") as file:
        file.create_dataset("data/data", data=frames, chunks=(1, 6, 7), **hdf5plugin.Bitshuffle())
        file["data/mask"] = mask
    with h5py.File(tmp_path / "f1.h5") as file:
        stacks = find_stack(file["/"]), find_stack(file["/"], "data/mask")
    return *stacks, frames, mask


def packed(lost):
    return {number: pack_mask(np.isin(np.arange(42), pixels)) for number, pixels in lost.items()}


def given_of(frames, lost=LOST, factor=None):
    bad = np.zeros(SHAPE[1:], bool)
    bad[2, 3] = True
    weight = np.array([0.5, 1.0, 0.0, 2.0, 1.5])
    return Given(frames=frames, bad=bad, weight=weight, factor=factor, lost=packed(lost))


def read(folder, place):
    file, path = place.split("#")
    with h5py.File(folder / file) as opened:
        return opened[path][()]


@pytest.mark.parametrize("factor", [None, np.full(SHAPE[1:], 0.7)])
def test_everything_is_in_one_file(files, tmp_path, factor):
    given = given_of(files[0], factor=factor)
    write_input(tmp_path, given)
    places = places_of(given, masked=False)
    np.testing.assert_array_equal(read(tmp_path, places.frames), files[2])
    np.testing.assert_array_equal(read(tmp_path, places.mask), given.bad)
    np.testing.assert_array_equal(read(tmp_path, places.weights[0]), given.weight)
    assert len(places.weights) == (1 if factor is None else 2)
    if factor is not None:
        np.testing.assert_array_equal(read(tmp_path, places.weights[1]), factor)
    assert places.mask3d is None
    names = {place.split("#")[0] for place in (places.frames, places.mask, *places.weights)}
    assert len(names) == 1


def test_frames_behind_the_last_that_counts_have_no_weight(files, tmp_path):
    given = given_of(files[0])
    shorter = Given(
        frames=given.frames, bad=given.bad, weight=given.weight[:3], factor=None, lost={}
    )
    write_input(tmp_path, shorter)
    weights = read(tmp_path, places_of(shorter, masked=False).weights[0])
    assert weights.tolist() == [0.5, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("lost", [{}, LOST])
@pytest.mark.parametrize("masked", [False, True])
def test_mask_of_frames_holds_all_that_is_no_count(files, tmp_path, lost, masked):
    given = given_of(files[0], lost)
    write_input(tmp_path, given)
    needed = write_mask3d(tmp_path, given, files[1] if masked else None, lambda: False)
    assert needed == bool(masked or lost)
    if not needed:
        return
    expected = files[3] != 0 if masked else np.zeros(SHAPE, bool)
    for number, pixels in lost.items():
        expected[number].ravel()[pixels] = True
    found = read(tmp_path, places_of(given, masked=True).mask3d) != 0
    used = given.weight > 0
    np.testing.assert_array_equal(found[used], expected[used])
    assert write_mask3d(tmp_path, given, None, lambda: False) == bool(lost)  # the next volume's


def test_mask_of_frames_is_given_up_after_a_wish_to_stop(files, tmp_path):
    given = given_of(files[0])
    write_input(tmp_path, given)
    asked = []
    write_mask3d(tmp_path, given, files[1], lambda: asked.append(1) is None)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("chunks", "numbers"),
    [
        ((1, 6, 7), {2}),
        ((2, 6, 7), set()),
        ((1, 3, 4), {8, 9, 10, 11}),
        (None, set()),
    ],
)  # fmt: skip
def test_chunks_without_a_weight_are_found(tmp_path, chunks, numbers):
    with h5py.File(tmp_path / "f1.h5", "w") as file:
        file.create_dataset("data/data", SHAPE, np.uint16, chunks=chunks)
    with h5py.File(tmp_path / "f1.h5") as file:
        frames = find_stack(file["/"])
    assert unneeded_chunks(given_of(frames)) == numbers  # frame 2 has no weight


OLD = Program(
    path="cctw", version="cctw 0.2.3", knows_pixels=False, takes_chunks=True, takes_virtual=False
)


def test_filters_that_no_plugin_brings_are_refused(files, monkeypatch):
    require_readable(files[0], OLD)
    monkeypatch.setattr("hdf5plugin.FILTERS", {"blosc": 32001})
    with pytest.raises(InputError, match="found number 32008"):
        require_readable(files[0], OLD)
    require_readable(files[1], OLD)


def test_virtual_frames_are_for_a_program_that_reads_them_by_the_frame(files, tmp_path):
    layout = h5py.VirtualLayout(SHAPE, np.uint16)
    layout[...] = h5py.VirtualSource(tmp_path / "f1.h5", "data/data", SHAPE)
    with h5py.File(tmp_path / "all.h5", "w") as file:
        file.create_virtual_dataset("data/data", layout)
    with h5py.File(tmp_path / "all.h5") as file:
        frames = find_stack(file["/"])
    with pytest.raises(InputError, match=r"all\.h5:/data/data: .* found a virtual dataset"):
        require_readable(frames, OLD)
    require_readable(frames, replace(OLD, takes_virtual=True))
