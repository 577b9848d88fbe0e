"""What a run tells of itself: its log, and the times of its parts."""

import logging

import pytest

from nxmpi import log
from nxmpi.parallel.launch import Alone
from nxmpi.parallel.timing import Timer
from nxmpi.pipeline.parameters import Layers, resolve

pytestmark = pytest.mark.parallel([1])


@pytest.fixture
def logger():
    """Return the logger of the package, and leave it as it was."""
    logger, pipeline = logging.getLogger("nxmpi"), logging.getLogger("nxmpi.pipeline")
    before, level = (logger.handlers[:], logger.propagate, logger.level), pipeline.level
    pipeline.setLevel(logging.NOTSET)  # commands that other tests run make it quiet
    yield logger
    pipeline.setLevel(level)
    logger.handlers[:], logger.propagate, logger.level = before


def test_where_a_parameter_comes_from_is_told_once_a_run(logger, capsys, tmp_path):
    layers = Layers([("settings.ini", {"norm": "3"})], tmp_path, None)
    for _ in range(2):
        log.configure(0, 1, verbose=False)
        for _ in range(3):
            assert resolve("norm", None, layers, 1.0, float) == 3.0
            resolve("first_frame", None, layers, 0, int)
        resolve("norm", 4.0, layers, 1.0, float)
        logger.warning("twice")
        logger.warning("twice")
        lines = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
        assert lines == [
            "norm = 3.0, from settings.ini", "first_frame = 0, by default",
            "norm = 4.0, from the command line", "twice", "twice",
        ]  # fmt: skip


def test_parts_within_parts_do_not_count_twice(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("nxmpi.parallel.timing.time.perf_counter", lambda: now[0])
    timer = Timer()
    with timer.part("outer"):
        with timer.part("inner"):
            now[0] += 10
            with timer.part("outer"):
                now[0] += 5
        with timer.part("inner"):
            now[0] += 3
        now[0] += 2
    assert timer.parts == {"outer": 7, "inner": 13}
    assert "outer 35 %, inner 65 %" in timer.summary(Alone())
