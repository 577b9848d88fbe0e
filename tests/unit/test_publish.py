"""A file is the old one or the new one, never something between."""

import os
from pathlib import Path

import h5py
import pytest

from nxmpi.errors import InputError, NxmpiError
from nxmpi.parallel.publish import (
    changed_copy,
    publish,
    publish_hdf5,
    publish_text,
    require_place,
    temporary,
)


@pytest.fixture
def wrapper(tmp_path):
    path = tmp_path / "scan.nxs"
    path.write_text("old")
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_temporary_is_hidden_and_in_the_same_folder(tmp_path):
    assert temporary(tmp_path / "f1_mask.nxs") == tmp_path / ".f1_mask.nxs.tmp"


def test_published_file_has_its_name_and_no_other(tmp_path):
    target = tmp_path / "f1_transform.nxs"
    temporary(target).write_text("new")
    publish(temporary(target), target)
    assert target.read_text() == "new"
    assert names(tmp_path) == ["f1_transform.nxs"]


def test_published_file_replaces_an_older_one_for_new_readers_only(wrapper):
    with wrapper.open() as reader:
        temporary(wrapper).write_text("new")
        publish(temporary(wrapper), wrapper)
        assert reader.read() == "old"
    assert wrapper.read_text() == "new"


def test_content_is_on_disk_before_the_name_and_the_name_before_the_return(wrapper, monkeypatch):
    calls = []
    replace, fsync = os.replace, os.fsync

    def recorded_replace(source, target):
        calls.append("replace")
        replace(source, target)

    def recorded_fsync(descriptor):
        calls.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", recorded_replace)
    monkeypatch.setattr(os, "fsync", recorded_fsync)
    temporary(wrapper).write_text("new")
    publish(temporary(wrapper), wrapper)
    assert calls == [temporary(wrapper), "replace", wrapper.parent]


def test_nothing_to_publish_is_an_error_and_leaves_the_target(wrapper):
    with pytest.raises(FileNotFoundError):
        publish(temporary(wrapper), wrapper)
    assert wrapper.read_text() == "old"


def test_file_is_unchanged_until_the_copy_is_complete(wrapper):
    with changed_copy(wrapper) as copy:
        assert copy.read_text() == "old"
        copy.write_text("new")
        assert wrapper.read_text() == "old"
    assert wrapper.read_text() == "new"
    assert names(wrapper.parent) == ["scan.nxs"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_file_is_what_it_was_after_an_exception(wrapper, error):
    before = (wrapper.stat().st_ino, wrapper.stat().st_mtime_ns)

    def fail_half_way():
        with changed_copy(wrapper) as copy:
            copy.write_text("half")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert wrapper.read_text() == "old"
    assert (wrapper.stat().st_ino, wrapper.stat().st_mtime_ns) == before
    assert names(wrapper.parent) == ["scan.nxs"]


def test_copy_left_by_a_crash_is_not_used(wrapper):
    temporary(wrapper).write_text("left by a crash, and longer")
    temporary(wrapper).chmod(0o400)
    with changed_copy(wrapper) as copy:
        assert copy.read_text() == "old"


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o2770])
def test_mode_is_kept(wrapper, mode):
    wrapper.chmod(mode)
    with changed_copy(wrapper) as copy:
        copy.write_text("new")
    assert wrapper.stat().st_mode & 0o7777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_and_group_are_kept(wrapper):
    os.chown(wrapper, 1234, 2345)
    with changed_copy(wrapper) as copy:
        copy.write_text("new")
    assert (wrapper.stat().st_uid, wrapper.stat().st_gid) == (1234, 2345)


def test_extended_attributes_are_kept(wrapper):
    try:
        os.setxattr(wrapper, "user.beamline", b"6-ID-D")
    except OSError:
        pytest.skip("the file system has no extended attributes")
    with changed_copy(wrapper) as copy:
        copy.write_text("new")
    assert os.getxattr(wrapper, "user.beamline") == b"6-ID-D"


def test_symbolic_link_stays_and_its_file_is_changed(wrapper, tmp_path):
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "link.nxs"
    link.symlink_to("../scan.nxs")
    with changed_copy(link) as copy:
        assert copy == temporary(wrapper)
        copy.write_text("new")
    assert link.is_symlink()
    assert wrapper.read_text() == "new"


def test_missing_file_is_an_input_error(tmp_path):
    with (
        pytest.raises(InputError, match=r"none\.nxs: no such file"),
        changed_copy(tmp_path / "none.nxs"),
    ):
        pass


def test_file_that_may_not_be_written_is_not_replaced(wrapper, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(InputError, match="not writable"), changed_copy(wrapper):
        pass
    assert names(wrapper.parent) == ["scan.nxs"]


def test_hdf5_of_memory_takes_the_place_of_the_old_one(wrapper):
    def create(file):
        file["beside"] = h5py.ExternalLink("other.h5", "/x")
        assert not temporary(wrapper).exists()
        assert file.filename == str(temporary(wrapper))

    publish_hdf5(wrapper, create)
    with h5py.File(wrapper) as file:
        assert file.get("beside", getlink=True).filename == "other.h5"
    assert names(wrapper.parent) == ["scan.nxs"]


def test_small_file_that_cannot_be_written_leaves_the_old_one(wrapper):
    temporary(wrapper).mkdir()
    for write in (lambda: publish_text(wrapper, "new"), lambda: publish_hdf5(wrapper, list)):
        with pytest.raises(NxmpiError, match=r"/scan\.nxs: cannot be written: Is a directory$"):
            write()
    assert wrapper.read_text() == "old"


def test_place_for_a_file_is_a_folder_that_is_there(wrapper, monkeypatch):
    require_place(wrapper.with_name("new.nxs"))
    with pytest.raises(InputError, match=r"/no/new\.nxs: expected a folder .*/no, found none"):
        require_place(wrapper.with_name("no") / "new.nxs")
    monkeypatch.chdir(wrapper.parent)
    monkeypatch.setattr(os, "access", lambda folder, _: folder != wrapper.parent)
    with pytest.raises(InputError, match=r"^new\.nxs: expected a folder to write to, found it not"):
        require_place(Path("new.nxs"))
