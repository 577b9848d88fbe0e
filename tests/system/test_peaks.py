"""Peaks of simulated scans, held against the truth: found, true, and as exact as counts allow."""

import numpy as np
import pytest
from system.quality import CELLS, Pool, Report, crowded, experiment, search, with_halos

from nxmpi.model import PeakFlag

STRENGTHS = {0.02: 60, 0.5: 100, 5: 250, 100: 1000, 1e4: 10_000, 1e5: 30_000}
"""Of the reflections, by the background [counts per pixel and frame]."""
QUICK = (("triclinic", 0.02, 0), ("hexagonal", 0.5, 1), ("cubic", 5, 8))
"""Cell, background and seed."""


def found(root, cell, level, seed, change=lambda scan: scan, strength=None):
    scan = experiment(cell, level, strength or STRENGTHS[level], seed)
    return search(root / f"{cell}-{level}-{seed}", change(scan))


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    return [found(root, *case) for case in QUICK]


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """Return a scan of many strong peaks that overlap, are cut or saturated."""
    return found(tmp_path_factory.mktemp("crowd"), "cubic", 5, 1, crowded, 100_000)


def assert_good(pool: Pool) -> None:
    """Hold some hundred single, whole peaks, S / sqrt(S + B) of 10 or more, to what is possible."""
    n = len(pool.columns["error"])
    assert n > 300
    assert pool.recall >= 0.98, str(pool)
    assert min(pool.purity, pool.purity_of_whole) >= 0.98, str(pool)
    assert (pool.rms <= 1).all(), str(pool)
    assert (pool.median <= 0.10).all(), str(pool)
    assert (np.abs(pool.bias) <= 0.02).all(), str(pool)
    assert (np.abs(pool.told - 1) <= 0.2).all(), str(pool)
    # of so few, a part of 0.95 varies by this much
    assert pool.within_two >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / n), str(pool)
    assert pool.correlation >= 0.99, str(pool)


def lone(report: Report) -> np.ndarray:
    return np.flatnonzero(report.peaks.flags[report.pairs[:, 1]] != 0)


def test_peaks_are_found_and_as_exact_as_counts_allow(reports):
    assert_good(Pool(reports))


def test_single_whole_peaks_have_no_flags(reports):
    flagged = sum(len(lone(report)) for report in reports)
    assert flagged <= 0.01 * sum(len(report.pairs) for report in reports)


def test_hot_and_dead_pixels_and_edges_of_gaps_are_no_peaks(reports):
    for report in reports:
        wrong = np.zeros_like(report.bad)
        wrong[tuple(report.wrong.T)] = True
        assert len(report.wrong) > 20
        assert report.false_near(wrong, 2) == 0
    assert sum(report.false_near(report.bad, 4) for report in reports) <= 1


def test_halos_are_no_peaks(tmp_path):
    report = found(tmp_path, "cubic", 5, 2, with_halos, 1000)
    pool = Pool([report])
    assert min(pool.purity, pool.purity_of_whole) >= 0.98, str(pool)
    assert pool.recall >= 0.98, str(pool)


@pytest.mark.parametrize("flag", PeakFlag, ids=lambda flag: flag.name)
def test_flags_are_set_where_the_truth_says_so(reports, crowd, flag):
    expected, flagged = 0, 0
    for report in (*reports, crowd):
        there = report.expected(flag)
        expected += len(there)
        flagged += np.count_nonzero(report.peaks.flags[there] & flag)
    assert expected >= 10
    assert flagged >= 0.9 * expected


@pytest.mark.full
@pytest.mark.parametrize("level", STRENGTHS)
def test_peaks_are_found_on_any_background(tmp_path, level):
    seeds = range(100, 100 + len(CELLS))
    reports = [found(tmp_path, cell, level, seed) for cell, seed in zip(CELLS, seeds, strict=True)]
    assert_good(Pool(reports))
    assert sum(len(lone(report)) for report in reports) <= 4


@pytest.mark.full
def test_halos_of_many_peaks_are_hardly_any_peaks(tmp_path):
    reports = [found(tmp_path, cell, 5, 20, with_halos, 2000) for cell in CELLS]
    pool = Pool(reports)
    assert pool.recall >= 0.98, str(pool)
    assert pool.purity >= 0.97, str(pool)
