"""Shared memory: how much a rank may take."""

import resource
from collections import namedtuple

import pytest

from nxmpi.parallel import window

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def limit():
    """Return a function that limits the size of this process's files [bytes]."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_room_is_what_the_file_system_has_left(monkeypatch):
    monkeypatch.setattr(window.shutil, "disk_usage", lambda path: Usage(1000, 400, 600))
    assert window.has_room(600)
    assert not window.has_room(601)


def test_room_is_within_the_limit_of_files(monkeypatch, limit):
    monkeypatch.setattr(window.shutil, "disk_usage", lambda path: Usage(10_000, 0, 10_000))
    limit(5000)
    assert window.has_room(5000)
    assert not window.has_room(5001)


def test_there_is_no_room_without_a_place(monkeypatch, tmp_path):
    monkeypatch.setattr(window, "SHARED_MEMORY", tmp_path / "none")
    assert not window.has_room(1)
