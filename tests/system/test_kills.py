"""A transform that is killed again and again, each time on another number of ranks."""

import json
import os
import random
import signal
import time

import pytest
from system.observed import Observed
from system.scans import differences, simulated, volumes

RANKS = (1, 2, 3, 4, 7)
N_FRAMES = 600
SLOWLY = 0.05
"""Seconds that a read takes longer."""


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    return simulated(tmp_path_factory.mktemp("longer") / "e", "--frames", N_FRAMES)


@pytest.fixture(scope="module")
def transformed(longer, tmp_path_factory):
    """Return the same scan, its first position transformed by one rank."""
    root = tmp_path_factory.mktemp("transformed") / "e"
    return longer.after(root, "transform", "--entry", "f1")


def saved_frames(scan):
    manifest = scan.data / ".f1_transform.checkpoint" / "manifest.json"
    return set(json.loads(manifest.read_text())["state"]["frames"]) if manifest.exists() else set()


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.full)])
def test_killed_at_random_it_repeats_one_round_at_most_and_ends_with_the_same_bits(
    longer, transformed, tmp_path, kills
):
    """A round is a frame of each rank: a checkpoint is due after every batch, of one frame."""
    seed = random.SystemRandom().randrange(10**6)
    rng, history = random.Random(seed), [f"seed {seed}"]
    scan = longer.copy(tmp_path / "e")
    args = ("transform", "--entry", "f1", scan.wrapper)
    often = ("--checkpoint", "1e-6", "--batch-frames", "1")
    n, saved = 0, set()
    for kill in range(kills):
        n = rng.choice([other for other in RANKS if other != n])
        run = Observed(n, tmp_path / f"{kill}", SLOWLY, *args, *often)
        run.wait(1 + rng.randrange(12))
        time.sleep(SLOWLY * rng.random())
        killed = run.pids() if rng.random() < 0.5 else [rng.choice(run.pids())]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        ended = run.finish()
        read = {frame for some in run.frames() for _, frame in some}
        before, saved = saved, saved_frames(scan)
        history.append(f"{len(killed)} of {n} ranks, read {sorted(read)}, {len(saved)} saved")
        assert ended.returncode != 0, history
        assert not read & before, history
        assert before <= saved <= before | read, history
        assert len(read - saved) <= n, history
    assert 0 < len(saved) < N_FRAMES, history

    n = rng.choice([other for other in RANKS if other != n])
    last = Observed(n, tmp_path / "last", 0, *args)
    result = last.finish()
    assert result.returncode == 0, (history, result.stderr)
    read = {frame for some in last.frames() for _, frame in some}
    assert read == set(range(N_FRAMES)) - saved, history
    found, wanted = volumes(scan), volumes(transformed)
    assert set(found) == set(wanted)
    for name in wanted:
        assert not differences(found[name], wanted[name]), (name, history)
    assert scan.hidden() == []
